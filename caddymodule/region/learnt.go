package region

import (
	"net/http"
	"strconv"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

const (
	// learntLife is how long a region's correction is believed.
	learntLife = 10 * time.Minute
	// learntTenants bounds the table: a few MiB. A tenant that falls out is
	// corrected again.
	learntTenants = 1 << 16
)

// learnt is what regions taught this POP: where tenants are at home that the
// feed's table, a session's claim, or nothing, says elsewhere. It outlives a
// config.
type learnt struct {
	homes *otter.Cache[string, lesson]
}

// lesson is where a tenant is at home by a region's word.
type lesson struct {
	home string
	// epoch is that of the move which brought the tenant there. With bare set the
	// region named none: it is then the largest that this POP had heard of.
	epoch int64
	bare  bool
}

// beats reports whether the lesson is to be believed and not a table of that
// epoch. A table that has caught up decides; one that a region contradicted
// without an epoch has to say something new first.
func (l lesson) beats(epoch int64) bool {
	return l.epoch > epoch || l.bare && l.epoch == epoch
}

// sharedLearnt gives the table that this configuration has in common with the
// one before it.
func sharedLearnt(app *edge.App) (*learnt, error) {
	return edge.Shared(app, "edge_region: where tenants are at home", newLearnt)
}

func newLearnt() (*learnt, error) {
	homes, err := otter.New(&otter.Options[string, lesson]{
		MaximumSize:      learntTenants,
		ExpiryCalculator: otter.ExpiryWriting[string, lesson](learntLife),
	})
	return &learnt{homes}, err
}

// of is what was learnt about the tenant; its home is empty when nothing was.
func (l *learnt) of(tenant string) lesson {
	told, _ := l.homes.GetIfPresent(tenant)
	return told
}

// remember keeps what the region asked, which is not the tenant's home, told. What
// is known with a larger epoch stays, unless it is just that which asked denies.
func (l *learnt) remember(tenant, asked string, told lesson) {
	l.homes.Compute(tenant, func(old lesson, found bool) (lesson, otter.ComputeOp) {
		switch {
		case !found || old.home == asked:
		case told.bare:
			told.epoch = max(told.epoch, old.epoch)
		case old.epoch > told.epoch:
			return old, otter.CancelOp
		}
		return told, otter.WriteOp
	})
}

// forget drops what was learnt about the tenant if it names home.
func (l *learnt) forget(tenant, home string) {
	l.homes.Compute(tenant, func(old lesson, found bool) (lesson, otter.ComputeOp) {
		if found && old.home == home {
			return old, otter.InvalidateOp
		}
		return old, otter.CancelOp
	})
}

// Close stops the table's clean-up.
func (l *learnt) Close() error {
	l.homes.StopAllGoroutines()
	return nil
}

// epochIn reads the epoch of a 421: 0 where there is none. ok is false for what is
// no epoch.
func epochIn(h http.Header) (epoch int64, ok bool) {
	switch lines := h[handoff.HeaderHomeEpoch]; len(lines) {
	case 0:
		return 0, true
	case 1:
		return parseEpoch(lines[0])
	}
	return 0, false
}

// parseEpoch reads a whole number from 1, in decimal digits alone.
func parseEpoch(text string) (int64, bool) {
	const digits = 19 // of the largest
	if len(text) < 1 || len(text) > digits || text[0] == '0' {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	epoch, err := strconv.ParseInt(text, 10, 64)
	return epoch, err == nil
}
