package feed

import (
	"errors"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// The collectors outlive a config; see decision.Register.
var (
	heartbeats = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: handoff.MetricFeedHeard,
		Help: "Time up to which everything that the region decided is known here, in seconds since 1970. The time since is how stale this POP is.",
	}, []string{"region"})
	connected = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: handoff.MetricFeedConnected,
		Help: "1 while this POP follows the feed, 0 while it is cut off.",
	})
	revocations = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: handoff.MetricFeedRevoked,
		Help: "Revocations of sessions, users and tenants that are held.",
	})
	held = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: handoff.MetricFeedEntries,
		Help: "Entries that are held, by table.",
	}, []string{"table"})
	heldBytes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: handoff.MetricFeedBytes,
		Help: "Bytes of the entries that are held, by table, where it is bounded by them.",
	}, []string{"table"})
	fullTables = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: handoff.MetricFeedFull,
		Help: "1 while a table has no room for all that the regions say.",
	}, []string{"table"})
	taken = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: handoff.MetricFeedTaken,
		Help: "When the set of definitions that is in force was published, in seconds since 1970.",
	}, []string{"kind", "name"})
	refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricFeedRefused,
		Help: "Sets of definitions that this POP's configuration could not use; the one before stayed in force.",
	}, []string{"kind", "name"})
	ignored = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricFeedIgnored,
		Help: "Messages of the feed that could not be read or kept, by reason.",
	}, []string{"reason"})
	resyncs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: handoff.MetricFeedResyncs,
		Help: "Times that all of the feed was read again because the position was gone, or a full table had room again.",
	})
)

// Taken says that a set of definitions is in force.
func Taken(kind, name string, published feed.Sequence) {
	taken.WithLabelValues(kind, name).Set(float64(published.Time().UnixMilli()) / 1000)
}

// Refused says that a set of definitions was not taken.
func Refused(kind, name string) { refused.WithLabelValues(kind, name).Inc() }

// Register puts the metrics into the registry of this config.
func Register(ctx caddy.Context) error {
	for _, c := range []prometheus.Collector{heartbeats, connected, revocations, held, heldBytes, fullTables, taken, refused, ignored, resyncs} {
		var already prometheus.AlreadyRegisteredError
		if err := ctx.GetMetricsRegistry().Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}
