package decision

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
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
	// Began is when the request came. Default: now.
	Began time.Time
	// Values answers for {edge.kv.BUCKET.KEY}, for the tenant whose session was
	// verified, if any. Nil: nothing does.
	Values func(bucket, tenant, key string) (string, bool)
	// ServerTiming sends the stages in Server-Timing (W3C Server Timing).
	ServerTiming bool
	// Logger hears of requests that ended in an error, as Caddy's own error log
	// does. Nil: nobody hears.
	Logger *zap.Logger
}

// exchange is everything that one request needs here, in one allocation.
type exchange struct {
	Decision
	writer  writer
	wrapper caddyhttp.ResponseWriterWrapper
	id      [1]string
}

// Begin makes the decision of r, with the id requestID, and the writer that
// every handler below must use. [Decision.Finish] ends it, or [Decision.Abort].
func Begin(w http.ResponseWriter, r *http.Request, requestID string, o Options) (*Decision, http.ResponseWriter) {
	x := new(exchange) // a literal of its size would be made elsewhere and copied
	d := &x.Decision
	d.RequestID, d.POP, d.Target, d.began = requestID, o.POP, target(r), o.Began
	d.serverTiming, d.logger, d.values = o.ServerTiming, o.Logger, o.Values
	if d.began.IsZero() {
		d.began = time.Now()
	}
	if dry, is := caddyhttp.GetVar(r.Context(), varKey).(*rehearsal); is {
		d.DryRun, d.SupposedCountry = true, dry.country
	}
	x.id[0] = requestID
	d.idLine = x.id[:1:1] // whoever adds to the header gets an array of his own
	x.wrapper.ResponseWriter = w
	x.writer.ResponseWriterWrapper, x.writer.d = &x.wrapper, d
	d.w = &x.writer

	// What is written past our writer, as Caddy does when a handler panics, goes
	// to the same header map.
	w.Header()[handoff.HeaderRequestID] = d.idLine

	caddyhttp.SetVar(r.Context(), varKey, d)
	if repl := replacer(r); repl != nil {
		repl.Map(d.placeholder)
	}
	return d, &x.writer
}

// target gives what the client asked for, whatever was rewritten since.
func target(r *http.Request) string {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return original.RequestURI
	}
	return r.RequestURI
}

// writer sets what the edge says of a request into the answer's header, in
// place of whatever a region or another handler put there.
type writer struct {
	*caddyhttp.ResponseWriterWrapper
	d    *Decision
	done bool // the final header is written

	// While error routes run, a bare status equal to hold is held back: see
	// [Decision.fail].
	hold int
	held bool
}

// WriteHeader passes informational answers on (RFC 9110, section 15.2) and
// stamps the final one.
func (w *writer) WriteHeader(status int) {
	switch {
	case w.done:
	case status < 200 && status != http.StatusSwitchingProtocols:
		w.Header()[handoff.HeaderRequestID] = w.d.idLine
	case status == w.hold && w.Header().Get("Content-Type") == "":
		w.held = true
		return
	default:
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

// implicit writes the header that a body needs before it.
func (w *writer) implicit() {
	if w.done {
		return
	}
	status := http.StatusOK
	if w.held {
		status = w.hold
	}
	w.hold, w.held = 0, false
	w.WriteHeader(status)
}

// answer is the first of the two places where a decision is read.
func (d *Decision) answer(h http.Header, status int) {
	d.status = status
	for _, f := range d.onAnswer {
		f(status, h)
	}
	h[handoff.HeaderRequestID] = d.idLine
	if d.CacheStatus != "" { // after those of caches nearer to the origin (RFC 9211, section 2)
		h["Cache-Status"] = append(slices.Clip(h["Cache-Status"]), d.CacheStatus)
	}
	if d.RateLimit != "" { // added: a region may have limits of its own
		h.Add("Ratelimit", d.RateLimit)
		h.Add("Ratelimit-Policy", d.RateLimitPolicy)
	}
	d.stampCookies(h)
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
// the server has error routes (handle_errors) the problem becomes an error for
// them, as Caddy's users expect; otherwise it is written here, so that everything
// around the handler sees its real status. Handlers return what it returns.
func (d *Decision) Refuse(w http.ResponseWriter, r *http.Request, p *problem.Problem, by string) error {
	d.Problem, d.ShortCircuit = p.Name(), by
	if d.Outcome == "" {
		d.Outcome = outcomeOf(p.Status)
	}
	if p.Cause != nil {
		d.err = p.Cause
	}
	if d.forked {
		return &Refusal{p, by, d.Outcome}
	}
	if errorRoutes(r) != nil {
		d.status = p.Status
		return caddyhttp.Error(p.Status, p)
	}
	p.Write(w, r, d.RequestID)
	return nil
}

// errorRoutes gives the server's error configuration, nil when it has no route.
func errorRoutes(r *http.Request) *caddyhttp.HTTPErrorConfig {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || server.Errors == nil || len(server.Errors.Routes) == 0 {
		return nil
	}
	return server.Errors
}

// Finish ends the request, and is the second of the two places where a decision
// is read. err is what the handlers returned: it is answered here, unless the
// answer had begun, so that the id, the log and the metrics are right for errors
// too. What it returns is for Caddy.
func (d *Decision) Finish(r *http.Request, err error) error {
	if err != nil {
		d.err, d.status = err, statusOf(err)
		if !d.w.done {
			d.fail(r, err)
			err = nil
		}
	} else if !d.w.done { // nobody wrote anything: net/http will answer 200
		d.answer(d.w.Header(), http.StatusOK)
	}
	if d.Outcome == "" {
		d.Outcome = outcomeOf(d.status)
	}
	d.end(r)
	return err
}

// errAborted is the log's word for an answer that broke off.
var errAborted = errors.New("a handler broke the answer off")

// Abort ends a request whose handler panicked, as reverse_proxy does when an
// upstream, or the client, breaks off in the midst of its answer
// (http.ErrAbortHandler).
func (d *Decision) Abort(r *http.Request) {
	d.err = errAborted
	switch {
	case d.Outcome != "":
	case r.Context().Err() != nil: // the server ends it when the client has gone
		d.Outcome = OutcomeClientGone
	default:
		d.Outcome = OutcomeError
	}
	d.end(r)
}

// end gives the decision to the access log, the metrics and, for an error, to
// the error log.
func (d *Decision) end(r *http.Request) {
	if d.DryRun {
		return
	}
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok && logged(r) {
		extra.Add(zap.Inline(d)) // a microsecond: it clears a sync.Map
	}
	d.count(time.Since(d.began))
	if d.err == nil || d.logger == nil {
		return
	}
	level := zap.DebugLevel // Caddy's own rule
	if d.status >= 500 {
		level = zap.ErrorLevel
	}
	if entry := d.logger.Check(level, "request ended in an error"); entry != nil {
		entry.Write(zap.Inline(d), zap.Int(handoff.FieldStatus, d.status),
			zap.String(handoff.FieldMethod, r.Method), zap.String(handoff.FieldPath, r.URL.Path))
	}
}

// logged reports whether the server may write an access log.
func logged(r *http.Request) bool {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return server == nil || server.Logs != nil
}

// fail answers an error: by the server's error routes, or where they send no
// body, by its problem.
//
// The routes are run here and not left to Caddy, which would run them past our
// writer: an upstream of theirs could add a second X-Request-Id, and a server
// has the error routes of all its sites, so that an error none of them is for
// would leave as a bare status.
func (d *Decision) fail(r *http.Request, err error) {
	p := problemOf(d.status, err)
	d.Problem = p.Name()
	for name, values := range p.Header { // WWW-Authenticate, Retry-After: true of any body
		d.w.Header()[name] = values
	}
	routes := errorRoutes(r)
	if routes == nil || d.DryRun { // error routes may send something
		p.Write(d.w, r, d.RequestID)
		return
	}
	if p.RetryAfter > 0 {
		d.w.Header().Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	d.w.hold = d.status
	original, _ := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if original.URL != nil { // as Caddy does: error routes see what the client sent
		r.Method, r.RemoteAddr, r.RequestURI = original.Method, original.RemoteAddr, original.RequestURI
		*r.URL = *original.URL
	}
	he := caddyhttp.Error(d.status, err) // error routes match by its status
	he.StatusCode = d.status
	failed := routes.WithError(r, he)
	unanswered := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	if second := routes.Routes.Compile(unanswered).ServeHTTP(d.w, failed); second != nil {
		d.err = fmt.Errorf("%w; and its error route failed: %w", err, second)
	}
	status := d.status
	d.w.hold, d.w.held = 0, false
	if !d.w.done {
		p.Status = status
		p.Write(d.w, r, d.RequestID)
	}
}

// statusOf reads the status that an error is to be answered with.
func statusOf(err error) int {
	var he caddyhttp.HandlerError
	if errors.As(err, &he) && he.StatusCode >= 400 {
		return he.StatusCode
	}
	return http.StatusInternalServerError
}

// problemOf gives the problem that an error carries, or one for its status.
func problemOf(status int, err error) *problem.Problem {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p
	}
	name := problem.Internal
	switch {
	case status == http.StatusUnauthorized:
		name = problem.Unauthenticated
	case status == http.StatusForbidden:
		name = problem.Forbidden
	case status == http.StatusNotFound:
		name = problem.NotFound
	case status == http.StatusMethodNotAllowed:
		name = problem.MethodNotAllowed
	case status == http.StatusRequestEntityTooLarge:
		name = problem.BodyTooLarge
	case status == http.StatusRequestTimeout:
		name = problem.TooSlow
	case status < 500:
		name = problem.MalformedRequest
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
