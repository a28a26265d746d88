// Package health says which upstreams of a region may be asked: by what active
// checks found, by what became of requests, and by a circuit breaker over the
// latter. It is rules alone: it knows no HTTP, no clock and no goroutine.
package health

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of [Settings].
const (
	DefaultFails    = 3
	DefaultPasses   = 2
	DefaultFailures = 5
	DefaultRatio    = 0.5
	DefaultWindow   = 10 * time.Second
	DefaultOpen     = time.Second
	DefaultMaxOpen  = 30 * time.Second
	DefaultTrials   = 1
)

// Settings of an [Upstream]. A zero field has its default.
type Settings struct {
	// Fails is how many checks in a row have to fail for the upstream to be down.
	Fails int
	// Passes is how many in a row have to pass for it to be up again.
	Passes int

	// NoBreaker keeps what became of requests from deciding anything.
	NoBreaker bool
	// Failures is how many requests have to fail within Window for the breaker to
	// open, and Ratio which share of the requests in it, above 0 and up to 1: both.
	Failures int
	Ratio    float64
	Window   time.Duration
	// Open is how long the breaker stays open the first time. It doubles each time
	// that a trial fails, or that the breaker opens again within Window, up to
	// MaxOpen. A quarter of it at most is taken off by chance, so that POPs do not
	// come back as one.
	Open    time.Duration
	MaxOpen time.Duration
	// Trials is how many requests at once may try a half-open upstream, and how
	// many have to be answered for the breaker to close.
	Trials int
}

// WithDefaults fills in what is not set.
func (s Settings) WithDefaults() Settings {
	orInt := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	orTime := func(v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
	}
	orInt(&s.Fails, DefaultFails)
	orInt(&s.Passes, DefaultPasses)
	orInt(&s.Failures, DefaultFailures)
	orInt(&s.Trials, DefaultTrials)
	orTime(&s.Window, DefaultWindow)
	orTime(&s.Open, DefaultOpen)
	orTime(&s.MaxOpen, max(DefaultMaxOpen, s.Open))
	if s.Ratio == 0 {
		s.Ratio = DefaultRatio
	}
	return s
}

// State is an upstream's, as people see it: what keeps requests away, if
// anything does.
type State uint8

const (
	// Up: it may be asked.
	Up State = iota
	// Draining: it says itself that it is about to stop. It is asked only where
	// nothing else can be.
	Draining
	// HalfOpen: a few requests try whether it answers again.
	HalfOpen
	// Open: too many requests failed. It is left alone for a while.
	Open
	// Down: its checks fail.
	Down
)

var states = [...]string{"up", "draining", "half-open", "open", "down"}

func (s State) String() string { return states[s] }

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads it.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(states[:], string(text))
	if i < 0 {
		return fmt.Errorf("%q is no state of an upstream", text)
	}
	*s = State(i)
	return nil
}

// Change is a transition. Where From equals To there was none.
type Change struct{ From, To State }

// Changed reports whether there was a transition.
func (c Change) Changed() bool { return c.From != c.To }

// Result is what an active check found.
type Result uint8

const (
	// Passed: it can be asked.
	Passed Result = iota
	// Failed: it cannot, or did not answer.
	Failed
	// Leaving: it answers and says that it is about to stop.
	Leaving
)

// Outcome is what became of a request.
type Outcome uint8

const (
	// Answered: the upstream gave an answer that is its own.
	Answered Outcome = iota
	// Broken: it could not be reached, broke off, or took too long.
	Broken
	// Abandoned: it ended for a reason that is not the upstream's, such as a client
	// that left. It says nothing.
	Abandoned
)

// Use says how good an upstream is for the next request. More is better, but
// that a [Trial] that is due must be taken by somebody.
type Use uint8

const (
	// None: nothing may be sent.
	None Use = iota
	// Trial: one request may try it.
	Trial
	// LastResort: where nothing better is to be had.
	LastResort
	// Plain: like any other.
	Plain
)

// Ticket is the right to send one request.
type Ticket struct {
	epoch uint64
	trial bool
}

// Upstream is the health of one upstream. Two machines decide, and both have to
// agree. The first is driven by checks, where there are any:
//
//	         Fails failed in a row
//	   up ──────────────────────────▶ down
//	   ▲ ◀──────────────────────────── │
//	   │     Passes passed in a row    │
//	   │                               │
//	   │ one passed      it says so    │
//	   └───────────── draining ◀───────┘
//	                   │  ▲
//	Fails in a row,    ▼  │  it says so
//	as from up       down  up
//
// The second is driven by what became of requests:
//
//	         Failures and Ratio within Window
//	closed ────────────────────────────────────▶ open
//	  ▲                                          │  ▲
//	  │ Trials answered       its time is over,  │  │ a trial failed:
//	  │                       and the last check │  │ twice the time
//	  │                       did not fail       ▼  │
//	  └───────────────────────────────────── half-open
//
// It begins up and closed: nobody is refused because a check was slow to come.
// When checks find it up again after it was down, the breaker closes too. A
// request counts only for the state that it began in, so that those which end
// late prove nothing about a later one.
//
// It is safe for use by several goroutines.
type Upstream struct {
	settings Settings
	chance   func() float64 // in [0,1)

	plain atomic.Bool   // up and closed: nothing to ask
	epoch atomic.Uint64 // counts the breaker's transitions

	mu      sync.Mutex
	check   State // Up, Draining or Down
	passes  int   // in a row
	fails   int   // in a row
	breaker State // Up, HalfOpen or Open
	window  window
	since   time.Time // of the state at hand; zero: from the beginning
	closed  time.Time // when the breaker closed last
	level   int       // how often it has opened in a row
	until   time.Time // open: when its time is over. Half-open: when trials that hang are given up
	trying  int       // trials under way
	tried   int       // trials answered
}

// New makes an upstream that is up. chance gives numbers in [0,1).
func New(s Settings, chance func() float64) *Upstream {
	s = s.WithDefaults()
	u := &Upstream{settings: s, chance: chance}
	u.window.width = max(s.Window/buckets, 1)
	u.plain.Store(true)
	return u
}

// Plain reports whether the upstream is like any other, which needs no clock.
func (u *Upstream) Plain() bool { return u.plain.Load() }

// Use says how good the upstream is for a request now. It changes nothing.
func (u *Upstream) Use(now time.Time) Use {
	if u.plain.Load() {
		return Plain
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.use(now)
}

func (u *Upstream) use(now time.Time) Use {
	switch {
	case u.check == Down:
		return None
	case u.breaker == Open:
		if u.fails > 0 || now.Before(u.until) {
			return None
		}
		return Trial
	case u.breaker == HalfOpen:
		if u.fails > 0 || u.full() && now.Before(u.until) {
			return None
		}
		return Trial
	case u.check == Draining:
		return LastResort
	}
	return Plain
}

// BeginPlain is Begin for an upstream that is Plain, and false for others.
func (u *Upstream) BeginPlain() (Ticket, bool) {
	t := Ticket{epoch: u.epoch.Load()} // before the look at plain: else it could be that of a later state
	return t, u.plain.Load()
}

// Begin asks to send a request. Where it may, [Upstream.End] must follow.
func (u *Upstream) Begin(now time.Time) (t Ticket, c Change, ok bool) {
	if t, ok := u.BeginPlain(); ok {
		return t, c, true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	use := u.use(now)
	if use == None {
		return t, c, false
	}
	if use == Trial {
		c = u.beginTrial(now)
	}
	return Ticket{epoch: u.epoch.Load(), trial: use == Trial}, c, true
}

// beginTrial takes a turn. Trials that hang make room for others, ever later.
func (u *Upstream) beginTrial(now time.Time) (c Change) {
	switch {
	case u.breaker == Open:
		c = u.turn(HalfOpen, now)
		u.trying, u.tried = 0, 0
		u.until = now.Add(u.pause())
	case u.full():
		u.trying = 0
		u.level++
		u.until = now.Add(u.pause())
	}
	u.trying++
	return c
}

// full reports whether as many try a half-open upstream as may.
func (u *Upstream) full() bool { return u.trying+u.tried >= u.settings.Trials }

// End says what became of a request.
func (u *Upstream) End(t Ticket, o Outcome, now time.Time) Change {
	if u.settings.NoBreaker {
		return Change{}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if t.epoch != u.epoch.Load() {
		return Change{}
	}
	if t.trial {
		return u.endTrial(o, now)
	}
	if o == Abandoned {
		return Change{}
	}
	u.window.add(now, o == Broken)
	if o == Answered {
		return Change{}
	}
	all, failed := u.window.sum(now)
	if failed < u.settings.Failures || float64(failed) < u.settings.Ratio*float64(all) {
		return Change{}
	}
	if !u.closed.IsZero() && now.Sub(u.closed) < u.settings.Window {
		u.level++
	} else {
		u.level = 0
	}
	return u.open(now)
}

func (u *Upstream) endTrial(o Outcome, now time.Time) Change {
	u.trying = max(u.trying-1, 0) // one that was given up has no turn to give back
	switch o {
	case Broken:
		u.level++
		return u.open(now)
	case Answered:
		if u.tried++; u.tried >= u.settings.Trials {
			return u.close(now)
		}
	}
	return Change{}
}

// Checked says what a check found.
func (u *Upstream) Checked(r Result, now time.Time) (c Change) {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.state()
	switch r {
	case Failed:
		u.passes = 0
		if u.fails++; u.fails >= u.settings.Fails {
			u.check = Down
		}
	case Leaving:
		u.passes, u.fails, u.check = 0, 0, Draining
	case Passed:
		u.fails = 0
		u.passes++
		switch {
		case u.check == Draining:
			u.check = Up
		case u.check == Down && u.passes >= u.settings.Passes:
			u.check = Up
			if u.breaker != Up {
				u.close(now)
			}
		}
	}
	return u.changed(before, now)
}

// open, close and turn move the breaker.
func (u *Upstream) open(now time.Time) Change {
	c := u.turn(Open, now)
	u.until = now.Add(u.pause())
	return c
}

func (u *Upstream) close(now time.Time) Change {
	c := u.turn(Up, now)
	u.closed = now
	return c
}

func (u *Upstream) turn(to State, now time.Time) Change {
	before := u.state()
	u.breaker = to
	u.window.clear()
	u.epoch.Add(1)
	return u.changed(before, now)
}

// pause is how long the breaker stays open now.
func (u *Upstream) pause() time.Duration {
	pause := u.settings.Open
	for range u.level {
		if pause *= 2; pause >= u.settings.MaxOpen || pause <= 0 {
			pause = u.settings.MaxOpen
			break
		}
	}
	return pause - time.Duration(u.chance()*float64(pause)/4)
}

func (u *Upstream) state() State { return max(u.check, u.breaker) }

func (u *Upstream) changed(before State, now time.Time) Change {
	after := u.state()
	u.plain.Store(after == Up)
	if after != before {
		u.since = now
	}
	return Change{before, after}
}

// Steady reports whether all is well. Where it is not, checks should come
// sooner: to be sure, and to see the end of it.
func (u *Upstream) Steady() bool {
	if !u.plain.Load() {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.fails == 0
}

// State is the upstream's.
func (u *Upstream) State() State {
	if u.plain.Load() {
		return Up
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state()
}

// View is an upstream's health for people.
type View struct {
	State State
	// Since is when it came about. Zero: it was so from the beginning.
	Since time.Time
	// Passes and Fails are checks in a row.
	Passes, Fails int
	// Requests of the window, and how many of them failed.
	Requests, Failures int
	// Retry is when the next trial may come. Zero: there is nothing to try.
	Retry time.Time
}

// View says how the upstream is.
func (u *Upstream) View(now time.Time) View {
	u.mu.Lock()
	defer u.mu.Unlock()
	v := View{State: u.state(), Since: u.since, Passes: u.passes, Fails: u.fails}
	v.Requests, v.Failures = u.window.sum(now)
	if u.breaker == Open {
		v.Retry = u.until
	}
	return v
}
