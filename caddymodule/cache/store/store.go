// Package store keeps responses in memory within a bound of bytes, says which of
// them a purge has made invalid, and passes a body on while it arrives. It knows
// no Caddy and no connection.
package store

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
)

// Object is one stored response. Nothing of it changes once it is stored: what a
// validation brings is another object.
type Object struct {
	rfc9111.Stored
	Timing rfc9111.Timing
	Body   Body
	// Vary are the request fields that selected the response, and Select what the
	// request had there ([rfc9111.Secondary]).
	Vary   []string
	Select string
	// Part is set for a 206: it is that part of the whole.
	Part *rfc9111.ContentRange
	// Tags say by which purges the object is reached.
	Tags Tags
	// Ticket is the fill that brought it. Required.
	Ticket *Ticket
	// Extra is counted beside the body and the header: what else the object holds.
	Extra int64
	// Lines is Header as it is sent, made once by whoever stores the object.
	Lines any
	// Refreshing is set while the object is validated in the background.
	Refreshing atomic.Bool
	// Hits counts how often it was used.
	Hits atomic.Int64

	standing atomic.Uint64 // sequence<<2 | Standing, as last looked up
	born     atomic.Uint64 // what was purged up to here does not concern it
}

// Overheads of what is stored, measured by TestStore_countsWhatItHolds.
const (
	objectOverhead   = 640
	resourceOverhead = 320
	fieldOverhead    = 64
	fileOverhead     = 320
)

// Weight is what the object takes, in bytes: body, header, tags and overhead.
func (o *Object) Weight() int64 {
	n := objectOverhead + o.Body.Held() + int64(len(o.Select)) + o.Extra
	for field, lines := range o.Header {
		n += int64(len(field)) + fieldOverhead
		for _, line := range lines {
			n += int64(len(line)) + 16
		}
	}
	for _, group := range o.Tags.Groups {
		n += int64(len(group)) + 16
	}
	return n
}

// Eviction says why objects were taken out.
type Eviction int

// Why an object was taken out.
const (
	Evicted  Eviction = iota // to make room
	Purged                   // a purge has made it invalid
	Replaced                 // by a newer one
	evictions
)

// maxVariants bounds the variants of one key: a client that can choose a field of
// Vary must not fill the store with one page.
const maxVariants = 16

// shardCount is a power of two.
const shardCount = 64

// Store holds objects by key, several of one key where they are selected by Vary,
// or are parts of one whole.
//
// What is evicted when room is needed is chosen by S3-FIFO (Yang et al., SOSP 2023):
// what comes is put into a small queue, and into the main one only when it is asked
// for again, so that a crawler that visits everything once displaces nothing; what
// was asked for stays for another round. A hit takes no lock but a shard's for
// reading, and writes one counter.
//
//	          asked again              asked since
//	new ──► small ──────────► main ◄──────────┐
//	          │ not asked      └──── tail ────┤
//	          ▼                               ▼ not asked
//	        ghost (the name alone) ──► main   out
type Store struct {
	seed   maphash.Seed
	shards [shardCount]shard
	purges purges

	mu       sync.Mutex // of all below, and of what the queues hold
	limit    int64
	stored   int64 // weight of all resources
	reserved int64 // by fills
	small    queue
	main     queue
	ghosts   ghosts
	objects  int
	evicted  [evictions]int64

	sweeping  *time.Timer
	sweepDue  bool
	sweepTook time.Duration
	closed    bool
}

type shard struct {
	sync.RWMutex
	resources map[string]*resource
}

// resource is what is stored under one key.
type resource struct {
	key     string
	hash    uint64
	objects atomic.Pointer[[]*Object] // the newest first; replaced, never changed
	asked   atomic.Int32              // since it was last looked at, 3 at most

	weight     int64
	inMain     bool
	gone       bool
	prev, next *resource
}

// New makes a store of at most limit bytes, what is stored and what fills have
// reserved together.
func New(limit int64) *Store {
	s := &Store{seed: maphash.MakeSeed(), limit: limit}
	for i := range s.shards {
		s.shards[i].resources = map[string]*resource{}
	}
	s.small.init()
	s.main.init()
	return s
}

func (s *Store) shard(hash uint64) *shard { return &s.shards[hash%shardCount] }

func (s *Store) find(key string) *resource {
	hash := maphash.String(s.seed, key)
	sh := s.shard(hash)
	sh.RLock()
	r := sh.resources[key]
	sh.RUnlock()
	return r
}

// Get gives what is stored under a key, the newest first, and counts that it was
// asked for. The list is not to be changed. What a purge has made invalid is among
// it: see [Store.Standing].
func (s *Store) Get(key string) []*Object {
	r := s.find(key)
	if r == nil {
		return nil
	}
	if n := r.asked.Load(); n < 3 {
		r.asked.CompareAndSwap(n, n+1)
	}
	return *r.objects.Load()
}

// Peek is Get, for whoever only looks: nothing counts it.
func (s *Store) Peek(key string) []*Object {
	if r := s.find(key); r != nil {
		return *r.objects.Load()
	}
	return nil
}

// Put stores an object under a key, in place of the one with the same Select, or,
// for a part, of the parts with the same Select that it replaces. It reports
// whether it did: an object that is purged already, or for which there is no room,
// is not stored.
func (s *Store) Put(key string, o *Object) bool {
	o.born.CompareAndSwap(0, o.Ticket.seq)
	if s.Standing(o) == Invalid {
		return false
	}
	weight := o.Weight()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || weight+resourceOverhead > s.limit/2 {
		return false
	}
	r := s.find(key)
	var before []*Object
	if r != nil {
		before = *r.objects.Load()
	}
	after, replaced := merge(before, o)
	s.evicted[Replaced] += replaced
	s.objects += len(after) - len(before)
	if r == nil {
		hash := maphash.String(s.seed, key)
		r = &resource{key: key, hash: hash, weight: resourceOverhead + 2*int64(len(key))}
		r.objects.Store(&after)
		s.stored += r.weight
		if r.inMain = s.ghosts.take(hash); r.inMain {
			s.main.push(r)
		} else {
			s.small.push(r)
		}
		sh := s.shard(hash)
		sh.Lock()
		sh.resources[key] = r
		sh.Unlock()
	} else {
		r.objects.Store(&after)
	}
	s.weigh(r)
	s.room(0, r)
	return !r.gone
}

// merge puts o before the others, without those whose place it takes.
func merge(before []*Object, o *Object) (after []*Object, replaced int64) {
	after = append(make([]*Object, 0, len(before)+1), o)
	for _, other := range before {
		if other.Select == o.Select && (other.Part == nil || o.Part == nil || *other.Part == *o.Part) {
			replaced++
			continue
		}
		if len(after) < maxVariants {
			after = append(after, other)
		} else {
			replaced++
		}
	}
	return after, replaced
}

// weigh brings a resource's weight up to date.
func (s *Store) weigh(r *resource) {
	weight := resourceOverhead + 2*int64(len(r.key))
	for _, o := range *r.objects.Load() {
		weight += o.Weight()
	}
	s.queueOf(r).bytes += weight - r.weight
	s.stored += weight - r.weight
	r.weight = weight
}

// Remove takes an object out.
func (s *Store) Remove(key string, o *Object) {
	s.remove(key, Replaced, func(x *Object) bool { return x == o })
}

// Exchange puts newer, which is o with its body elsewhere, into o's place, unless o is
// gone from there. It reports whether it did.
func (s *Store) Exchange(key string, o, newer *Object) bool {
	newer.born.Store(o.born.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(key)
	if r == nil {
		return false
	}
	before := *r.objects.Load()
	at := slices.Index(before, o)
	if at < 0 {
		return false
	}
	after := slices.Clone(before)
	after[at] = newer
	r.objects.Store(&after)
	s.weigh(r)
	return true
}

// Lose takes an object out whose body is gone.
func (s *Store) Lose(key string, o *Object) {
	s.remove(key, Evicted, func(x *Object) bool { return x == o })
}

// remove takes those of a key's objects out that are to go.
func (s *Store) remove(key string, why Eviction, gone func(*Object) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(key)
	if r == nil {
		return
	}
	before := *r.objects.Load()
	after := make([]*Object, 0, len(before))
	for _, o := range before {
		if !gone(o) {
			after = append(after, o)
		}
	}
	if len(after) == len(before) {
		return
	}
	s.evicted[why] += int64(len(before) - len(after))
	if len(after) == 0 {
		s.drop(r, 0)
		return
	}
	s.objects -= len(before) - len(after)
	r.objects.Store(&after)
	s.weigh(r)
}

// drop takes a resource out. count is how many of its objects were evicted.
func (s *Store) drop(r *resource, count int64) {
	s.queueOf(r).remove(r)
	s.stored -= r.weight
	s.objects -= len(*r.objects.Load())
	s.evicted[Evicted] += count
	r.gone = true
	sh := s.shard(r.hash)
	sh.Lock()
	delete(sh.resources, r.key)
	sh.Unlock()
}

func (s *Store) queueOf(r *resource) *queue {
	if r.inMain {
		return &s.main
	}
	return &s.small
}

// Reserve sets n bytes apart for what a fill holds, and makes room for them. It
// reports whether there is: what is stored can give way, what others have reserved
// cannot, and half of the store is for what is stored.
func (s *Store) Reserve(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.reserved+n > s.limit/2 {
		return false
	}
	s.reserved += n
	s.room(0, nil)
	return true
}

// Release gives n bytes back that were reserved.
func (s *Store) Release(n int64) {
	s.mu.Lock()
	s.reserved -= n
	s.mu.Unlock()
}

// room evicts until n more bytes fit. keep, which is new, goes last.
func (s *Store) room(n int64, keep *resource) {
	for s.stored+s.reserved+n > s.limit && s.stored > 0 {
		s.evict(keep)
	}
}

// evict takes one resource out, or gives one another round.
func (s *Store) evict(keep *resource) {
	if s.small.bytes > s.limit/10 || s.main.empty() {
		r := s.small.tail()
		if r == keep && s.small.bytes > r.weight { // others are behind it, however they came there
			s.small.remove(r)
			s.small.push(r)
			r = s.small.tail()
		}
		if r.asked.Load() > 0 && r != keep {
			r.asked.Store(0)
			s.small.remove(r)
			r.inMain = true
			s.main.push(r)
			return
		}
		s.ghosts.add(r.hash, s.objects)
		s.drop(r, int64(len(*r.objects.Load())))
		return
	}
	r := s.main.tail()
	if n := r.asked.Load(); n > 0 {
		r.asked.Store(n - 1)
		s.main.remove(r)
		s.main.push(r)
		return
	}
	s.drop(r, int64(len(*r.objects.Load())))
}

// SetLimit changes the bound.
func (s *Store) SetLimit(limit int64) {
	s.mu.Lock()
	s.limit = limit
	s.room(0, nil)
	s.mu.Unlock()
}

// Close drops everything and stores nothing more.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	if s.sweeping != nil {
		s.sweeping.Stop()
	}
	s.mu.Unlock()
	for i := range s.shards {
		s.shards[i].Lock()
		clear(s.shards[i].resources)
		s.shards[i].Unlock()
	}
	return nil
}

// Stats is what a store holds.
type Stats struct {
	Limit, Stored, Reserved  int64 // bytes
	Resources, Objects       int
	Evicted, Purged, Renewed int64 // objects, since the store was made
	Purges                   uint64
}

// Stats gives what the store holds now.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Limit: s.limit, Stored: s.stored, Reserved: s.reserved,
		Resources: s.small.count + s.main.count, Objects: s.objects,
		Evicted: s.evicted[Evicted], Purged: s.evicted[Purged], Renewed: s.evicted[Replaced],
		Purges: s.purges.seq.Load(),
	}
}

// Each calls f with every key and what is stored under it, in no order, until f
// returns false. What comes or goes meanwhile may be missed.
func (s *Store) Each(f func(key string, objects []*Object) bool) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.RLock()
		all := make([]*resource, 0, len(sh.resources))
		for _, r := range sh.resources {
			all = append(all, r)
		}
		sh.RUnlock()
		for _, r := range all {
			if !f(r.key, *r.objects.Load()) {
				return
			}
		}
	}
}
