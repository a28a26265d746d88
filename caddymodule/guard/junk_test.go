package guard

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// everywhere gives the spellings of a name that servers take for one.
func everywhere(name string) []string {
	return []string{
		http.CanonicalHeaderKey(name), name, strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."),
		strings.Replace(strings.ToUpper(name), "-", "_", 1),
	}
}

func TestGuard_dropsWhatFrameworksBelieve(t *testing.T) {
	t.Parallel()
	always := []string{
		"x-middleware-subrequest", "x-middleware-rewrite", "x-middleware-redirect", "x-middleware-set-cookie", "x-middleware-skip",
		"x-middleware-override-headers", "x-middleware-next", "x-middleware-anything-new", "x-now-route-matches", "x-matched-path", "x-nextjs-data",
		"x-next-resume-state-length", "next-resume", "x-invoke-path", "content-security-policy", "content-security-policy-report-only", "x-original-url",
		"x-rewrite-url", "x-http-method-override", "x-http-method", "x-method-override", "proxy", "x-remote-user", "remote-user", "x-forwarded-user",
		"x-auth-request-email", "x-webauth-user",
	}
	untrusted := []string{
		"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "x-forwarded-port", "x-forwarded-uri", "x-forwarded-anything",
		"x-real-ip", "true-client-ip", "cf-connecting-ip", "x-original-host", "x-host", "front-end-https", "x-scheme",
	}
	kept := []string{
		"Accept", "Cookie", "Content-Type", "Content-Length", "Content-Encoding", "Cache-Control", "X-Requested-With", "X-Csrf-Token", "Next-Router-State-Tree",
		"Next-Router-Prefetch", "Next-Url", "Rsc", "X-Middle", "X-Forward", "Proxy-Authorization", "Priority", "Range", "Referer", "Te", "Forwarded-Thing", "X-Api-Key",
		"X-Custom", "Next-Action", "X-Prerender-Revalidate",
	}
	g := ready(t, &Guard{MaxHeaders: 10000})
	for _, trusted := range []bool{false, true} {
		h := http.Header{}
		want := slices.Clone(kept)
		for _, n := range kept {
			h[n] = []string{"kept"}
		}
		for _, n := range always {
			for _, s := range everywhere(n) {
				h[s] = []string{"forged"}
			}
		}
		for _, n := range untrusted {
			for _, s := range everywhere(n) {
				h[s] = []string{"forged"}
				if trusted && !slices.Contains(want, s) {
					want = append(want, s)
				}
			}
		}
		s := serve(t, g, edgetest.Request("GET", "/", h), trusted)
		got := slices.Sorted(func(yield func(string) bool) {
			for n := range s.next.Header {
				if !yield(n) {
					return
				}
			}
		})
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("trusted %v: left are %q, want %q", trusted, got, want)
		}
	}
	h := http.Header{"X-Nextjs-Data": {"1"}}
	if s := serve(t, g, edgetest.Request("GET", "/_next/data/b/app.json", h), false); s.next.Header.Get("X-Nextjs-Data") != "1" {
		t.Error("Next.js's own data request is broken")
	}
}

func TestGuard_keepHeaderLetsOneThrough(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{KeepHeaders: []string{"X-HTTP-Method-Override", "x-forwarded-prefix"}})
	h := http.Header{"X-Http-Method-Override": {"PUT"}, "X-Forwarded-Prefix": {"/shop"}, "X-Forwarded-Host": {"evil"}, "X-Method-Override": {"PUT"}}
	s := serve(t, g, edgetest.Request("POST", "/", h), false)
	if len(s.next.Header) != 2 || s.next.Header.Get("X-HTTP-Method-Override") != "PUT" || s.next.Header.Get("X-Forwarded-Prefix") != "/shop" {
		t.Errorf("left are %v", s.next.Header)
	}
	if s.next.Method != "POST" {
		t.Error("the edge itself honours it")
	}
}

func FuzzBelieved(f *testing.F) {
	for _, seed := range []string{"x-middleware-subrequest", "X_Middleware.Next", "x-middleware-", "x-middleware", "proxy", "Proxy-Authorization", "FORWARDED", "x-forwarded-for", "", "-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" {
			return
		}
		fold := func(s string) string {
			return strings.Map(func(r rune) rune {
				switch {
				case r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
					return r
				case r >= 'A' && r <= 'Z':
					return r + 32
				}
				return '-'
			}, s)
		}
		if !isToken(name) {
			return // no parser lets it through
		}
		want := false
		for _, n := range believed {
			want = want || fold(name) == n || strings.HasSuffix(n, "-") && strings.HasPrefix(fold(name), n)
		}
		if got := isBelieved(name, true, nil); got != want {
			t.Fatalf("%q: %v, want %v", name, got, want)
		}
		if isBelieved(name, false, keepNames([]string{name})) {
			t.Fatalf("%q is dropped although it is to be kept", name)
		}
	})
}

func TestGuard_refusesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	lines := func(n int) http.Header { return http.Header{"Accept": make([]string, n)} }
	for _, row := range []struct {
		name   string
		guard  Guard
		target string
		header http.Header
		want   int
		named  string
	}{
		{"a target as long as may be", Guard{}, "/" + strings.Repeat("a", DefaultMaxURL-1), nil, 204, ""},
		{"a longer one", Guard{}, "/" + strings.Repeat("a", DefaultMaxURL), nil, 414, problem.MalformedRequest},
		{"a long query", Guard{}, "/?" + strings.Repeat("a", DefaultMaxURL), nil, 414, problem.MalformedRequest},
		{"max_url", Guard{MaxURL: 20}, "/aaaaaaaaaaaaaaaaaaaa", nil, 414, problem.MalformedRequest},
		{"max_url, and the path is ambiguous too", Guard{MaxURL: 20}, "//aaaaaaaaaaaaaaaaaaaa", nil, 414, problem.MalformedRequest},
		{"as many lines as may be", Guard{}, "/", lines(DefaultMaxHeaders), 204, ""},
		{"one more", Guard{}, "/", lines(DefaultMaxHeaders + 1), 431, problem.HeaderTooLarge},
		{"max_headers", Guard{MaxHeaders: 2}, "/", lines(3), 431, problem.HeaderTooLarge},
		{"lines that would be dropped", Guard{MaxHeaders: 2}, "/", http.Header{"X-Edge-A": {"", ""}, "X-Middleware-B": {""}}, 431, problem.HeaderTooLarge},
		{"a long cookie", Guard{}, "/", http.Header{"Cookie": {strings.Repeat("a", DefaultMaxHeaderBytes)}}, 431, problem.HeaderTooLarge},
		{"a shorter one", Guard{}, "/", http.Header{"Cookie": {strings.Repeat("a", DefaultMaxHeaderBytes-100)}}, 204, ""},
		{"max_header_bytes", Guard{MaxHeaderBytes: 100}, "/", http.Header{"Cookie": {strings.Repeat("a", 100)}}, 431, problem.HeaderTooLarge},
		{"a longer limit", Guard{MaxHeaderBytes: 1 << 20, MaxURL: 1 << 20}, "/" + strings.Repeat("a", 1<<16), http.Header{"Cookie": {strings.Repeat("a", 1<<16)}}, 204, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			g := row.guard
			s := serve(t, ready(t, &g), edgetest.Request("GET", row.target, row.header), false)
			if s.Code != row.want || s.Problem != row.named || (s.next == nil) != (row.want != 204) {
				t.Errorf("%d %q", s.Code, s.Problem)
			}
			if row.want != 204 && s.Outcome != decision.OutcomeRefused {
				t.Errorf("outcome %q", s.Outcome)
			}
		})
	}
	g := ready(t, &Guard{MaxBody: 10})
	for length, want := range map[int64]int{-1: 204, 0: 204, 10: 204, 11: 413, 1 << 40: 413} {
		r := edgetest.Request("POST", "/", nil)
		r.ContentLength = length
		if s := serve(t, g, r, false); s.Code != want || want == 413 && s.Problem != problem.BodyTooLarge {
			t.Errorf("a body of %d: %d %s", length, s.Code, s.Problem)
		}
	}
}

func TestGuard_takesWhatTheRouteAllows(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{Allow: []*Allowed{
		{Paths: []string{"/api/upload/*"}, Methods: []string{"PUT"}},
		{Paths: []string{"/api/*", "/rpc"}, Methods: []string{"GET", "POST"}, ContentTypes: []string{"application/json", "text/csv"}},
		{Paths: []string{"/form"}, ContentTypes: []string{"application/x-www-form-urlencoded"}},
	}})
	const none = int64(0)
	for _, row := range []struct {
		method, target string
		length         int64
		types          []string
		want           int
	}{
		{"GET", "/api/x", none, nil, 204},
		{"HEAD", "/api/x", none, nil, 204},
		{"POST", "/api/x", 2, []string{"application/json"}, 204},
		{"POST", "/api/x", 2, []string{"Application/JSON; charset=utf-8"}, 204},
		{"POST", "/api/x", 2, []string{"text/csv"}, 204},
		{"POST", "/api/x", none, nil, 204},
		{"DELETE", "/api/x", none, nil, 405},
		{"get", "/api/x", none, nil, 405},
		{"PROPFIND", "/API/X", none, nil, 405},
		{"OPTIONS", "/rpc", none, nil, 405},
		{"PUT", "/api/upload/x", 2, []string{"image/png"}, 204}, // the first rule decides
		{"GET", "/api/upload/x", none, nil, 405},
		{"POST", "/api/x", 2, nil, 415},
		{"POST", "/api/x", -1, nil, 415},
		{"GET", "/api/x", -1, nil, 204}, // over HTTP/3 nobody knows that there is none
		{"GET", "/api/x", -1, []string{"text/xml"}, 415},
		{"GET", "/api/x", 2, []string{"text/xml"}, 415},
		{"POST", "/api/x", 2, []string{"text/xml"}, 415},
		{"POST", "/api/x", 2, []string{"application/json", "text/xml"}, 415},
		{"POST", "/api/x", 2, []string{"application/json, text/xml"}, 415},
		{"POST", "/api/x", 2, []string{"application/jsonx"}, 415},
		{"POST", "/api/x", 2, []string{""}, 415},
		{"DELETE", "/form", none, nil, 204},
		{"POST", "/form", 2, []string{"multipart/form-data; boundary=x"}, 415},
		{"POST", "/elsewhere", 2, []string{"text/xml"}, 204},
	} {
		r := edgetest.Request(row.method, row.target, http.Header{})
		r.ContentLength, r.Body = row.length, io.NopCloser(strings.NewReader("{}"))
		if row.types != nil {
			r.Header["Content-Type"] = row.types
		}
		s := serve(t, g, r, false)
		if s.Code != row.want || (s.next == nil) != (row.want != 204) {
			t.Errorf("%s %s, %d bytes of %q: %d, want %d", row.method, row.target, row.length, row.types, s.Code, row.want)
		}
		switch {
		case row.want == 405 && !strings.Contains("GET, HEAD, POST|PUT", s.Header().Get("Allow")) || row.want == 405 && s.Header().Get("Allow") == "":
			t.Errorf("Allow %q", s.Header().Get("Allow"))
		case row.want == 415 && s.Header().Get("Accept") == "":
			t.Error("no Accept")
		}
	}
}

// TestGuard_refusesBeforeItCounts: junk uses up nobody's quota.
func TestGuard_refusesBeforeItCounts(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{
		Allow:      []*Allowed{{Paths: []string{"/*"}, Methods: []string{"GET"}}},
		RateLimits: []*RateLimit{{Name: fresh(), Rate: "1/h"}},
	})
	for _, r := range []*http.Request{from("192.0.2.1", "POST", "/"), from("192.0.2.1", "GET", "//"), from("192.0.2.1", "TRACE", "/")} {
		if s := serve(t, g, r, false); s.Code < 400 || s.Code == 429 || s.Header().Get("RateLimit") != "" {
			t.Errorf("%s: %d", r.Method, s.Code)
		}
	}
	if s := serve(t, g, from("192.0.2.1", "GET", "/"), false); s.Code != 204 {
		t.Errorf("then: %d", s.Code)
	}
}
