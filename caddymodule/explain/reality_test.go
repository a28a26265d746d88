package explain_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/common/expfmt"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/caddymodule/explain"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// site is a POP with a route of every kind, a region behind it that answers
// anything, and its access log.
type site struct {
	address string
	config  *explain.Config
	logged  string
	asked   atomic.Int64 // how often the region was
	fetched atomic.Int64 // how often the issuer's keys were
	key     any
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{key: edgetest.Key(t, "EdDSA"), logged: filepath.Join(t.TempDir(), "access.log")}
	region := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if strings.HasSuffix(r.URL.Path, "/kept") {
			w.Header().Set("Cache-Control", "max-age=600")
		}
	}))
	t.Cleanup(region.Close)
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.fetched.Add(1)
		_, _ = w.Write(jwks.Marshal([]jwks.Key{{ID: "k1", Material: edgetest.Public(s.key)}}))
	}))
	t.Cleanup(issuer.Close)
	database, err := filepath.Abs("../geo/testdata/countries.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	upstream := strings.TrimPrefix(region.URL, "http://")
	caddyfile := fmt.Sprintf(`{
	%s
	metrics {
		per_host
	}
	servers {
		trusted_proxies static 127.0.0.1/32
	}
	storage file_system %s
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams %s
			health off
		}
		region us {
			upstreams %s
			countries US
			health off
		}
		assertion {
			key_file %s
		}
		issuer gatehouse:eu {
			jwks_url %s
			audience shop
		}
		session_cookie session
		cookie_secret_file %s
	}
}
(home) {
	reverse_proxy {
		dynamic edge_region
		transport edge
	}
}
http://:0 {
	bind 127.0.0.1
	log {
		output file %s
		format json
	}
	edge_guard {
		rate_limit few {
			by client
			rate 5/h
			match path /limited
		}
	}
	edge_geo {
		database %s
		redirect DE /de{uri}
	}
	handle /pinned/* {
		edge_region {
			to us
		}
		import home
	}
	handle /pages/* {
		edge_cache {
			policy public
			ignore_query utm_*
			bypass_cookie preview
			cookie theme
		}
		edge_region {
			to us
		}
		import home
	}
	handle /shells/* {
		edge_session
		edge_cache {
			policy tenant
		}
		edge_region {
			rewrite "/{edge.region}{uri}"
		}
		import home
	}
	handle /app* {
		edge_session
		edge_region {
			rewrite "/{edge.region}{uri}"
		}
		import home
	}
	handle /api/* {
		edge_session
		edge_region
		import home
	}
	handle /staff/* {
		edge_session {
			require role admin
		}
		respond "staff"
	}
	handle /maybe {
		edge_session {
			optional
		}
		edge_region {
			country {edge.geo.country}
		}
		import home
	}
	handle /shop {
		edge_session
		edge_experiment {
			experiment search {
				by user
				variant v1
				variant v2
			}
		}
		edge_flags {
			flag dark {
				variant on true
				variant off false
				default on
			}
		}
		@v1 edge_variant search v1
		respond @v1 "one {edge.flag.dark}" 200
		respond "two {edge.flag.dark}" 202
	}
	handle /limited {
		respond "a few" 200
	}
	handle_path /stripped/* {
		respond "{http.request.uri}" 203
	}
	handle /broken {
		reverse_proxy %s
	}
	handle {
		error 404
	}
}
`, edgetest.Globals, t.TempDir(), upstream, upstream, edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))),
		issuer.URL, edgetest.Write(t, "cookie.secret", []byte(edgetest.CookieSecret)), s.logged, database, upstream)
	adapted, err := edgetest.Adapt(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	if s.config, err = explain.Parse(adapted); err != nil {
		t.Fatal(err)
	}
	s.address = edgetest.Run(t, caddyfile)
	if a := edgetest.Raw(t, s.address, "GET /api/x HTTP/1.1\nHost: pop.example\nAuthorization: Bearer "+s.token(t, nil)+"\n\n"); a.StatusCode != 200 {
		t.Fatalf("the first request: %d %s", a.StatusCode, a.Body) // and has the keys fetched
	}
	s.lines(t, 1)
	return s
}

func (s *site) token(t *testing.T, changes jwt.MapClaims) string {
	t.Helper()
	return edgetest.Token(t, "EdDSA", s.key, edgetest.Claims("gatehouse:eu", "shop", changes), map[string]any{"kid": "k1"})
}

// lines waits until the access log has n lines, and gives them.
func (s *site) lines(t *testing.T, n int) []string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(15 * time.Second); ; {
		data, _ := os.ReadFile(s.logged)
		if lines := strings.Split(strings.TrimSpace(string(data)), "\n"); len(lines) >= n && lines[0] != "" {
			return lines
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the log has no %d lines:\n%s", n, data)
		}
	}
}

// caddys are the fields of a line that are Caddy's own.
var caddys = []string{"level", "ts", "logger", "msg", "request", "bytes_read", "user_id", "duration", "size", "status", "resp_headers"}

// decided is what a line of the access log says was decided: numbers and booleans
// as such.
func decided(t *testing.T, line string) (fields map[string]any, status int) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	code, _ := fields["status"].(float64)
	for _, name := range caddys {
		delete(fields, name)
	}
	return tidy(fields), int(code)
}

// tidy leaves out what no two requests have in common: the id and the times.
func tidy(fields map[string]any) map[string]any {
	for name := range fields {
		if name == handoff.FieldRequestID || strings.Contains(name, ".") {
			delete(fields, name)
		}
	}
	if text, ok := fields[handoff.FieldError].(string); ok {
		fields[handoff.FieldError] = errorID.ReplaceAllString(text, "") // Caddy gives each error an id
	}
	return fields
}

var errorID = regexp.MustCompile(`\{id=[a-z0-9]+\} `)

// metrics is everything that is counted.
func metrics(t *testing.T) string {
	t.Helper()
	ctx := caddy.ActiveContext()
	families, err := ctx.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "go_") || strings.HasPrefix(f.GetName(), "process_") {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

// raw is the request of q on the wire.
func raw(q *explain.Question) string {
	request := q.Method + " " + q.URL + " HTTP/1.1\nHost: localhost\n" // which a path is explained for
	for _, line := range q.Header {
		request += line + "\n"
	}
	if len(q.Cookies) > 0 {
		request += "Cookie: " + strings.Join(q.Cookies, "; ") + "\n"
	}
	if q.Method == "POST" {
		request += "Content-Length: 0\n"
	}
	return request + "\n"
}

// What is explained is what happens: the real request's line in the access log says
// the same, and so does its answer; and nothing shows that it was explained.
func TestExplain_isWhatHappens(t *testing.T) {
	s := newSite(t)
	good := s.token(t, nil)
	admin := s.token(t, jwt.MapClaims{"roles": []string{"admin"}, "sub": "root", "sid": "s-9"})
	over := s.token(t, jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix(), "iat": time.Now().Add(-2 * time.Hour).Unix()})
	lost := s.token(t, jwt.MapClaims{"region": "mars", "sub": "eve", "sid": "s-3"})
	forged := edgetest.Token(t, "EdDSA", edgetest.Key(t, "EdDSA"), edgetest.Claims("gatehouse:eu", "shop", nil), map[string]any{"kid": "k1"})
	bearer := "Authorization: Bearer " + good
	german, american := "X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: 198.51.100.7"
	page := []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}
	sent := -1 // the region, or an upstream, answers
	rows := []struct {
		name   string
		q      explain.Question
		status int
	}{
		{"anonymous page", explain.Question{Method: "GET", URL: "/app/x?y=1", Header: page}, 302},
		{"anonymous program", explain.Question{Method: "GET", URL: "/api/orders"}, 401},
		{"session", explain.Question{Method: "GET", URL: "/app/x?y=1", Cookies: []string{"session=" + good}}, sent},
		{"session at another's name", explain.Question{Method: "GET", URL: "/us/app", Cookies: []string{"session=" + good}}, 404},
		{"bearer", explain.Question{Method: "GET", URL: "/api/orders", Header: []string{bearer}}, sent},
		{"bearer writes", explain.Question{Method: "POST", URL: "/api/orders?a=b", Header: []string{bearer}}, sent},
		{"forged", explain.Question{Method: "GET", URL: "/api/orders", Cookies: []string{"session=" + forged}}, 401},
		{"nonsense", explain.Question{Method: "GET", URL: "/api/orders", Cookies: []string{"session=nonsense"}}, 401},
		{"over", explain.Question{Method: "GET", URL: "/app", Header: page, Cookies: []string{"session=" + over}}, 302},
		{"two cookies", explain.Question{Method: "GET", URL: "/api/orders", Cookies: []string{"session=" + good, "session=" + good}}, 401},
		{"bad bearer, good cookie", explain.Question{Method: "GET", URL: "/api/orders", Header: []string{"Authorization: Bearer x.y.z"}, Cookies: []string{"session=" + good}}, 401},
		{"an unknown home", explain.Question{Method: "GET", URL: "/api/orders", Cookies: []string{"session=" + lost}}, sent},
		{"cross-site write", explain.Question{Method: "POST", URL: "/api/orders", Header: []string{"Sec-Fetch-Site: cross-site"}, Cookies: []string{"session=" + good}}, 403},
		{"same-origin write", explain.Question{Method: "POST", URL: "/api/orders", Header: []string{"Sec-Fetch-Site: same-origin"}, Cookies: []string{"session=" + good}}, sent},
		{"preflight", explain.Question{Method: "OPTIONS", URL: "/api/orders", Header: []string{"Origin: https://a.example", "Access-Control-Request-Method: POST"}}, sent},
		{"wrong method", explain.Question{Method: "TRACE", URL: "/api/orders"}, 405},
		{"ambiguous path", explain.Question{Method: "GET", URL: "/products/..%2fapp"}, 400},
		{"without the role", explain.Question{Method: "GET", URL: "/staff/x", Cookies: []string{"session=" + good}}, 403},
		{"with the role", explain.Question{Method: "GET", URL: "/staff/x", Cookies: []string{"session=" + admin}}, 200},
		{"optional, nobody", explain.Question{Method: "GET", URL: "/maybe"}, sent},
		{"optional, a bad cookie", explain.Question{Method: "GET", URL: "/maybe", Cookies: []string{"session=x"}}, sent},
		{"optional, a bad bearer", explain.Question{Method: "GET", URL: "/maybe", Header: []string{"Authorization: Bearer x"}}, 401},
		{"optional, somebody", explain.Question{Method: "GET", URL: "/maybe", Cookies: []string{"session=" + good}}, sent},
		{"from a region's country", explain.Question{Method: "GET", URL: "/maybe", Header: []string{american}}, sent},
		{"geo redirect", explain.Question{Method: "GET", URL: "/maybe?q=1", Header: append([]string{german}, page...)}, 302},
		{"geo, no page", explain.Question{Method: "GET", URL: "/maybe", Header: []string{german}}, sent},
		{"geo, a choice", explain.Question{Method: "GET", URL: "/maybe", Header: append([]string{german}, page...), Cookies: []string{"edge-geo=US"}}, sent},
		{"pin", explain.Question{Method: "GET", URL: "/pinned/x", Cookies: []string{"session=" + good}}, sent},
		{"pin, write", explain.Question{Method: "POST", URL: "/pinned/x"}, sent},
		{"experiment and flag", explain.Question{Method: "GET", URL: "/shop", Cookies: []string{"session=" + good}}, 0},
		{"experiment, met before", explain.Question{Method: "GET", URL: "/shop", Cookies: []string{"session=" + good}}, 0},
		{"experiment, another user", explain.Question{Method: "GET", URL: "/shop", Cookies: []string{"session=" + admin}}, 0},
		{"cache, nothing stored", explain.Question{Method: "GET", URL: "/pages/kept?utm_x=1", Cookies: []string{"theme=dark", "session=" + good}}, sent},
		{"cache, stored", explain.Question{Method: "GET", URL: "/pages/kept", Cookies: []string{"theme=dark"}}, 200},
		{"cache, another key", explain.Question{Method: "GET", URL: "/pages/kept"}, sent},
		{"cache, HEAD of what is stored", explain.Question{Method: "HEAD", URL: "/pages/kept"}, 200},
		{"cache, HEAD of what is not", explain.Question{Method: "HEAD", URL: "/pages/x"}, sent},
		{"cache, not stored", explain.Question{Method: "GET", URL: "/pages/x"}, sent},
		{"cache, a write", explain.Question{Method: "POST", URL: "/pages/x"}, sent},
		{"cache, a cookie", explain.Question{Method: "GET", URL: "/pages/kept", Cookies: []string{"preview=1"}}, sent},
		{"cache, credentials", explain.Question{Method: "GET", URL: "/pages/kept", Header: []string{bearer}}, sent},
		{"cache of a tenant, nobody", explain.Question{Method: "GET", URL: "/shells/kept"}, 401},
		{"cache of a tenant", explain.Question{Method: "GET", URL: "/shells/kept", Cookies: []string{"session=" + good}}, sent},
		{"cache of a tenant, stored", explain.Question{Method: "GET", URL: "/shells/kept", Cookies: []string{"session=" + good}}, 200},
		{"cache of a tenant, another user", explain.Question{Method: "GET", URL: "/shells/kept", Cookies: []string{"session=" + admin}}, 200},
		{"handle_path", explain.Question{Method: "GET", URL: "/stripped/x"}, 203},
		{"another upstream", explain.Question{Method: "GET", URL: "/broken"}, sent},
		{"the edge's keys", explain.Question{Method: "GET", URL: "/.well-known/edge-jwks.json"}, 200},
		{"nothing there", explain.Question{Method: "GET", URL: "/nowhere"}, 404},
	}
	asked, fetched, logged := s.asked.Load(), s.fetched.Load(), 1
	for _, row := range rows {
		before := metrics(t)
		answer, err := explain.Explain(caddy.ActiveContext(), s.config, &row.q)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		document, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		if after := metrics(t); after != before {
			t.Errorf("%s: it was counted", row.name)
		}
		if s.asked.Load() != asked || s.fetched.Load() != fetched {
			t.Errorf("%s: something was sent", row.name)
		}
		for _, secret := range []string{good, admin, over, forged, lost, strings.Split(good, ".")[2]} {
			if bytes.Contains(document, []byte(secret)) {
				t.Errorf("%s: a token is shown", row.name)
			}
		}
		var explained struct {
			Decision map[string]any
			Status   int
			Sent     *explain.Sent
		}
		if err := json.Unmarshal(document, &explained); err != nil {
			t.Fatal(err)
		}

		real := edgetest.Raw(t, s.address, raw(&row.q))
		logged++
		line := s.lines(t, logged)
		if len(line) != logged {
			t.Fatalf("%s: it was logged", row.name)
		}
		happened, status := decided(t, line[logged-1])
		isSent := explained.Sent != nil
		if isSent {
			asked++
			delete(happened, handoff.FieldOutcome) // the region's answer decides it
			if explained.Decision[handoff.FieldCache] == nil {
				delete(happened, handoff.FieldCache) // and what a cache makes of it
				delete(happened, handoff.FieldCacheWhy)
			}
		}
		if got := tidy(explained.Decision); !reflect.DeepEqual(got, happened) {
			t.Errorf("%s\nexplained %v\nhappened  %v", row.name, got, happened)
		}
		switch {
		case isSent != (row.status == sent):
			t.Errorf("%s: sent %v: %s", row.name, isSent, document)
		case !isSent && (explained.Status != status || status != real.StatusCode):
			t.Errorf("%s: %d is explained, %d is logged, %d is answered", row.name, explained.Status, status, real.StatusCode)
		case row.status > 0 && status != row.status:
			t.Errorf("%s: %d, want %d", row.name, status, row.status)
		}
		if s.asked.Load() != asked {
			t.Errorf("%s: the region was asked %d times, want %d", row.name, s.asked.Load(), asked)
		}
		for _, name := range []string{"Location", "Www-Authenticate"} {
			if !isSent && strings.Join(answer.Header[name], "|") != strings.Join(real.Header[name], "|") {
				t.Errorf("%s: %s %q is explained, %q is answered", row.name, name, answer.Header[name], real.Header[name])
			}
		}
	}
}

// A limit is what it was, however often somebody asks what it would do.
func TestExplain_takesNothingOffALimit(t *testing.T) {
	s := newSite(t)
	q := explain.Question{Method: "GET", URL: "/limited"}
	explained := func() int {
		a, err := explain.Explain(caddy.ActiveContext(), s.config, &q)
		if err != nil {
			t.Fatal(err)
		}
		return a.Status
	}
	for range 50 {
		if status := explained(); status != 200 {
			t.Fatalf("before: %d", status)
		}
	}
	passed := 0
	for ; passed < 100; passed++ {
		if edgetest.Raw(t, s.address, raw(&q)).StatusCode == 429 {
			break
		}
	}
	if passed != 5 {
		t.Errorf("%d real requests passed, want 5", passed)
	}
	if status := explained(); status != 429 {
		t.Errorf("after: %d", status)
	}
}

// A dry run neither remembers a session nor fetches a key: a token with a key that
// only a fetch would find is refused, and says so.
func TestExplain_fetchesNoKey(t *testing.T) {
	s := newSite(t)
	before := s.fetched.Load()
	unknown := edgetest.Token(t, "EdDSA", s.key, edgetest.Claims("gatehouse:eu", "shop", nil), map[string]any{"kid": "k2"})
	a, err := explain.Explain(caddy.ActiveContext(), s.config, &explain.Question{Method: "GET", URL: "/api/x", Header: []string{"Authorization: Bearer " + unknown}})
	if err != nil || a.Status != 401 || a.Decision["auth"] != "unknown_key" || s.fetched.Load() != before {
		t.Errorf("%v %+v, %d fetches", err, a, s.fetched.Load()-before)
	}
}

// The country can be supposed, whatever the address.
func TestExplain_supposesACountry(t *testing.T) {
	s := newSite(t)
	a, err := explain.Explain(caddy.ActiveContext(), s.config, &explain.Question{Method: "GET", URL: "/maybe", Header: []string{"Sec-Fetch-Mode: navigate"}, FromCountry: "DE"})
	if err != nil || a.Status != 302 || len(a.Header["Location"]) != 1 || a.Header["Location"][0] != "/de/maybe" || a.Decision["country"] != "DE" {
		t.Errorf("%v %+v", err, a)
	}
	a, err = explain.Explain(caddy.ActiveContext(), s.config, &explain.Question{Method: "GET", URL: "/maybe", FromCountry: "US"})
	if err != nil || a.Sent == nil || a.Sent.Region != "us" || a.Decision["region_reason"] != "country" {
		t.Errorf("%v %+v", err, a)
	}
}

// Every step says where it stands: a directive of ours by its line, others by
// their path in Caddy's configuration.
func TestExplain_saysWhereEachRuleStands(t *testing.T) {
	s := newSite(t)
	a, err := explain.Explain(caddy.ActiveContext(), s.config, &explain.Question{Method: "GET", URL: "/nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, step := range a.Steps {
		switch {
		case strings.HasPrefix(step.Rule, "edge_"):
			ours++
			if !strings.HasPrefix(step.Where, "Caddyfile:") {
				t.Errorf("%+v", step)
			}
		case step.Where == "" || step.Did == "" || step.Rule == "route" && step.Route == "":
			t.Errorf("%+v", step)
		case step.Rule == "error" && !strings.HasPrefix(step.Where, "/config/apps/http/servers/srv0/routes/"):
			t.Errorf("%+v", step)
		}
	}
	if ours != 2 || a.Steps[len(a.Steps)-1].Rule != "error" {
		t.Errorf("%+v", a.Steps)
	}
}

// Of a fetch for the cache it says in whose name that is, under which key, and what is
// stored; of cookies only the names.
func TestExplain_saysWhatTheCacheHolds(t *testing.T) {
	s := newSite(t)
	good := s.token(t, jwt.MapClaims{"sub": "ada-of-acme"})
	explained := func(q explain.Question) (says, whole string) {
		t.Helper()
		a, err := explain.Explain(caddy.ActiveContext(), s.config, &q)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range a.Steps {
			if step.Rule == "edge_cache" {
				says = strings.Join(step.Says, "; ")
			}
		}
		document, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return says, string(document)
	}
	page := explain.Question{Method: "GET", URL: "/pages/kept?a=b&utm_x=y", Cookies: []string{"theme=dark-as-the-night", "session=" + good}}
	says, whole := explained(page)
	if want := "its key is public, http://localhost/pages/kept?a=b, cookie theme; nothing is stored; it is fetched in nobody's name"; says != want {
		t.Errorf("%q, want %q", says, want)
	}
	if strings.Contains(whole, "dark-as-the-night") || strings.Contains(whole, "ada-of-acme") || !strings.Contains(whole, `"target":"/pages/kept?a=b"`) {
		t.Errorf("%s", whole)
	}
	edgetest.Raw(t, s.address, raw(&page))
	for range 2 { // it leaves no trace
		if says, _ := explained(page); !regexp.MustCompile(`; what is stored is \ds old, and fresh for (10m0s|9m5\ds)$`).MatchString(says) {
			t.Errorf("%q", says)
		}
	}
	shell := explain.Question{Method: "GET", URL: "/shells/x", Cookies: []string{"session=" + good}}
	says, whole = explained(shell)
	if want := "its key is tenant acme, http://localhost/shells/x; nothing is stored; it is fetched in the name of tenant acme"; says != want {
		t.Errorf("%q, want %q", says, want)
	}
	if !strings.Contains(whole, `"tenant_id":"acme"`) || strings.Contains(whole, `"sub":"ada-of-acme"`) {
		t.Errorf("asserted otherwise: %s", whole)
	}
	edgetest.Raw(t, s.address, raw(&shell))
	if says, _ := explained(shell); !strings.Contains(says, "; nothing is stored: the last answer was not (") {
		t.Errorf("%q", says)
	}
}
