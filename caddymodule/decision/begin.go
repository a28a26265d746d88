package decision

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

var errNoGuard = errors.New("edge_guard has not seen this request: it must stand before every other edge directive")

// Options of [Begin].
type Options struct {
	// POP is this point of presence.
	POP string
	// ServerTiming sends the stages in Server-Timing (W3C Server Timing).
	ServerTiming bool
}

// exchange is everything that one request needs here, in one allocation.
type exchange struct {
	Decision
	writer  writer
	wrapper caddyhttp.ResponseWriterWrapper
}

// Begin makes the decision of r, with the id requestID, and the writer that
// every handler below must use. [Decision.Finish] ends it.
func Begin(w http.ResponseWriter, r *http.Request, requestID string, o Options) (*Decision, http.ResponseWriter) {
	x := &exchange{Decision: Decision{
		RequestID: requestID, POP: o.POP, began: time.Now(), serverTiming: o.ServerTiming,
	}}
	d := &x.Decision
	x.wrapper.ResponseWriter = w
	x.writer = writer{ResponseWriterWrapper: &x.wrapper, d: d}
	d.w = &x.writer

	// Caddy's error routes and its bare error answer write past our writer, to
	// the same header map.
	w.Header().Set(handoff.HeaderRequestID, requestID)

	caddyhttp.SetVar(r.Context(), varKey, d)
	if repl := replacer(r); repl != nil {
		repl.Map(d.placeholder)
	}
	return d, &x.writer
}

// writer sets what the edge says of a request into the answer's header, in
// place of whatever a region or another handler put there.
type writer struct {
	*caddyhttp.ResponseWriterWrapper
	d    *Decision
	done bool
}

// WriteHeader passes informational answers on (RFC 9110, section 15.2) and
// stamps the final one.
func (w *writer) WriteHeader(status int) {
	if !w.done && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.done = true
		w.d.answer(w.Header(), status)
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	w.implicit()
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom keeps sendfile within reach.
func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	w.implicit()
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is what http.ResponseController asks for.
func (w *writer) FlushError() error {
	w.implicit()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *writer) implicit() {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
}

// answer is the first of the two places where a decision is read.
func (d *Decision) answer(h http.Header, status int) {
	d.status = status
	h.Set(handoff.HeaderRequestID, d.RequestID)
	if d.CacheStatus != "" {
		h.Set("Cache-Status", d.CacheStatus)
	}
	if d.serverTiming {
		if timing := d.timing(); timing != "" {
			h.Set("Server-Timing", timing)
		}
	}
}

// timing writes the stages as Server-Timing metrics, in milliseconds.
func (d *Decision) timing() string {
	var b strings.Builder
	for i, s := range d.stages[:d.nstages] {
		if i > 0 {
			b.WriteString(", ")
		}
		name := s.name[strings.LastIndexByte(s.name, '.')+1:]
		b.WriteString(name)
		b.WriteString(";dur=")
		b.WriteString(strconv.FormatFloat(float64(s.duration.Microseconds())/1000, 'f', -1, 64))
	}
	return b.String()
}

// Refuse answers with p, and says in the decision that the edge answered. Where
// the site has handle_errors the problem becomes an error for those routes, as
// Caddy's users expect; otherwise it is written here, so that everything around
// the handler sees its real status. Handlers return what it returns.
func (d *Decision) Refuse(w http.ResponseWriter, r *http.Request, p *problem.Problem, by string) error {
	d.Problem, d.ShortCircuit = p.Name(), by
	if d.Outcome == "" {
		d.Outcome = outcomeOf(p.Status)
	}
	if hasErrorRoutes(r) {
		for name, values := range p.Header {
			w.Header()[name] = values
		}
		d.status = p.Status
		return caddyhttp.Error(p.Status, p)
	}
	p.Write(w, r, d.RequestID)
	return nil
}

func hasErrorRoutes(r *http.Request) bool {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return server != nil && server.Errors != nil && len(server.Errors.Routes) > 0
}

// Finish ends the request, and is the second of the two places where a decision
// is read. err is what the handlers returned: an error that nobody answered
// becomes a problem here, unless the site has error routes.
func (d *Decision) Finish(r *http.Request, err error) error {
	var he caddyhttp.HandlerError
	if errors.As(err, &he) {
		d.status = he.StatusCode
	} else if err != nil {
		d.status = http.StatusInternalServerError
	}
	if err != nil && !d.w.done && !hasErrorRoutes(r) {
		err = d.Refuse(d.w, r, problemOf(d.status, err), d.ShortCircuit)
	}
	if d.Outcome == "" {
		d.Outcome = outcomeOf(d.status)
	}
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Add(zap.Inline(d))
	}
	d.count(time.Since(d.began))
	return err
}

// problemOf gives the problem that an error carries, or one for its status.
func problemOf(status int, err error) *problem.Problem {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p
	}
	name := problem.Internal
	switch {
	case status == http.StatusNotFound:
		name = problem.NotFound
	case status == http.StatusMethodNotAllowed:
		name = problem.MethodNotAllowed
	case status == http.StatusRequestEntityTooLarge:
		name = problem.BodyTooLarge
	case status < 500:
		name = problem.MalformedRequest
	}
	if status < 400 {
		status = http.StatusInternalServerError
	}
	return problem.New(status, name, "").WithCause(err)
}

// outcomeOf reads an outcome off the status.
func outcomeOf(status int) Outcome {
	switch {
	case status == http.StatusUnauthorized:
		return OutcomeUnauthenticated
	case status == http.StatusForbidden:
		return OutcomeForbidden
	case status == 499:
		return OutcomeClientGone
	case status >= 500:
		return OutcomeError
	}
	return OutcomeAnswered
}
