package feed

import (
	"context"
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

// kept is the snapshot: what was known at a position of a stream.
type kept struct {
	Created  time.Time   `json:"created"`
	Position uint64      `json:"position"`
	State    *feed.State `json:"state"`
}

// key is the snapshot's in Caddy's storage, which several POPs may share.
func (f *Follower) key() string { return "gatehouse/feed/" + f.options.POP + ".json" }

func (f *Follower) load(ctx context.Context) error {
	document, err := f.options.Storage.Load(ctx, f.key())
	if err != nil {
		return err
	}
	state := feed.State{MaxEntries: f.options.MaxRevocations}
	found := kept{State: &state}
	if err := json.Unmarshal(document, &found, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("%s: %w", f.key(), err)
	}
	state.Expire(time.Now())
	f.state, f.created, f.position = state, found.Created, found.Position
	revocations.Set(float64(state.Len()))
	return nil
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
			f.mu.Lock()
			f.state.Expire(expired)
			revocations.Set(float64(f.state.Len()))
			f.mu.Unlock()
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
	f.mu.RLock()
	document, err := json.Marshal(kept{f.created, f.position, &f.state})
	f.mu.RUnlock()
	if err == nil {
		// Not the run's context: the last snapshot is kept after its end.
		err = f.options.Storage.Store(context.Background(), f.key(), document)
	}
	if err != nil {
		f.options.Log.Error("the snapshot of the feed was not kept", zap.Error(err))
	}
	return time.Since(began)
}
