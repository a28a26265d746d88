package edge

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// What is known of the issuers' key sets. The label is the issuer's name as the
// configuration has it. The collectors outlive a config, as decision's do.
var (
	keyLoads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricJWKSLoads,
		Help: "Loads of an issuer's key set by result: fetched, failed, or restored from storage.",
	}, []string{"issuer", "result"})
	keyCount = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: handoff.MetricJWKSKeys,
		Help: "Keys of an issuer that answer now; 0: its sessions cannot be checked.",
	}, []string{"issuer"})
	keyFetched = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: handoff.MetricJWKSFetched,
		Help: "When the key set that answers was fetched from the issuer, in Unix time.",
	}, []string{"issuer"})
	keyStale = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: handoff.MetricJWKSStale,
		Help: "1 while the issuer's keys cannot be fetched, and the last good set answers if there is one.",
	}, []string{"issuer"})
)

func registerKeyMetrics(ctx caddy.Context) error {
	for _, c := range []prometheus.Collector{keyLoads, keyCount, keyFetched, keyStale} {
		var already prometheus.AlreadyRegisteredError
		if err := ctx.GetMetricsRegistry().Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// count adds a fetch to the metrics.
func (s *source) count(f jwks.Fetch) {
	result, down := "fetched", 0.0
	if f.Err != nil {
		result, down = "failed", 1
	}
	keyLoads.WithLabelValues(s.issuer, result).Inc()
	keyStale.WithLabelValues(s.issuer).Set(down)
	s.gauge(f.Set, f.At)
}

// gauge says which set answers. Nil: none does.
func (s *source) gauge(set *jwks.Set, fetched time.Time) {
	if set == nil {
		keyCount.WithLabelValues(s.issuer).Set(0)
		return
	}
	keyCount.WithLabelValues(s.issuer).Set(float64(set.Len()))
	keyFetched.WithLabelValues(s.issuer).Set(float64(fetched.Unix()))
}

// forget takes the issuer's series away: an alert must not go on about an issuer
// that is configured no more.
func (s *source) forget() {
	keyLoads.DeletePartialMatch(prometheus.Labels{"issuer": s.issuer})
	for _, gauge := range []*prometheus.GaugeVec{keyCount, keyFetched, keyStale} {
		gauge.DeleteLabelValues(s.issuer)
	}
}
