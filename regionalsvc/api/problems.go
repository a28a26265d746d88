package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// statusClientGone is what the log says of a request whose client left.
const statusClientGone = 499

// fail answers with the problem that err is. It is the only place where an
// error of a handler becomes an answer.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	q := current(r)
	q.err = err
	out := w.(*answerWriter)
	if out.status != 0 {
		// Half an answer is out. Breaking off is the only way left to say that.
		panic(http.ErrAbortHandler)
	}
	if errors.Is(err, context.Canceled) && errors.Is(r.Context().Err(), context.Canceled) {
		out.status = statusClientGone
		panic(http.ErrAbortHandler)
	}
	p := asProblem(r, err)
	q.problem = p.Name()
	if p.Cause == nil && p.Status < http.StatusInternalServerError {
		q.err = nil // the problem's name says it all
	}
	clear(out.Header())
	out.Header().Set(handoff.HeaderRequestID, RequestID(r))
	if a.draining.Load() {
		out.Header().Set("Connection", "close")
	}
	p.Write(out, r, RequestID(r))
}

// asProblem finds the problem in err, or makes it one.
func asProblem(r *http.Request, err error) *problem.Problem {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return timedOut(r, err)
	}
	return problem.New(http.StatusInternalServerError, problem.Internal, "").WithCause(err)
}

// timedOut is the request's own deadline. What only reads can be tried again;
// what writes may have been committed as the time ran out.
func timedOut(r *http.Request, err error) *problem.Problem {
	if !handoff.Unsafe(r.Method) {
		return problem.New(http.StatusServiceUnavailable, problem.Overloaded, "the answer took too long").
			WithRetryAfter(time.Second).WithCause(err)
	}
	p := problem.New(http.StatusGatewayTimeout, problem.RegionTimeout, "").WithCause(err)
	p.Outcome = problem.OutcomeUnknown
	if r.Header.Get(handoff.HeaderIdempotencyKey) != "" {
		p.RetryAfter = time.Second
	}
	return p
}

// noRoute makes a problem of what ServeMux would have answered: 404, or 405
// with the methods that the path has (RFC 9110, section 15.5.6).
func noRoute(unrouted http.Handler, r *http.Request) *problem.Problem {
	mux := &discarded{header: http.Header{}}
	unrouted.ServeHTTP(mux, r)
	if mux.status == http.StatusMethodNotAllowed {
		return methodNotAllowed(mux.header.Get("Allow"))
	}
	return problem.New(http.StatusNotFound, problem.NotFound, "")
}

func methodNotAllowed(allow string) *problem.Problem {
	return problem.New(http.StatusMethodNotAllowed, problem.MethodNotAllowed, "this path has "+allow).
		WithHeader("Allow", allow)
}

// discarded takes an answer that nobody will see.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) WriteHeader(status int)      { d.status = status }
func (d *discarded) Write(b []byte) (int, error) { return len(b), nil }
