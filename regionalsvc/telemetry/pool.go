package telemetry

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// WatchPool registers what pool says of itself at each scrape. name tells one
// pool from another.
func WatchPool(reg prometheus.Registerer, name string, pool *pgxpool.Pool) {
	labels := prometheus.Labels{"pool": name}
	gauge := func(metric, help string, value func(*pgxpool.Stat) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: handoff.MetricsRegion + "pool_" + metric, Help: help, ConstLabels: labels,
		}, func() float64 { return value(pool.Stat()) }))
	}
	counter := func(metric, help string, value func(*pgxpool.Stat) float64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: handoff.MetricsRegion + "pool_" + metric, Help: help, ConstLabels: labels,
		}, func() float64 { return value(pool.Stat()) }))
	}
	gauge("connections_max", "Connections there may be.", func(s *pgxpool.Stat) float64 { return float64(s.MaxConns()) })
	gauge("connections", "Connections there are.", func(s *pgxpool.Stat) float64 { return float64(s.TotalConns()) })
	gauge("connections_in_use", "Connections that somebody holds.", func(s *pgxpool.Stat) float64 { return float64(s.AcquiredConns()) })
	counter("acquires_total", "Connections given out.", func(s *pgxpool.Stat) float64 { return float64(s.AcquireCount()) })
	counter("acquires_waited_total", "Connections given out after a wait.", func(s *pgxpool.Stat) float64 { return float64(s.EmptyAcquireCount()) })
	counter("acquires_cancelled_total", "Waits that were given up.", func(s *pgxpool.Stat) float64 { return float64(s.CanceledAcquireCount()) })
	counter("acquire_wait_seconds_total", "Time waited for a connection while the pool was empty.", func(s *pgxpool.Stat) float64 { return s.EmptyAcquireWaitTime().Seconds() })
}
