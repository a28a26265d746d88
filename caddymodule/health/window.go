package health

import "time"

// buckets is in how many steps the window slides.
const buckets = 10

// window counts requests of the last [Settings.Window], a tenth more or less.
type window struct {
	width time.Duration // of one bucket
	begun time.Time     // the first request's
	ring  [buckets]bucket
}

type bucket struct {
	at          int64 // which stretch of time
	all, failed int
}

// stretch numbers the stretches of time since the window was begun.
func (w *window) stretch(now time.Time) int64 { return int64(now.Sub(w.begun) / w.width) }

func (w *window) add(now time.Time, failed bool) {
	if w.begun.IsZero() {
		w.begun = now
	}
	at := w.stretch(now)
	b := &w.ring[uint64(at)%buckets]
	if b.at != at {
		*b = bucket{at: at}
	}
	b.all++
	if failed {
		b.failed++
	}
}

func (w *window) sum(now time.Time) (all, failed int) {
	at := w.stretch(now)
	for _, b := range w.ring {
		if b.at > at-buckets && b.at <= at {
			all, failed = all+b.all, failed+b.failed
		}
	}
	return all, failed
}

func (w *window) clear() { w.ring = [buckets]bucket{} }
