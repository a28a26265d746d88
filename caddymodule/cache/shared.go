package cache

import (
	"crypto/rand"
	"encoding/hex"
	"hash/maphash"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// shared is what all caches of a POP have in common, and what outlives a
// configuration: the store, the fetches under way, and what is known of answers that
// were not stored. What another policy has stored is under another key.
type shared struct {
	store *store.Store
	disk  atomic.Pointer[disk] // of what runs, for its figures; nil: there is none
	seed  maphash.Seed

	mu      sync.Mutex
	fills   map[string]*fill   // that others can find
	running map[*fill]struct{} // all
	closed  bool
	heard   map[feedKey]handfeed.Sequence

	// reasons is why answers were last not stored, by a hash of the key, and whether
	// those who ask for the same are to wait for each other.
	reasons *otter.Cache[uint64, reason]
	// refused is the same by a hash of host and URI, for people.
	refused *otter.Cache[uint64, Refused]
	slots   chan struct{} // of refreshes

	asked  atomic.Int64 // when the feed was last looked at, in seconds
	isDeaf atomic.Bool
}

type feedKey handfeed.Purge

type reason struct {
	why   string
	alone bool
}

const (
	// passLife is how long nobody waits for a fetch whose like was not stored: the
	// answers are for one client each, or change too fast.
	passLife = 2 * time.Minute
	// maxReasons bounds what is remembered of that.
	maxReasons = 1 << 16
	// refusedLife is how long people can ask why an answer was not stored, and
	// maxRefused for how many.
	refusedLife = time.Hour
	maxRefused  = 1 << 14
	// maxHeard bounds the purges of the feed that are known again.
	maxHeard = 1 << 17
	// maxRefreshes bounds the fetches in the background that run at a time.
	maxRefreshes = 64
)

const sharedKey = "edge_cache: what is stored"

// sharedBy gives what this configuration has in common with the one before it.
func sharedBy(app *edge.App) (*shared, error) {
	limit := app.CacheLimits().Memory / 4 * 3 // the rest is what the collector lets lie
	s, err := edge.Shared(app, sharedKey, func() (*shared, error) { return newShared(limit) })
	if err != nil {
		return nil, err
	}
	s.store.SetLimit(limit)
	return s, nil
}

func newShared(limit int64) (*shared, error) {
	reasons, err := otter.New(&otter.Options[uint64, reason]{
		MaximumSize:      maxReasons,
		ExpiryCalculator: otter.ExpiryWriting[uint64, reason](passLife),
	})
	if err != nil {
		return nil, err
	}
	refused, err := otter.New(&otter.Options[uint64, Refused]{
		MaximumSize:      maxRefused,
		ExpiryCalculator: otter.ExpiryWriting[uint64, Refused](refusedLife),
	})
	if err != nil {
		return nil, err
	}
	return &shared{
		store: store.New(limit), seed: maphash.MakeSeed(), fills: map[string]*fill{}, running: map[*fill]struct{}{}, heard: map[feedKey]handfeed.Sequence{},
		reasons: reasons, refused: refused, slots: make(chan struct{}, maxRefreshes),
	}, nil
}

// Close drops everything, and ends what is fetched for the store alone. Clients of the
// last configuration read on: Caddy does not wait for them when another comes.
func (s *shared) Close() error {
	s.mu.Lock()
	s.closed = true
	for f := range s.running {
		f.unkeep()
	}
	s.mu.Unlock()
	s.reasons.StopAllGoroutines()
	s.refused.StopAllGoroutines()
	return s.store.Close()
}

// join gives the fetch under way by that name, or begins one. It makes it outside of the
// lock, and throws it away where another was faster.
func (s *shared) join(flight string, begin func() *fill) (f *fill, mine bool) {
	s.mu.Lock()
	f = s.fills[flight]
	s.mu.Unlock()
	if f != nil {
		return f, false
	}
	own := begin()
	s.mu.Lock()
	if f = s.fills[flight]; f == nil {
		own.flight, s.fills[flight] = flight, own
	}
	s.mu.Unlock()
	if f != nil {
		own.discard()
		return f, false
	}
	return own, true
}

// began knows of a fetch until ended.
func (s *shared) began(f *fill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		f.unkeep()
		return
	}
	s.running[f] = struct{}{}
}

func (s *shared) ended(f *fill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, f)
}

// land takes a fetch that has ended from the list.
func (s *shared) land(f *fill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fills[f.flight] == f {
		delete(s.fills, f.flight)
	}
}

func (s *shared) hash(key string) uint64 { return maphash.String(s.seed, key) }

// pass remembers that an answer was not stored, and that the next who ask need not
// wait for each other: hit-for-miss, as Varnish has it.
func (s *shared) pass(key, why string) {
	s.reasons.Set(s.hash(key), reason{why, true})
	s.refuse(key, why)
}

// forget remembers why an answer was not stored that the next may well be.
func (s *shared) forget(key, why string) {
	s.reasons.Set(s.hash(key), reason{why, false})
	s.refuse(key, why)
}

// refuse remembers it for whoever asks by host and URI, which the key names.
func (s *shared) refuse(key, why string) {
	if k, ok := partsOf(key); ok {
		s.refused.Set(s.hash(k.host+k.uri), Refused{Why: why, At: time.Now(), Policy: k.policy, Tenant: k.tenant})
	}
}

// passes reports whether nobody waits for a fetch of that key.
func (s *shared) passes(key string) bool {
	r, ok := s.reasons.GetIfPresent(s.hash(key))
	return ok && r.alone
}

// stored forgets that nobody waits.
func (s *shared) stored(key string) { s.reasons.Invalidate(s.hash(key)) }

// mayRefresh takes a slot for a fetch in the background; refreshed gives it back.
func (s *shared) mayRefresh() bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *shared) refreshed() { <-s.slots }

// pause is how long an object is not refreshed again after that failed.
func pause() time.Duration { return time.Second + mathrand.N(time.Second) }

// deaf reports whether purges may have been missed: the feed is cut off. It looks once
// a second.
func (s *shared) deaf(app *edge.App, now time.Time) bool {
	second := now.Unix()
	if s.asked.Swap(second) != second {
		s.isDeaf.Store(app.FeedStale())
	}
	return s.isDeaf.Load()
}

// hear applies a purge of the feed, once: a new configuration hears them all again.
func (s *shared) hear(p handfeed.Purge) {
	key := feedKey(p)
	key.Sequence, key.Expires = 0, 0
	s.mu.Lock()
	old := s.heard[key]
	if p.Sequence > old {
		if len(s.heard) >= maxHeard { // they are heard again, and purge once more
			clear(s.heard)
		}
		s.heard[key] = p.Sequence
	}
	s.mu.Unlock()
	if p.Sequence <= old {
		return
	}
	of := Purging{URL: p.URL, Prefix: p.Prefix, Group: p.Group, Tenant: p.Tenant, Soft: p.Soft}
	if of.All = p.Group == "*"; of.All {
		of.Group = ""
	}
	what, err := of.read()
	if err != nil { // not reachable: the feed has checked it
		return
	}
	what.Everyone = false // the feed's without a tenant is of what is nobody's
	s.store.Purge(what)
}

// boundary makes a boundary for multipart/byteranges.
func boundary() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
