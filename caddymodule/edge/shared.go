package edge

import (
	"errors"
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2"
)

// pool holds what outlives a config reload: caches, key sets and what a region
// taught this POP. The old configuration and the new one overlap, so an entry is
// released when the last configuration that uses it is gone.
var pool = caddy.NewUsagePool()

// sharing is the keys that one configuration holds in the pool.
type sharing struct {
	mu     sync.Mutex
	keys   []string
	values map[string]any
}

// entry adapts a value to the pool.
type entry[T any] struct{ value T }

// Destruct closes the value, if it can be closed.
func (e *entry[T]) Destruct() error {
	if c, ok := any(e.value).(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}

// Shared gives the value that this configuration has in common, under key, with
// the one before it and the one after it; make makes it the first time. Whatever
// the value's meaning depends on belongs into the key: a configuration with
// another policy must not find what the old policy let in.
func Shared[T any](a *App, key string, make func() (T, error)) (T, error) {
	value, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		v, err := make()
		return &entry[T]{v}, err
	})
	var none T
	if err != nil {
		return none, fmt.Errorf("%s: %w", key, err)
	}
	a.shared.mu.Lock()
	defer a.shared.mu.Unlock()
	a.shared.keys = append(a.shared.keys, key)
	e, ok := value.(*entry[T])
	if !ok {
		return none, fmt.Errorf("%s: is shared as a %T", key, value)
	}
	if a.shared.values == nil {
		a.shared.values = map[string]any{}
	}
	a.shared.values[key] = e.value
	return e.value, nil
}

// Found gives what this configuration has in common under key. ok is false where no
// handler of it asked for such a value: for whoever only looks.
func Found[T any](a *App, key string) (value T, ok bool) {
	a.shared.mu.Lock()
	defer a.shared.mu.Unlock()
	value, ok = a.shared.values[key].(T)
	return value, ok
}

// release gives back what the configuration held.
func (s *sharing) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, key := range s.keys {
		_, err := pool.Delete(key)
		errs = append(errs, err)
	}
	s.keys, s.values = nil, nil
	return errors.Join(errs...)
}
