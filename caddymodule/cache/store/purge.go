package store

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Tags say by which purges an object is reached.
type Tags struct {
	// Tenant whose sessions the object answers. Empty: anybody's.
	Tenant string
	// Host is the authority of its request, and URI its path and query.
	Host, URI string
	// Groups are its cache groups (RFC 9875).
	Groups []string
}

// Reach is what a purge is for.
type Reach int

// Reaches.
const (
	All    Reach = iota // everything of a tenant
	Group               // a cache group
	URI                 // one path and query
	Prefix              // paths that begin so
)

// Purge makes what was stored before it invalid.
type Purge struct {
	Reach Reach
	// Tenant whose objects are reached. Empty: those that are nobody's.
	Tenant string
	// Everyone reaches all tenants' objects, and nobody's.
	Everyone bool
	// Host narrows it to one authority. Empty: all.
	Host string
	// Value is the group, the path and query, or the prefix.
	Value string
	// Soft leaves the objects to be served stale, where stale ones may be.
	Soft bool
}

// Standing is what the purges say of an object.
type Standing uint64

// Standings.
const (
	Valid   Standing = iota
	Stale            // a soft purge: as if it were stale by now
	Invalid          // not to be used, not even to validate
)

// tomb is the key of a purge that is remembered.
type tomb struct {
	reach               Reach
	everyone            bool
	tenant, host, value string
}

// stone says up to which sequence a purge reaches.
type stone struct{ hard, soft uint64 }

type prefix struct {
	tomb
	stone
}

// Bounds of what is remembered of purges. When there are more, everything is
// purged, once: that is always right.
const (
	maxTombs    = 1 << 16
	maxPrefixes = 256
)

// purges is the log of purges, as a number that grows by each. An object knows the
// number at which its fill began, and a purge the one that it was given: an object
// is valid unless a purge that reaches it has a larger one. So a purge deletes
// nothing, and a fill that began before it is too late whenever it ends.
type purges struct {
	seq atomic.Uint64

	sync.RWMutex
	tombs    map[tomb]stone
	prefixes []prefix
	fills    map[*Ticket]struct{}
}

// Ticket is what a fill takes before it asks the origin.
type Ticket struct {
	seq uint64
	s   *Store
	// Began is when that was.
	Began time.Time
}

// Begin gives a ticket. End gives it back, once what it brought is stored.
func (s *Store) Begin() *Ticket {
	p := &s.purges
	p.Lock()
	defer p.Unlock()
	t := &Ticket{seq: p.seq.Load(), s: s, Began: time.Now()}
	if p.fills == nil {
		p.fills = map[*Ticket]struct{}{}
	}
	p.fills[t] = struct{}{}
	return t
}

// End gives a ticket back. It may be called more than once.
func (t *Ticket) End() {
	p := &t.s.purges
	p.Lock()
	delete(p.fills, t)
	p.Unlock()
}

// Purge makes invalid what the purge reaches and what is stored already, or is on
// its way.
func (s *Store) Purge(what Purge) {
	p := &s.purges
	p.Lock()
	seq := p.seq.Add(1)
	t := tomb{reach: what.Reach, everyone: what.Everyone, tenant: what.Tenant, host: what.Host, value: what.Value}
	if what.Reach == Prefix {
		p.addPrefix(prefix{tomb: t}, seq, what.Soft)
	} else {
		if p.tombs == nil {
			p.tombs = map[tomb]stone{}
		}
		p.tombs[t] = p.tombs[t].with(seq, what.Soft)
	}
	if len(p.tombs) > maxTombs || len(p.prefixes) > maxPrefixes {
		clear(p.tombs)
		p.prefixes = nil
		p.tombs[tomb{reach: All, everyone: true}] = stone{hard: seq}
	}
	p.Unlock()
	s.sweepSoon()
}

// Reached counts what is stored that a purge reaches, and that none has made invalid
// before. It looks at everything: it is for people.
func (s *Store) Reached(what Purge) (count int) {
	s.Each(func(_ string, objects []*Object) bool {
		for _, o := range objects {
			if what.reaches(&o.Tags) && s.Standing(o) != Invalid {
				count++
			}
		}
		return true
	})
	return count
}

func (p *Purge) reaches(t *Tags) bool {
	if !p.Everyone && p.Tenant != t.Tenant || p.Host != "" && p.Host != t.Host {
		return false
	}
	switch p.Reach {
	case Group:
		return slices.Contains(t.Groups, p.Value)
	case URI:
		return t.URI == p.Value
	case Prefix:
		return strings.HasPrefix(t.URI, p.Value)
	case All:
	}
	return true
}

func (p *purges) addPrefix(x prefix, seq uint64, soft bool) {
	for i := range p.prefixes {
		if p.prefixes[i].tomb == x.tomb {
			p.prefixes[i].stone = p.prefixes[i].with(seq, soft)
			return
		}
	}
	x.stone = x.with(seq, soft)
	p.prefixes = append(p.prefixes, x)
}

func (s stone) with(seq uint64, soft bool) stone {
	if soft {
		s.soft = seq
	} else {
		s.hard = seq
	}
	return s
}

// Standing says whether a purge has reached the object. The answer is kept with the
// object until the next purge.
func (s *Store) Standing(o *Object) Standing {
	seq := s.purges.seq.Load()
	if seq == 0 {
		return Valid
	}
	if known := o.standing.Load(); known>>2 == seq {
		return Standing(known & 3)
	}
	standing := s.purges.judge(o)
	o.standing.Store(seq<<2 | uint64(standing))
	return standing
}

func (p *purges) judge(o *Object) Standing {
	p.RLock()
	defer p.RUnlock()
	born := o.born.Load()
	var last stone
	see := func(x stone) { last.hard, last.soft = max(last.hard, x.hard), max(last.soft, x.soft) }
	look := func(reach Reach, value string) {
		for _, host := range [...]string{"", o.Tags.Host} {
			t := tomb{reach: reach, tenant: o.Tags.Tenant, host: host, value: value}
			see(p.tombs[t])
			t.tenant, t.everyone = "", true
			see(p.tombs[t])
			if o.Tags.Host == "" {
				break
			}
		}
	}
	look(All, "")
	look(URI, o.Tags.URI)
	for _, group := range o.Tags.Groups {
		look(Group, group)
	}
	for i := range p.prefixes {
		x := &p.prefixes[i]
		if (x.everyone || x.tenant == o.Tags.Tenant) && (x.host == "" || x.host == o.Tags.Host) && strings.HasPrefix(o.Tags.URI, x.value) {
			see(x.stone)
		}
	}
	switch {
	case last.hard > born:
		return Invalid
	case last.soft > born:
		return Stale
	}
	return Valid
}

// sweepDelay is how long after a purge the bytes are freed that it made useless, at
// the least: a sweep looks at everything, and must not be all that is done.
const (
	sweepDelay = time.Second
	sweepShare = 20 // of the time that the last one took
)

// sweepSoon frees them then.
func (s *Store) sweepSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.sweepDue {
		return
	}
	s.sweepDue = true
	s.sweeping = time.AfterFunc(max(sweepDelay, sweepShare*s.sweepTook), func() {
		s.mu.Lock()
		s.sweepDue = false // what is purged from here on needs another
		s.mu.Unlock()
		began := time.Now()
		s.Sweep()
		s.mu.Lock()
		s.sweepTook = time.Since(began)
		s.mu.Unlock()
	})
}

// Sweep takes out what purges have made invalid, and forgets the purges that reach
// nothing any more: what is left was looked at, and is younger than they are as far
// as they are concerned.
func (s *Store) Sweep() {
	p := &s.purges
	p.RLock()
	done := p.seq.Load()
	for t := range p.fills {
		done = min(done, t.seq)
	}
	p.RUnlock()
	s.Each(func(key string, objects []*Object) bool {
		bad := false
		for _, o := range objects {
			switch s.Standing(o) {
			case Invalid:
				bad = true
			case Valid:
				for born := o.born.Load(); born < done && !o.born.CompareAndSwap(born, done); born = o.born.Load() {
				}
			case Stale: // its purge is to be remembered
			}
		}
		if bad {
			s.remove(key, Purged, func(o *Object) bool { return s.Standing(o) == Invalid })
		}
		return true
	})
	p.Lock()
	defer p.Unlock()
	if done < p.seq.Load() {
		return // others have come meanwhile: the next sweep forgets them all
	}
	maps.DeleteFunc(p.tombs, func(_ tomb, x stone) bool { return x.soft == 0 && x.hard <= done })
	kept := p.prefixes[:0]
	for _, x := range p.prefixes {
		if x.soft != 0 || x.hard > done {
			kept = append(kept, x)
		}
	}
	p.prefixes = kept
}
