package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// record makes every span of the process be kept. It is process-wide, so the
// tests that use it are not parallel.
func record(t *testing.T) *tracetest.SpanRecorder {
	t.Helper()
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	spans := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() {
		otel.SetTracerProvider(provider)
		otel.SetTextMapPropagator(propagator)
	})
	return spans
}

func TestTrace_theServerSpanIsTheEdgesChild(t *testing.T) {
	spans := record(t)
	for name, row := range map[string]struct {
		who    handoff.Identity
		target string
		span   string
		status codes.Code
		code   int64
	}{
		"good":      {apitest.User("acme"), "/api/x/1", "GET /api/x/{id}", codes.Unset, 200},
		"elsewhere": {apitest.User("globex"), "/api/x/1", "GET /api/x/{id}", codes.Unset, 421},
		"no route":  {apitest.User("acme"), "/nowhere", "GET", codes.Unset, 404},
		"panic":     {apitest.User("acme"), "/api/panic", "GET /api/panic", codes.Error, 500},
	} {
		spans.Reset()
		g := newRegion(t, nil,
			api.Route{Pattern: "GET /api/x/{id}", Handle: hello},
			api.Route{Pattern: "GET /api/panic", Handle: func(http.ResponseWriter, *http.Request) error { panic("out of cheese") }})
		r := g.pop.Request(t, http.MethodGet, row.target, nil, row.who)
		r.Header.Set("traceparent", traceparent)
		g.send(r)
		ended := spans.Ended()
		if len(ended) != 1 {
			t.Fatalf("%s: %d spans", name, len(ended))
		}
		span := ended[0]
		if span.Name() != row.span || span.Status().Code != row.status ||
			span.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || span.Parent().SpanID().String() != "b7ad6b7169203331" {
			t.Errorf("%s: span %q, status %v, trace %s, parent %s", name, span.Name(), span.Status(), span.SpanContext().TraceID(), span.Parent().SpanID())
		}
		attributes := attribute.NewSet(span.Attributes()...)
		if code, _ := attributes.Value("http.response.status_code"); code.AsInt64() != row.code {
			t.Errorf("%s: status code %d", name, code.AsInt64())
		}
		if id, _ := attributes.Value(handoff.AttrRequestID); id.AsString() != r.Header.Get(handoff.HeaderRequestID) {
			t.Errorf("%s: request id %q", name, id.AsString())
		}
		if line := g.line(t); line[handoff.FieldTraceID] != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s: logged as %v", name, line)
		}
	}
}

// TestTrace_nobodyElseStartsOne: a traceparent without an assertion is anyone's.
func TestTrace_nobodyElseStartsOne(t *testing.T) {
	spans := record(t)
	g := newRegion(t, nil, api.Route{Pattern: "GET /api/x", Handle: hello})
	r := httptest.NewRequest(http.MethodGet, "/api/x", nil)
	r.Header.Set("traceparent", traceparent)
	g.send(r)
	if n := len(spans.Started()); n != 0 {
		t.Errorf("%d spans", n)
	}
	if line := g.line(t); line[handoff.FieldTraceID] != nil {
		t.Errorf("logged as %v", line)
	}
}
