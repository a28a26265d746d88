package edge

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// RegionReport is a region as this POP sees it, for people.
type RegionReport struct {
	Name       string `json:"name"`
	PublicName string `json:"public_name"`
	// Default is true for the region of requests that nothing else decides.
	Default bool `json:"default"`
	// Available is whether a request may be sent there now.
	Available bool             `json:"available"`
	Upstreams []UpstreamReport `json:"upstreams"`
}

// UpstreamReport is an upstream as this POP sees it.
type UpstreamReport struct {
	Address string       `json:"address"`
	State   health.State `json:"state"`
	// Since is when the state came about; absent: it was so from the beginning.
	Since time.Time `json:"since,omitzero"`
	// Requests and Failures are those of the breaker's window, while it is closed.
	Requests int `json:"requests"`
	Failures int `json:"failures"`
	// Retry is when a request may next try an upstream that is left alone.
	Retry time.Time `json:"retry,omitzero"`
	// Check is the last check; absent: there was none.
	Check *CheckReport `json:"check,omitempty"`
}

// CheckReport is one check of an upstream.
type CheckReport struct {
	At time.Time `json:"at"`
	// Took is in seconds.
	Took   float64 `json:"took"`
	Result string  `json:"result"`
	// Status of the answer; absent: there was none.
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
	// InARow is how many had this result, one after the other. Those that fail an
	// upstream and those that bring it back are counted.
	InARow int `json:"in_a_row,omitempty"`
}

var results = [...]string{health.Passed: "passed", health.Failed: "failed", health.Leaving: "draining"}

// RegionReport says how the regions are, in the order of the configuration.
func (a *App) RegionReport() []RegionReport {
	now := time.Now()
	report := make([]RegionReport, 0, len(a.Regions))
	for _, r := range a.Regions {
		one := RegionReport{Name: r.Name, PublicName: r.PublicName, Default: r.Name == a.DefaultRegion, Available: a.Available(r.Name)}
		for _, u := range r.reach {
			one.Upstreams = append(one.Upstreams, u.report(now))
		}
		report = append(report, one)
	}
	return report
}

func (u *Upstream) report(now time.Time) UpstreamReport {
	v := u.health.View(now)
	report := UpstreamReport{
		Address: u.Address, State: v.State, Since: v.Since, Requests: v.Requests, Failures: v.Failures, Retry: v.Retry,
	}
	if last := u.last.Load(); last != nil {
		report.Check = &CheckReport{
			At: last.at, Took: last.took.Seconds(), Result: results[last.result], Status: last.status, Error: last.err,
			InARow: max(v.Passes, v.Fails),
		}
	}
	return report
}

// reporter gives the metrics of a configuration's upstreams as they are when they
// are read. So none is left of an upstream that is configured no more.
type reporter struct{ app *App }

var (
	upstreamLabels = []string{"region", "upstream"}
	upstreamState  = prometheus.NewDesc(handoff.MetricUpstreamState,
		"1 for the state that the upstream is in: up, draining, half-open, open or down.", append(upstreamLabels, "state"), nil)
	upstreamChecks = prometheus.NewDesc(handoff.MetricUpstreamChecks,
		"Active checks by result: passed, failed or draining.", append(upstreamLabels, "result"), nil)
	upstreamFailures = prometheus.NewDesc(handoff.MetricUpstreamFailures,
		"Requests that failed to the upstream: unreachable, broke_off, timeout or gateway.", append(upstreamLabels, "kind"), nil)
	upstreamChanges = prometheus.NewDesc(handoff.MetricUpstreamChanges,
		"Changes of state, by the state that it came to.", append(upstreamLabels, "state"), nil)
	regionAvailable = prometheus.NewDesc(handoff.MetricRegionAvailable,
		"1 while requests may be sent to the region.", []string{"region"}, nil)
)

// registerHealth puts the upstreams' metrics into the registry of this config.
func (a *App) registerHealth() error {
	var already prometheus.AlreadyRegisteredError
	if err := a.ctx.GetMetricsRegistry().Register(reporter{a}); err != nil && !errors.As(err, &already) {
		return err
	}
	return nil
}

// Describe names the metrics.
func (reporter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upstreamState, upstreamChecks, upstreamFailures, upstreamChanges, regionAvailable} {
		ch <- d
	}
}

// Collect reads them.
func (c reporter) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	for _, r := range c.app.Regions {
		send(regionAvailable, prometheus.GaugeValue, truth(c.app.Available(r.Name)), r.Name)
		for _, u := range r.reach {
			state := u.health.State()
			for s := health.Up; s <= health.Down; s++ {
				send(upstreamState, prometheus.GaugeValue, truth(s == state), r.Name, u.Address, s.String())
				send(upstreamChanges, prometheus.CounterValue, float64(u.changes[s].Load()), r.Name, u.Address, s.String())
			}
			for result, name := range results {
				send(upstreamChecks, prometheus.CounterValue, float64(u.checks[result].Load()), r.Name, u.Address, name)
			}
			for kind := range failureKinds {
				send(upstreamFailures, prometheus.CounterValue, float64(u.failures[kind].Load()), r.Name, u.Address, kind.String())
			}
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
