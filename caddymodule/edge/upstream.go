package edge

import (
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Events that Caddy's events app hears of.
const (
	// EventUpstreamChanged: the health of an upstream is another. Data: region,
	// upstream, from, to (states, see [health.State]) and by, "checks" or "requests".
	EventUpstreamChanged = "upstream_changed"
	// EventRegionDown: nothing is sent to a region any more. Data: region.
	EventRegionDown = "region_down"
	// EventRegionUp: something is, again. Data: region.
	EventRegionUp = "region_up"
)

// Upstream is an address of a region, and what is known of it. That outlives a
// configuration; how it is told does not.
type Upstream struct {
	// Address is as the configuration has it, Network the same, read.
	Address string
	Network caddy.NetworkAddress

	*tracked
	dial   string
	region *Region
	app    *App
}

// tracked is what outlives a configuration.
type tracked struct {
	health *health.Upstream
	last   atomic.Pointer[checkup]

	checks   [3]atomic.Uint64               // by health.Result
	changes  [health.Down + 1]atomic.Uint64 // by the state that it came to
	failures [failureKinds]atomic.Uint64
}

// checkup is how one check went.
type checkup struct {
	at     time.Time
	took   time.Duration
	result health.Result
	status int // 0: no answer
	err    string
}

// Failure is in what way a request failed to an upstream.
type Failure uint8

const (
	// Unreachable: no connection came about. Nothing was sent.
	Unreachable Failure = iota
	// BrokeOff: the connection ended before the answer.
	BrokeOff
	// TookTooLong: no answer came in time.
	TookTooLong
	// NoGateway: 502, 503 or 504, and not by the region itself.
	NoGateway
	failureKinds
)

func (f Failure) String() string {
	return [...]string{"unreachable", "broke_off", "timeout", "gateway"}[f]
}

// Use says how good the upstream is for a request now.
func (u *Upstream) Use() health.Use {
	if u.health.Plain() {
		return health.Plain
	}
	return u.health.Use(time.Now())
}

// Begin asks to send a request to the upstream. Where it may, one of Answered,
// Failed and Abandoned must follow.
func (u *Upstream) Begin() (health.Ticket, bool) {
	if t, ok := u.health.BeginPlain(); ok {
		return t, true
	}
	t, c, ok := u.health.Begin(time.Now())
	if c.Changed() {
		u.changed(c, "requests")
	}
	return t, ok
}

// Answered says that an answer of the region's own came.
func (u *Upstream) Answered(t health.Ticket) { u.end(t, health.Answered) }

// Failed says that none came, and how that was.
func (u *Upstream) Failed(t health.Ticket, how Failure) {
	u.failures[how].Add(1)
	u.end(t, health.Broken)
}

// Abandoned says that the request ended for a reason that is not the upstream's.
func (u *Upstream) Abandoned(t health.Ticket) { u.end(t, health.Abandoned) }

func (u *Upstream) end(t health.Ticket, o health.Outcome) {
	if c := u.health.End(t, o, time.Now()); c.Changed() {
		u.changed(c, "requests")
	}
}

// changed tells of a change of state, and of what it means for the region.
func (u *Upstream) changed(c health.Change, by string) {
	u.changes[c.To].Add(1)
	tell := u.app.logger.Warn
	if c.To == health.Up || c.To == health.Draining || c.To == health.HalfOpen {
		tell = u.app.logger.Info
	}
	region := zap.String(handoff.FieldRegion, u.region.Name)
	fields := []zap.Field{
		region, zap.String(handoff.FieldUpstream, u.Address),
		zap.String(handoff.FieldState, c.To.String()), zap.String(handoff.FieldStateBefore, c.From.String()),
		zap.String(handoff.FieldReason, by),
	}
	if last := u.last.Load(); last != nil && last.err != "" && by == "checks" {
		fields = append(fields, zap.String(handoff.FieldError, last.err))
	}
	tell("the health of an upstream is another", fields...)
	u.app.herald.emit(u.app, EventUpstreamChanged, map[string]any{
		"region": u.region.Name, "upstream": u.Address, "from": c.From.String(), "to": c.To.String(), "by": by,
	})
	switch out := u.region.dark(); {
	case out && u.region.out.CompareAndSwap(false, true):
		u.app.logger.Error("nothing is sent to the region: none of its upstreams can be asked", region)
		u.app.herald.emit(u.app, EventRegionDown, map[string]any{"region": u.region.Name})
	case !out && u.region.out.CompareAndSwap(true, false):
		u.app.logger.Info("the region is asked again", region)
		u.app.herald.emit(u.app, EventRegionUp, map[string]any{"region": u.region.Name})
	}
}

// dark reports whether none of the region's upstreams is asked. One that is tried
// is not yet said to be back.
func (r *Region) dark() bool {
	for _, u := range r.reach {
		if state := u.health.State(); state == health.Up || state == health.Draining {
			return false
		}
	}
	return true
}
