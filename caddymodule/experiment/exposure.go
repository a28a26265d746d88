package experiment

import (
	"hash/maphash"
	"time"

	"github.com/maypok86/otter/v2"
)

// Bounds of what is remembered of exposures, a few megabytes. What falls out is
// told again, as after a restart and at another POP: whoever counts does so by
// unit.
const (
	exposureLife    = 24 * time.Hour
	exposureEntries = 100_000
)

// exposures remembers which unit has met which variant, so that an exposure is
// told once.
type exposures struct {
	seed maphash.Seed
	met  *otter.Cache[uint64, struct{}]
}

// exposed is one meeting.
type exposed struct{ experiment, variant, unit string }

func newExposures() (*exposures, error) {
	met, err := otter.New(&otter.Options[uint64, struct{}]{
		MaximumSize:      exposureEntries,
		ExpiryCalculator: otter.ExpiryWriting[uint64, struct{}](exposureLife),
	})
	return &exposures{maphash.MakeSeed(), met}, err
}

// first reports whether the meeting is new, and from then on it is not, unless
// the run is dry. Two that share a hash, one in ten to
// the fourteenth here, count as one.
func (x *exposures) first(e exposed, dry bool) bool {
	key := maphash.Comparable(x.seed, e)
	if _, known := x.met.GetIfPresent(key); known {
		return false
	}
	if dry {
		return true
	}
	_, isNew := x.met.SetIfAbsent(key, struct{}{})
	return isNew
}

// Close stops the memory's own goroutine.
func (x *exposures) Close() error {
	x.met.StopAllGoroutines()
	return nil
}
