package accounts

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// pace is how often something may be done: burst times at once, and once more
// after every every.
type pace struct {
	burst int
	every time.Duration
}

// Paces of log-ins that fail, for a name, whether somebody has it or not. From
// one address: what a person may mistype. From all together: NIST SP 800-63B,
// section 5.2.2, bounds them at 100; more follow slowly, for a name that was
// locked for good would be a gift to whoever wants to keep its owner out.
var (
	fromOne = pace{burst: 10, every: 30 * time.Second}
	fromAll = pace{burst: 100, every: 36 * time.Second}
)

// brakeCells is how many paces are kept apart, in 8 bytes each. Two that share a
// cell share its pace: with so many, failures would have to come at more than
// 5,000 a second, a hash each, before that is to be felt.
const brakeCells = 1 << 18

// brake slows down who guesses passwords, in memory that does not grow with
// their number. It belongs to this process: with n of them a name has n times
// the attempts.
//
// Each cell holds a time, in nanoseconds since start, by the generic cell rate
// algorithm (ITU-T I.371): an attempt moves it on by every, and none is let
// through that would move it further ahead of now than burst times every.
type brake struct {
	start time.Time
	seed  maphash.Seed // random: nobody can choose a name that shares another's cell
	cells []atomic.Int64
}

func newBrake() *brake {
	return &brake{start: time.Now(), seed: maphash.MakeSeed(), cells: make([]atomic.Int64, brakeCells)}
}

// cellKey is a name and from where it was tried; all: from wherever.
type cellKey struct {
	name, from string
	all        bool
}

// try counts an attempt at name's password from the address from, before it is
// made: attempts at once are then all counted. undo takes it back, when it
// was good or was not made. A wait of more than zero says that it is too many.
func (b *brake) try(now time.Time, name, from string) (undo func(), wait time.Duration) {
	one, all := b.cell(cellKey{name: name, from: from}), b.cell(cellKey{name: name, all: true})
	since := now.Sub(b.start)
	if wait = take(one, since, fromOne); wait > 0 {
		return nil, wait
	}
	if wait = take(all, since, fromAll); wait > 0 {
		one.Add(-int64(fromOne.every))
		return nil, wait
	}
	return func() {
		one.Add(-int64(fromOne.every))
		all.Add(-int64(fromAll.every))
	}, 0
}

func (b *brake) cell(key cellKey) *atomic.Int64 {
	return &b.cells[maphash.Comparable(b.seed, key)%uint64(len(b.cells))]
}

func take(cell *atomic.Int64, now time.Duration, p pace) (wait time.Duration) {
	for {
		before := cell.Load()
		after := max(before, int64(now)) + int64(p.every)
		if wait = time.Duration(after) - now - time.Duration(p.burst)*p.every; wait > 0 {
			return wait
		}
		if cell.CompareAndSwap(before, after) {
			return 0
		}
	}
}
