package guard

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

func BenchmarkRequestID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = newRequestID(time.Now())
	}
}

func browserHeader() http.Header {
	return http.Header{
		"Accept": {"text/html"}, "Accept-Encoding": {"gzip, br"}, "Accept-Language": {"en"}, "Cookie": {"a=1"},
		"Connection": {"keep-alive"}, "User-Agent": {"Mozilla/5.0"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"none"},
		"Sec-Fetch-Dest": {"document"}, "Upgrade-Insecure-Requests": {"1"}, "Referer": {"http://pop.example/"},
	}
}

// BenchmarkClean is what an ordinary browser's headers cost.
func BenchmarkClean(b *testing.B) {
	g := ready(b, new(Guard))
	r := edgetest.Request("GET", "/app/orders?limit=5", browserHeader())
	b.ReportAllocs()
	for b.Loop() {
		g.clean(r, false)
	}
}

// BenchmarkGuard is the handler around one that does nothing; "base" is the
// making of the request that Caddy does anyway.
func BenchmarkGuard(b *testing.B) {
	g := ready(b, new(Guard)) // with the limit that is there by default
	limited := ready(b, &Guard{RateLimits: []*RateLimit{{Name: "client", Rate: "1000000/1s"}}})
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	h := browserHeader()
	w := httptest.NewRecorder()
	bare := edgetest.Request("GET", "/app/orders?limit=5", h)
	server := new(caddyhttp.Server) // which has no access log
	heap := make([]byte, 16<<20)    // as a Caddy has: collections are rarer than in an empty process
	defer runtime.KeepAlive(heap)
	for _, row := range []struct {
		name    string
		handler func(r *http.Request) error
	}{
		{"base", func(r *http.Request) error { return next.ServeHTTP(w, r) }},
		{"guard", func(r *http.Request) error { return g.ServeHTTP(w, r, next) }},
		{"guard_and_a_limit", func(r *http.Request) error {
			caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "192.0.2.1")
			return limited.ServeHTTP(w, r, next)
		}},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				clear(w.Header()) // each answer has its own
				r := caddyhttp.PrepareRequest(bare, caddy.NewReplacer(), w, server)
				if err := row.handler(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOptions is what the options of this package cost a request that none of
// them is for.
func BenchmarkOptions(b *testing.B) {
	g := ready(b, new(Guard))
	r := edgetest.Request("GET", "/app/orders?limit=5", browserHeader())
	w, d := httptest.NewRecorder(), new(decision.Decision)
	b.ReportAllocs()
	for b.Loop() {
		if g.refuseSize(r, "/app/orders?limit=5", g.clean(r, false)) != nil {
			b.Fatal("too large")
		}
		if passes, err := g.limit(w, r, d); !passes || err != nil {
			b.Fatal(err)
		}
	}
}

// TestOptions_costNothingWhereTheyAreNotUsed: no allocation, for any request.
func TestOptions_costNothingWhereTheyAreNotUsed(t *testing.T) {
	g := ready(t, new(Guard))
	r := edgetest.Request("GET", "/app/orders?limit=5", browserHeader())
	w, d := httptest.NewRecorder(), new(decision.Decision)
	if n := testing.AllocsPerRun(100, func() {
		_ = g.refuseSize(r, "/app/orders?limit=5", g.clean(r, false))
		_, _ = g.limit(w, r, d)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
