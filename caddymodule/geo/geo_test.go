package geo

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

const countries = "testdata/countries.mmdb"

// newGeo makes a handler with the rules, ready to serve.
func newGeo(t testing.TB, rules ...*Redirect) *Geo {
	t.Helper()
	g := &Geo{Database: countries, Redirects: rules}
	if err := g.use(edgetest.App(t)); err != nil {
		t.Fatal(err)
	}
	if err := g.places.open(); err != nil {
		t.Fatal(err)
	}
	return g
}

// visit asks for a target from an address and gives the answer, the decision and
// the request as the next handler got it, nil where none did.
func visit(t testing.TB, g *Geo, method, target, from string, h http.Header) (*httptest.ResponseRecorder, *decision.Decision, *http.Request) {
	t.Helper()
	r := edgetest.Request(method, target, h)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, from)
	recorder := httptest.NewRecorder()
	d, w := decision.Begin(recorder, r, "request-1", decision.Options{POP: "fra"})
	var passed *http.Request
	err := g.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		passed = r
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "public, max-age=60, s-maxage=600, stale-while-revalidate=5")
		w.Header().Set("CDN-Cache-Control", "max-age=600")
		_, err := w.Write([]byte("page"))
		return err
	}))
	if err = d.Finish(r, err); err != nil {
		t.Fatal(err)
	}
	return recorder, d, passed
}

func navigation(more ...string) http.Header {
	h := http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"none"}, "Accept": {"text/html"}, "User-Agent": {"Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = []string{more[i+1]}
	}
	return h
}

func rules() []*Redirect {
	return []*Redirect{
		{Countries: []string{"DE", "AT"}, Target: "/de{uri}"},
		{Countries: []string{"FR"}, Target: "https://fr.example.com{uri}"},
		{Countries: []string{"JP"}, Target: "/jp/"},
	}
}

const (
	german, american, french, japanese = "192.0.2.7", "198.51.100.7", "203.0.113.7", "203.0.113.200"
)

func TestGeo_placesOfAddresses(t *testing.T) {
	t.Parallel()
	g := newGeo(t)
	for from, want := range map[string]string{
		german: "DE EU", american: "US NA", french: "FR EU", japanese: "JP AS", "2001:db8:de::1": "DE EU", "2001:db8:b::1": "BR SA",
		"::ffff:192.0.2.7": "DE EU", "192.0.3.1": " ", "127.0.0.1": " ", "2001:db8::1": " ", "": " ", "no address": " ", "fe80::1%eth0": " ",
	} {
		_, d, _ := visit(t, g, "GET", "/", from, nil)
		if got := d.Country + " " + d.Continent; got != want {
			t.Errorf("%s: %q, want %q", from, got, want)
		}
	}
}

func TestGeo_placeholders(t *testing.T) {
	t.Parallel()
	g := newGeo(t)
	_, _, r := visit(t, g, "GET", "/", german, nil)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if got := repl.ReplaceAll("{edge.geo.country}/{edge.geo.continent}", "?"); got != "DE/EU" {
		t.Error(got)
	}
}

func TestGeo_redirects(t *testing.T) {
	t.Parallel()
	g := newGeo(t, rules()...)
	for name, row := range map[string]struct {
		method, target, from string
		header               http.Header
		location             string // empty: none
	}{
		"rule":                     {"GET", "/shop?x=1&y", german, navigation(), "/de/shop?x=1&y"},
		"head":                     {"HEAD", "/", german, navigation(), "/de/"},
		"another site":             {"GET", "/a%20b", french, navigation(), "https://fr.example.com/a%20b"},
		"fixed":                    {"GET", "/a?b", japanese, navigation(), "/jp/"},
		"old browser":              {"GET", "/", german, http.Header{"Accept": {"text/html,*/*"}}, "/de/"},
		"no rule":                  {"GET", "/", american, navigation(), ""},
		"unknown":                  {"GET", "/", "127.0.0.1", navigation(), ""},
		"there already":            {"GET", "/de/shop", german, navigation(), ""},
		"there already, root":      {"GET", "/de", german, navigation(), ""},
		"there already, case":      {"GET", "/DE/shop", german, navigation(), ""},
		"at another's":             {"GET", "/jp/shop", german, navigation(), ""},
		"only begins so":           {"GET", "/deals", german, navigation(), "/de/deals"},
		"post":                     {"POST", "/", german, navigation(), ""},
		"program":                  {"GET", "/", german, http.Header{"Accept": {"*/*"}, "User-Agent": {"curl/8"}}, ""},
		"fetch":                    {"GET", "/api/x", german, http.Header{"Sec-Fetch-Mode": {"cors"}, "Accept": {"text/html"}}, ""},
		"picture":                  {"GET", "/a.png", german, http.Header{"Sec-Fetch-Mode": {"no-cors"}, "Accept": {"image/*"}}, ""},
		"crawler":                  {"GET", "/", german, navigation("User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"), ""},
		"preview":                  {"GET", "/", german, navigation("User-Agent", "facebookexternalhit/1.1"), ""},
		"choice":                   {"GET", "/a", german, navigation("Cookie", "edge-geo=FR"), "https://fr.example.com/a"},
		"choice to stay":           {"GET", "/a", german, navigation("Cookie", "edge-geo=US"), ""},
		"choice of one with no IP": {"GET", "/a", "127.0.0.1", navigation("Cookie", "edge-geo=DE"), "/de/a"},
		"two choices":              {"GET", "/a", german, navigation("Cookie", "edge-geo=FR; edge-geo=US"), "/de/a"},
		"bad choice":               {"GET", "/a", german, navigation("Cookie", "edge-geo=//evil.example"), "/de/a"},
		"override":                 {"GET", "/a?x=1&edge-geo=FR&y", german, navigation(), "https://fr.example.com/a?x=1&y"},
		"override, lower case":     {"GET", "/a?edge-geo=fr", german, navigation(), "https://fr.example.com/a"},
		"override to stay":         {"GET", "/a?edge-geo=US", german, navigation(), ""},
		"override beats choice":    {"GET", "/a?edge-geo=US", german, navigation("Cookie", "edge-geo=FR"), ""},
		"bad override":             {"GET", "/a?edge-geo=%2F%2Fevil", german, navigation(), "/de/a"},
		"override twice":           {"GET", "/a?edge-geo=FR&edge-geo=US", german, navigation(), "/de/a"},
		"another parameter":        {"GET", "/a?my-edge-geo=FR", german, navigation(), "/de/a?my-edge-geo=FR"},
		"looks like a host":        {"GET", "/@evil.example/", german, navigation(), "/de/@evil.example/"},
		"begins as a host":         {"GET", "/.evil.example", french, navigation(), "https://fr.example.com/.evil.example"},
	} {
		w, d, passed := visit(t, g, row.method, row.target, row.from, row.header)
		location := w.Header().Get("Location")
		if location != row.location || (w.Code == 302) != (row.location != "") || (passed == nil) != (row.location != "") {
			t.Errorf("%s: %d %q, want %q", name, w.Code, location, row.location)
		}
		if row.location != "" && (w.Header().Get("Cache-Control") != "private, no-store" || d.ShortCircuit != "edge_geo" || w.Body.Len() > 0) {
			t.Errorf("%s: %v %s", name, w.Header(), d.ShortCircuit)
		}
	}
}

// TestGeo_redirectsEndWhereTheyLead follows every redirect: none leads on.
func TestGeo_redirectsEndWhereTheyLead(t *testing.T) {
	t.Parallel()
	g := newGeo(t, rules()...)
	for _, from := range []string{german, american, french, japanese} {
		for _, cookie := range []string{"", "edge-geo=DE", "edge-geo=FR", "edge-geo=JP", "edge-geo=US"} {
			for _, target := range []string{"/", "/de", "/fr/x", "/jp/y?edge-geo=DE", "/z?edge-geo=JP&edge-geo=DE", "/z?edge-geo=FR"} {
				w, _, _ := visit(t, g, "GET", target, from, navigation("Cookie", cookie))
				location := w.Header().Get("Location")
				if location == "" {
					continue
				}
				r := httptest.NewRequest("GET", location, nil)
				host := r.Host
				if !strings.Contains(location, "://") {
					host = "pop.example"
				}
				if r.Host = host; !g.arrived(r) {
					t.Errorf("%s from %s with %q leads to %s, which leads on", target, from, cookie, location)
				}
			}
		}
	}
}

func TestGeo_choiceIsRememberedWhenThisSiteAsked(t *testing.T) {
	t.Parallel()
	g := newGeo(t, rules()...)
	for site, want := range map[string]bool{"same-origin": true, "same-site": true, "none": true, "cross-site": false, "anything": false} {
		for _, choice := range []string{"FR", "US"} {
			w, _, _ := visit(t, g, "GET", "/a?edge-geo="+choice, german, navigation("Sec-Fetch-Site", site))
			const rest = "; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax"
			if got := w.Header().Get("Set-Cookie"); (got == "edge-geo="+choice+rest) != want || !want && got != "" {
				t.Errorf("%s: %q", site, got)
			}
		}
	}
}

func TestGeo_cachesKeepNoPageOfAnothersCountry(t *testing.T) {
	t.Parallel()
	const asSaid = "public, max-age=60, s-maxage=600, stale-while-revalidate=5"
	g, bare := newGeo(t, rules()...), newGeo(t)
	for name, row := range map[string]struct {
		g      *Geo
		target string
		header http.Header
		want   string
	}{
		"page":          {g, "/", navigation(), "private, stale-while-revalidate=5, max-age=60"},
		"for a crawler": {g, "/", navigation("User-Agent", "bingbot/2.0"), "private, stale-while-revalidate=5, max-age=60"},
		"for a program": {g, "/", nil, "private, stale-while-revalidate=5, max-age=60"},
		"at the target": {g, "/de/x", navigation(), asSaid},
		"without rules": {bare, "/", navigation(), asSaid},
	} {
		w, _, _ := visit(t, row.g, "GET", row.target, american, row.header)
		private := strings.HasPrefix(row.want, "private")
		if got := w.Header().Get("Cache-Control"); got != row.want || (w.Header().Get("Vary") == "Cookie") != private || (w.Header().Get("CDN-Cache-Control") == "") != private {
			t.Errorf("%s: %q, %v", name, got, w.Header())
		}
	}
	h := http.Header{"Content-Type": {"image/png"}, "Cache-Control": {asSaid}}
	if keepPrivate(200, h); h.Get("Cache-Control") != asSaid || h.Get("Vary") != "" {
		t.Errorf("a picture: %v", h)
	}
}

func TestGeo_earlyDataDecidesNothing(t *testing.T) {
	t.Parallel()
	g := newGeo(t, rules()...)
	for _, complete := range []bool{false, true} {
		r := edgetest.Request("GET", "/a", navigation())
		r.TLS = &tls.ConnectionState{HandshakeComplete: complete}
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, german)
		recorder := httptest.NewRecorder()
		d, w := decision.Begin(recorder, r, "request-1", decision.Options{})
		if err := g.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })); err != nil {
			t.Fatal(err)
		}
		if (d.Country == "DE") != complete || (recorder.Code == 302) != complete {
			t.Errorf("complete %v: country %q, %d", complete, d.Country, recorder.Code)
		}
	}
}

func TestGeo_oneDatabaseForAllHandlers(t *testing.T) {
	t.Parallel()
	app := edgetest.App(t)
	data, err := os.ReadFile(countries)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "countries.mmdb") // the tree's is what the tests beside this one share
	install(t, own, data)
	a, b, other := &Geo{Database: own}, &Geo{Database: own}, &Geo{Database: own, Refresh: caddy.Duration(time.Hour)}
	for _, g := range []*Geo{a, b, other} {
		if err := g.use(app); err != nil {
			t.Fatal(err)
		}
	}
	if a.places != b.places || a.places == other.places {
		t.Error("handlers of one file and interval share one database, others do not")
	}
	if country, _ := a.places.lookup(netip.MustParseAddr(german)); country != "" {
		t.Error("it was opened before the start")
	}
}

// install puts data into the place of path at once, as a careful updater does.
func install(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestDatabase_badFileIsRefusedAndTheOneBeforeStays(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile(countries)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "countries.mmdb")
	db := newDatabase(path, time.Hour)
	t.Cleanup(func() { _ = db.Close() })
	if err := db.open(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Fatalf("no file: %v", err)
	}
	install(t, path, []byte("not a database"))
	if err := db.open(); err == nil || !strings.Contains(err.Error(), "is not a MaxMind DB") {
		t.Fatalf("not a database: %v", err)
	}
	install(t, path, good)
	if err := db.open(); err != nil {
		t.Fatal(err)
	}
	first := db.content.Load()
	var refused refusal
	for _, bad := range []struct {
		data []byte
		want string
	}{
		{[]byte("x"), "is not a MaxMind DB"}, {good[:len(good)/2], "is not a MaxMind DB"}, {nil, "is not a MaxMind DB"},
		{append(good[:100:100], good[200:]...), "is damaged"},
	} {
		install(t, path, bad.data)
		if _, err := db.look(&refused); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%d bytes: %v, want %q", len(bad.data), err, bad.want)
		}
		if read, err := db.look(&refused); read || err != nil {
			t.Errorf("%d bytes, a second time: %v %v", len(bad.data), read, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := db.look(&refused); err == nil {
		t.Error("nobody says that the file is gone")
	}
	if _, err := db.look(&refused); err != nil {
		t.Errorf("it is said again: %v", err)
	}
	if c, _ := db.lookup(netip.MustParseAddr(german)); c != "DE" || db.content.Load() != first {
		t.Errorf("what was known is lost: %q", c)
	}
	install(t, path, good)
	if read, err := db.look(&refused); !read || err != nil || db.content.Load() == first {
		t.Errorf("a good file after them: %v %v", read, err)
	}
	if read, err := db.look(&refused); read || err != nil {
		t.Errorf("a file that did not change: %v %v", read, err)
	}
}

func TestDatabase_followsItsFile(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	good, err := os.ReadFile(countries)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "countries.mmdb")
	install(t, path, good)
	db := newDatabase(path, time.Millisecond)
	if err := db.open(); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	install(t, path, []byte(strings.Replace(string(good), "DE", "PL", 1))) // the code stands there once
	addr := netip.MustParseAddr(german)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, _ := db.lookup(addr); c == "PL" {
			break
		} else if c != "DE" || time.Now().After(deadline) {
			t.Fatalf("the new file never came: %q", c)
		}
	}
}

func TestIsCrawler_browsersAreNone(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]bool{
		"": false, "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36": false,
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1":  false,
		"Mozilla/5.0 (Linux; Android 11; CUBOT_X50) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36":                                          false,
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/120.0 Safari/537.36": true,
		"Mozilla/5.0 (compatible; YandexBot/3.0)": true, "WhatsApp/2.23": true,
	} {
		if got := isCrawler(agent); got != want {
			t.Errorf("%q: %v", agent, got)
		}
	}
}

func FuzzOverride(f *testing.F) {
	g := newGeo(f, rules()...)
	f.Add("edge-geo=DE&a=b")
	f.Add("a&&edge-geo=%44E&edge-geo=FR")
	f.Fuzz(func(t *testing.T, query string) {
		chosen, rest := g.override(query)
		if chosen != "" && !isCountry(chosen) {
			t.Errorf("%q: %q", query, chosen)
		}
		if again, left := g.override(rest); again != "" || left != rest {
			t.Errorf("%q leaves %q", query, rest)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	g := newGeo(b)
	for _, from := range []string{german, "2001:db8:de::1", "192.0.3.1"} {
		addr := netip.MustParseAddr(from)
		b.Run(from, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = g.places.lookup(addr)
			}
		})
	}
}

// BenchmarkGeo is the handler for a navigation that no rule redirects; "base" is
// the making of the request alone.
func BenchmarkGeo(b *testing.B) {
	g := newGeo(b, rules()...)
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	r := edgetest.Request("GET", "/shop", navigation())
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, american)
	w := httptest.NewRecorder()
	d, _ := decision.Begin(w, r, "request-1", decision.Options{POP: "fra"})
	made := *d
	for name, handler := range map[string]caddyhttp.MiddlewareHandler{"base": nil, "rules": g, "no rules": newGeo(b)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				*d = made
				if handler == nil {
					_ = next.ServeHTTP(w, r)
				} else if err := handler.ServeHTTP(w, r, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
