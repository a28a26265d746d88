package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// How long the database may take to say that it is there, and for how long
// that is believed.
const (
	readyTimeout = 500 * time.Millisecond
	readyCache   = time.Second
)

var errDraining = errors.New(handoff.Draining) // a POP that asks this listener looks for the word

// readiness says whether requests should be sent here.
//
//	ready ◀─▶ not ready (the database is away, or not migrated) ──drain──▶ draining
type readiness struct {
	check func(context.Context) error

	mu       sync.Mutex
	draining bool
	asked    time.Time
	err      error
}

func (r *readiness) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}

// ask is nil when ready. However many ask, the database is asked once a second.
func (r *readiness) ask(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return errDraining
	}
	if time.Since(r.asked) < readyCache {
		return r.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	r.err, r.asked = r.check(ctx), time.Now()
	return r.err
}

// operator is for whoever runs the service:
//
//	/healthz  this process answers. It says nothing of the database: to restart
//	          every region because PostgreSQL is away would help nobody.
//	/readyz   requests should be sent here
//	/metrics  Prometheus, OpenMetrics with exemplars where it is asked for
//	POST /revocations  ends sessions everywhere, for who has the operator's token
//	POST /purges       has every POP drop what it has stored, likewise
func (v *service) operator() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := v.ready.ask(r.Context()); err != nil {
			plain(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(v.metrics, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.Handle("POST /revocations", v.revocations)
	mux.Handle("POST /purges", v.purges)
	return mux
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
