package cache

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// sink is a writer that keeps nothing.
type sink struct{ h http.Header }

func (s *sink) Header() http.Header         { return s.h }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkHit is what a hit of 1 KiB costs beside an answer that is made on the spot:
// both with a decision, which edge_guard makes.
func BenchmarkHit(b *testing.B) {
	body := strings.Repeat("x", 1024)
	origin := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		h := w.Header()
		h["Content-Type"], h["Cache-Control"], h["Etag"] = []string{"text/plain; charset=utf-8"}, []string{"max-age=600"}, []string{`"tag"`}
		h["Vary"] = []string{"Accept-Encoding"}
		_, err := io.WriteString(w, body)
		return err
	})
	app := edgetest.App(b)
	ready := func(c *Cache) *Cache {
		if err := c.use(app); err != nil {
			b.Fatal(err)
		}
		return c
	}
	bare := edgetest.Request("GET", "/products/coffee?size=large", http.Header{
		"Accept-Encoding": {"gzip, deflate, br, zstd"}, "Accept": {"text/html"}, "User-Agent": {"Mozilla/5.0"}, "Accept-Language": {"en"},
	})
	server := new(caddyhttp.Server)
	ada := handoff.Identity{Tenant: "acme", Subject: "ada", SubjectIssuer: "https://eu.example", Session: "s-1", Roles: []string{"approver"}}
	public, tenant := ready(&Cache{Policy: PolicyPublic}), ready(&Cache{Policy: PolicyTenant})
	for name, row := range map[string]struct {
		handler func(http.ResponseWriter, *http.Request) error
		who     handoff.Identity
	}{
		"made on the spot": {origin.ServeHTTP, handoff.Identity{}},
		"public":           {func(w http.ResponseWriter, r *http.Request) error { return public.ServeHTTP(w, r, origin) }, handoff.Identity{}},
		"tenant":           {func(w http.ResponseWriter, r *http.Request) error { return tenant.ServeHTTP(w, r, origin) }, ada},
	} {
		ask := func() (*decision.Decision, error) {
			w := &sink{http.Header{}}
			r := caddyhttp.PrepareRequest(bare, caddy.NewReplacer(), w, server)
			d, dw := decision.Begin(w, r, "r-1", decision.Options{POP: "fra"})
			if d.Identity = row.who; row.who.Tenant != "" {
				d.Auth = decision.AuthSession
			}
			return d, row.handler(dw, r)
		}
		b.Run(name, func(b *testing.B) {
			if _, err := ask(); err != nil {
				b.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // the fill stores
			b.ReportAllocs()
			var d *decision.Decision
			for b.Loop() {
				var err error
				if d, err = ask(); err != nil {
					b.Fatal(err)
				}
			}
			if name != "made on the spot" && d.Cache != resultHit {
				b.Fatal(d.Cache)
			}
		})
	}
}
