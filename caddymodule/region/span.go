package region

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// span is the client span of one attempt (OpenTelemetry semantic conventions for
// HTTP, "HTTP client span"). Nil where nothing is recorded; all methods then do
// nothing.
type span struct{ trace.Span }

// startSpan begins the span and puts it into the context, so that the region's
// spans become its children.
func startSpan(ctx context.Context, x *exchange, req *http.Request) (context.Context, *span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	attributes := append(make([]attribute.KeyValue, 0, 8),
		attribute.String("http.request.method", method(req.Method)),
		attribute.String(handoff.AttrRegion, x.region()),
	)
	if dial, ok := reverseproxy.GetDialInfo(ctx); ok {
		attributes = append(attributes, attribute.String("server.address", dial.Host))
		if port, err := strconv.Atoi(dial.Port); err == nil && port > 0 {
			attributes = append(attributes, attribute.Int("server.port", port))
		}
	}
	if x.d.Replayed {
		attributes = append(attributes, attribute.Int("http.request.resend_count", 1))
	}
	ctx, s := decision.Tracer(ctx).Start(ctx, handoff.SpanToRegion,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	return ctx, &span{s}
}

// method keeps what a client made up out of the attributes' values.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return m
	}
	return "_OTHER"
}

// answered records the status, and ends the span when the answer's body has been
// read. What was switched to another protocol has no end that belongs here.
func (s *span) answered(res *http.Response) {
	if s == nil {
		return
	}
	s.SetAttributes(attribute.Int("http.response.status_code", res.StatusCode))
	if res.StatusCode >= 400 {
		s.SetAttributes(attribute.String("error.type", strconv.Itoa(res.StatusCode)))
		s.SetStatus(codes.Error, "")
	}
	if res.StatusCode == http.StatusSwitchingProtocols || res.Body == nil {
		s.End()
		return
	}
	res.Body = &spannedBody{ReadCloser: res.Body, span: s}
}

// fail ends the span of an attempt without an answer.
func (s *span) fail(err error) {
	if s == nil {
		return
	}
	kind := "client_gone"
	var f *failure
	switch {
	case errors.As(err, &f):
		kind = [...]string{unsent: "unsent", broken: "broken", timedOut: "timeout", misdirected: "misdirected", tooLong: "too_long"}[f.kind]
	case !errors.Is(err, context.Canceled):
		kind = "_OTHER"
	}
	s.SetAttributes(attribute.String("error.type", kind))
	s.SetStatus(codes.Error, err.Error())
	s.End()
}

type spannedBody struct {
	io.ReadCloser
	span *span
}

func (b *spannedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.span.SetAttributes(attribute.String("error.type", "broken"))
		b.span.SetStatus(codes.Error, err.Error())
	}
	return n, err
}

// Close ends the span. A span that has ended takes no second end.
func (b *spannedBody) Close() error {
	err := b.ReadCloser.Close()
	b.span.End()
	return err
}
