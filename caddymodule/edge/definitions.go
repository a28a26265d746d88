package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Definitions holds what a directive works by while a source may change it. A
// source calls [Definitions.Set] with a whole new value, requests call
// [Definitions.Get], and nobody changes a value that was set.
type Definitions[T any] struct{ current atomic.Pointer[T] }

// Get gives what was set last, nil before anything was.
func (d *Definitions[T]) Get() *T { return d.current.Load() }

// Set puts value in force for the requests that come.
func (d *Definitions[T]) Set(value *T) { d.current.Store(value) }

// rereadEvery is how soon a change of a file is noticed.
const rereadEvery = time.Second

// File is a source: a file that is read again when it changes. A file that
// cannot be used changes nothing, and is said in the log.
type File struct {
	path   string
	use    func(data []byte) error
	logger *zap.Logger
	last   []byte
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// fileStale tells of the files that are followed. The label is the path as the
// configuration has it.
var fileStale = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: handoff.MetricFileStale,
	Help: "1 while a file that is followed cannot be read or used, and the last good one answers.",
}, []string{"file"})

func registerFileMetrics(ctx caddy.Context) error {
	var already prometheus.AlreadyRegisteredError
	if err := ctx.GetMetricsRegistry().Register(fileStale); err != nil && !errors.As(err, &already) {
		return err
	}
	return nil
}

// WatchFile reads the file at path, which only its owner may write, gives it to
// use, and does so again whenever its content changes, until [File.Close]. It
// fails where the first reading does. Later it says in the log, and by the metric
// gatehouse_edge_file_stale, that the file cannot be used.
func WatchFile(path string, logger *zap.Logger, use func(data []byte) error) (*File, error) {
	f := &File{path: path, use: use, logger: logger}
	if _, err := f.read(); err != nil {
		return nil, err
	}
	fileStale.WithLabelValues(path).Set(0)
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	f.done.Go(func() { f.watch(ctx) })
	return f, nil
}

func (f *File) watch(ctx context.Context) {
	ticker := time.NewTicker(rereadEvery)
	defer ticker.Stop()
	seen, _ := os.Stat(f.path)
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		info, err := os.Stat(f.path)
		// Within the clock's grain a file can change and keep its time, so that a
		// young file is read whether it seems the same or not.
		if err == nil && seen != nil && os.SameFile(info, seen) && info.ModTime().Equal(seen.ModTime()) &&
			info.Size() == seen.Size() && time.Since(info.ModTime()) > 3*rereadEvery && said == "" {
			continue
		}
		seen = info
		changed, err := f.read()
		if err != nil {
			fileStale.WithLabelValues(f.path).Set(1)
		} else {
			fileStale.WithLabelValues(f.path).Set(0)
		}
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			f.logger.Error("definitions not taken, the ones before stay in force", zap.String(handoff.FieldFile, f.path), zap.Error(err))
		case err == nil:
			said = ""
			if changed {
				f.logger.Info("definitions taken", zap.String(handoff.FieldFile, f.path))
			}
		}
	}
}

// read reports whether there was something new to use.
func (f *File) read() (bool, error) {
	data, err := readPublic(f.path)
	if err != nil {
		return false, err
	}
	if f.last != nil && bytes.Equal(data, f.last) {
		return false, nil
	}
	if err := f.use(data); err != nil {
		return false, fmt.Errorf("%s: %w", f.path, err)
	}
	f.last = data
	return true, nil
}

// Close ends the watch and waits for it.
func (f *File) Close() error {
	f.stop()
	f.done.Wait()
	fileStale.DeleteLabelValues(f.path)
	return nil
}
