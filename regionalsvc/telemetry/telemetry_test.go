package telemetry

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// clear takes every OTEL_* variable that matters away for one test.
func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range append([]string{"OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"}, enabling...) {
		t.Setenv(name, "")
	}
}

func TestStart_offCostsNothing(t *testing.T) {
	for name, variables := range map[string]map[string]string{
		"nothing set": {},
		"none":        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
		"disabled":    {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
			for variable, value := range variables {
				t.Setenv(variable, value)
			}
			before := runtime.NumGoroutine()
			stop, err := Start(t.Context(), "eu")
			if err != nil {
				t.Fatal(err)
			}
			if after := runtime.NumGoroutine(); after > before {
				t.Errorf("%d goroutines more", after-before)
			}
			tracer := otel.Tracer("test")
			if n := testing.AllocsPerRun(100, func() {
				_, span := tracer.Start(t.Context(), "x")
				span.End()
			}); n > 1 {
				t.Errorf("a span that goes nowhere costs %v allocations", n)
			}
			// The edge's trace id is read all the same.
			carrier := propagation.MapCarrier{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
			_, span := tracer.Start(otel.GetTextMapPropagator().Extract(t.Context(), carrier), "x")
			if got := span.SpanContext().TraceID().String(); got != "0af7651916cd43dd8448eb211c80319c" {
				t.Errorf("trace id %s", got)
			}
			if err := stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStart_exportsAndFlushesAtTheEnd(t *testing.T) {
	clearEnvironment(t)
	received := make(chan []byte, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		received <- body.Bytes()
	}))
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", server.URL)
	stop, err := Start(t.Context(), "eu")
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("test").Start(t.Context(), "one.span")
	span.End()
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	body := <-received
	for _, want := range []string{"one.span", ServiceName, "gatehouse.region"} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("%q is not in what was exported", want)
		}
	}
	server.CloseClientConnections()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t, goleak.IgnoreCurrent())
}

func TestStart_refusesWhatItDoesNotKnow(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("OTEL_TRACES_EXPORTER", "telegraph")
	if _, err := Start(t.Context(), "eu"); err == nil || !strings.Contains(err.Error(), "telegraph") {
		t.Errorf("%v", err)
	}
}

func TestLogger_writesTheAgreedNames(t *testing.T) {
	var out bytes.Buffer
	q := &Request{
		ID: "id-1234567", TraceID: "0af7", Tenant: "acme", User: "u", POP: "fra", Method: "GET",
		Path: "/api/\x1b[31m" + strings.Repeat("x", 1000), Route: "/api/{x}", Status: 503, Problem: "overloaded",
		Replayed: true, Err: errors.New("why\nnot"),
	}
	q.Log(NewLogger(&out, zapcore.InfoLevel, "eu"))
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 {
		t.Fatalf("%d lines", n)
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"level": "warn", "msg": "request", handoff.FieldRegion: "eu", handoff.FieldRequestID: "id-1234567",
		handoff.FieldTraceID: "0af7", handoff.FieldTenant: "acme", handoff.FieldPOP: "fra", handoff.FieldRoute: "/api/{x}",
		handoff.FieldStatus: 503.0, handoff.FieldProblem: "overloaded", handoff.FieldReplayed: true, "error": "why\nnot",
	} {
		if line[field] != want {
			t.Errorf("%s is %v, want %v", field, line[field], want)
		}
	}
	if path := line[handoff.FieldPath].(string); len(path) != maxPath {
		t.Errorf("a path of %d bytes is in the log", len(path))
	}
}

func TestMetrics_labelsAreOurs(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	for _, method := range []string{"GET", "BREW", "brew", "PROPFIND"} {
		m.Observe(&Request{Method: method, Status: 404})
	}
	if n, err := testutil.GatherAndCount(reg, "gatehouse_region_request_duration_seconds"); n != 2 || err != nil {
		t.Errorf("%d series, %v: a client can make up labels", n, err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func BenchmarkRequest(b *testing.B) {
	log := NewLogger(discard{}, zapcore.InfoLevel, "eu")
	m := NewMetrics(prometheus.NewRegistry())
	q := &Request{ID: "id-1234567", Tenant: "acme", User: "u", POP: "fra", Method: "GET", Path: "/api/x", Route: "/api/x", Status: 200, Database: []zap.Field{zap.Int("n", 3)}}
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(q)
		q.Log(log)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
