package edge

import (
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/caddymodule/feed"
	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// Value is that of a bucket's key, as the feed says: the one for tenant, where
// there is a tenant and it has one, else the one for everybody. ok is false where
// there is neither, and without a feed.
func (a *App) Value(bucket, tenant, key string) (value string, ok bool) {
	if a.Feed == nil || a.loaded() != nil {
		return "", false
	}
	return a.Feed.follower.Value(bucket, tenant, key)
}

// OnPurge has hear hear of every purge of the feed, beginning with those that are
// known when the app starts, one after the other. [Source.Close] ends it. It is
// for Provision alone; without a feed nothing is heard.
func (a *App) OnPurge(hear func(handfeed.Purge)) *Source {
	s := new(Source)
	if a.Feed != nil {
		a.OnStart(func() error {
			s.begin(a, func(m handfeed.Message) {
				if p, ok := m.(handfeed.Purge); ok {
					hear(p)
				}
			})
			return nil
		})
	}
	return s
}

// Purged is the latest purge of a tenant's cache group, or of all that the tenant
// has: what was stored before is not to be used. 0: none is known.
func (a *App) Purged(tenant, group string) handfeed.Sequence {
	if a.Feed == nil || a.loaded() != nil {
		return 0
	}
	return a.Feed.follower.Purged(tenant, group)
}

// FeedStale reports whether no region was heard for longer than the feed's MaxStale, so
// that this POP may not know of what was purged. Without a feed nothing is.
func (a *App) FeedStale() bool {
	if a.Feed == nil || a.detached || a.loaded() != nil {
		return false
	}
	return !a.Feed.follower.Knows() || time.Since(a.heard("")) > time.Duration(a.Feed.MaxStale)
}

// Source is what a handler hears from the feed.
type Source struct {
	mu     sync.Mutex
	closed bool
	stop   func()
}

func (s *Source) begin(a *App, hear func(handfeed.Message)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.stop = a.Feed.follower.Watch(hear)
	}
}

// Close ends it. Of a nil Source there is nothing to end.
func (s *Source) Close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil && !s.closed {
		s.stop()
	}
	s.closed = true
	return nil
}

// FollowDefinitions has use use the feed's set of that kind and name ([handfeed.Flags],
// [handfeed.Experiments]) when the app starts, where there is one, and whenever it
// changes; nil is a set that is gone. A set that use refuses changes nothing: the one
// before stays in force, and the log and a metric say so. It fails without a feed.
// It is for Provision alone.
func (a *App) FollowDefinitions(kind, name string, logger *zap.Logger, use func(body []byte) error) (*Source, error) {
	if a.Feed == nil {
		return nil, errors.New("feed: there is none: it needs feed { … } in the global option edge { … }")
	}
	if !handfeed.ValidName(name) {
		return nil, errors.New("feed: a set's name has 1 to 63 characters of a-z, 0-9 and '-'")
	}
	s := new(Source)
	a.OnStart(func() error {
		s.begin(a, func(m handfeed.Message) {
			d, ok := m.(handfeed.Definition)
			if !ok || d.Kind != kind || d.Name != name {
				return
			}
			fields := []zap.Field{zap.String(handoff.FieldDefinition, kind+"/"+name), zap.Int64(handoff.FieldSequence, int64(d.Sequence))}
			if err := use(d.Body); err != nil {
				feed.Refused(kind, name)
				logger.Error("definitions not taken, the ones before stay in force", append(fields, zap.Error(err))...)
				return
			}
			feed.Taken(kind, name, d.Sequence)
			logger.Info("definitions taken", fields...)
		})
		return nil
	})
	return s, nil
}
