package feed

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

// entry is what is known of one thing. Gone, it stays until it expires, so that
// an older message cannot bring it back.
type entry[V any] struct {
	value   V
	version int64 // an epoch or a sequence
	region  string
	gone    bool
	expires int64  // 0: never
	reading uint32 // the last that came to it
}

// table holds the latest of each thing.
type table[K comparable, V any] struct {
	entries  map[K]entry[V]
	size     func(K, V) int
	larger   func(a, b V) bool
	bytes    int
	most     int // entries
	mostSize int // bytes; 0: no bound

	missed bool // something was passed over
}

func newTable[K comparable, V any](most, mostSize int, size func(K, V) int, larger func(a, b V) bool) *table[K, V] {
	return &table[K, V]{entries: map[K]entry[V]{}, size: size, larger: larger, most: most, mostSize: mostSize}
}

// put takes e if it is later than what is there. Without room for it nothing is
// known of k any more: an old value in a new one's place would be a lie that no
// metric shows.
func (t *table[K, V]) put(k K, e entry[V], now int64, keepOld bool) (changed bool, err error) {
	if e.expires > 0 && e.expires <= now {
		return false, nil
	}
	had, found := t.entries[k]
	if found && !t.later(e, had) {
		had.reading = e.reading // it is still spoken of
		if e.version == had.version {
			had.region = e.region
		}
		t.entries[k] = had
		return false, nil
	}
	grown := t.bytes + t.size(k, e.value)
	if found {
		grown -= t.size(k, had.value)
	}
	if !found && len(t.entries) >= t.most || t.mostSize > 0 && grown > t.mostSize {
		t.missed = true
		if found && !keepOld {
			t.delete(k)
			return true, ErrNoRoom
		}
		return false, ErrNoRoom
	}
	t.entries[k], t.bytes = e, grown
	return true, nil
}

// later orders two entries of one thing, so that everybody takes the same.
func (t *table[K, V]) later(a, b entry[V]) bool {
	switch {
	case a.version != b.version:
		return a.version > b.version
	case a.gone != b.gone:
		return a.gone
	}
	return t.larger(a.value, b.value)
}

func (t *table[K, V]) delete(k K) {
	if had, found := t.entries[k]; found {
		t.bytes -= t.size(k, had.value)
		delete(t.entries, k)
	}
}

func (t *table[K, V]) get(k K) (value V, ok bool) {
	e, found := t.entries[k]
	return e.value, found && !e.gone
}

func (t *table[K, V]) expire(now int64) {
	for k, e := range t.entries {
		if e.expires > 0 && e.expires <= now {
			t.delete(k)
		}
	}
}

// sweep drops what region published once and does not any more. dropped hears of
// each that was not gone before.
func (t *table[K, V]) sweep(region string, reading uint32, dropped func(K, entry[V])) {
	for k, e := range t.entries {
		if e.region == region && e.reading != reading {
			t.delete(k)
			if !e.gone && dropped != nil {
				dropped(k, e)
			}
		}
	}
}

type (
	home          struct{ region, state string }
	definitionKey struct{ kind, name string }
	valueKey      struct{ bucket, tenant, key string }
	// A purge without what is new each time: its sequence and its end.
	purgeKey Purge
)

// key names what a purge is of.
func (p Purge) key() purgeKey {
	p.Sequence, p.Expires = 0, 0
	return purgeKey(p)
}

// purge is the purge that is known of k.
func (k purgeKey) purge(e entry[string]) Purge {
	p := Purge(k)
	p.Sequence, p.Expires = Sequence(e.version), e.expires
	return p
}

func (h home) text() string { return h.region + " " + h.state }

// place puts a message of which the latest stands where it belongs.
func (s *State) place(region string, m Message, now int64) (changed bool, err error) {
	switch m := m.(type) {
	case Tenant:
		e := entry[home]{value: home{m.Home, string(m.State)}, version: m.Epoch, region: region, reading: s.reading}
		return s.homes.put(m.Tenant, e, now, false)
	case Definition:
		e := entry[string]{string(m.Body), int64(m.Sequence), region, len(m.Body) == 0, m.Expires, s.reading}
		return s.definitions.put(definitionKey{m.Kind, m.Name}, e, now, true)
	case KV:
		e := entry[string]{m.Value, int64(m.Sequence), region, m.Expires > 0, m.Expires, s.reading}
		return s.values.put(valueKey{m.Bucket, m.Tenant, m.Key}, e, now, false)
	case Purge:
		e := entry[string]{"", int64(m.Sequence), region, false, m.Expires, s.reading}
		changed, err = s.purges.put(m.key(), e, now, false)
		if errors.Is(err, ErrNoRoom) {
			s.collapse(m)
			return true, nil
		}
		return changed, err
	}
	return false, ErrUnknownKind
}

// collapse makes room for a purge by purging all that was stored before the
// latest: too much is dropped, and never too little.
func (s *State) collapse(m Purge) {
	s.floor = max(s.floor, m.Sequence)
	for k, e := range s.purges.entries {
		s.floor = max(s.floor, Sequence(e.version))
		s.purges.delete(k)
	}
	s.purges.missed = false
}

// Reread begins another reading of the whole stream. What a region does not say
// any more is dropped by its next heartbeat, before which it has said all; but not
// revocations, which their own expiry alone ends, nor what was passed over.
func (s *State) Reread() {
	s.reading++
	s.homes.missed, s.definitions.missed, s.values.missed = false, false, false
}

func (s *State) sweep(region string) {
	if s.reading == s.swept[region] {
		return
	}
	s.swept[region] = s.reading
	s.homes.sweep(region, s.reading, nil)
	s.values.sweep(region, s.reading, nil)
	s.purges.sweep(region, s.reading, nil)
	s.definitions.sweep(region, s.reading, func(k definitionKey, e entry[string]) {
		if s.Changed != nil {
			s.Changed(Definition{Sequence: Sequence(e.version), Kind: k.kind, Name: k.name})
		}
	})
}

// Incomplete names the tables that something was passed over for since the last
// reading of the whole stream began. There may be room by now.
func (s *State) Incomplete() (tables []string) {
	for _, t := range []struct {
		name   string
		missed bool
	}{{TableTenants, s.homes.missed}, {TableDefinitions, s.definitions.missed}, {TableValues, s.values.missed}} {
		if t.missed {
			tables = append(tables, t.name)
		}
	}
	return tables
}

// Room reports whether one of these incomplete tables has room to speak of: a
// tenth.
func (s *State) Room(tables []string) bool {
	for _, table := range tables {
		switch {
		case table == TableTenants && s.homes.roomy(), table == TableDefinitions && s.definitions.roomy(), table == TableValues && s.values.roomy():
			return true
		}
	}
	return false
}

func (t *table[K, V]) roomy() bool {
	return len(t.entries) <= t.most-(t.most+9)/10 && t.bytes <= t.mostSize-t.mostSize/10
}

// Names of a state's tables.
const (
	TableRevocations = "revocations"
	TableTenants     = "tenants"
	TableDefinitions = "definitions"
	TableValues      = "kv"
	TablePurges      = "purges"
)

// Sizes is how many entries each table has, and how many bytes those that are
// bounded by them.
func (s *State) Sizes(each func(table string, entries, bytes int)) {
	each(TableRevocations, s.Len(), 0)
	each(TableTenants, len(s.homes.entries), s.homes.bytes)
	each(TableDefinitions, len(s.definitions.entries), s.definitions.bytes)
	each(TableValues, len(s.values.entries), s.values.bytes)
	each(TablePurges, len(s.purges.entries), 0)
}

// Home says where a tenant is at home.
func (s *State) Home(tenant string) (t Tenant, known bool) {
	e, found := s.homes.entries[tenant]
	if !found {
		return t, false
	}
	return Tenant{tenant, e.value.region, TenantState(e.value.state), e.version}, true
}

// Value is that of a bucket's key: the tenant's own, where there is a tenant and
// it has one, else everybody's. It allocates nothing.
func (s *State) Value(bucket, tenant, key string) (value string, ok bool) {
	if tenant != "" {
		if value, ok = s.values.get(valueKey{bucket, tenant, key}); ok {
			return value, true
		}
	}
	return s.values.get(valueKey{bucket, "", key})
}

// Definitions calls each with every set that is known.
func (s *State) Definitions(each func(Definition)) {
	for k, e := range s.definitions.entries {
		if !e.gone {
			each(Definition{Sequence: Sequence(e.version), Kind: k.kind, Name: k.name, Body: jsontext.Value(e.value)})
		}
	}
}

// Definition is the body of a set, nil where there is none.
func (s *State) Definition(kind, name string) []byte {
	body, ok := s.definitions.get(definitionKey{kind, name})
	if !ok {
		return nil
	}
	return []byte(body)
}

// Purged is the latest purge of a tenant's group, or of all of the tenant's: what
// was stored before is not to be used. 0: none is known.
func (s *State) Purged(tenant, group string) Sequence {
	latest := max(s.floor, Sequence(s.purges.entries[Purge{Tenant: tenant, Group: group}.key()].version))
	return max(latest, Sequence(s.purges.entries[Purge{Tenant: tenant, Group: "*"}.key()].version))
}

// Purges calls each with every purge that is known.
func (s *State) Purges(each func(Purge)) {
	if s.floor > 0 {
		each(Purge{Sequence: s.floor, Group: "*", Expires: s.floor.Time().Add(PurgeLife).Unix()})
	}
	for k, e := range s.purges.entries {
		each(k.purge(e))
	}
}
