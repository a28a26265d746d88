// Package feed keeps a POP current with what the regions decide: it follows the
// stream of handoff/feed, and holds what it has heard.
package feed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

const (
	// silence is how long nothing may come before the connection is made anew:
	// every region speaks once a second.
	silence = 10 * time.Second
	// minPause and maxPause bound the pause between two connections.
	minPause = 100 * time.Millisecond
	maxPause = 2 * time.Second
	// askTimeout bounds the questions at the beginning of a connection.
	askTimeout = 5 * time.Second
)

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
	// MaxRevocations bounds what is held. Default: [feed.DefaultMaxEntries].
	MaxRevocations int
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
// after it. Then everything is read again; what it knows it keeps, since a
// revocation ends by its own expiry alone.
type Follower struct {
	options Options
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	dirty   chan struct{} // a revocation came, or all is known for the first time
	ready   chan struct{} // closed once all is known
	knows   atomic.Bool

	mu       sync.RWMutex
	state    feed.State
	created  time.Time // which stream position is in
	position uint64    // of the last message taken in; 0: none
}

// Follow begins to follow the feed, from the last snapshot if there is one.
// [Follower.Close] ends it.
func Follow(o Options) *Follower {
	f := &Follower{options: o, dirty: make(chan struct{}, 1), ready: make(chan struct{})}
	f.state.MaxEntries = o.MaxRevocations
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	switch err := f.load(ctx); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		o.Log.Error("the snapshot of the feed cannot be used", zap.Error(err))
	default:
		f.known()
	}
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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	inbox, _ := link.POP(f.options.POP)
	conn, err := link.Dial(f.options.Server, "gatehouse POP "+f.options.POP, inbox, nats.NoReconnect(),
		nats.ClosedHandler(func(c *nats.Conn) {
			cancel(fmt.Errorf("connection lost: %w", errors.Join(c.LastError(), nats.ErrConnectionClosed)))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { cancel(err) }))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	messages, end, err := f.subscribe(ctx, conn)
	if err != nil {
		return false, errors.Join(err, context.Cause(ctx))
	}
	defer messages.Stop()
	for {
		if !followed && f.reached(end) {
			followed = true
			f.known()
			connected.Set(1)
			f.options.Log.Info("following the feed", zap.Uint64("position", f.at()))
		}
		waiting, stop := context.WithTimeout(ctx, silence)
		m, err := messages.Next(jetstream.NextContext(waiting))
		stop()
		if err != nil {
			return followed, errors.Join(err, context.Cause(ctx))
		}
		last, err := f.take(m)
		if err != nil {
			return followed, err
		}
		if last {
			end = 0
		}
	}
}

// subscribe asks for the messages after the position, and gives the stream's last.
func (f *Follower) subscribe(ctx context.Context, conn *nats.Conn) (_ jetstream.MessagesContext, end uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, 0, err
	}
	stream, err := js.Stream(ctx, link.Stream)
	if err != nil {
		return nil, 0, fmt.Errorf("stream %s: %w", link.Stream, err)
	}
	info := stream.CachedInfo()
	from := f.resume(info)
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read stream %s from %d: %w", link.Stream, from, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, 0, fmt.Errorf("read stream %s from %d: %w", link.Stream, from, err)
	}
	if info.State.Msgs > 0 {
		end = info.State.LastSeq
	}
	return messages, end, nil
}

// resume gives the sequence number to go on from: the next, or the first when the
// position is gone.
func (f *Follower) resume(info *jetstream.StreamInfo) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	same := f.created.Equal(info.Created)
	if same && f.position <= info.State.LastSeq && f.position+1 >= info.State.FirstSeq {
		return f.position + 1
	}
	if f.position > 0 {
		resyncs.Inc()
		f.options.Log.Info("the position in the feed is gone, reading all of it",
			zap.Uint64("position", f.position), zap.Uint64("first", info.State.FirstSeq), zap.Bool("same_stream", same))
	}
	f.created, f.position = info.Created, 0
	return 1
}

func (f *Follower) at() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.position
}

func (f *Follower) reached(end uint64) bool { return f.at() >= end }

// take takes one message in. last reports whether the stream had no more then.
// What cannot be read is counted and passed over: no region publishes such, and
// it must not keep the POP from what comes after.
func (f *Follower) take(m jetstream.Msg) (last bool, err error) {
	meta, err := m.Metadata()
	if err != nil {
		return false, err
	}
	region, message, err := feed.Parse(m.Subject(), m.Data())
	if err != nil {
		reason := "malformed"
		if errors.Is(err, feed.ErrUnknownKind) {
			reason = "unknown_kind"
		}
		ignored.WithLabelValues(reason).Inc()
		f.options.Log.Error("a message of the feed is ignored", zap.Error(err), zap.Uint64("position", meta.Sequence.Stream))
	}
	f.mu.Lock()
	changed := false
	if err == nil {
		changed, err = f.state.Apply(region, message, time.Now())
		if err != nil { // full: it comes again after the pause
			f.mu.Unlock()
			return false, err
		}
	}
	f.position = meta.Sequence.Stream
	heard, entries := f.state.Heard(region), f.state.Len()
	f.mu.Unlock()

	if _, beat := message.(feed.Heartbeat); beat {
		heartbeats.WithLabelValues(region).Set(float64(heard.UnixMilli()) / 1000)
	}
	if changed {
		revocations.Set(float64(entries))
		f.options.Log.Debug("sessions revoked", zap.String(handoff.FieldRegion, region), zap.String("subject", m.Subject()))
		f.wake()
	}
	return meta.NumPending == 0, nil
}
