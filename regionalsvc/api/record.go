package api

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/telemetry"
)

// tracerName names this package in traces.
const tracerName = "github.com/gatehouse-edge/gatehouse/regionalsvc/api"

// record is what is noted about one request on its way through the chain.
type record struct {
	start   time.Time
	stats   *postgres.Stats
	claims  *handoff.Claims // nil until they are verified
	span    trace.Span      // nil until the claims are verified
	route   string
	problem string
	err     error
	notes   []zap.Field
	quiet   bool // what POPs ask all the time
}

type recordKey struct{}

// current is the record of r, which came through ServeHTTP.
func current(r *http.Request) *record { return r.Context().Value(recordKey{}).(*record) }

// Note puts a field of package handoff on the access line of r.
func Note(r *http.Request, field, value string) {
	q := current(r)
	q.notes = append(q.notes, zap.String(field, value))
}

// begin opens the record of a request.
func begin(w http.ResponseWriter, r *http.Request) (*answerWriter, *http.Request) {
	q := &record{start: time.Now()}
	ctx := context.WithValue(r.Context(), recordKey{}, q)
	ctx, q.stats = postgres.WithStats(ctx)
	return &answerWriter{ResponseWriter: w, stats: q.stats}, r.WithContext(ctx)
}

// trust notes the verified claims of r and the pattern that answers, and opens
// the server span. Its parent is the edge's: traceparent is looked at only
// now, because anyone could have sent it. The span begins when the request did.
func (q *record) trust(r *http.Request, pattern string) *http.Request {
	q.claims = handoff.FromContext(r.Context())
	_, q.route, _ = strings.Cut(pattern, " ")
	name := r.Method
	if q.route != "" {
		name += " " + q.route
	}
	ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, q.span = otel.Tracer(tracerName).Start(ctx, name,
		trace.WithTimestamp(q.start), trace.WithSpanKind(trace.SpanKindServer))
	if q.span.IsRecording() {
		q.span.SetAttributes(
			semconv.HTTPRequestMethodKey.String(r.Method),
			semconv.HTTPRoute(q.route),
			semconv.URLPath(r.URL.Path),
			attribute.String(handoff.AttrRequestID, RequestID(r)),
			attribute.String(handoff.AttrPOP, q.claims.POP),
			attribute.String(handoff.AttrTenant, q.claims.Tenant),
		)
	}
	return r.WithContext(ctx)
}

// finish closes the record: after a panic it answers 500, then it ends the
// span, writes the log line and counts.
func (a *API) finish(out *answerWriter, r *http.Request) {
	q := current(r)
	panicked := recover()
	aborted := false
	if panicked != nil {
		aborted = a.recovered(out, r, panicked)
	}
	if out.status == 0 && !aborted { // nothing was written, net/http says 200
		out.begin(http.StatusOK)
	}
	line := q.line(out, r)
	q.end(line)
	a.Metrics.Observe(line)
	line.Log(a.Log)
	if aborted {
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
}

// recovered answers for a handler that panicked. aborted is true when there is
// no way left to answer.
func (a *API) recovered(out *answerWriter, r *http.Request, panicked any) (aborted bool) {
	q := current(r)
	if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	q.err = fmt.Errorf("panic: %v", panicked)
	a.Log.Error("a handler panicked",
		zap.String(handoff.FieldRequestID, RequestID(r)), zap.Error(q.err), zap.ByteString("stack", debug.Stack()))
	if out.status != 0 {
		return true
	}
	a.fail(out, r, problem.New(http.StatusInternalServerError, problem.Internal, "").WithCause(q.err))
	return false
}

// line sums the request up.
func (q *record) line(out *answerWriter, r *http.Request) *telemetry.Request {
	line := &telemetry.Request{
		ID: RequestID(r), Method: r.Method, Path: r.URL.Path, Route: q.route,
		Status: out.status, Bytes: out.bytes, Duration: time.Since(q.start),
		Problem: q.problem, Err: q.err, Notes: q.notes, Quiet: q.quiet,
	}
	if line.Status == 0 { // nothing will be
		line.Status = http.StatusOK
	}
	if q.claims != nil {
		line.Tenant, line.User, line.POP, line.Replayed = q.claims.Tenant, q.claims.Subject, q.claims.POP, q.claims.Replay
	}
	if q.stats.Queries() > 0 || q.stats.PoolWait() > 0 {
		line.Database = []zap.Field{
			zap.Duration(handoff.FieldPoolWait, q.stats.PoolWait()),
			zap.Duration(handoff.FieldDBTime, q.stats.Time()),
			zap.Int(handoff.FieldDBQueries, q.stats.Queries()),
			zap.Int(handoff.FieldDBRoundTrips, q.stats.RoundTrips()),
		}
	}
	if q.span != nil && q.span.SpanContext().IsValid() {
		line.TraceID, line.Sampled = q.span.SpanContext().TraceID().String(), q.span.SpanContext().IsSampled()
	}
	return line
}

// end closes the server span as the semantic conventions ask: a status of 500
// and above is an error, one of 400 is the client's.
func (q *record) end(line *telemetry.Request) {
	if q.span == nil {
		return
	}
	if q.span.IsRecording() {
		q.span.SetAttributes(semconv.HTTPResponseStatusCode(line.Status))
		if line.Status >= http.StatusInternalServerError {
			q.span.SetAttributes(semconv.ErrorTypeKey.String(line.Problem))
			q.span.SetStatus(codes.Error, line.Problem)
		}
	}
	q.span.End()
}

// answerWriter notes what was answered, and tells the edge of what was written.
type answerWriter struct {
	http.ResponseWriter
	stats  *postgres.Stats
	status int
	bytes  int64
}

// begin notes the status and sets [handoff.HeaderWrote].
func (w *answerWriter) begin(status int) {
	w.status = status
	if at := w.stats.Wrote(); at != "" {
		w.Header().Set(handoff.HeaderWrote, at)
	}
}

func (w *answerWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK { // 1xx are no answer yet
		w.begin(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.begin(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// newRequestID names a request that came with no id to believe.
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}
