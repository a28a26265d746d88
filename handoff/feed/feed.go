// Package feed is what a region tells every POP, and the other regions: which
// sessions no longer hold, where tenants are at home, what flags and experiments
// say, small values, what caches must drop, and that the region is there.
//
// A message is a subject and a JSON document. The subject begins with the region
// that publishes, so that the broker can hold each region to its own:
//
//	eu.gatehouse.heartbeat                  the region has published all it decided
//	eu.gatehouse.revoked.session.<id>       one session
//	eu.gatehouse.revoked.user.<id>          all sessions of a user up to a time
//	eu.gatehouse.revoked.tenant.<id>        all sessions of a tenant up to a time
//	eu.gatehouse.tenant.<tenant>            where a tenant is at home
//	eu.gatehouse.definition.<kind>.<name>   flags or experiments
//	eu.gatehouse.kv.<bucket>.<id>           one value of a bucket
//	eu.gatehouse.purge.<id>                 caches drop a group
//	eu.regions.login.<hash>                 where a sign-in name is; for regions alone
//
// The id of a revocation is made of its whole content (see [ID]): the same message
// twice is the same subject. Of the kinds below it a subject is one thing, whose
// later message takes the place of the one before; which is later its content says
// (an epoch, a sequence). Messages may come twice and in any order: [State] is the
// same. [Parse] tells a kind that it does not know from one that is malformed.
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
	// MaxBytes bounds its document, but for one of a kind with a bound of its own.
	MaxBytes = 4 << 10
	// MaxMessage bounds the document of any kind.
	MaxMessage = MaxDefinition + MaxBytes
	// MaxName bounds an issuer's name in bytes; a session's and a subject's id are
	// bounded as in a session token.
	MaxName = 255
	// MaxLife is the longest a revocation can be in force.
	MaxLife = 400 * 24 * time.Hour
)

// What stands between the region and the kind: everywhere, or among regions.
const (
	prefix        = ".gatehouse."
	amongRegions  = ".regions."
	loginKind     = "login."
	heartbeatKind = "heartbeat"
)

// Subjects are the patterns of one region's subjects: what POPs read, and what
// regions alone do. Region "*" is any.
func Subjects(region string) []string {
	return []string{region + prefix + ">", region + amongRegions + ">"}
}

// DirectorySubjects are the patterns of what regions read of each other.
func DirectorySubjects() []string {
	return []string{"*" + prefix + tenantKind + ">", "*" + amongRegions + ">"}
}

// Errors of [Parse].
var (
	// ErrUnknownKind is a message of a later version.
	ErrUnknownKind = errors.New("a kind of message that is not known here")
	// ErrMalformed is a message that no version of a region publishes.
	ErrMalformed = errors.New("malformed message")
)

// Message is a [Heartbeat], [Revocation], [Tenant], [Definition], [KV], [Purge] or
// [Login].
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

func (Heartbeat) kind() string { return heartbeatKind }

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

// Check says what is wrong with the content, nil when nothing is.
func (r Revocation) Check() error { return r.check() }

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
	if limit := maxBytes(m.kind()); len(document) > limit {
		return "", nil, fmt.Errorf("feed: the message has %d bytes, at most %d are published", len(document), limit)
	}
	return subjectOf(region, m), document, nil
}

func subjectOf(region string, m Message) string {
	if _, private := m.(Login); private {
		return region + amongRegions + m.kind()
	}
	return region + prefix + m.kind()
}

// maxBytes bounds a document by its subject's end.
func maxBytes(kind string) int {
	switch {
	case strings.HasPrefix(kind, definitionKind):
		return MaxMessage
	case strings.HasPrefix(kind, kvKind):
		return 6*MaxValue + MaxBytes // JSON may write a byte as \u0000
	case strings.HasPrefix(kind, purgeKind):
		return 2*MaxTarget + MaxBytes // or " as \"
	}
	return MaxBytes
}

// split cuts a subject into region and kind.
func split(subject string) (region, kind string, private, ok bool) {
	if region, kind, ok = strings.Cut(subject, prefix); !ok {
		region, kind, ok = strings.Cut(subject, amongRegions)
		private = true
	}
	return region, kind, private, ok && handoff.ValidRegion(region)
}

// Parse reads a message strictly: unknown, duplicate and misspelt members, bad
// UTF-8, and a subject that is not of the content are [ErrMalformed].
func Parse(subject string, document []byte) (region string, m Message, err error) {
	region, kind, private, ok := split(subject)
	if !ok {
		return "", nil, fmt.Errorf("%w: subject %q", ErrMalformed, subject)
	}
	if len(document) > maxBytes(kind) {
		return region, nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(document))
	}
	decode, known := decoderOf(kind)
	if !known || private != strings.HasPrefix(kind, loginKind) {
		return region, nil, fmt.Errorf("%w: %q", ErrUnknownKind, subject)
	}
	m, err = decode(document)
	switch {
	case err != nil:
		return region, nil, fmt.Errorf("%w: %s: %w", ErrMalformed, subject, err)
	case kind == heartbeatKind && m.(Heartbeat).Region != region:
		return region, nil, fmt.Errorf("%w: %s is of another region", ErrMalformed, subject)
	case m.kind() != kind:
		return region, nil, fmt.Errorf("%w: %s holds %s", ErrMalformed, subject, m.kind())
	case sequenceOf(m) == 0:
		return region, nil, fmt.Errorf("%w: %s has no seq", ErrMalformed, subject)
	}
	return region, m, nil
}

// sequenceOf is what orders the messages of one subject; 1 where nothing needs to.
func sequenceOf(m Message) int64 {
	switch m := m.(type) {
	case Tenant:
		return m.Epoch
	case Definition:
		return int64(m.Sequence)
	case KV:
		return int64(m.Sequence)
	case Purge:
		return int64(m.Sequence)
	case Login:
		return int64(m.Sequence)
	}
	return 1
}

// decoderOf gives what reads a document, by its subject's end.
func decoderOf(kind string) (decode func([]byte) (Message, error), known bool) {
	if kind == heartbeatKind {
		return decodeAs[Heartbeat], true
	}
	first, _, _ := strings.Cut(kind, ".")
	switch first + "." {
	case "revoked.":
		return decodeAs[Revocation], true
	case tenantKind:
		return decodeAs[Tenant], true
	case definitionKind:
		return decodeAs[Definition], true
	case kvKind:
		return decodeAs[KV], true
	case purgeKind:
		return decodeAs[Purge], true
	case loginKind:
		return decodeAs[Login], true
	}
	return nil, false
}

func decodeAs[T Message](document []byte) (Message, error) {
	var m T
	if err := json.Unmarshal(document, &m, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	return m, m.check()
}
