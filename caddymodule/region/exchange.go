package region

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/marker"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// retryAfter is when a client may try again what its region did not do.
const retryAfter = 5 * time.Second

// exchange is what edge_region, its upstreams and its transport have to tell each
// other about one request. It is the request's own: no header that a client
// could send counts attempts.
type exchange struct {
	d *decision.Decision

	// write and read are the configuration's word on what the request does, where
	// that is another than its method's. See writes.
	write, read bool
	// fallbacks are the regions that may still be asked in place of the home region.
	fallbacks []string
	// instead is the one that is asked. Empty: the home region is.
	instead string
	// marks makes the marker of a recent write. Nil: none is made.
	marks *marker.Marks
	// wrote is the position that the client's own marker names. Empty: none.
	wrote string
	tls   bool // the client's connection

	// selecting is set while reverse_proxy looks for an upstream, until the
	// transport is asked.
	selecting bool

	// url tells one reverse_proxy from the next that the same request may come to:
	// its attempts have the URL in common. body and failed are of that one.
	url    *url.URL
	body   *body
	failed *failure // why an attempt must not be made again, when it was unsafe

	// keyed is set when the region was sent an Idempotency-Key.
	keyed bool
}

func beginExchange(d *decision.Decision) *exchange {
	x := &exchange{d: d}
	d.Exchange = x
	return x
}

// exchangeOf gives the request's exchange, nil when edge_region has not seen it.
func exchangeOf(ctx context.Context) *exchange {
	d := decision.Of(ctx)
	if d == nil {
		return nil
	}
	x, _ := d.Exchange.(*exchange)
	return x
}

// region is the region that is asked.
func (x *exchange) region() string {
	if x.instead != "" {
		return x.instead
	}
	return x.d.Home
}

// writes reports whether the request, sent with that method, may change
// something: it then goes home or nowhere, and once.
func (x *exchange) writes(method string) bool {
	return x.write || !x.read && handoff.Unsafe(method)
}

// kind says what became of a request that its region did not answer.
type kind int

const (
	unsent      kind = iota // no region can have seen the whole of it
	broken                  // sent, and the answer never came
	timedOut                // sent, and no answer in time
	misdirected             // a region sent it elsewhere, and there it could not go
	tooLong                 // it cannot be asserted
)

// failure is why a region did not answer.
type failure struct {
	kind   kind
	detail string // for the client; empty: the kind says it
	cause  error  // for the log
}

func (f *failure) Error() string {
	switch {
	case f.cause == nil:
		return f.detail
	case f.detail == "":
		return f.cause.Error()
	}
	return f.detail + ": " + f.cause.Error()
}

func (f *failure) Unwrap() error { return f.cause }

// sent reports whether a region may have done what was asked.
func (f *failure) sent() bool { return f.kind == broken || f.kind == timedOut }

// answer turns the error of a region that did not answer into a problem. Other
// errors, and none, are passed on.
func (x *exchange) answer(w http.ResponseWriter, r *http.Request, err error) error {
	var f *failure
	if err == nil || !errors.As(err, &f) && !x.foundNone(err) {
		return err
	}
	if f == nil {
		f = &failure{kind: unsent, cause: err}
		if x.failed != nil && x.failed.sent() { // an attempt before had been sent
			f = x.failed
		}
	}
	if f.sent() && x.writes(r.Method) {
		x.marks.Keep(x.d, x.tls, w.Header(), "") // it may have been carried out
	}
	return x.d.Refuse(w, r, x.problem(f, r), name)
}

// foundNone reports whether err is reverse_proxy's that no upstream was to be had.
func (x *exchange) foundNone(err error) bool {
	var he caddyhttp.HandlerError
	return x.selecting && errors.As(err, &he) && he.StatusCode == http.StatusServiceUnavailable
}

// problem is what the client is told, and the decision's outcome.
func (x *exchange) problem(f *failure, r *http.Request) *problem.Problem {
	var p *problem.Problem
	switch f.kind {
	case tooLong:
		x.d.Outcome = decision.OutcomeRefused
		return problem.New(http.StatusRequestURITooLong, problem.MalformedRequest, f.detail).WithCause(f.cause)
	case unsent, misdirected:
		x.d.Outcome = decision.OutcomeUnavailable
		return problem.New(http.StatusServiceUnavailable, problem.RegionUnavailable, f.detail).
			WithCause(f.cause).WithRetryAfter(retryAfter)
	case timedOut:
		x.d.Outcome = decision.OutcomeTimeout
		p = problem.New(http.StatusGatewayTimeout, problem.RegionTimeout, f.detail)
	default:
		x.d.Outcome = decision.OutcomeFailed
		p = problem.New(http.StatusBadGateway, problem.RegionFailed, f.detail)
	}
	p.Outcome = problem.OutcomeUnknown
	if !x.writes(r.Method) || x.keyed {
		p.RetryAfter = retryAfter
	}
	return p.WithCause(f.cause)
}
