package edge

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

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

// WatchFile reads the file at path, which only its owner may write, gives it to
// use, and does so again whenever its content changes, until [File.Close]. It
// fails where the first reading does.
func WatchFile(path string, logger *zap.Logger, use func(data []byte) error) (*File, error) {
	f := &File{path: path, use: use, logger: logger}
	if _, err := f.read(); err != nil {
		return nil, err
	}
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
	return nil
}
