package edge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Defaults of [Health].
const (
	DefaultCheckInterval = 2 * time.Second
	DefaultCheckTimeout  = time.Second
)

// minCheckInterval keeps a slip of the pen from becoming a flood.
const minCheckInterval = 100 * time.Millisecond

// Health asks each upstream of a region whether it can be asked: GET URI, with an
// assertion of nobody's as every request to a region carries. 2xx is a pass; 503
// with a text that begins with "draining" says that it is about to stop; all else is
// a fail. A field that is not set has the app's value, and there its default.
type Health struct {
	// Off turns checks off, for one region where the app has them.
	Off bool `json:"off,omitempty"`

	// URI is what is asked for, a path with or without a query. Default:
	// "/.well-known/edge-ready" (handoff.ReadyPath).
	URI string `json:"uri,omitempty"`

	// Port is asked in place of the upstream's own, for a service that says elsewhere
	// how it is. No assertion is sent there. Default: the upstream's port.
	Port int `json:"port,omitempty"`

	// Interval is the time between two checks, a tenth more or less by chance, 100ms
	// or more. While an upstream is not well, or not sure to be, it is a quarter of
	// that. Default: 2s.
	Interval caddy.Duration `json:"interval,omitempty"`

	// Timeout is how long an answer may take, Interval at most. Default: 1s, or
	// Interval where that is shorter.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Fails is how many checks in a row have to fail for an upstream to be down.
	// Default: 3.
	Fails int `json:"fails,omitempty"`

	// Passes is how many in a row have to pass for it to be up again. Default: 2.
	Passes int `json:"passes,omitempty"`
}

// check finds what is wrong with the fields one by one.
func (h *Health) check() error {
	if h == nil {
		return nil
	}
	path, _, _ := strings.Cut(h.URI, "?")
	switch {
	case h.Off && *h != Health{Off: true}:
		return errors.New("health is off and has options: drop one of them")
	case h.URI != "" && handoff.CheckPath(path) != nil:
		return fmt.Errorf("health: uri %q: %w", h.URI, handoff.CheckPath(path))
	case h.Port < 0 || h.Port > 65535:
		return fmt.Errorf("health: port %d is none: they go from 1 to 65535", h.Port)
	case h.Interval < 0 || h.Interval > 0 && h.Interval < caddy.Duration(minCheckInterval):
		return fmt.Errorf("health: interval %s: %s is the least", time.Duration(h.Interval), minCheckInterval)
	case h.Timeout < 0:
		return fmt.Errorf("health: timeout %s: a positive duration is needed, such as 1s", time.Duration(h.Timeout))
	case h.Fails < 0 || h.Fails > maxInARow:
		return fmt.Errorf("health: fails %d: it is from 1 to %d", h.Fails, maxInARow)
	case h.Passes < 0 || h.Passes > maxInARow:
		return fmt.Errorf("health: passes %d: it is from 1 to %d", h.Passes, maxInARow)
	}
	return nil
}

// maxInARow bounds counts that nobody means to be larger.
const maxInARow = 1000

// over gives h with what it does not set taken from the app's and the defaults.
// Nil: no checks.
func (h *Health) over(app *Health) *Health {
	if h == nil {
		h = app
	}
	if h == nil || h.Off {
		return nil
	}
	merged := *h
	if app != nil {
		fill(&merged.URI, app.URI)
		fill(&merged.Port, app.Port)
		fill(&merged.Interval, app.Interval)
		fill(&merged.Timeout, app.Timeout)
		fill(&merged.Fails, app.Fails)
		fill(&merged.Passes, app.Passes)
	}
	fill(&merged.URI, handoff.ReadyPath)
	fill(&merged.Interval, caddy.Duration(DefaultCheckInterval))
	fill(&merged.Timeout, min(caddy.Duration(DefaultCheckTimeout), merged.Interval))
	fill(&merged.Fails, health.DefaultFails)
	fill(&merged.Passes, health.DefaultPasses)
	return &merged
}

// fill sets a value that is not set.
func fill[T comparable](v *T, def T) {
	var none T
	if *v == none {
		*v = def
	}
}

// Breaker leaves an upstream alone to which too many requests failed: it could not be
// dialled, broke off, took too long, or 502, 503 or 504 came from something before
// it. What it answers itself, application/problem+json whatever the status, is no
// failure, nor is a client that leaves. It is there unless it is turned off. A field
// that is not set has the app's value, and there its default.
type Breaker struct {
	// Off turns it off.
	Off bool `json:"off,omitempty"`

	// Failures is how many requests have to fail within Window. Default: 5.
	Failures int `json:"failures,omitempty"`

	// Ratio is which share of the requests within Window has to fail, besides: above
	// 0 and up to 1. Default: 0.5.
	Ratio float64 `json:"ratio,omitempty"`

	// Window is the time over which is counted. Default: 10s.
	Window caddy.Duration `json:"window,omitempty"`

	// Open is how long nothing is sent, up to a quarter less by chance. It doubles
	// each time that a trial fails. Default: 1s.
	Open caddy.Duration `json:"open,omitempty"`

	// MaxOpen is the longest that becomes. Default: 30s, or Open where that is longer.
	MaxOpen caddy.Duration `json:"max_open,omitempty"`

	// Trials is how many requests at once are let through when that time is over, and
	// how many have to be answered for the breaker to close. Default: 1.
	Trials int `json:"trials,omitempty"`
}

func (b *Breaker) check() error {
	if b == nil {
		return nil
	}
	switch {
	case b.Off && *b != Breaker{Off: true}:
		return errors.New("breaker is off and has options: drop one of them")
	case b.Failures < 0:
		return fmt.Errorf("breaker: failures %d: at least 1", b.Failures)
	case !(b.Ratio >= 0 && b.Ratio <= 1):
		return fmt.Errorf("breaker: ratio %v: it is a share above 0 and up to 1", b.Ratio)
	case tooShort(b.Window) || tooShort(b.Open) || tooShort(b.MaxOpen):
		return fmt.Errorf("breaker: window, open and max_open: %s is the least", minBreakerTime)
	case b.Trials < 0 || b.Trials > maxInARow:
		return fmt.Errorf("breaker: trials %d: it is from 1 to %d", b.Trials, maxInARow)
	}
	return nil
}

// minBreakerTime is shorter than anybody needs.
const minBreakerTime = 10 * time.Millisecond

func tooShort(d caddy.Duration) bool { return d != 0 && d < caddy.Duration(minBreakerTime) }

// over gives b with what it does not set taken from the app's. Nil: no breaker.
func (b *Breaker) over(app *Breaker) *Breaker {
	if b == nil {
		b = app
	}
	if b == nil {
		return new(Breaker)
	}
	if b.Off {
		return nil
	}
	merged := *b
	if app != nil {
		fill(&merged.Failures, app.Failures)
		fill(&merged.Ratio, app.Ratio)
		fill(&merged.Window, app.Window)
		fill(&merged.Open, app.Open)
		fill(&merged.MaxOpen, app.MaxOpen)
		fill(&merged.Trials, app.Trials)
	}
	return &merged
}

// checkHealth refuses what a region and the app together make of health.
func (a *App) checkHealth() error {
	if err := errors.Join(a.Health.check(), a.Breaker.check()); err != nil {
		return err
	}
	for _, r := range a.Regions {
		if b := r.Breaker.over(a.Breaker); b != nil && b.MaxOpen != 0 && b.MaxOpen < b.Open {
			return fmt.Errorf("region %s: breaker: max_open %s is less than open %s", r.Name, time.Duration(b.MaxOpen), time.Duration(b.Open))
		}
		h := r.Health.over(a.Health)
		if h == nil {
			continue
		}
		if h.Timeout > h.Interval {
			return fmt.Errorf("region %s: health: timeout %s is longer than interval %s", r.Name, time.Duration(h.Timeout), time.Duration(h.Interval))
		}
		for _, u := range r.Upstreams {
			if address, err := caddy.ParseNetworkAddress(u); h.Port != 0 && err == nil && address.IsUnixNetwork() {
				return fmt.Errorf("region %s: health: upstream %q has no other port", r.Name, u)
			}
		}
	}
	return nil
}

// settings of an upstream's health. h and b are merged, and nil where there is none.
func settings(h *Health, b *Breaker) health.Settings {
	var s health.Settings
	if h != nil {
		s.Fails, s.Passes = h.Fails, h.Passes
	}
	if s.NoBreaker = b == nil; b != nil {
		s.Failures, s.Ratio, s.Trials = b.Failures, b.Ratio, b.Trials
		s.Window, s.Open, s.MaxOpen = time.Duration(b.Window), time.Duration(b.Open), time.Duration(b.MaxOpen)
	}
	return s.WithDefaults()
}

// provisionHealth finds what the configuration before this one knew of each
// upstream. What it was found by belongs to the key: a state that nothing would
// ever change is not taken over.
func (a *App) provisionHealth() error {
	for _, r := range a.Regions {
		r.checks = r.Health.over(a.Health)
		s := settings(r.checks, r.Breaker.over(a.Breaker))
		target := ""
		if r.checks != nil {
			target = fmt.Sprint(r.checks.Port, r.checks.URI)
		}
		var err error
		if r.out, err = Shared(a, "health of region "+r.Name, func() (*outage, error) { return new(outage), nil }); err != nil {
			return err
		}
		for _, text := range r.Upstreams {
			address, err := caddy.ParseNetworkAddress(text)
			if err != nil { // not reachable: check has looked at it
				return err
			}
			u := &Upstream{Address: text, Network: address, dial: address.JoinHostPort(0), region: r, app: a}
			key := fmt.Sprintf("health of region %s, upstream %s: %+v %q", r.Name, text, s, target)
			if u.tracked, err = Shared(a, key, func() (*tracked, error) { return &tracked{health: health.New(s, rand.Float64)}, nil }); err != nil {
				return err
			}
			r.reach = append(r.reach, u)
		}
	}
	return a.registerHealth()
}

// outage remembers whether a region is down, so that it is said once.
type outage struct{ atomic.Bool }

// Available reports whether a request may be sent to the region of that name: it
// is one of the regions, and one of its upstreams can be asked or tried.
func (a *App) Available(region string) bool {
	r := a.Region(region)
	if r == nil {
		return false
	}
	best, _ := r.Best()
	return best != health.None
}

// Reach gives the region's upstreams in the order of the configuration.
func (r *Region) Reach() []*Upstream { return r.reach }

// Best says how good the best of the region's upstreams is. Where one is due for a
// trial, whatever the others are, trial is that one: somebody has to try it.
func (r *Region) Best() (best health.Use, trial *Upstream) {
	for _, u := range r.reach {
		use := u.Use()
		if use == health.Trial && trial == nil {
			trial = u
		}
		best = max(best, use)
	}
	return best, trial
}

// At gives the upstream that is dialled at that address, nil when there is none.
func (r *Region) At(network, address string) *Upstream {
	for _, u := range r.reach {
		if u.dial == address && u.Network.Network == network {
			return u
		}
	}
	return nil
}
