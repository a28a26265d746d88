package cache

import (
	"errors"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// disk is where the bodies of large answers are.
type disk struct {
	*store.Disk
	from int64 // bytes of a body
}

// diskBy gives the disk of a configuration, nil where it has none. It is opened when the
// configuration starts: what is only validated touches nothing. Configurations of one
// directory share it.
func (s *shared) diskBy(app *edge.App) (*disk, error) {
	limits := app.CacheLimits()
	var d *disk
	if limits.Disk != "" {
		files, err := edge.Shared(app, "edge_cache: disk "+limits.Disk, func() (*store.Disk, error) { return store.NewDisk(limits.Disk), nil })
		if err != nil {
			return nil, err
		}
		d = &disk{files, limits.DiskFrom}
	}
	app.OnStart(func() error {
		if d != nil {
			if err := d.Open(limits.DiskSize); err != nil {
				return fmt.Errorf("edge: cache: disk: %w", err)
			}
		}
		s.disk.Store(d)
		return nil
	})
	return d, nil
}

// isLarge reports whether the body is one for the disk. Parts, which are put together,
// stay in memory.
func (f *fill) isLarge() bool {
	return f.c.disk != nil && f.part == nil && f.stream.Size() >= f.c.disk.from
}

// toDisk moves a body to the disk. Where that fails it stays in memory.
func (f *fill) toDisk(body store.Body) store.Body {
	kept, err := f.c.disk.Keep(body)
	if err != nil && !errors.Is(err, store.ErrNoRoom) && !errors.Is(err, store.ErrNotOpen) {
		f.c.logger.Warn("a large answer stays in memory: the cache's disk fails", zap.String(handoff.FieldPath, f.tags.uri), zap.Error(err))
	}
	return kept
}

// send writes a part of a stored body. Where the disk fails in the midst of it the
// answer breaks off: it must not look like the whole.
func (q *question) send(w http.ResponseWriter, o *store.Object, first, last int64) error {
	err := o.Body.Section(first, last, func(p []byte) error {
		_, err := w.Write(p)
		return err
	})
	if errors.Is(err, store.ErrDamaged) {
		q.c.shared.store.Lose(q.key, o)
		q.c.logger.Error("a stored answer cannot be read from the cache's disk", zap.String(handoff.FieldPath, q.tags.uri), zap.Error(err))
		panic(http.ErrAbortHandler)
	}
	return err
}
