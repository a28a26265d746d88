package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// Slots bound how many do something at once. Whoever finds none free waits, but
// not for long: a queue that grows only makes everyone late.
type Slots struct {
	free chan struct{}
	wait time.Duration
}

// NewSlots makes n slots; a caller waits for one as long as wait.
func NewSlots(n int, wait time.Duration) *Slots {
	return &Slots{free: make(chan struct{}, n), wait: wait}
}

// Acquire takes a slot until release is called. With none free in time it fails
// with a 503 problem and Retry-After, and nothing was done.
func (s *Slots) Acquire(ctx context.Context) (release func(), err error) {
	select {
	case s.free <- struct{}{}:
		return s.release, nil
	default:
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case s.free <- struct{}{}:
		return s.release, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn: %w", ctx.Err())
	case <-timer.C:
		// Spread out, so that those turned away do not come back as one.
		return nil, problem.New(http.StatusServiceUnavailable, problem.Overloaded, "").
			WithRetryAfter(time.Second + rand.N(2*time.Second))
	}
}

func (s *Slots) release() { <-s.free }
