package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// origin is what stands behind Caddy in these tests. It remembers what it got.
type origin struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := new(origin)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		o.mu.Lock()
		o.requests = append(o.requests, r)
		o.mu.Unlock()
		w.Header().Add("X-Request-Id", "the-origins-own")
		w.Header().Add("X-Request-Id", "and-another")
		w.Header().Set("Server-Timing", "origin;dur=1")
		if status, err := strconv.Atoi(r.Header.Get("X-Want")); err == nil {
			w.WriteHeader(status)
		}
		_, _ = io.WriteString(w, "from the origin")
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) address() string { return strings.TrimPrefix(o.URL, "http://") }

// take gives what came since the last call.
func (o *origin) take() []*http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	got := o.requests
	o.requests = nil
	return got
}

// site is a Caddyfile with an edge block, whose one site holds body.
type site struct {
	globals string // further global options
	body    string
	key     string // file of the assertion's key
	issuer  string // the issuer block
}

func (s site) String() string {
	return fmt.Sprintf(`{
	%s
	%s
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
		}
		assertion {
			key_file %s
		}
		session_cookie session
		%s
	}
}
http://:0 {
	bind 127.0.0.1
	%s
}
`, edgetest.Globals, s.globals, s.key, s.issuer, s.body)
}

// newSite makes the keys of a site; token is a good session there.
func newSite(t testing.TB, body string) (s site, token string) {
	t.Helper()
	key := edgetest.Key(t, "EdDSA")
	file := edgetest.KeyFile(t, jwks.Key{ID: "k1", Material: edgetest.Public(key)})
	s = site{
		body:   body,
		key:    edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))),
		issuer: "issuer https://eu.example {\n\t\t\tkey_file " + file + "\n\t\t\taudience gatehouse\n\t\t}",
	}
	return s, edgetest.Token(t, "EdDSA", key, edgetest.Claims("https://eu.example", "gatehouse", nil), map[string]any{"kid": "k1"})
}

// gated reports whether a program that reads the path in the most generous way
// would serve something behind the session check of TestCaddy_paths.
func gated(path string) bool {
	for range 3 {
		path = strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", "/", "%5C", "/", `\`, "/", "%2e", ".", "%2E", ".", "%25", "%", "%61", "a", "%70", "p").Replace(path)
	}
	path, _, _ = strings.Cut(path, "?")
	clean := strings.ToLower(filepath.Clean(path))
	return clean == "/app" || strings.HasPrefix(clean, "/app/") || strings.Contains(clean, "/app/")
}

func TestCaddy_paths(t *testing.T) {
	o := newOrigin(t)
	s, token := newSite(t, `edge_guard
	@gated path /app /app/*
	edge_session @gated
	reverse_proxy `+o.address())
	address := edgetest.Run(t, s.String())

	const refused, session, open = 400, 401, 200
	rows := []struct {
		target string
		want   int
	}{
		{"/", open}, {"/products/coffee", open}, {"/products/coffee?x=/../app//y%2f;", open}, {"/app", session}, {"/app/x", session},
		{"/app?x=//a;b", session}, {"/APP", session}, {"/App/x", session}, {"/aPp/X", session}, {"/PRODUCTS/coffee", open},
		{"/%61pp/x", session}, {"/a%70p", session}, {"/%41PP", session}, {"/application", open}, {"/app.html", open},
		{"/products/caf%c3%a9", open}, {"/products/caf\u00e9", open}, {"/products/a%20b", open}, {"/products/%3f%23", open}, {`/products/"<>|^`, open},
		{"//app", refused}, {"/app//x", refused}, {"/products//app", refused}, {"///", refused}, {"/app/", session}, {"/products/", open},
		{"/./app", refused}, {"/app/./x", refused}, {"/app/.", refused}, {"/products/../app/x", refused}, {"/products/..", refused}, {"/..", refused}, {"/app/..", refused},
		{"/products/.../app", open}, {"/.well-known/x", open},
		{"/products%2f..%2fapp", refused}, {"/app%2fx", refused}, {"/%2fapp", refused}, {"/products/%2F", refused},
		{"/products%5c..%5capp", refused}, {"/app%5Cx", refused}, {`/products\..\app`, refused}, {`/app\x`, refused}, {`\app`, 0},
		{"/products/%2e%2e/app", refused}, {"/%2e/app", refused}, {"/products/.%2E/app", refused}, {"/app/%2e", refused},
		{"/products/;/app", refused}, {"/app;x=1", refused}, {"/products;/../app", refused}, {"/app%3bx", refused}, {"/products/..;/app", refused},
		{"/app%00", refused}, {"/products/%00/app", refused}, {"/app%0a", refused}, {"/products/%0d%0aX:%20y", refused}, {"/app%7f", refused},
		{"/%252e%252e/app", refused}, {"/app%252fx", refused}, {"/products/%25%32%66app", refused}, {"/products/100%25", open},
		{"/app%", 0}, {"/app%2", 0}, {"/app%zz", 0}, {"/products/%c0%af", refused}, {"/products/%ff", refused}, {"/products/\xff", refused},
		{"/app#x", refused}, {"/products#/../app", refused}, {"/products?#", refused}, {"/products?\x01", 0}, {"/products?\xff", refused},
		{"http://pop.example/app", refused}, {"http://evil.example/products", refused}, {"HTTP://pop.example/", refused}, {"*", refused}, {"app", 0}, {"", 0},
		{"evil.example:80", 0}, {"javascript:alert(1)", 0}, {"?x", 0},
	}
	for _, row := range rows {
		for _, method := range []string{"GET", "POST"} {
			a := edgetest.Raw(t, address, method+" "+row.target+" HTTP/1.1\nHost: pop.example\nContent-Length: 0\n\n")
			got := o.take()
			want := row.want
			if want == 0 { // net/http's own parser may refuse it first, and says 400 too
				want = refused
			}
			if a.StatusCode != want {
				t.Errorf("%s %q: %d, want %d", method, row.target, a.StatusCode, want)
			}
			if row.want == refused && !strings.Contains(a.Body, "urn:gatehouse:problem:ambiguous-path") {
				t.Errorf("%s %q: %s", method, row.target, a.Body)
			}
			if (len(got) > 0) != (a.StatusCode == open) {
				t.Errorf("%s %q: %d, and %d requests reached the origin", method, row.target, a.StatusCode, len(got))
			}
			for _, r := range got {
				if gated(r.RequestURI) {
					t.Errorf("%s %q reached the origin as %q without a session", method, row.target, r.RequestURI)
				}
			}
		}
		// With a session a refused path stays refused.
		a := edgetest.Raw(t, address, "GET "+row.target+" HTTP/1.1\nHost: pop.example\nCookie: session="+token+"\n\n")
		if want := row.want == open || row.want == session; want != (a.StatusCode == open) {
			t.Errorf("%q with a session: %d", row.target, a.StatusCode)
		}
		o.take()
	}
	// Every trick on both prefixes, with what it would lead to behind it.
	for _, prefix := range []string{"/app", "/products", "/APP", "/Products"} {
		for _, trick := range []string{
			"//", "/./", "/../", "/%2f", "/%2F", "%2f", "/%5c", "%5C", `\`, "/%2e/", "/%2e%2e/", "/.%2e/", "/%2E%2e/", ";/", ";x=1/", "/;/", "/..;/", "%3b/", "%3B/", "/%00/", "%00", "/%0a", "/%252f", "/%252e%252e/", "/%25%32%65/",
		} {
			for _, cookie := range []string{"", "Cookie: session=" + token + "\n"} {
				a := edgetest.Raw(t, address, "GET "+prefix+trick+"app/x HTTP/1.1\nHost: pop.example\n"+cookie+"\n")
				if got := o.take(); a.StatusCode != refused || len(got) > 0 {
					t.Errorf("%s%sapp/x: %d, and %d requests reached the origin", prefix, trick, a.StatusCode, len(got))
				}
			}
		}
	}
	for _, line := range []string{"CONNECT evil.example:80", "CONNECT /app", "TRACE /app", "TRACE /products"} {
		if a := edgetest.Raw(t, address, line+" HTTP/1.1\nHost: pop.example\n\n"); a.StatusCode != 405 || a.Header.Get("Allow") == "" {
			t.Errorf("%s: %d", line, a.StatusCode)
		}
	}
	edgetest.Raw(t, address, "OPTIONS * HTTP/1.1\nHost: pop.example\n\n") // net/http's own answer, or ours
	if got := o.take(); len(got) > 0 {
		t.Errorf("%d requests reached the origin", len(got))
	}
}

func TestCaddy_headersOfOursNeverComeFromAClient(t *testing.T) {
	o := newOrigin(t)
	s, token := newSite(t, `edge_guard
	edge_session /app
	request_header X-Tenant-Id {edge.tenant}
	request_header X-Home-Region home
	reverse_proxy `+o.address())
	s.globals = "servers {\n\t\texpected_underscore_headers X_* x_*\n\t}" // an operator may let them through
	if _, err := edgetest.Adapt(s.String()); err != nil {
		s.globals = "" // this Caddy has no such option in its Caddyfile
	}
	address := edgetest.Run(t, s.String())
	for _, attack := range []string{
		"X-Tenant-Id: globex", "x-tenant-id: globex\nX-TENANT-ID: initech", "X_Tenant_Id: globex", "X.Tenant.Id: globex", "X-Tenant_Id: globex",
		"Connection: close, x-tenant-id, x-home-region", "Connection: close\nConnection: \tX-Tenant-Id ,X-Home-Region", "Connection: X-TENANT-ID\nConnection: x_tenant_id",
		"X-Edge-Assertion: a.b.c", "X-Edge-Later: 1", "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Tracestate: a=b", "Baggage: a=b",
		"X-Request-Id: chosen-by-the-client", "TE: trailers\nTrailer: X-Tenant-Id",
	} {
		a := edgetest.Raw(t, address, "GET /app HTTP/1.1\nHost: pop.example\nCookie: session="+token+"\n"+attack+"\n\n")
		got := o.take()
		if a.StatusCode != 200 || len(got) != 1 {
			t.Errorf("%q: %d", attack, a.StatusCode)
			continue
		}
		h := got[0].Header
		if !slices.Equal(h["X-Tenant-Id"], []string{"acme"}) || !slices.Equal(h["X-Home-Region"], []string{"home"}) {
			t.Errorf("%q: the origin sees tenant %q, region %q", attack, h["X-Tenant-Id"], h["X-Home-Region"])
		}
		for name := range h {
			folded := strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
			if name != "X-Tenant-Id" && name != "X-Home-Region" &&
				(strings.HasPrefix(folded, "x-edge-") || slices.Contains([]string{"x-tenant-id", "x-home-region", "x-request-id", "traceparent", "tracestate", "baggage", "cookie"}, folded)) {
				t.Errorf("%q: the origin sees %s %q", attack, name, h[name])
			}
		}
		if ids := a.Header["X-Request-Id"]; len(ids) != 1 || ids[0] == "chosen-by-the-client" {
			t.Errorf("%q: X-Request-Id %q", attack, ids)
		}
	}
	// A trailer that nobody announced, and one that is announced.
	for _, announced := range []string{"", "Trailer: X-Checksum\n", "Trailer: X-Checksum, X-Tenant-Id\n"} {
		a := edgetest.Raw(t, address, "POST /products HTTP/1.1\nHost: pop.example\nTransfer-Encoding: chunked\n"+announced+"\n4\nbody\n0\nX-Checksum: c\nX-Tenant-Id: globex\nX_Edge_Assertion: x\n\n")
		got := o.take()
		if a.StatusCode != 200 || len(got) != 1 {
			t.Fatalf("%q: %d", announced, a.StatusCode)
		}
		for name := range got[0].Trailer {
			if name != "X-Checksum" {
				t.Errorf("%q: the origin sees the trailer %s", announced, name)
			}
		}
		if announced != "" && got[0].Trailer.Get("X-Checksum") != "c" {
			t.Errorf("%q: other trailers are lost: %q", announced, got[0].Trailer)
		}
	}
}

func TestCaddy_trustedProxyNamesRequestAndTrace(t *testing.T) {
	o := newOrigin(t)
	s, _ := newSite(t, "edge_guard\n\treverse_proxy "+o.address())
	s.globals = "servers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}"
	address := edgetest.Run(t, s.String())
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	a := edgetest.Raw(t, address, "GET / HTTP/1.1\nHost: pop.example\nX-Request-Id: from-the-proxy\nTraceparent: "+trace+"\nX-Tenant-Id: globex\n\n")
	got := o.take()
	if len(got) != 1 || got[0].Header.Get("Traceparent") != trace || got[0].Header.Get("X-Tenant-Id") != "" {
		t.Fatalf("the origin sees %v", got)
	}
	if ids := a.Header["X-Request-Id"]; !slices.Equal(ids, []string{"from-the-proxy"}) {
		t.Errorf("X-Request-Id %q", ids)
	}
}

func TestCaddy_everyAnswerHasOneRequestID(t *testing.T) {
	o := newOrigin(t)
	const routes = `edge_guard {
		server_timing
	}
	edge_session /app
	error /teapot "short and stout" 418
	error /broken 500
	respond /plain "hello"
	reverse_proxy /origin ORIGIN
	reverse_proxy /down 127.0.0.1:9
	respond /bare 404`
	for name, errorRoutes := range map[string]string{
		"without handle_errors":                "",
		"with one that answers":                "handle_errors {\n\t\trespond \"page for {err.status_code}\"\n\t}",
		"with one for other errors":            "handle_errors 402 {\n\t\trespond \"pay\"\n\t}",
		"with one that asks an origin":         "handle_errors {\n\t\treverse_proxy ORIGIN {\n\t\t\theader_up X-Want {err.status_code}\n\t\t}\n\t}",
		"with one that fails":                  "handle_errors {\n\t\terror 599\n\t}",
		"with one that sets the header itself": "handle_errors {\n\t\theader +X-Request-Id mine\n\t\trespond \"page\" {err.status_code}\n\t}",
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSite(t, strings.ReplaceAll(routes+"\n\t"+errorRoutes, "ORIGIN", o.address()))
			address := edgetest.Run(t, s.String())
			for target, want := range map[string]int{
				"/plain": 200, "/origin": 200, "/bare": 404, "/app": 401, "/teapot": 418, "/broken": 500, "/down": 502, "/nothing": 200, "/a//b": 400, "/.well-known/edge-jwks.json": 200,
			} {
				a := edgetest.Raw(t, address, "GET "+target+" HTTP/1.1\nHost: pop.example\nX-Request-Id: the-clients\n\n")
				if a.StatusCode != want {
					t.Errorf("%s: %d, want %d (%s)", target, a.StatusCode, want, a.Body)
				}
				ids := a.Header["X-Request-Id"]
				if len(ids) != 1 || len(ids[0]) != 36 {
					t.Errorf("%s: X-Request-Id %q", target, ids)
				}
				if timing := a.Header["Server-Timing"]; len(timing) != 1 || !strings.HasPrefix(timing[0], "guard;dur=") || (target == "/app") != strings.Contains(timing[0], ", auth;dur=") {
					t.Errorf("%s: Server-Timing %q", target, timing)
				}
				if target == "/app" && a.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s: no WWW-Authenticate", target)
				}
				if want < 400 || target == "/bare" {
					continue
				}
				problem := strings.Contains(a.Body, `"requestId":"`+ids[0]+`"`) && a.Header.Get("Content-Type") == "application/problem+json"
				page := strings.Contains(name, "answers") || strings.Contains(name, "asks") || strings.Contains(name, "sets")
				if problem == page {
					t.Errorf("%s: %s %s", target, a.Header.Get("Content-Type"), a.Body)
				}
				if page && !strings.Contains(a.Body, "page") && a.Body != "from the origin" {
					t.Errorf("%s: %s", target, a.Body)
				}
			}
		})
	}
}

// A server has the error routes of all its sites: a site without any keeps its
// problems, and so does one whose routes are for other errors.
func TestCaddy_errorRoutesOfAnotherSiteAreNotOurs(t *testing.T) {
	s, _ := newSite(t, "edge_guard\n\tedge_session")
	config := strings.Replace(s.String(), "http://:0 {", "http://mine.example:0 {", 1) + `
http://theirs.example:0 {
	bind 127.0.0.1
	edge_guard
	edge_session
	handle_errors {
		respond "their page"
	}
}
http://picky.example:0 {
	bind 127.0.0.1
	edge_guard
	edge_session
	handle_errors 404 {
		respond "not found"
	}
}
`
	address := edgetest.Run(t, config)
	const problem = `"title":"A valid session is needed"`
	for host, want := range map[string]string{"mine.example": problem, "theirs.example": "their page", "picky.example": problem} {
		a := edgetest.Raw(t, address, "GET / HTTP/1.1\nHost: "+host+"\n\n")
		if a.StatusCode != 401 || !strings.Contains(a.Body, want) || len(a.Header["X-Request-Id"]) != 1 {
			t.Errorf("%s: %d %q %s", host, a.StatusCode, a.Header["X-Request-Id"], a.Body)
		}
	}
}

func TestCaddy_countersOutliveAReload(t *testing.T) {
	s, token := newSite(t, "edge_guard\n\tedge_session /app\n\trespond /app ok\n\tmetrics /metrics")
	address := edgetest.Run(t, s.String())
	read := func(series string) float64 {
		t.Helper()
		for line := range strings.Lines(edgetest.Raw(t, address, "GET /metrics HTTP/1.1\nHost: pop.example\n\n").Body) {
			if value, ok := strings.CutPrefix(line, series+" "); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
		return 0
	}
	series := []string{
		`gatehouse_edge_auth_total{result="missing"}`, `gatehouse_edge_auth_total{result="session"}`,
		`gatehouse_edge_problems_total{problem="ambiguous-path"}`, `gatehouse_edge_request_duration_seconds_count{outcome="refused",region=""}`,
	}
	before := make([]float64, len(series))
	for i, name := range series {
		before[i] = read(name)
	}
	for round := range 3 {
		edgetest.Raw(t, address, "GET /app HTTP/1.1\nHost: pop.example\n\n")
		edgetest.Raw(t, address, "GET /app HTTP/1.1\nHost: pop.example\nCookie: session="+token+"\n\n")
		edgetest.Raw(t, address, "GET //app HTTP/1.1\nHost: pop.example\n\n")
		for i, name := range series {
			if got := read(name); got != before[i]+1 {
				t.Errorf("round %d: %s is %v, want %v", round, name, got, before[i]+1)
			}
			before[i]++
		}
		if err := edgetest.Load(s.String()); err != nil {
			t.Fatal(err)
		}
		address = edgetest.Address(t)
	}
}

func TestCaddy_accessLogIsTheOneWideEvent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	s, token := newSite(t, "log {\n\t\toutput file "+file+"\n\t}\n\tedge_guard\n\tedge_session /app\n\trespond /app ok")
	address := edgetest.Run(t, s.String())
	a := edgetest.Raw(t, address, "GET /app HTTP/1.1\nHost: pop.example\nCookie: session="+token+"\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n\n")
	b := edgetest.Raw(t, address, "GET /a//b HTTP/1.1\nHost: pop.example\n\n")
	c := edgetest.Raw(t, address, "GET /app HTTP/1.1\nHost: pop.example\nCookie: session=a.b.c\n\n")
	lines := waitFor(t, file, 3)
	for i, want := range [][]string{
		{`"user_id":"ada"`, `"request_id":"` + a.Header.Get("X-Request-Id") + `"`, `"tenant":"acme"`, `"auth":"session"`, `"pop":"fra"`, `"outcome":"answered"`, `"client_trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`, `"middleware.auth":`},
		{`"request_id":"` + b.Header.Get("X-Request-Id") + `"`, `"outcome":"refused"`, `"short_circuit":"edge_guard"`, `"reason":"ambiguous-path"`, `"status":400`},
		{`"request_id":"` + c.Header.Get("X-Request-Id") + `"`, `"outcome":"unauthenticated"`, `"auth":"malformed"`, `"short_circuit":"edge_session"`, `"error":"token is malformed`},
	} {
		for _, part := range want {
			if !strings.Contains(lines[i], part) {
				t.Errorf("line %d has no %s:\n%s", i, part, lines[i])
			}
		}
		if strings.Contains(lines[i], token) {
			t.Errorf("line %d holds the token", i)
		}
	}
}

// waitFor reads a log file as soon as it has so many lines.
func waitFor(t testing.TB, file string, lines int) []string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		data, _ := os.ReadFile(file)
		if got := strings.Split(strings.TrimSpace(string(data)), "\n"); len(got) >= lines && strings.HasSuffix(string(data), "\n") {
			return got
		}
	}
	t.Fatalf("%s never had %d lines", file, lines)
	return nil
}

func TestCaddy_directivesNeedAGuardBeforeThem(t *testing.T) {
	t.Cleanup(func() { _ = caddy.Stop() })
	for name, row := range map[string]struct{ body, want string }{
		"no guard":                      {"edge_session", "edge_session at apps.http.servers.srv0.routes[0].handle[0] has no edge_guard before it"},
		"in a handle":                   {"handle /app {\n\t\tedge_session\n\t}", "edge_session at "},
		"after it":                      {"route {\n\t\tedge_session\n\t\tedge_guard\n\t}", "edge_session at "},
		"in another handle":             {"handle /a {\n\t\tedge_guard\n\t}\n\thandle /b {\n\t\tedge_session\n\t}", "edge_session at "},
		"trace":                         {"tracing\n\tedge_trace", "edge_trace at "},
		"before":                        {"edge_guard\n\tedge_session", ""},
		"before, with matchers":         {"edge_guard /a/*\n\tedge_session /a/b", ""},
		"before handles":                {"edge_guard\n\thandle /a {\n\t\tedge_session\n\t}\n\thandle {\n\t\troute {\n\t\t\tedge_session\n\t\t}\n\t}", ""},
		"in the same route":             {"route {\n\t\tedge_guard\n\t\tedge_session\n\t}", ""},
		"guard alone":                   {"edge_guard", ""},
		"nothing of the edge's at all":  {"respond ok", ""},
		"behind a rewritten path":       {"handle_path /a/* {\n\t\tedge_guard\n\t\tedge_session\n\t}", ""}, // the guard says so itself
		"in an error route, by a guard": {"edge_guard\n\thandle_errors {\n\t\tedge_guard\n\t\trespond page\n\t}", ""},
	} {
		s, _ := newSite(t, row.body)
		err := edgetest.Load(s.String())
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	s, _ := newSite(t, "edge_guard\n\tedge_session")
	config := strings.Replace(s.String(), "http://:0 {", "http://one.example:0 {", 1) + "http://two.example:0 {\n\tbind 127.0.0.1\n\tedge_session\n}\n"
	if err := edgetest.Load(config); err == nil || !strings.Contains(err.Error(), "edge_session at apps.http.servers.srv0.routes[1]") {
		t.Errorf("another site's guard counts: %v", err)
	}
}

// BenchmarkChain is what guard and session add to Caddy's own chain, through its
// server's ServeHTTP, to a handler that does nothing.
func BenchmarkChain(b *testing.B) {
	for _, row := range []struct{ name, body string }{
		{"bare", "respond ok"}, {"guard", "edge_guard\n\trespond ok"}, {"guard+session", "edge_guard\n\tedge_session\n\trespond ok"},
	} {
		b.Run(row.name, func(b *testing.B) {
			s, token := newSite(b, row.body)
			if err := edgetest.Load(s.String()); err != nil {
				b.Fatal(err)
			}
			defer func() { _ = caddy.Stop() }()
			server := edgetest.Server(b)
			h := http.Header{
				"Accept": {"text/html"}, "Accept-Encoding": {"gzip, br"}, "Accept-Language": {"en"}, "Connection": {"keep-alive"},
				"User-Agent": {"Mozilla/5.0"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"none"}, "Sec-Fetch-Dest": {"document"},
			}
			cookie := []string{"session=" + token}
			r := httptest.NewRequest("GET", "http://pop.example/app/orders?limit=5", nil)
			r.RequestURI, r.Header = "/app/orders?limit=5", h
			r.URL.Scheme, r.URL.Host = "", ""
			b.ReportAllocs()
			for b.Loop() {
				h["Cookie"] = cookie[:1:1]
				w := httptest.NewRecorder()
				server.ServeHTTP(w, r)
				if w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
