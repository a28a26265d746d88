// Package feed is what a region tells every POP: which sessions no longer hold,
// and that it is there.
//
// A message is a subject and a JSON document. The subject begins with the region
// that publishes, so that the broker can hold each region to its own:
//
//	eu.gatehouse.heartbeat                  the region has published all it decided
//	eu.gatehouse.revoked.session.<id>       one session
//	eu.gatehouse.revoked.user.<id>          all sessions of a user up to a time
//	eu.gatehouse.revoked.tenant.<id>        all sessions of a tenant up to a time
//
// An id is made of the message's content (see [ID]): the same message twice is the
// same subject. Messages may come twice and in any order: [State] is the same.
// Further kinds get subjects of their own; [Parse] tells a kind that it does not
// know from one that is malformed.
//
// This package is pure: it opens no connection and asks no clock.
package feed

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Bounds of a message.
const (
	// MaxBytes bounds its document.
	MaxBytes = 4 << 10
	// MaxName bounds an issuer's name in bytes; a session's and a subject's id are
	// bounded as in a session token.
	MaxName = 255
	// MaxLife is the longest a revocation can be in force.
	MaxLife = 400 * 24 * time.Hour
)

// prefix stands between the region and the kind.
const prefix = ".gatehouse."

// Subjects is the pattern of one region's subjects.
func Subjects(region string) string { return region + prefix + ">" }

// Errors of [Parse].
var (
	// ErrUnknownKind is a message of a later version.
	ErrUnknownKind = errors.New("a kind of message that is not known here")
	// ErrMalformed is a message that no version of a region publishes.
	ErrMalformed = errors.New("malformed message")
)

// Message is a [Heartbeat] or a [Revocation].
type Message interface {
	// kind is the subject's end.
	kind() string
	// check says what is wrong with the content.
	check() error
}

// Heartbeat says that whatever its region had committed by At was published
// before it.
type Heartbeat struct {
	// Region is that of the subject: a heartbeat cannot be repeated as another's.
	Region string    `json:"region"`
	At     time.Time `json:"at"`
}

func (Heartbeat) kind() string { return "heartbeat" }

func (h Heartbeat) check() error {
	if h.At.Unix() <= 0 || h.Region == "" {
		return errors.New("at or region is absent")
	}
	return nil
}

// Revocation ends sessions. It names a session (iss, sid), a user (iss, sub) or a
// tenant: one of the three.
type Revocation struct {
	// Issuer is who signs the sessions; absent for a tenant, whose sessions all
	// issuers' are.
	Issuer  string `json:"iss,omitempty"`
	Session string `json:"sid,omitempty"`
	Subject string `json:"sub,omitempty"`
	Tenant  string `json:"tenant,omitempty"`
	// At is when it was decided, in seconds since 1970. Of a user or a tenant
	// those sessions end whose auth_time is not after it: no leeway applies.
	At int64 `json:"at"`
	// Except is the session of a user that stays: that of the user who changed the
	// password, for example.
	Except string `json:"except,omitempty"`
	// Expires is when no session that it ends can be valid any more, in seconds
	// since 1970. It is forgotten then.
	Expires int64 `json:"exp"`
}

func (r Revocation) kind() string {
	what := "session"
	switch {
	case r.Subject != "":
		what = "user"
	case r.Tenant != "":
		what = "tenant"
	}
	return "revoked." + what + "." + ID(r)
}

func (r Revocation) check() error {
	named := 0
	for _, name := range []string{r.Session, r.Subject, r.Tenant} {
		if name != "" {
			named++
		}
	}
	switch {
	case named != 1:
		return fmt.Errorf("names %d of sid, sub and tenant, must name one", named)
	case r.Tenant != "" && !handoff.ValidTenant(r.Tenant):
		return errors.New("tenant is no tenant's name")
	case (r.Tenant == "") != (r.Issuer != ""):
		return errors.New("iss goes with sid and sub, and only with them")
	case r.Except != "" && r.Subject == "":
		return errors.New("except goes with sub alone")
	case r.At <= 0 || r.Expires <= r.At:
		return errors.New("at and exp must be positive, and exp after at")
	case r.Expires-r.At > int64(MaxLife/time.Second):
		return fmt.Errorf("exp is more than %s after at", MaxLife)
	}
	for _, name := range []string{r.Issuer, r.Session, r.Subject, r.Except} {
		if len(name) > MaxName || !utf8.ValidString(name) {
			return fmt.Errorf("a name is over %d bytes or no UTF-8", MaxName)
		}
	}
	return nil
}

// ID names a message by its content, for its subject and for the broker's
// suppression of duplicates.
func ID(m Message) string {
	document, _ := json.Marshal(m, json.Deterministic(true)) // plain fields: cannot fail
	sum := sha256.Sum256(document)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// Encode gives the subject and the document of region's message.
func Encode(region string, m Message) (subject string, document []byte, err error) {
	if !handoff.ValidRegion(region) {
		return "", nil, fmt.Errorf("feed: %q is no region's name", region)
	}
	if err := m.check(); err != nil {
		return "", nil, fmt.Errorf("feed: %w", err)
	}
	if h, ok := m.(Heartbeat); ok && h.Region != region {
		return "", nil, fmt.Errorf("feed: a heartbeat of %q cannot be published by %q", h.Region, region)
	}
	document, err = json.Marshal(m, json.Deterministic(true))
	if err != nil {
		return "", nil, fmt.Errorf("feed: %w", err)
	}
	return region + prefix + m.kind(), document, nil
}

// Parse reads a message strictly: unknown, duplicate and misspelt members, bad
// UTF-8, and an id that is not of the content are [ErrMalformed].
func Parse(subject string, document []byte) (region string, m Message, err error) {
	region, kind, ok := strings.Cut(subject, prefix)
	if !ok || !handoff.ValidRegion(region) {
		return "", nil, fmt.Errorf("%w: subject %q", ErrMalformed, subject)
	}
	if len(document) > MaxBytes {
		return region, nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(document))
	}
	switch {
	case kind == "heartbeat":
		m, err = decode[Heartbeat](document)
	case strings.HasPrefix(kind, "revoked."):
		m, err = decode[Revocation](document)
	default:
		return region, nil, fmt.Errorf("%w: %q", ErrUnknownKind, subject)
	}
	switch {
	case err != nil:
		return region, nil, fmt.Errorf("%w: %s: %w", ErrMalformed, subject, err)
	case kind == "heartbeat" && m.(Heartbeat).Region != region:
		return region, nil, fmt.Errorf("%w: %s is of another region", ErrMalformed, subject)
	case m.kind() != kind:
		return region, nil, fmt.Errorf("%w: %s holds %s", ErrMalformed, subject, m.kind())
	}
	return region, m, nil
}

func decode[T Message](document []byte) (Message, error) {
	var m T
	if err := json.Unmarshal(document, &m, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	return m, m.check()
}
