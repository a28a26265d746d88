package region_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// testTracing stands for Caddy's tracing, with spans that a test can read.
type testTracing struct{}

var spans = tracetest.NewSpanRecorder()

func (testTracing) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_tracing", New: func() caddy.Module { return new(testTracing) }}
}

func (testTracing) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	sampler := sdktrace.AlwaysSample()
	if r.Header.Get("Test-Unsampled") != "" {
		sampler = sdktrace.NeverSample()
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sampler))
	ctx, span := provider.Tracer("test").Start(r.Context(), "server", trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	return next.ServeHTTP(w, r.WithContext(ctx))
}

// toRegion gives the client spans that have ended since the last time, in the
// order in which they began.
func toRegion(t *testing.T) []sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, s := range spans.Ended() {
		if s.Name() == handoff.SpanToRegion {
			found = append(found, s)
		}
	}
	spans.Reset()
	return found
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]string {
	found := map[string]string{}
	for _, a := range s.Attributes() {
		found[string(a.Key)] = a.Value.String()
	}
	return found
}

func TestSpan_isTheRegionsParent(t *testing.T) {
	p := newPOP(t, "test_tracing\n"+site("edge_region", ""))
	toRegion(t)
	p.ask(t, "POST", "/", strings.NewReader("x"), "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	got := toRegion(t)
	if len(got) != 1 {
		t.Fatalf("%d spans", len(got))
	}
	s, a := got[0], attributesOf(got[0])
	parent := fmt.Sprintf("00-%s-%s-01", s.SpanContext().TraceID(), s.SpanContext().SpanID())
	if lines := p.eu.only().header["Traceparent"]; len(lines) != 1 || lines[0] != parent || strings.Contains(parent, "0af76519") {
		t.Errorf("the region has traceparent %q, the span is %s", lines, parent)
	}
	host, port, _ := strings.Cut(p.eu.addr(), ":")
	for key, want := range map[string]string{
		"http.request.method": "POST", "server.address": host, "server.port": port,
		"http.response.status_code": "200", "gatehouse.region": "eu",
	} {
		if a[key] != want {
			t.Errorf("%s: %q, want %q", key, a[key], want)
		}
	}
	if s.SpanKind() != trace.SpanKindClient || s.Status().Code != codes.Unset || a["http.request.resend_count"] != "" || !s.Parent().IsValid() {
		t.Errorf("%v %v %v", s.SpanKind(), s.Status(), a)
	}
}

func TestSpan_aReplayHasItsOwn(t *testing.T) {
	p := newPOP(t, "test_tracing\n"+site("edge_region", ""))
	toRegion(t)
	p.eu.answers(sendsTo("us"))
	p.ask(t, "POST", "/", strings.NewReader("x"))
	got := toRegion(t)
	if len(got) != 2 {
		t.Fatalf("%d spans", len(got))
	}
	first, second := attributesOf(got[0]), attributesOf(got[1])
	if first["http.response.status_code"] != "421" || first["http.request.resend_count"] != "" || got[0].Status().Code != codes.Error || first["error.type"] != "421" {
		t.Errorf("%v %v", first, got[0].Status())
	}
	if second["http.response.status_code"] != "200" || second["http.request.resend_count"] != "1" || second["gatehouse.region"] != "us" {
		t.Errorf("%v", second)
	}
	if !strings.Contains(p.us.only().header.Get("Traceparent"), got[1].SpanContext().SpanID().String()) {
		t.Error("the replay's parent is another span")
	}
	if got[0].Parent().SpanID() != got[1].Parent().SpanID() {
		t.Error("the attempts are not side by side")
	}
}

func TestSpan_saysWhatWentWrong(t *testing.T) {
	p := newPOP(t, "test_tracing\n"+site("edge_region", ""))
	p.eu.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	p.us.Close()
	toRegion(t)
	for _, row := range []struct{ home, kind string }{{"eu", "404"}, {"us", "unsent"}} {
		p.ask(t, "GET", "/", nil, "Test-Home: "+row.home)
		got := toRegion(t)
		if len(got) != 1 || got[0].Status().Code != codes.Error || attributesOf(got[0])["error.type"] != row.kind {
			t.Errorf("%s: %v", row.home, got)
		}
	}
}

func TestSpan_whatIsNotSampledStaysSo(t *testing.T) {
	p := newPOP(t, "test_tracing\n"+site("edge_region", ""))
	toRegion(t)
	p.ask(t, "GET", "/", nil, "Test-Unsampled: 1")
	if got := p.eu.only().header.Get("Traceparent"); !strings.HasSuffix(got, "-00") {
		t.Errorf("%q: the region would begin a trace of its own", got)
	}
	if got := toRegion(t); len(got) != 0 {
		t.Errorf("%d spans", len(got))
	}
}

func TestSpan_endsWithTheAnswersBody(t *testing.T) {
	p := newPOP(t, "test_tracing\n"+site("edge_region", ""))
	toRegion(t)
	release := make(chan struct{})
	p.eu.answers(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, "late")
	})
	r, _ := http.NewRequestWithContext(t.Context(), "GET", p.url+"/", nil)
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := toRegion(t); len(got) != 0 {
		t.Error("the span has ended before the answer")
	}
	close(release)
	_, _ = io.Copy(io.Discard, res.Body)
	if got := toRegion(t); len(got) != 1 {
		t.Errorf("%d spans", len(got))
	}
}
