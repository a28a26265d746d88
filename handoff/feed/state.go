package feed

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
)

// DefaultMaxEntries bounds a [State]: some 200 MB of revocations.
const DefaultMaxEntries = 1 << 20

// ErrFull says that a state holds as many revocations as it may. It must not
// forget one to take another: whoever applies messages stops, and says so.
var ErrFull = errors.New("the table of revocations is full")

// name is (iss, sid) or (iss, sub).
type name struct{ issuer, id string }

// Session is what the state is asked about.
type Session struct {
	Issuer, ID, Subject, Tenant string
	// AuthTime is when the user proved who they are, in seconds since 1970. 0, of
	// an issuer that does not say it, is before every revocation.
	AuthTime int64
}

// State is what all messages so far come to. Every rule takes the larger of two,
// so that order and repetition do not matter:
//
//	session   revoked, until the latest exp
//	user      the latest at, and the latest with another exempted session
//	tenant    the latest at
//	region    the latest heartbeat
//
// The zero value is ready. It is not safe for concurrent use, but any number may
// read while nobody writes.
type State struct {
	// MaxEntries bounds the revocations. Default: [DefaultMaxEntries].
	MaxEntries int

	sessions map[name]int64 // when it is forgotten
	users    map[name]user
	tenants  map[string]mark
	regions  map[string]time.Time
}

// mark ends sessions up to at, and is forgotten at expires.
type mark struct{ at, expires int64 }

// cut ends a user's sessions up to at, but for one.
type cut struct {
	at     int64
	except string
}

// user is what is known of one. Of cuts with the same exemption the latest says
// it all. Of cuts with different ones two do: the latest ends every session but
// the one that it exempts, and that one is ended by the latest of the others.
type user struct {
	cuts    [2]cut // the later first; a zero one is none
	expires int64
}

// after orders cuts, so that of two at the same time everybody takes the same.
func (c cut) after(other cut) bool {
	return c.at > other.at || c.at == other.at && c.except > other.except
}

// merge adds c.
func (u *user) merge(c cut) {
	for i := range u.cuts {
		if u.cuts[i].at != 0 && u.cuts[i].except == c.except {
			if c.at > u.cuts[i].at {
				u.cuts[i].at = c.at
			}
			if u.cuts[1].after(u.cuts[0]) {
				u.cuts[0], u.cuts[1] = u.cuts[1], u.cuts[0]
			}
			return
		}
	}
	switch {
	case c.after(u.cuts[0]):
		u.cuts[0], u.cuts[1] = c, u.cuts[0]
	case c.after(u.cuts[1]):
		u.cuts[1] = c
	}
}

// Apply takes a message of region into account. now bounds what a region's clock
// can say: a heartbeat from the future counts as one of now. changed reports
// whether a revocation was news. The error is [ErrFull]; nothing changed then.
func (s *State) Apply(region string, m Message, now time.Time) (changed bool, err error) {
	switch m := m.(type) {
	case Heartbeat:
		s.hear(region, m.At, now)
		return false, nil
	case Revocation:
		return s.revoke(m, now.Unix())
	}
	return false, fmt.Errorf("%w: %T", ErrUnknownKind, m)
}

func (s *State) hear(region string, at, now time.Time) {
	if at.After(now) {
		at = now
	}
	if s.regions == nil {
		s.regions = map[string]time.Time{}
	}
	if at.After(s.regions[region]) {
		s.regions[region] = at
	}
}

func (s *State) revoke(r Revocation, now int64) (changed bool, err error) {
	if r.Expires <= now {
		return false, nil
	}
	if s.sessions == nil {
		s.sessions, s.users, s.tenants = map[name]int64{}, map[name]user{}, map[string]mark{}
	}
	switch {
	case r.Session != "":
		return put(s, s.sessions, name{r.Issuer, r.Session}, func(expires int64) int64 { return max(expires, r.Expires) })
	case r.Subject != "":
		return put(s, s.users, name{r.Issuer, r.Subject}, func(u user) user {
			u.merge(cut{r.At, r.Except})
			u.expires = max(u.expires, r.Expires)
			return u
		})
	}
	return put(s, s.tenants, r.Tenant, func(m mark) mark { return mark{max(m.at, r.At), max(m.expires, r.Expires)} })
}

// put merges into one entry of a table.
func put[K, V comparable](s *State, table map[K]V, key K, merge func(V) V) (changed bool, err error) {
	had, found := table[key]
	limit := s.MaxEntries
	if limit == 0 {
		limit = DefaultMaxEntries
	}
	if !found && s.Len() >= limit {
		return false, ErrFull
	}
	merged := merge(had)
	table[key] = merged
	return merged != had, nil
}

// Len is the number of entries.
func (s *State) Len() int { return len(s.sessions) + len(s.users) + len(s.tenants) }

// Revoked reports whether the session was ended. It allocates nothing.
func (s *State) Revoked(of *Session) bool {
	if len(s.sessions) > 0 {
		if _, ended := s.sessions[name{of.Issuer, of.ID}]; ended {
			return true
		}
	}
	if len(s.users) > 0 {
		u := s.users[name{of.Issuer, of.Subject}]
		for _, c := range u.cuts {
			if c.at != 0 && of.AuthTime <= c.at && (c.except == "" || c.except != of.ID) {
				return true
			}
		}
	}
	if len(s.tenants) > 0 {
		if m, known := s.tenants[of.Tenant]; known && of.AuthTime <= m.at {
			return true
		}
	}
	return false
}

// Heard is when region's last heartbeat was; the zero time: never.
func (s *State) Heard(region string) time.Time { return s.regions[region] }

// Expire forgets what can end no session any more.
func (s *State) Expire(now time.Time) {
	at := now.Unix()
	for key, expires := range s.sessions {
		if expires <= at {
			delete(s.sessions, key)
		}
	}
	for key, u := range s.users {
		if u.expires <= at {
			delete(s.users, key)
		}
	}
	for key, m := range s.tenants {
		if m.expires <= at {
			delete(s.tenants, key)
		}
	}
}

// snapshot is the state as it is kept.
type snapshot struct {
	Revocations []Revocation         `json:"revocations"`
	Heard       map[string]time.Time `json:"heard"`
}

// MarshalJSON writes the state as the fewest messages that come to it.
func (s *State) MarshalJSON() ([]byte, error) {
	kept := snapshot{Revocations: make([]Revocation, 0, s.Len()), Heard: s.regions}
	for key, expires := range s.sessions {
		kept.Revocations = append(kept.Revocations, Revocation{Issuer: key.issuer, Session: key.id, At: 1, Expires: expires})
	}
	for key, u := range s.users {
		for _, c := range u.cuts {
			if c.at != 0 {
				kept.Revocations = append(kept.Revocations, Revocation{Issuer: key.issuer, Subject: key.id, At: c.at, Except: c.except, Expires: u.expires})
			}
		}
	}
	for tenant, m := range s.tenants {
		kept.Revocations = append(kept.Revocations, Revocation{Tenant: tenant, At: m.at, Expires: m.expires})
	}
	return json.Marshal(kept)
}

// UnmarshalJSON adds what was kept to the state.
func (s *State) UnmarshalJSON(document []byte) error {
	var kept snapshot
	if err := json.Unmarshal(document, &kept, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	for _, r := range kept.Revocations {
		if _, err := s.revoke(r, 0); err != nil {
			return err
		}
	}
	for region, at := range kept.Heard {
		s.hear(region, at, at)
	}
	return nil
}
