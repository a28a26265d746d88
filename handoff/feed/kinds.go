package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
)

// The beginnings of the kinds of which a later message takes an earlier one's
// place.
const (
	tenantKind     = "tenant."
	definitionKind = "definition."
	kvKind         = "kv."
	purgeKind      = "purge."
)

// Bounds of these kinds.
const (
	// MaxValue bounds a value of a bucket in bytes.
	MaxValue = 16 << 10
	// MaxDefinition bounds the body of a definition in bytes.
	MaxDefinition = 256 << 10
	// MaxGroup bounds the name of a cache group in bytes.
	MaxGroup = 255
	// MaxTarget bounds the URL, or prefix, of a purge in bytes.
	MaxTarget = 8 << 10
)

// TombstoneLife is how long it is told that something is gone. A POP that hears
// nothing for half of that reads everything again.
const TombstoneLife = 14 * 24 * time.Hour

// PurgeLife is how long a purge is told: no cache may answer with what it stored
// longer ago.
const PurgeLife = 30 * 24 * time.Hour

// TenantState is what a tenant's home does for it.
type TenantState string

const (
	// Active: it is served.
	Active TenantState = "active"
	// Moving: it is not served for the moment, nowhere; nothing is done.
	Moving TenantState = "moving"
	// Closed: it is served nowhere.
	Closed TenantState = "closed"
)

// Tenant says where a tenant is at home. The larger epoch stands, whoever
// publishes it: its home so far says that it moves, and its new home may repeat
// that.
type Tenant struct {
	Tenant string      `json:"tenant"`
	Home   string      `json:"home"`
	State  TenantState `json:"state"`
	// Epoch grows by each change of home or state, and is 1 at first.
	Epoch int64 `json:"epoch"`
}

func (t Tenant) kind() string { return tenantKind + t.Tenant }

func (t Tenant) check() error {
	switch {
	case !handoff.ValidTenant(t.Tenant):
		return errors.New("tenant is no tenant's name")
	case !handoff.ValidRegion(t.Home):
		return errors.New("home is no region's name")
	case t.State != Active && t.State != Moving && t.State != Closed:
		return fmt.Errorf("state is none of %s, %s and %s", Active, Moving, Closed)
	case t.Epoch < 1:
		return errors.New("epoch is not positive")
	}
	return nil
}

// Sequence orders the messages of one subject: the larger is the later. It is a
// time, in microseconds since 1970, but for two in the same microsecond. A
// message without is not published yet; see [Stamp].
type Sequence int64

// Time is when the sequence was given.
func (s Sequence) Time() time.Time { return time.UnixMicro(int64(s)) }

func (s Sequence) check() error {
	if s < 0 {
		return errors.New("seq is negative")
	}
	return nil
}

// Stamp gives a document without a sequence one. It is for whoever keeps the
// document while the order among its subject's is not settled.
func Stamp(document []byte, s Sequence) []byte {
	stamped := append([]byte(`{"seq":`), strconv.FormatInt(int64(s), 10)...)
	if rest := bytes.TrimPrefix(document, []byte("{")); len(rest) > 1 {
		return append(append(stamped, ','), rest...)
	}
	return append(stamped, '}')
}

// Kinds of definitions.
const (
	Flags       = "flags"
	Experiments = "experiments"
)

// Definition is a named set of flags or experiments, whole.
type Definition struct {
	Sequence Sequence `json:"seq,omitzero"`
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	// Body is what a file of definitions would hold: {"flags": […]}. Absent where
	// the set is gone.
	Body jsontext.Value `json:"body,omitzero"`
	// Expires is, of a set that is gone, when that need not be told any more.
	Expires int64 `json:"exp,omitzero"`
}

func (d Definition) kind() string { return definitionKind + d.Kind + "." + d.Name }

func (d Definition) check() error {
	switch {
	case d.Kind != Flags && d.Kind != Experiments:
		return fmt.Errorf("kind is neither %s nor %s", Flags, Experiments)
	case !ValidName(d.Name):
		return errors.New("name has not 1 to 63 characters of a-z, 0-9 and '-'")
	case len(d.Body) > MaxDefinition:
		return fmt.Errorf("body is over %d bytes", MaxDefinition)
	case (len(d.Body) == 0) != (d.Expires > 0):
		return errors.New("either body or exp is there")
	}
	if err := d.checkBody(); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return d.Sequence.check()
}

// checkBody holds the body to the rules by which a POP works, on both sides: what
// breaks them is not published, and would not be taken.
func (d Definition) checkBody() (err error) {
	switch {
	case len(d.Body) == 0:
	case d.Kind == Flags:
		_, err = definition.ParseFlags(d.Body)
	default:
		_, err = definition.ParseExperiments(d.Body)
	}
	return err
}

// ValidName reports whether a set of definitions or a bucket may be called name.
func ValidName(name string) bool { return handoff.ValidTenant(name) }

// ValidKey reports whether key may be that of a value: 1 to 128 of letters,
// digits, '.', '_' and '-'.
var ValidKey = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`).MatchString

// KV is one value of a bucket.
type KV struct {
	Sequence Sequence `json:"seq,omitzero"`
	Bucket   string   `json:"bucket"`
	// Tenant is for whose sessions alone the value is. Absent: for everybody.
	Tenant string `json:"tenant,omitzero"`
	Key    string `json:"key"`
	Value  string `json:"value"`
	// Expires is, of a value that is gone, when that need not be told any more, in
	// seconds since 1970.
	Expires int64 `json:"exp,omitzero"`
}

func (v KV) kind() string { return kvKind + v.Bucket + "." + idOf(v.Tenant, v.Key) }

func (v KV) check() error {
	switch {
	case !ValidName(v.Bucket):
		return errors.New("bucket has not 1 to 63 characters of a-z, 0-9 and '-'")
	case v.Tenant != "" && !handoff.ValidTenant(v.Tenant):
		return errors.New("tenant is no tenant's name")
	case !ValidKey(v.Key):
		return errors.New("key has not 1 to 128 letters, digits, '.', '_' and '-'")
	case len(v.Value) > MaxValue || !utf8.ValidString(v.Value):
		return fmt.Errorf("value is over %d bytes or no UTF-8", MaxValue)
	case v.Expires < 0 || v.Expires > 0 && v.Value != "":
		return errors.New("exp goes with no value")
	}
	return v.Sequence.check()
}

// Purge has caches drop what they hold, if they stored it before: of one of Group, URL
// and Prefix.
type Purge struct {
	Sequence Sequence `json:"seq,omitzero"`
	// Tenant is whose answers are dropped. Absent: those that are nobody's.
	Tenant string `json:"tenant,omitzero"`
	// Group is a cache group (RFC 9875). "*" is all of them.
	Group string `json:"group,omitzero"`
	// URL is a whole one, or a path with its query, of all hosts ([Target]).
	URL string `json:"url,omitzero"`
	// Prefix is what URLs begin with, in the same form.
	Prefix string `json:"prefix,omitzero"`
	// Soft leaves what is dropped to be used as what is stale may be.
	Soft bool `json:"soft,omitzero"`
	// Expires is when it need not be told any more, in seconds since 1970.
	Expires int64 `json:"exp"`
}

func (p Purge) kind() string {
	soft := ""
	if p.Soft {
		soft = "soft"
	}
	return purgeKind + idOf(p.Tenant, p.Group, p.URL, p.Prefix, soft)
}

// CheckGroup says whether name may name a cache group: a String of RFC 8941, of
// MaxGroup bytes at most, and not "*", which means all of them.
func CheckGroup(name string) error {
	switch {
	case name == "" || len(name) > MaxGroup:
		return fmt.Errorf("a group has 1 to %d bytes", MaxGroup)
	case name == "*":
		return errors.New("* is no group: it stands for all of them")
	}
	for i := range len(name) {
		if c := name[i]; c < ' ' || c > '~' {
			return fmt.Errorf("byte %#02x is in no group's name", c)
		}
	}
	return nil
}

func (p Purge) check() error {
	switch {
	case p.Tenant != "" && !handoff.ValidTenant(p.Tenant):
		return errors.New("tenant is no tenant's name")
	case p.Expires <= 0:
		return errors.New("exp is not positive")
	}
	named := 0
	for _, text := range [...]string{p.Group, p.URL, p.Prefix} {
		if text != "" {
			named++
		}
	}
	if named != 1 {
		return fmt.Errorf("%d of group, url and prefix are there: one says what is dropped", named)
	}
	if p.Group != "" && p.Group != "*" {
		if err := CheckGroup(p.Group); err != nil {
			return err
		}
	}
	for _, t := range [...]struct{ name, text string }{{"url", p.URL}, {"prefix", p.Prefix}} {
		if t.text != "" {
			if _, _, err := Target(t.text); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return p.Sequence.check()
}

// Login says where a sign-in name is: with its tenant. Only regions read it.
type Login struct {
	Sequence Sequence `json:"seq,omitzero"`
	// Hash of the name, under a key that only regions have: 64 hexadecimal digits.
	Hash string `json:"hash"`
	// Tenant whose user has the name. Absent: nobody has it any more.
	Tenant string `json:"tenant,omitzero"`
	// Expires is, of a name that nobody has, when that need not be told any more, in
	// seconds since 1970.
	Expires int64 `json:"exp,omitzero"`
}

func (l Login) kind() string { return loginKind + l.Hash }

func (l Login) check() error {
	raw, err := hex.DecodeString(l.Hash)
	switch {
	case err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != l.Hash:
		return errors.New("hash has not 64 lower-case hexadecimal digits")
	case l.Tenant != "" && !handoff.ValidTenant(l.Tenant):
		return errors.New("tenant is no tenant's name")
	case (l.Tenant == "") != (l.Expires > 0):
		return errors.New("either tenant or exp is there")
	}
	return l.Sequence.check()
}

// idOf names parts that a subject cannot hold.
func idOf(parts ...string) string {
	document, _ := json.Marshal(parts) // texts: cannot fail
	sum := sha256.Sum256(document)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
