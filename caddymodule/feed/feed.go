// Package feed keeps a POP current with what the regions decide: it follows the
// stream of handoff/feed, and holds what it has heard.
package feed

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

// minPause and maxPause bound the pause between two connections.
const (
	minPause = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

// maxSilence is how long a POP may have heard nothing and still go on from its
// position. After that it might have missed that something is gone, since this is
// not told for ever, and reads everything.
const maxSilence = feed.TombstoneLife / 2

// Options of [Follow].
type Options struct {
	// Server is the broker. Required.
	Server link.Server
	// POP is the name of this point of presence. Required.
	POP string
	// Storage is where the snapshot is kept. Required.
	Storage certmagic.Storage
	// Log hears of changes. Required.
	Log *zap.Logger
	// Limits bound what is held. Default: those of [feed.Limits].
	Limits feed.Limits
}

// Follower holds what the feed has said so far. It outlives a config reload.
//
//	         snapshot found                      no snapshot
//	              │                                   │
//	              ▼                                   ▼
//	┌────▶ cut off, knows ◀─────────┐        cut off, knows nothing ◀┐
//	│             │ connected       │ lost            │ connected    │ lost
//	│             ▼                 │                 ▼              │
//	│      catching up from ────────┤          reading all ──────────┘
//	│      its position,            │                 │
//	│      or all if that is gone   │                 │ at the end
//	│             │ at the end      │                 │
//	│ lost        ▼                 │                 │
//	└──────── following ◀───────────┴─────────────────┘
//
// In the left column it answers, and [Follower.Heard] says as of when. On the
// right it knows nothing ([Follower.Knows]), and no session can be believed.
//
// Its position is gone when the stream is another one, ends before it, or begins
// after it; likewise after a silence of [maxSilence], and when a table that was
// full has room again. Then everything is read again. What it knows it keeps
// until the region in question has said all that it has to say, and a revocation
// until its own expiry.
//
// A crash while everything is read leaves a snapshot without a position.
type Follower struct {
	options Options
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	dirty   chan struct{} // something came, or all is known for the first time
	ready   chan struct{} // closed once all is known
	knows   atomic.Bool

	// writing is held by whoever changes the state, keeps it, or wants to hear of
	// each change. Only its holder asks for mu to write: a snapshot of a large state
	// then keeps no reader waiting, as a writer that queues for mu would.
	writing  sync.Mutex
	created  time.Time // which stream position is in
	position uint64    // of the last message taken in; 0: none
	taken    time.Time // when that was
	partial  bool      // everything is being read
	watchers map[*watcher]struct{}
	full     map[string]bool // tables that were full when last looked at
	news     []feed.Message  // what the watchers are to be told
	anew     func()          // ends the connection at hand, for another

	mu    sync.RWMutex
	state *feed.State
}

// watcher hears of changes.
type watcher struct{ hear func(feed.Message) }

// Follow begins to follow the feed, from the last snapshot if there is one.
// [Follower.Close] ends it.
func Follow(o Options) *Follower {
	f := &Follower{
		options: o, dirty: make(chan struct{}, 1), ready: make(chan struct{}),
		state: feed.NewState(o.Limits), watchers: map[*watcher]struct{}{}, full: map[string]bool{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	switch err := f.load(ctx); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		o.Log.Error("the snapshot of the feed cannot be used", zap.Error(err))
	default:
		f.known()
	}
	f.state.Changed = f.tell
	f.ended.Go(func() { f.run(ctx) })
	f.ended.Go(func() { f.keep(ctx) })
	return f
}

// Close ends following and keeps a last snapshot.
func (f *Follower) Close() error {
	f.cancel()
	f.ended.Wait()
	return nil
}

// Knows reports whether there was ever a complete state: from the stream, or
// from a snapshot.
func (f *Follower) Knows() bool { return f.knows.Load() }

// Ready is closed once [Follower.Knows].
func (f *Follower) Ready() <-chan struct{} { return f.ready }

// Revoked reports whether the session was ended, as far as is known.
func (f *Follower) Revoked(s *feed.Session) bool {
	f.mu.RLock()
	ended := f.state.Revoked(s)
	f.mu.RUnlock()
	return ended
}

// Heard is the time up to which everything that region had decided is known. The
// zero time: it was never heard of.
func (f *Follower) Heard(region string) time.Time {
	f.mu.RLock()
	at := f.state.Heard(region)
	f.mu.RUnlock()
	return at
}

// TenantHome says where the regions have put a tenant, and by which decision: the
// epoch grows with each. known is false where none has said.
func (f *Follower) TenantHome(tenant string) (home string, epoch int64, known bool) {
	f.mu.RLock()
	t, known := f.state.Home(tenant)
	f.mu.RUnlock()
	return t.Home, t.Epoch, known
}

// Value is that of a bucket's key: tenant's own if it has one, else everybody's.
func (f *Follower) Value(bucket, tenant, key string) (value string, ok bool) {
	f.mu.RLock()
	value, ok = f.state.Value(bucket, tenant, key)
	f.mu.RUnlock()
	return value, ok
}

// Purged is the latest purge of a tenant's group. 0: none is known.
func (f *Follower) Purged(tenant, group string) feed.Sequence {
	f.mu.RLock()
	latest := f.state.Purged(tenant, group)
	f.mu.RUnlock()
	return latest
}

// Watch has hear hear of every [feed.Purge] and every change of a
// [feed.Definition], one after the other and in the order in which they come:
// first those that are known, then the others, until stop is called. What hear
// does keeps the feed waiting. It must not call the follower.
func (f *Follower) Watch(hear func(feed.Message)) (stop func()) {
	w := &watcher{hear}
	f.writing.Lock()
	defer f.writing.Unlock()
	f.state.Definitions(func(d feed.Definition) { hear(d) })
	f.state.Purges(func(p feed.Purge) { hear(p) })
	f.watchers[w] = struct{}{}
	return func() {
		f.writing.Lock()
		defer f.writing.Unlock()
		delete(f.watchers, w)
	}
}

// tell is the state's Changed. It runs while mu is held to write, so that the
// watchers are told after.
func (f *Follower) tell(m feed.Message) { f.news = append(f.news, m) }

// Revoke takes in a revocation that somebody decided at this POP: it is kept as
// any other, and told to nobody. news reports whether it changed anything.
func (f *Follower) Revoke(r feed.Revocation) (news bool, err error) {
	if err := r.Check(); err != nil {
		return false, err
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	f.mu.Lock()
	news, err = f.state.Apply("", r, time.Now())
	entries := f.state.Len()
	f.mu.Unlock()
	if news {
		revocations.Set(float64(entries))
		f.wake()
	}
	return news, err
}

// Revocations is how many are held.
func (f *Follower) Revocations() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.state.Len()
}

// known is called by one goroutine at a time.
func (f *Follower) known() {
	if f.knows.CompareAndSwap(false, true) {
		close(f.ready)
		f.wake()
	}
}

// wake has the snapshot kept.
func (f *Follower) wake() {
	select {
	case f.dirty <- struct{}{}:
	default:
	}
}

// run follows, and begins anew whenever that ends.
func (f *Follower) run(ctx context.Context) {
	pause, told := minPause, false
	for {
		followed, err := f.follow(ctx)
		connected.Set(0)
		if ctx.Err() != nil {
			return
		}
		if followed {
			pause, told = minPause, false
		}
		if !told { // once, not at every attempt
			f.options.Log.Warn("cut off from the feed; trying again", zap.Error(err))
			told = true
		}
		wait := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// follow takes messages in over one connection until that fails. followed reports
// whether it got to the stream's end.
func (f *Follower) follow(ctx context.Context) (followed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.writing.Lock()
	f.anew = cancel
	f.writing.Unlock()
	inbox, _ := link.POP(f.options.POP)
	err = link.Reader{
		Server: f.options.Server, Name: "gatehouse POP " + f.options.POP, Inbox: inbox,
		Subjects: []string{link.POPSubjects}, From: f.resume, Take: f.take,
		Current: func() {
			followed = true
			f.current()
		},
	}.Read(ctx)
	return followed, err
}

// current is called when all that the stream had is taken in.
func (f *Follower) current() {
	f.writing.Lock()
	position := f.position
	f.partial = false
	f.writing.Unlock()
	f.known()
	connected.Set(1)
	f.options.Log.Info("following the feed", zap.Uint64("position", position))
}

// resume gives the sequence number to go on from: the next, or the first when the
// position is gone.
func (f *Follower) resume(info *jetstream.StreamInfo) uint64 {
	f.writing.Lock()
	defer f.writing.Unlock()
	same := f.created.Equal(info.Created)
	there := same && f.position <= info.State.LastSeq && f.position+1 >= info.State.FirstSeq
	long := !f.taken.IsZero() && time.Since(f.taken) > maxSilence
	room := f.room()
	if there && !long && !room && !f.partial {
		return f.position + 1
	}
	if f.position > 0 || f.partial {
		resyncs.Inc()
		f.options.Log.Info("all of the feed is read again", zap.Uint64("position", f.position),
			zap.Uint64("first", info.State.FirstSeq), zap.Bool("same_stream", same), zap.Bool("long_silence", long), zap.Bool("room_again", room))
	}
	f.mu.Lock()
	f.state.Reread()
	f.mu.Unlock()
	f.created, f.position, f.partial = info.Created, 0, true
	return 1
}

// room reports whether something was passed over for which there is room now.
func (f *Follower) room() bool {
	missed := f.state.Incomplete()
	if len(missed) == 0 {
		return false
	}
	return f.state.Room(missed)
}

// take takes one message in. What cannot be read, or has no room, is counted and
// passed over: it must not keep the POP from what comes after. But for a
// revocation without room: the POP must not seem to know it.
func (f *Follower) take(subject string, document []byte, position uint64) error {
	region, message, err := feed.Parse(subject, document)
	if err != nil {
		reason := "malformed"
		if errors.Is(err, feed.ErrUnknownKind) {
			reason = "unknown_kind"
		}
		ignored.WithLabelValues(reason).Inc()
		f.options.Log.Error("a message of the feed is ignored", zap.Error(err), zap.Uint64("position", position))
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	changed := false
	var heard time.Time
	if err == nil {
		f.mu.Lock()
		changed, err = f.state.Apply(region, message, time.Now())
		heard = f.state.Heard(region)
		f.mu.Unlock()
		switch {
		case errors.Is(err, feed.ErrFull): // it comes again after the pause
			f.measure()
			fullTables.WithLabelValues(feed.TableRevocations).Set(1)
			return err
		case err != nil:
			ignored.WithLabelValues("no_room").Inc()
		}
	}
	f.position, f.taken = position, time.Now()
	if _, beat := message.(feed.Heartbeat); beat && err == nil {
		heartbeats.WithLabelValues(region).Set(float64(heard.UnixMilli()) / 1000)
	}
	for _, m := range f.news {
		for w := range f.watchers {
			w.hear(m)
		}
	}
	f.news = f.news[:0]
	if changed || err != nil {
		f.measure()
	}
	if changed {
		f.options.Log.Debug("heard from the feed", zap.String(handoff.FieldRegion, region), zap.String("subject", subject))
		f.wake()
	}
	return nil
}

// measure sets the metrics of the tables, and says which begin and cease to be
// full.
func (f *Follower) measure() {
	f.state.Sizes(func(table string, entries, bytes int) {
		held.WithLabelValues(table).Set(float64(entries))
		heldBytes.WithLabelValues(table).Set(float64(bytes))
	})
	missed := f.state.Incomplete()
	for _, table := range []string{feed.TableRevocations, feed.TableTenants, feed.TableDefinitions, feed.TableValues} {
		now := slices.Contains(missed, table)
		value := 0.0
		if now {
			value = 1
		}
		fullTables.WithLabelValues(table).Set(value)
		if now != f.full[table] {
			f.full[table] = now
			if now {
				f.options.Log.Error("a table of the feed is full: it does not hold all that the regions say", zap.String("table", table))
			}
		}
	}
	revocations.Set(float64(f.state.Len()))
}
