package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// TestGuard_noSpellingOpensThePortal asks both POPs of the demo, without a session, for
// what a framework would serve the portal and the API at.
func TestGuard_noSpellingOpensThePortal(t *testing.T) {
	t.Parallel()
	for _, b := range []*browser{visit(fra()), visit(iad())} {
		for _, path := range []string{
			"/app", "/app/", "/APP", "/%61pp", "/app.rsc", "/app.segments/_tree.segment.rsc", "/app.html", "/eu/app", "/us/app.json", "/EU/app/",
			"/_next/data/build/app.json", "/_next/data/build/eu/app.json", "/_next/image?url=%2Fapp%2Fx.png&w=64&q=75",
			"/api", "/api/customers", "/api/customers.json", "/API/customers/", "/_next/data/build/api/customers.json",
		} {
			for _, header := range []string{"Rsc", "X-Middleware-Subrequest", "X-Original-Url", "X-Http-Method-Override"} {
				b.get(t, path, header, "/login", "Accept", "*/*").is(t, http.StatusUnauthorized, "unauthenticated")
			}
		}
	}
}

// TestGuard_refusesJunk asks a POP of the demo for what no client needs.
func TestGuard_refusesJunk(t *testing.T) {
	t.Parallel()
	b := visit(fra())
	b.do(t, http.MethodTrace, "/products/coffee", nil).is(t, http.StatusMethodNotAllowed, "method-not-allowed")
	b.get(t, "/products/"+strings.Repeat("a", 10_000)).is(t, http.StatusRequestURITooLong, "malformed-request")
	b.get(t, "/products/coffee", "X-Long", strings.Repeat("a", 40_000)).is(t, http.StatusRequestHeaderFieldsTooLarge, "header-too-large")
}

// TestGuard_loginsTellTheirLimit: the tests' POPs allow more than the default, and say so.
func TestGuard_loginsTellTheirLimit(t *testing.T) {
	t.Parallel()
	a := visit(fra()).post(t, "/login", map[string]string{"email": "nobody@acme.example", "password": "wrong"})
	if got := a.header.Get("RateLimit-Policy"); got != `"login";q=100000;w=60;gatehouse-burst=10000` || !strings.HasPrefix(a.header.Get("RateLimit"), `"login";r=`) {
		t.Errorf("RateLimit-Policy %q, RateLimit %q", got, a.header.Get("RateLimit"))
	}
}
