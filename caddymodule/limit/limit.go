// Package limit counts requests against a rate, for many keys in memory that does
// not grow. It knows no HTTP.
//
// The rate is held by the generic cell rate algorithm (ITU-T I.371): one number per
// key, the time at which the key's debt will be paid. A request adds the
// interval of the rate to it and is refused where the debt would be more than the
// burst allows. That is a bucket which leaks all the time: there is no window at
// whose edge twice as much would pass.
package limit

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"sync"
	"time"
)

// Bounds of a [Policy] and of a [Table].
const (
	MaxQuota  = 1_000_000
	MaxBurst  = 1_000_000
	MaxWindow = 24 * time.Hour
	MaxKeys   = 1 << 24

	// maxDebt bounds the debt, and so how long a table may remember a key.
	maxDebt = 32 * 24 * time.Hour
)

// Policy is how much a key may do: Burst requests at once, and Quota requests in
// each Window from then on. In no stretch of time t does it do more than
// Burst + Quota·t/Window.
type Policy struct {
	// Quota is how many requests a Window allows: 1 to MaxQuota.
	Quota int
	// Window is a second or more, and at most MaxWindow.
	Window time.Duration
	// Burst is how many requests may come at once: 1 to MaxBurst.
	Burst int
}

// Check finds what is wrong with the policy.
func (p Policy) Check() error {
	switch {
	case p.Quota < 1 || p.Quota > MaxQuota:
		return fmt.Errorf("%d requests: 1 to %d", p.Quota, MaxQuota)
	case p.Window < time.Second || p.Window > MaxWindow:
		return fmt.Errorf("window %s: 1s to %s", p.Window, MaxWindow)
	case p.Window%time.Second != 0:
		return fmt.Errorf("window %s: whole seconds", p.Window)
	case p.Burst < 1 || p.Burst > MaxBurst:
		return fmt.Errorf("burst %d: 1 to %d", p.Burst, MaxBurst)
	case p.Interval() > maxDebt/time.Duration(p.Burst):
		return errors.New("a burst that takes more than 32 days to be allowed again")
	}
	return nil
}

// Interval is the time after which a request is paid for, rounded up so that the
// quota is never exceeded.
func (p Policy) Interval() time.Duration {
	return (p.Window + time.Duration(p.Quota) - 1) / time.Duration(p.Quota)
}

// Result is what became of a request.
type Result struct {
	// Allowed says that the request is within the policy.
	Allowed bool
	// Remaining is how many more requests would be allowed at this moment.
	Remaining int
	// Wait is, where Remaining is the whole burst, zero, and otherwise how long it
	// takes until one more than Remaining is allowed.
	Wait time.Duration
	// Shared says that the key had to take over the debt of another one, since the
	// table was full of debtors: it may be held to less than its policy.
	Shared bool
}

// Key stands for whoever a table counts for. It means something to the table
// that made it alone.
type Key uint64

const (
	ways   = 16 // slots in a set: a key can be in any of one set's
	shards = 64 // locks, each for the sets of its remainder
)

// Table holds the debts of many keys in memory that is taken once.
//
// A key has a place in one set of slots, chosen by a hash with a secret seed, so
// that nobody can choose keys that meet. A key without debt needs no slot: whoever
// comes takes it. Where all of a set's keys have debts, the newcomer takes the
// slot of the one with the least, and that debt with it:
//
//	            a free slot, or one whose debt is paid
//	newcomer ──────────────────────────────────────────► own slot, no debt
//	   │
//	   └─ the set is full of debtors ──────────────────► least debtor's slot and debt
//
// Nothing that is owed is ever forgotten so: a client cannot have his own debt
// dropped by filling the table with other keys, however many he has, and no key
// ever gets more than its policy. What such a flood does is to make newcomers share
// the slots of their set, each of which goes on at the policy's rate. It takes
// ways·Quota/Window requests per second for each set, all of different keys, to
// keep a table full.
//
// All methods may be called at once by many.
type Table struct {
	seed  maphash.Seed
	mask  uint64
	sets  []set
	locks [shards]lock
}

type set [ways]slot

// slot is a key and when its debt is paid: the theoretical arrival time of the
// algorithm. The zero value is free.
type slot struct {
	key  Key
	paid int64
}

// lock fills a cache line, so that two of them do not slow each other down.
type lock struct {
	sync.Mutex
	_ [64 - 8]byte
}

// New makes a table in which that many keys can have debts at once and hardly
// ever share: there are twice as many slots or more. It takes 32 to 64 bytes per key.
func New(keys int) *Table {
	keys = min(max(keys, 1), MaxKeys)
	sets := uint64(1) << bits.Len64(uint64(2*keys-1)/ways)
	return &Table{seed: maphash.MakeSeed(), mask: sets - 1, sets: make([]set, sets)}
}

// Address makes the key of an address, of which the first v4 or v6 bits count.
func (t *Table) Address(a netip.Addr, v4, v6 int) Key {
	keep := v6
	if a.Is4() {
		keep = v4
	}
	if p, err := a.Prefix(keep); err == nil {
		a = p.Addr()
	}
	// An IPv4 address is in ::ffff:0:0/96, where no client's IPv6 address is.
	raw := a.As16()
	return key(maphash.Bytes(t.seed, raw[:]))
}

// Pair makes the key of two texts: an issuer, and whom it vouches for. No other
// two make the same one.
func (t *Table) Pair(one, two string) Key {
	var h maphash.Hash
	h.SetSeed(t.seed)
	var length [8]byte
	for i := range length {
		length[i] = byte(len(one) >> (8 * i))
	}
	_, _ = h.Write(length[:])
	_, _ = h.WriteString(one)
	_, _ = h.WriteString(two)
	return key(h.Sum64())
}

// key keeps zero for a free slot.
func key(hash uint64) Key { return Key(max(hash, 1)) }

// Take counts a request of the key, at a time that is a number of nanoseconds
// since whenever, and must not be negative. One that is refused costs nothing.
func (t *Table) Take(k Key, p Policy, now int64) Result { return t.take(k, p, now, true) }

// Look says what Take would, and counts nothing.
func (t *Table) Look(k Key, p Policy, now int64) Result { return t.take(k, p, now, false) }

// Return gives back what a Take took, for a request that was then refused for
// another reason.
func (t *Table) Return(k Key, p Policy) {
	s, l := t.find(k)
	l.Lock()
	defer l.Unlock()
	for i := range s {
		if s[i].key == k {
			s[i].paid -= int64(p.Interval())
			return
		}
	}
}

func (t *Table) find(k Key) (*set, *lock) {
	at := uint64(k) & t.mask
	return &t.sets[at], &t.locks[at%shards]
}

func (t *Table) take(k Key, p Policy, now int64, count bool) Result {
	s, l := t.find(k)
	l.Lock()
	defer l.Unlock()
	at := s.slot(k)
	debt := max(s[at].paid-now, 0)
	var r Result
	r.Shared = s[at].key != k && debt > 0
	interval := int64(p.Interval())
	most := interval * int64(p.Burst)
	if debt+interval <= most {
		r.Allowed = true
		debt += interval
		if count {
			s[at] = slot{k, now + debt}
		}
	}
	r.Remaining = int(max(most-debt, 0) / interval)
	if r.Remaining < p.Burst {
		// One more fits when the debt is down to the most less Remaining+1 intervals.
		r.Wait = time.Duration(debt - (most - interval*int64(r.Remaining+1)))
	}
	return r
}

// slot is where the key is, or where it would go: the one that is paid first.
func (s *set) slot(k Key) int {
	least := 0
	for i := range s {
		if s[i].key == k {
			return i
		}
		if s[i].paid < s[least].paid {
			least = i
		}
	}
	return least
}
