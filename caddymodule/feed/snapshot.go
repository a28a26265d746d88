package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

const (
	// keepEvery is the longest that a position or a heartbeat stays unkept. A
	// revocation is kept at once, or after the pause.
	keepEvery = 30 * time.Second
	// keepPause is the shortest time between two snapshots, and keepShare how much
	// longer than making one it is.
	keepPause = time.Second
	keepShare = 20
	// expireEvery is how often what has expired is forgotten.
	expireEvery = 5 * time.Minute
)

// kept is the snapshot: what was known at a position of a stream. Without a
// position everything has to be read.
type kept struct {
	Created  time.Time   `json:"created"`
	Position uint64      `json:"position"`
	Taken    time.Time   `json:"taken,omitzero"` // when the last message was
	State    *feed.State `json:"state"`
}

// key is the snapshot's in Caddy's storage, which several POPs may share.
func (f *Follower) key() string { return "gatehouse/feed/" + f.options.POP + ".json" }

func (f *Follower) load(ctx context.Context) error {
	document, err := f.options.Storage.Load(ctx, f.key())
	if err != nil {
		return err
	}
	found, err := parse(document, f.options.Limits)
	if err != nil {
		return fmt.Errorf("%s: %w", f.key(), err)
	}
	found.State.Expire(time.Now())
	f.state, f.created, f.position, f.taken = found.State, found.Created, found.Position, found.Taken
	f.partial = found.Position == 0
	f.measure()
	return nil
}

// parse reads a snapshot.
func parse(document []byte, limits feed.Limits) (kept, error) {
	found := kept{State: feed.NewState(limits)}
	err := json.Unmarshal(document, &found, json.RejectUnknownMembers(true))
	if err == nil && found.State == nil { // "state": null
		err = errors.New("it has no state")
	}
	return found, err
}

// keep keeps snapshots until ctx ends, and then a last one.
func (f *Follower) keep(ctx context.Context) {
	clock, expired := time.NewTicker(keepEvery), time.Now()
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			f.save()
			return
		case <-f.dirty:
		case <-clock.C:
		}
		if time.Since(expired) > expireEvery {
			expired = time.Now()
			f.expire(expired)
		}
		pause := time.NewTimer(max(keepPause, keepShare*f.save()))
		select {
		case <-ctx.Done():
			pause.Stop()
		case <-pause.C:
		}
	}
}

// save keeps a snapshot of a complete state, and says how long that took.
func (f *Follower) save() time.Duration {
	if !f.Knows() {
		return 0
	}
	began := time.Now()
	f.writing.Lock() // nobody writes meanwhile, so that it can be read without mu
	position := f.position
	if f.partial {
		position = 0
	}
	document, err := json.Marshal(kept{f.created, position, f.taken, f.state})
	f.writing.Unlock()
	if err == nil {
		// Not the run's context: the last snapshot is kept after its end.
		err = f.options.Storage.Store(context.Background(), f.key(), document)
	}
	if err != nil {
		f.options.Log.Error("the snapshot of the feed was not kept", zap.Error(err))
	}
	return time.Since(began)
}

// expire forgets what has expired. Where that makes room for something that was
// passed over, everything is read again.
func (f *Follower) expire(now time.Time) {
	f.writing.Lock()
	f.mu.Lock()
	f.state.Expire(now)
	f.mu.Unlock()
	f.measure()
	if f.room() && f.anew != nil {
		f.anew()
	}
	f.writing.Unlock()
}
