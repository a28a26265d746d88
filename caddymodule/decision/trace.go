package decision

import (
	"context"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// tracerName is the instrumentation scope of the edge's spans.
const tracerName = "github.com/gatehouse-edge/gatehouse/caddymodule"

type spanEnder interface{ End(...trace.SpanEndOption) }

// startSpan begins a span below the request's, with the provider that Caddy's
// tracing made: there is no second one. It is nil where nothing is recorded.
func startSpan(ctx context.Context, name string) spanEnder {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return nil
	}
	_, span := Tracer(ctx).Start(ctx, name)
	return span
}

// Tracer is that of Caddy's own tracing handler; it does nothing without one.
func Tracer(ctx context.Context) trace.Tracer {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(tracerName)
}

// Trace is the edge_trace handler. It stands below Caddy's tracing and tells its
// span what the edge decided: the decision's fields as attributes, the span
// middleware.guard with the times that edge_guard took, and, for a request that
// ends in a 5xx or in an error, the status Error with error.type and
// gatehouse.status_code. Caddy writes the answer of an error after its span has
// ended, so that the span's own http.response.status_code then says 200.
//
// Without tracing it does nothing.
type Trace struct{}

// CaddyModule returns the module's information.
func (Trace) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_trace", New: func() caddy.Module { return new(Trace) }}
}

// ServeHTTP annotates the span around next.
func (Trace) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	span := trace.SpanFromContext(r.Context())
	if !span.IsRecording() {
		return next.ServeHTTP(w, r)
	}
	d, err := From(r)
	if err != nil {
		return err
	}
	d.TraceID = span.SpanContext().TraceID().String()
	_, guard := Tracer(r.Context()).Start(r.Context(), handoff.SpanGuard, trace.WithTimestamp(d.began))
	guard.End(trace.WithTimestamp(d.guardDone))

	err = next.ServeHTTP(w, r)
	d.annotate(span, err)
	return err
}

func (d *Decision) annotate(span trace.Span, err error) {
	status := d.status
	switch {
	case err != nil:
		status = statusOf(err)
	case status == 0:
		status = http.StatusOK // nobody wrote anything: net/http answers so
	}
	outcome := d.Outcome
	if outcome == "" {
		outcome = outcomeOf(status)
	}
	for _, row := range []struct{ key, value string }{
		{handoff.AttrRequestID, d.RequestID},
		{handoff.AttrPOP, d.POP},
		{handoff.AttrAuth, string(d.Auth)},
		{handoff.AttrTenant, d.Identity.Tenant},
		{handoff.AttrLink, string(d.Link)},
		{handoff.AttrCountry, d.Country},
		{handoff.AttrBotClass, string(d.Bot.Class)},
		{handoff.AttrBotReason, d.Bot.Reason},
		{handoff.AttrBotVerified, d.Bot.Verified},
		{handoff.AttrBotAction, string(d.botAction())},
		{handoff.AttrRegion, d.Home},
		{handoff.AttrRegionReason, string(d.Reason)},
		{handoff.AttrServedBy, d.ServedBy},
		{handoff.AttrRewrite, d.Rewritten},
		{handoff.AttrCache, d.Cache},
		{handoff.AttrCachePolicy, d.CachePolicy},
		{handoff.AttrCacheWhy, d.CacheWhy},
		{handoff.AttrVariants, joined(d.Variants)},
		{handoff.AttrExposures, joined(d.exposures)},
		{handoff.AttrRateLimit, d.Limit},
		{handoff.AttrShortCircuit, d.ShortCircuit},
		{handoff.AttrOutcome, string(outcome)},
	} {
		if row.value != "" {
			span.SetAttributes(attribute.String(row.key, row.value))
		}
	}
	span.SetAttributes(attribute.Int(handoff.AttrStatusCode, status))
	if d.Bot.Class != BotNone {
		span.SetAttributes(attribute.Int(handoff.AttrBotScore, d.Bot.Score))
	}
	if status >= 500 {
		kind := d.Problem
		if kind == "" {
			kind = strconv.Itoa(status)
		}
		span.SetAttributes(attribute.String("error.type", kind))
		span.SetStatus(codes.Error, kind)
	}
}

// UnmarshalCaddyfile reads the directive, which has no arguments:
//
//	edge_trace
func (*Trace) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("edge_trace takes no argument, got %q", d.Val())
	}
	if d.NextBlock(0) {
		return d.Errf("edge_trace takes no block, got %q", d.Val())
	}
	return nil
}

// ParseTrace makes the handler from the Caddyfile.
func ParseTrace(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	var t Trace
	return t, t.UnmarshalCaddyfile(h.Dispenser)
}

var ( // interface guards
	_ caddyhttp.MiddlewareHandler = Trace{}
	_ caddyfile.Unmarshaler       = (*Trace)(nil)
)
