package feed

import (
	"errors"
	"time"
)

// Limits bound a [State]. A zero value is the default.
type Limits struct {
	// Revocations: 1,048,576, some 200 MB. Full, see [ErrFull].
	Revocations int
	// Tenants: 262,144.
	Tenants int
	// Values and ValueBytes bound all buckets: 65,536 values, and 32 MiB of them
	// with their names.
	Values, ValueBytes int
	// Definitions and DefinitionBytes: 64 sets, 4 MiB.
	Definitions, DefinitionBytes int
	// Purges: 65,536. More of them purge more: see [State.Purged].
	Purges int
}

func (l Limits) withDefaults() Limits {
	for of, preset := range map[*int]int{
		&l.Revocations: 1 << 20, &l.Tenants: 1 << 18, &l.Values: 1 << 16, &l.ValueBytes: 32 << 20,
		&l.Definitions: 64, &l.DefinitionBytes: 4 << 20, &l.Purges: 1 << 16,
	} {
		if *of == 0 {
			*of = preset
		}
	}
	return l
}

// ErrFull says that a state holds as many revocations as it may. It must not
// forget one to take another: whoever applies messages stops, and says so.
var ErrFull = errors.New("the table of revocations is full")

// ErrNoRoom says that a message was passed over because its table is full. The
// state remembers that it is not complete: see [State.Incomplete].
var ErrNoRoom = errors.New("there is no room for it")

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
//	session     revoked, until the latest exp
//	user        the latest at, and the latest with another exempted session
//	tenant      the latest at
//	region      the latest heartbeat
//	tenant's home, definition, value, purge
//	            the largest epoch or sequence; of two alike the larger text
//
// Make it with [NewState]. It is not safe for concurrent use, but any number may
// read while nobody writes.
type State struct {
	// Changed hears of each definition, gone or not, and each purge that is news.
	// Default: nobody does.
	Changed func(Message)

	limits   Limits
	sessions map[name]int64 // when it is forgotten
	users    map[name]user
	tenants  map[string]mark
	regions  map[string]time.Time

	homes       *table[string, home]
	definitions *table[definitionKey, string]
	values      *table[valueKey, string]
	purges      *table[purgeKey, string]
	floor       Sequence // everything stored before was purged

	reading uint32            // counts readings of the whole stream
	swept   map[string]uint32 // by region: the reading that its entries were held against
}

// NewState makes an empty state.
func NewState(limits Limits) *State {
	l := limits.withDefaults()
	return &State{
		limits:   l,
		sessions: map[name]int64{}, users: map[name]user{}, tenants: map[string]mark{}, regions: map[string]time.Time{},
		homes:       newTable(l.Tenants, 0, func(tenant string, h home) int { return len(tenant) + len(h.region) }, func(a, b home) bool { return a.text() > b.text() }),
		definitions: newTable(l.Definitions, l.DefinitionBytes, func(k definitionKey, body string) int { return len(k.name) + len(body) }, largerText),
		values: newTable(l.Values, l.ValueBytes, func(k valueKey, value string) int {
			return len(k.bucket) + len(k.tenant) + len(k.key) + len(value)
		}, largerText),
		purges: newTable(l.Purges, 0, func(purgeKey, string) int { return 0 }, largerText),
		swept:  map[string]uint32{},
	}
}

func largerText(a, b string) bool { return a > b }

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
// whether it was news, which a heartbeat never is. The error is [ErrFull], and
// nothing changed then, or [ErrNoRoom], and only that message was passed over.
func (s *State) Apply(region string, m Message, now time.Time) (changed bool, err error) {
	switch m := m.(type) {
	case Heartbeat:
		s.hear(region, m.At, now)
		s.sweep(region)
		return false, nil
	case Revocation:
		return s.revoke(m, now.Unix())
	case Login: // a region's directory keeps these
		return false, nil
	}
	changed, err = s.place(region, m, now.Unix())
	if changed && s.Changed != nil {
		switch m.(type) {
		case Definition, Purge:
			s.Changed(m)
		}
	}
	return changed, err
}

func (s *State) hear(region string, at, now time.Time) {
	if at.After(now) {
		at = now
	}
	if at.After(s.regions[region]) {
		s.regions[region] = at
	}
}

func (s *State) revoke(r Revocation, now int64) (changed bool, err error) {
	if r.Expires <= now {
		return false, nil
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
	if !found && s.Len() >= s.limits.Revocations {
		return false, ErrFull
	}
	merged := merge(had)
	table[key] = merged
	return merged != had, nil
}

// Len is the number of revocations.
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
	s.homes.expire(at)
	s.definitions.expire(at)
	s.values.expire(at)
	s.purges.expire(at)
}
