package health_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
)

// noChance takes nothing off a pause.
func noChance() float64 { return 0 }

// clock is when a test says that it is.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)} }

func (c *clock) advance(d time.Duration) { c.now = c.now.Add(d) }

// driven is an upstream with a clock.
type driven struct {
	*health.Upstream
	*clock
	t *testing.T
}

func drive(t *testing.T, s health.Settings) *driven {
	return &driven{health.New(s, noChance), newClock(), t}
}

// request sends one request that ends at once.
func (d *driven) request(o health.Outcome) health.Change {
	d.t.Helper()
	ticket, begun, ok := d.Begin(d.now)
	if !ok {
		d.t.Fatal("nothing may be sent")
	}
	ended := d.End(ticket, o, d.now)
	if begun.Changed() {
		return health.Change{From: begun.From, To: ended.To}
	}
	return ended
}

func (d *driven) is(state health.State, use health.Use) {
	d.t.Helper()
	if got := d.View(d.now).State; got != state {
		d.t.Fatalf("state %v, want %v", got, state)
	}
	if got := d.Use(d.now); got != use {
		d.t.Fatalf("use %v, want %v", got, use)
	}
	if _, _, ok := d.peek(); ok != (use != health.None) {
		d.t.Fatalf("a request may be sent: %t, want %t", ok, use != health.None)
	}
}

// peek begins a request and gives it up.
func (d *driven) peek() (health.Ticket, health.Change, bool) {
	if d.View(d.now).State != health.Up && d.Use(d.now) == health.Trial {
		return health.Ticket{}, health.Change{}, true // a trial would change the state
	}
	t, c, ok := d.Begin(d.now)
	if ok {
		d.End(t, health.Abandoned, d.now)
	}
	return t, c, ok
}

func TestChecks_decideAfterSoManyInARow(t *testing.T) {
	const p, f, l = health.Passed, health.Failed, health.Leaving
	for _, row := range []struct {
		name    string
		results []health.Result
		state   health.State
		use     health.Use
	}{
		{"it begins up", nil, health.Up, health.Plain},
		{"two fail of three", []health.Result{f, f}, health.Up, health.Plain},
		{"not in a row", []health.Result{f, f, p, f, f}, health.Up, health.Plain},
		{"in a row", []health.Result{p, f, f, f}, health.Down, health.None},
		{"one passes of two", []health.Result{f, f, f, p}, health.Down, health.None},
		{"passes not in a row", []health.Result{f, f, f, p, f, p}, health.Down, health.None},
		{"up again", []health.Result{f, f, f, p, p}, health.Up, health.Plain},
		{"flapping stays where it is, up", []health.Result{f, p, f, p, f, p, f, p}, health.Up, health.Plain},
		{"flapping stays where it is, down", []health.Result{f, f, f, p, f, p, f, p, f}, health.Down, health.None},
		{"draining", []health.Result{p, l}, health.Draining, health.LastResort},
		{"draining, then gone", []health.Result{l, f, f, f}, health.Down, health.None},
		{"draining, then another process", []health.Result{l, f, p}, health.Up, health.Plain},
		{"down, then it answers and leaves", []health.Result{f, f, f, l}, health.Draining, health.LastResort},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := drive(t, health.Settings{})
			for _, r := range row.results {
				d.Checked(r, d.now)
			}
			d.is(row.state, row.use)
		})
	}
}

func TestChecks_tellEachChangeOnce(t *testing.T) {
	d := drive(t, health.Settings{})
	var told []health.Change
	for _, r := range []health.Result{health.Failed, health.Failed, health.Failed, health.Failed, health.Passed, health.Passed, health.Passed, health.Leaving, health.Leaving, health.Passed} {
		if c := d.Checked(r, d.now); c.Changed() {
			told = append(told, c)
		}
	}
	want := []health.Change{{From: health.Up, To: health.Down}, {From: health.Down, To: health.Up}, {From: health.Up, To: health.Draining}, {From: health.Draining, To: health.Up}}
	if len(told) != len(want) {
		t.Fatalf("%v", told)
	}
	for i := range want {
		if told[i] != want[i] {
			t.Errorf("%v, want %v", told[i], want[i])
		}
	}
}

func TestBreaker_opensByNumberAndByShare(t *testing.T) {
	const a, b, x = health.Answered, health.Broken, health.Abandoned
	many := func(n int, of ...health.Outcome) (all []health.Outcome) {
		for range n {
			all = append(all, of...)
		}
		return all
	}
	for _, row := range []struct {
		name     string
		outcomes []health.Outcome
		state    health.State
	}{
		{"too few", many(4, b), health.Up},
		{"five", many(5, b), health.Open},
		{"one in three of many", many(50, a, a, b), health.Up},
		{"every other", many(5, a, b), health.Open},
		{"a client that leaves counts for nothing", many(100, x), health.Up},
		{"nor does it dilute", append(many(100, x), many(5, b)...), health.Open},
		{"answers alone", many(100, a), health.Up},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := drive(t, health.Settings{})
			for i, o := range row.outcomes {
				if c := d.request(o); c.Changed() && i < len(row.outcomes)-1 {
					t.Fatalf("%v after %d", c, i+1)
				}
			}
			if got := d.View(d.now).State; got != row.state {
				t.Errorf("%v, want %v", got, row.state)
			}
		})
	}
}

func TestBreaker_theWindowSlides(t *testing.T) {
	d := drive(t, health.Settings{})
	for range 40 { // one each 3 s: never five in 10 s
		d.request(health.Broken)
		d.advance(3 * time.Second)
	}
	d.is(health.Up, health.Plain)
	d.advance(10 * time.Second)
	for range 5 {
		d.is(health.Up, health.Plain)
		d.request(health.Broken)
		d.advance(time.Second)
	}
	if got := d.View(d.now).State; got != health.Open {
		t.Errorf("five in five seconds: %v", got)
	}
}

// opened is an upstream whose breaker has just opened.
func opened(t *testing.T, s health.Settings) *driven {
	d := drive(t, s)
	for range 5 {
		d.request(health.Broken)
	}
	d.is(health.Open, health.None)
	return d
}

func TestBreaker_waitsTriesAndCloses(t *testing.T) {
	d := opened(t, health.Settings{})
	d.advance(time.Second - 1)
	d.is(health.Open, health.None)
	d.advance(1)
	d.is(health.Open, health.Trial)
	trial, c, ok := d.Begin(d.now)
	if !ok || c != (health.Change{From: health.Open, To: health.HalfOpen}) {
		t.Fatalf("%v %v", c, ok)
	}
	d.is(health.HalfOpen, health.None) // one at a time
	if c := d.End(trial, health.Answered, d.now); c != (health.Change{From: health.HalfOpen, To: health.Up}) {
		t.Fatal(c)
	}
	d.is(health.Up, health.Plain)
}

func TestBreaker_waitsTwiceAsLongAfterEachTrialThatFails(t *testing.T) {
	d := opened(t, health.Settings{})
	for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
		wait := time.Duration(seconds) * time.Second
		d.advance(wait - 1)
		d.is(health.Open, health.None)
		d.advance(1)
		if c := d.request(health.Broken); c.To != health.Open {
			t.Fatal(c)
		}
	}
}

func TestBreaker_chanceShortensAPauseByAQuarterAtMost(t *testing.T) {
	for _, row := range []struct {
		chance float64
		want   time.Duration
	}{{0, 4 * time.Second}, {0.5, 3500 * time.Millisecond}, {1, 3 * time.Second}} {
		u, now := health.New(health.Settings{Open: 4 * time.Second}, func() float64 { return row.chance }), newClock().now
		for range 5 {
			ticket, _, _ := u.Begin(now)
			u.End(ticket, health.Broken, now)
		}
		if got := u.View(now).Retry.Sub(now); got != row.want {
			t.Errorf("%v: %s, want %s", row.chance, got, row.want)
		}
	}
}

// An upstream that is fine for a moment each time must not be asked as often as one
// that had one bad moment.
func TestBreaker_flappingIsLeftAloneLongerAndLonger(t *testing.T) {
	d := opened(t, health.Settings{})
	for _, seconds := range []int{1, 2, 4, 8} {
		if got := d.View(d.now).Retry.Sub(d.now); got != time.Duration(seconds)*time.Second {
			t.Fatalf("%s, want %ds", got, seconds)
		}
		d.advance(time.Duration(seconds) * time.Second)
		d.request(health.Answered)
		d.is(health.Up, health.Plain)
		for range 5 {
			d.request(health.Broken)
		}
	}
	d.advance(16 * time.Second)
	d.request(health.Answered)
	d.advance(health.DefaultWindow) // it held
	for range 5 {
		d.request(health.Broken)
	}
	if got := d.View(d.now).Retry.Sub(d.now); got != time.Second {
		t.Errorf("after a good time: %s", got)
	}
}

func TestBreaker_severalTrials(t *testing.T) {
	d := opened(t, health.Settings{Trials: 2})
	d.advance(time.Second)
	first, _, _ := d.Begin(d.now)
	second, _, ok := d.Begin(d.now)
	if !ok {
		t.Fatal("the second trial")
	}
	d.is(health.HalfOpen, health.None)
	if c := d.End(first, health.Answered, d.now); c.Changed() {
		t.Fatalf("closed after one of two: %v", c)
	}
	d.is(health.HalfOpen, health.None)
	d.End(second, health.Abandoned, d.now) // its turn is free again
	d.is(health.HalfOpen, health.Trial)
	third, _, _ := d.Begin(d.now)
	if c := d.End(third, health.Answered, d.now); c.To != health.Up {
		t.Fatal(c)
	}
}

// A client could hold the one turn by sending its request ever so slowly.
func TestBreaker_aTrialThatHangsKeepsNobodyOutForEver(t *testing.T) {
	d := opened(t, health.Settings{})
	d.advance(time.Second)
	hanging, _, _ := d.Begin(d.now)
	d.advance(time.Second - 1)
	d.is(health.HalfOpen, health.None)
	d.advance(1)
	d.is(health.HalfOpen, health.Trial)
	next, c, ok := d.Begin(d.now)
	if !ok || c.Changed() {
		t.Fatalf("%v %v", c, ok)
	}
	d.advance(2*time.Second - 1) // and ever later: a hanging upstream holds few clients
	d.is(health.HalfOpen, health.None)
	if c := d.End(hanging, health.Abandoned, d.now); c.Changed() {
		t.Fatal(c)
	}
	if c := d.End(next, health.Answered, d.now); c.To != health.Up {
		t.Fatal(c)
	}
}

func TestBreaker_whatBeganEarlierProvesNothing(t *testing.T) {
	d := drive(t, health.Settings{})
	var early []health.Ticket
	for range 20 {
		ticket, _, _ := d.Begin(d.now)
		early = append(early, ticket)
	}
	for range 5 {
		d.request(health.Broken)
	}
	d.advance(time.Second)
	trial, _, _ := d.Begin(d.now)
	for _, ticket := range early[:10] {
		if c := d.End(ticket, health.Answered, d.now); c.Changed() {
			t.Fatalf("an answer from before closes it: %v", c)
		}
	}
	d.End(trial, health.Answered, d.now)
	for _, ticket := range early[10:] {
		if c := d.End(ticket, health.Broken, d.now); c.Changed() {
			t.Fatalf("a failure from before opens it: %v", c)
		}
	}
	d.is(health.Up, health.Plain)
}

func TestBreaker_noTrialWhileTheLastCheckFailed(t *testing.T) {
	d := opened(t, health.Settings{})
	d.Checked(health.Failed, d.now)
	d.advance(time.Second)
	d.is(health.Open, health.None)
	d.Checked(health.Passed, d.now)
	d.is(health.Open, health.Trial)
}

func TestBreaker_closesWhenChecksFindTheUpstreamUpAgain(t *testing.T) {
	d := opened(t, health.Settings{})
	for range 3 {
		d.Checked(health.Failed, d.now)
	}
	d.is(health.Down, health.None)
	d.Checked(health.Passed, d.now)
	if c := d.Checked(health.Passed, d.now); c != (health.Change{From: health.Down, To: health.Up}) {
		t.Fatal(c)
	}
	d.is(health.Up, health.Plain)
}

func TestBreaker_offDecidesNothing(t *testing.T) {
	d := drive(t, health.Settings{NoBreaker: true})
	for range 100 {
		if c := d.request(health.Broken); c.Changed() {
			t.Fatal(c)
		}
	}
	d.is(health.Up, health.Plain)
}

// TestUpstream_whateverHappens holds what must be true after any history.
func TestUpstream_whateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := health.Settings{
			Fails: rapid.IntRange(1, 4).Draw(t, "fails"), Passes: rapid.IntRange(1, 4).Draw(t, "passes"),
			NoBreaker: rapid.Bool().Draw(t, "no breaker"),
			Failures:  rapid.IntRange(1, 4).Draw(t, "failures"), Ratio: rapid.Float64Range(0.1, 1).Draw(t, "ratio"),
			Trials: rapid.IntRange(1, 3).Draw(t, "trials"),
		}.WithDefaults()
		u, c := health.New(s, noChance), newClock()
		var under []health.Ticket
		state := health.Up
		heard := func(change health.Change) {
			if change.Changed() && change.From != state {
				t.Fatalf("%v, and it was %v", change, state)
			}
			if change.Changed() {
				state = change.To
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				use := u.Use(c.now)
				ticket, change, ok := u.Begin(c.now)
				if ok != (use != health.None) {
					t.Fatalf("use %v, and begun: %t", use, ok)
				}
				heard(change)
				if ok {
					under = append(under, ticket)
				}
			},
			"end": func(t *rapid.T) {
				if len(under) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
				o := health.Outcome(rapid.IntRange(0, 2).Draw(t, "outcome"))
				before := u.View(c.now)
				change := u.End(under[i], o, c.now)
				under = append(under[:i], under[i+1:]...)
				heard(change)
				if change.Changed() && (o == health.Abandoned || s.NoBreaker) {
					t.Fatalf("outcome %v: %v", o, change)
				}
				if change.Changed() && o == health.Answered && before.State != health.HalfOpen {
					t.Fatalf("an answer: %v", change)
				}
			},
			"check": func(t *rapid.T) {
				heard(u.Checked(health.Result(rapid.IntRange(0, 2).Draw(t, "result")), c.now))
			},
			"wait": func(t *rapid.T) {
				c.advance(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) {
				v, use := u.View(c.now), u.Use(c.now)
				if v.State != state {
					t.Fatalf("it is %v; told was %v", v.State, state)
				}
				switch {
				case v.State == health.Down && use != health.None,
					(v.State == health.Up) != (use == health.Plain),
					v.State == health.Draining && use != health.LastResort,
					v.State == health.Open && use == health.Trial && c.now.Before(v.Retry),
					v.Failures > v.Requests:
					t.Fatalf("%+v, use %v", v, use)
				}
				if v.State == health.Down && v.Passes >= s.Passes || v.State == health.Up && v.Fails >= s.Fails {
					t.Fatalf("%+v", v)
				}
			},
		})
		// From wherever that led, good answers lead back.
		for range s.Passes {
			heard(u.Checked(health.Passed, c.now))
		}
		for range 2 * s.Trials {
			c.advance(s.MaxOpen)
			if ticket, change, ok := u.Begin(c.now); ok {
				heard(change)
				heard(u.End(ticket, health.Answered, c.now))
			}
		}
		if state != health.Up || u.Use(c.now) != health.Plain {
			t.Fatalf("it does not recover: %+v", u.View(c.now))
		}
	})
}

// BenchmarkUpstream is what a request costs that goes well.
func BenchmarkUpstream(b *testing.B) {
	u := health.New(health.Settings{}, noChance)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			now := time.Now()
			if u.Use(now) != health.Plain {
				b.Error("not up")
			}
			ticket, _, _ := u.Begin(now)
			u.End(ticket, health.Answered, now)
		}
	})
}
