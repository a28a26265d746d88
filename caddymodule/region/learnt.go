package region

import (
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

const (
	// learntLife is how long a region's correction is believed.
	learntLife = 10 * time.Minute
	// learntTenants bounds the table: a few MiB. A tenant that falls out is
	// corrected again.
	learntTenants = 1 << 16
)

// learnt is what regions taught this POP: where tenants are at home that a
// session's claim, or nothing, says elsewhere. It outlives a config.
type learnt struct {
	homes *otter.Cache[string, string]
}

// sharedLearnt gives the table that this configuration has in common with the
// one before it.
func sharedLearnt(app *edge.App) (*learnt, error) {
	return edge.Shared(app, "edge_region: where tenants are at home", newLearnt)
}

func newLearnt() (*learnt, error) {
	homes, err := otter.New(&otter.Options[string, string]{
		MaximumSize:      learntTenants,
		ExpiryCalculator: otter.ExpiryWriting[string, string](learntLife),
	})
	return &learnt{homes}, err
}

// home is the tenant's region, empty when no region said.
func (l *learnt) home(tenant string) string {
	home, _ := l.homes.GetIfPresent(tenant)
	return home
}

func (l *learnt) remember(tenant, home string) { l.homes.Set(tenant, home) }

func (l *learnt) forget(tenant string) { l.homes.Invalidate(tenant) }

// Close stops the table's clean-up.
func (l *learnt) Close() error {
	l.homes.StopAllGoroutines()
	return nil
}
