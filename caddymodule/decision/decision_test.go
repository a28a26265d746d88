package decision

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

func newRequest(target string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
}

func begin(t testing.TB, o Options) (*Decision, http.ResponseWriter, *http.Request, *httptest.ResponseRecorder) {
	t.Helper()
	r, w := newRequest("/app"), httptest.NewRecorder()
	o.POP = "fra"
	d, wrapped := Begin(w, r, "request-1", o)
	return d, wrapped, r, w
}

func TestDecision_headerIsSetNotAdded(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(http.ResponseWriter){
		"WriteHeader": func(w http.ResponseWriter) { w.WriteHeader(201) },
		"Write":       func(w http.ResponseWriter) { _, _ = io.WriteString(w, "x") },
		"ReadFrom":    func(w http.ResponseWriter) { _, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("x")) },
		"Flush":       func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		"nothing":     func(http.ResponseWriter) {},
		"informational first": func(w http.ResponseWriter) {
			w.WriteHeader(103)
			w.WriteHeader(204)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, w, r, rec := begin(t, Options{ServerTiming: true})
			d.GuardDone()
			d.CacheStatus = "gatehouse; hit"
			for range 2 {
				w.Header().Add("X-Request-Id", "the-regions")
				w.Header().Add("Cache-Status", "theirs")
				w.Header().Add("Server-Timing", "theirs;dur=1")
			}
			write(w)
			if err := d.Finish(r, nil); err != nil {
				t.Fatal(err)
			}
			h := rec.Header()
			if !slices.Equal(h["X-Request-Id"], []string{"request-1"}) || !slices.Equal(h["Cache-Status"], []string{"theirs", "theirs", "gatehouse; hit"}) ||
				len(h["Server-Timing"]) != 1 || !strings.HasPrefix(h.Get("Server-Timing"), "guard;dur=") {
				t.Errorf("header %v", h)
			}
		})
	}
}

func TestDecision_errorsBecomeProblems(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		err     error
		status  int
		name    string
		outcome Outcome
	}{
		{errors.New("boom"), 500, "internal", OutcomeError},
		{caddyhttp.Error(404, nil), 404, "not-found", OutcomeAnswered},
		{caddyhttp.Error(401, nil), 401, "unauthenticated", OutcomeUnauthenticated},
		{caddyhttp.Error(403, nil), 403, "forbidden", OutcomeForbidden},
		{caddyhttp.Error(405, nil), 405, "method-not-allowed", OutcomeAnswered},
		{caddyhttp.Error(413, nil), 413, "body-too-large", OutcomeAnswered},
		{caddyhttp.Error(429, nil), 429, "malformed-request", OutcomeAnswered},
		{caddyhttp.Error(502, errors.New("dial refused")), 502, "internal", OutcomeError},
		{caddyhttp.Error(200, nil), 500, "internal", OutcomeError},
		{caddyhttp.Error(503, problem.New(503, problem.RegionUnavailable, "").WithRetryAfter(time.Second)), 503, "region-unavailable", OutcomeError},
	} {
		d, _, r, rec := begin(t, Options{})
		if err := d.Finish(r, row.err); err != nil {
			t.Errorf("%v: given to Caddy too: %v", row.err, err)
		}
		if rec.Code != row.status || d.Problem != row.name || d.Outcome != row.outcome || !strings.Contains(rec.Body.String(), `"requestId":"request-1"`) {
			t.Errorf("%v: %d %s %s %s", row.err, rec.Code, d.Problem, d.Outcome, rec.Body)
		}
		if strings.Contains(rec.Body.String(), "boom") || strings.Contains(rec.Body.String(), "dial") {
			t.Errorf("%v: the cause is told to the client: %s", row.err, rec.Body)
		}
	}
}

func TestDecision_errorAfterTheAnswerBeganIsCaddys(t *testing.T) {
	t.Parallel()
	d, w, r, rec := begin(t, Options{})
	_, _ = io.WriteString(w, "half an ans")
	cause := errors.New("broke off")
	if err := d.Finish(r, cause); !errors.Is(err, cause) || rec.Body.String() != "half an ans" {
		t.Errorf("%v, %q", err, rec.Body)
	}
}

// reverse_proxy panics when the answer breaks off, whoever did it.
func TestDecision_anAnswerThatBreaksOffIsAnErrorUnlessTheClientLeft(t *testing.T) {
	t.Parallel()
	for _, left := range []bool{false, true} {
		d, _, r, _ := begin(t, Options{})
		want := OutcomeError
		if left {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			r, want = r.WithContext(ctx), OutcomeClientGone
		}
		d.Abort(r)
		if d.Outcome != want {
			t.Errorf("the client left %v: outcome %q, want %q", left, d.Outcome, want)
		}
	}
}

func TestDecision_refusalIsToldOnce(t *testing.T) {
	t.Parallel()
	d, w, r, rec := begin(t, Options{})
	err := d.Refuse(w, r, problem.New(401, problem.Unauthenticated, "").WithHeader("WWW-Authenticate", "Bearer"), "edge_session")
	if err != nil || d.Finish(r, err) != nil {
		t.Fatal(err)
	}
	if rec.Code != 401 || rec.Header().Get("WWW-Authenticate") != "Bearer" || d.Outcome != OutcomeUnauthenticated || d.ShortCircuit != "edge_session" {
		t.Errorf("%d %v %+v", rec.Code, rec.Header(), d)
	}
}

func TestDecision_logsWhatItHolds(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	d, _, r, _ := begin(t, Options{Logger: zap.New(core)})
	d.Identity, d.Auth = handoff.Identity{Tenant: "acme", Subject: "ada"}, AuthSession
	d.Region("eu", ReasonClaim)
	d.Replayed, d.Rewritten = true, "/eu/app"
	d.Cache, d.CachePolicy, d.CacheWhy = "miss", "tenant", "set-cookie"
	d.Stage(r.Context(), handoff.SpanAuth).End()
	_ = d.Finish(r, errors.New("boom"))

	encoded := zapcore.NewMapObjectEncoder()
	if err := d.MarshalLogObject(encoded); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		handoff.FieldRequestID: "request-1", handoff.FieldPOP: "fra", handoff.FieldTenant: "acme", handoff.FieldUser: "ada",
		handoff.FieldAuth: "session", handoff.FieldRegion: "eu", handoff.FieldRegionReason: "claim", handoff.FieldRewrite: "/eu/app",
		handoff.FieldReplayed: true, handoff.FieldOutcome: "error", handoff.FieldError: "boom", handoff.FieldReason: "internal",
		handoff.FieldCache: "miss", handoff.FieldCachePolicy: "tenant", handoff.FieldCacheWhy: "set-cookie",
	} {
		if encoded.Fields[field] != want {
			t.Errorf("%s is %v, want %v", field, encoded.Fields[field], want)
		}
	}
	if _, ok := encoded.Fields[handoff.SpanAuth].(time.Duration); !ok {
		t.Errorf("no time of %s: %v", handoff.SpanAuth, encoded.Fields)
	}
	if entries := logs.FilterLevelExact(zap.ErrorLevel).All(); len(entries) != 1 {
		t.Errorf("%d lines in the error log", len(entries))
	}
	extra := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if extra == nil {
		t.Error("Caddy's access log hears nothing")
	}
}

func TestDecision_placeholders(t *testing.T) {
	t.Parallel()
	d, _, r, _ := begin(t, Options{})
	d.Identity.Tenant, d.Auth, d.CacheStatus = "acme", AuthBearer, "gatehouse; hit"
	d.Region("eu", ReasonClaim)
	got := replacer(r).ReplaceAll("{edge.request_id} {edge.pop} {edge.tenant} {edge.region} {edge.auth} {edge.cache} {edge.other}", "-")
	if want := "request-1 fra acme eu bearer gatehouse; hit -"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDecision_manyStagesDoNotOverflow(t *testing.T) {
	t.Parallel()
	d, _, r, _ := begin(t, Options{})
	for range 100 {
		d.Stage(r.Context(), handoff.SpanAuth).End()
		d.Stamp(handoff.SpanCache, time.Second)
	}
	if d.nstages != len(d.stages) {
		t.Errorf("%d stages", d.nstages)
	}
}

func TestDecision_nobodyChoosesALabel(t *testing.T) {
	d, _, r, _ := begin(t, Options{})
	d.Auth = AuthTenant
	before := testutil.ToFloat64(auths.WithLabelValues(string(AuthTenant)))
	_ = d.Finish(r, nil)
	if got := testutil.ToFloat64(auths.WithLabelValues(string(AuthTenant))); got != before+1 {
		t.Errorf("%v, want %v", got, before+1)
	}
}

func TestRegister_againInEveryConfig(t *testing.T) {
	t.Parallel()
	for range 3 { // Caddy makes a registry for each
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		for range 2 {
			if err := Register(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := ctx.GetMetricsRegistry().Register(auths); !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			t.Errorf("not registered: %v", err)
		}
		cancel()
	}
}

// traced runs edge_trace below a recorded span, as Caddy's tracing makes one.
func traced(t *testing.T, next caddyhttp.HandlerFunc) (spans tracetest.SpanStubs, err error) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	d, w, r, _ := begin(t, Options{})
	d.GuardDone()
	ctx, span := provider.Tracer("tracing").Start(r.Context(), "GET")
	err = Trace{}.ServeHTTP(w, r.WithContext(ctx), next)
	span.End()
	return exporter.GetSpans(), err
}

func attributes(s tracetest.SpanStub) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

func TestTrace_tellsTheSpanWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		next   caddyhttp.HandlerFunc
		status string
		kind   string
	}{
		{"answered", func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(201); return nil }, "201", ""},
		{"nothing written", func(http.ResponseWriter, *http.Request) error { return nil }, "200", ""},
		{"refused", func(w http.ResponseWriter, r *http.Request) error {
			return Of(r.Context()).Refuse(w, r, problem.New(401, problem.Unauthenticated, ""), "edge_session")
		}, "401", ""},
		{"unavailable", func(w http.ResponseWriter, r *http.Request) error {
			return Of(r.Context()).Refuse(w, r, problem.New(503, problem.RegionUnavailable, ""), "edge_region")
		}, "503", "region-unavailable"},
		{"an error", func(http.ResponseWriter, *http.Request) error { return errors.New("boom") }, "500", "500"},
		{"an error of Caddy's", func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(502, nil) }, "502", "502"},
		{"a client's error", func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(404, nil) }, "404", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			spans, _ := traced(t, row.next)
			root := spans[len(spans)-1]
			got := attributes(root)
			if got[handoff.AttrStatusCode] != row.status || got["error.type"] != row.kind || got[handoff.AttrRequestID] != "request-1" || got[handoff.AttrOutcome] == "" {
				t.Errorf("attributes %v", got)
			}
			if failed := root.Status.Code == codes.Error; failed != (row.kind != "") {
				t.Errorf("status %v", root.Status)
			}
			if spans[0].Name != handoff.SpanGuard || spans[0].Parent.SpanID() != root.SpanContext.SpanID() || spans[0].EndTime.Before(spans[0].StartTime) {
				t.Errorf("guard's span %+v", spans[0])
			}
		})
	}
}

func TestTrace_tellsTheSpanWhatTheCacheDid(t *testing.T) {
	t.Parallel()
	spans, _ := traced(t, func(_ http.ResponseWriter, r *http.Request) error {
		d := Of(r.Context())
		d.Cache, d.CachePolicy, d.CacheWhy = "pass", "public", "cookie"
		return nil
	})
	got := attributes(spans[len(spans)-1])
	if got[handoff.AttrCache] != "pass" || got[handoff.AttrCachePolicy] != "public" || got[handoff.AttrCacheWhy] != "cookie" {
		t.Errorf("attributes %v", got)
	}
}

func TestTrace_stagesAreItsChildren(t *testing.T) {
	t.Parallel()
	spans, err := traced(t, func(_ http.ResponseWriter, r *http.Request) error {
		Of(r.Context()).Stage(r.Context(), handoff.SpanAuth).End()
		return nil
	})
	if err != nil || len(spans) != 3 || spans[1].Name != handoff.SpanAuth || spans[1].Parent.SpanID() != spans[2].SpanContext.SpanID() {
		t.Errorf("%v %v", err, spans)
	}
}

func TestTrace_withoutTracingItDoesNothing(t *testing.T) {
	t.Parallel()
	d, w, r, rec := begin(t, Options{})
	err := Trace{}.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		_, err := w.Write([]byte("x"))
		return err
	}))
	if err != nil || d.TraceID != "" || !bytes.Equal(rec.Body.Bytes(), []byte("x")) {
		t.Error(err, d.TraceID)
	}
}

// BenchmarkDecision is what the record of one request costs from its beginning
// to its end.
func BenchmarkDecision(b *testing.B) {
	bare := httptest.NewRequest("GET", "/app", nil)
	rec := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		r := caddyhttp.PrepareRequest(bare, caddy.NewReplacer(), rec, nil)
		d, _ := Begin(rec, r, "request-1", Options{POP: "fra"})
		d.GuardDone()
		if err := d.Finish(r, nil); err != nil {
			b.Fatal(err)
		}
	}
}
