package guard

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

func BenchmarkRequestID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = newRequestID()
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
	r := edgetest.Request("GET", "/app/orders?limit=5", browserHeader())
	b.ReportAllocs()
	for b.Loop() {
		clean(r, false)
	}
}

// BenchmarkGuard is the handler around one that does nothing; "base" is the
// making of the request that Caddy does anyway.
func BenchmarkGuard(b *testing.B) {
	g := newGuard(b)
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	h := browserHeader()
	w := httptest.NewRecorder()
	bare := edgetest.Request("GET", "/app/orders?limit=5", h)
	server := new(caddyhttp.Server) // which has no access log
	for name, handler := range map[string]func(r *http.Request) error{
		"base":  func(r *http.Request) error { return next.ServeHTTP(w, r) },
		"guard": func(r *http.Request) error { return g.ServeHTTP(w, r, next) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := caddyhttp.PrepareRequest(bare, caddy.NewReplacer(), w, server)
				if err := handler(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
