package cache_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/caddymodule/marker"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// echo answers with whom it was asked for, and with what.
func echo(control string) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		count := n
		mu.Unlock()
		w.Header().Set("Cache-Control", control)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"n": count, "uri": r.URL.RequestURI(), "tenant": r.Header.Get("X-Seen-Tenant"), "user": r.Header.Get("X-Seen-User"),
			"cookie": r.Header.Get("Cookie"), "header": r.Header,
		})
	}
}

// seen tells an origin that verifies no assertion whom the fetch speaks for.
const seen = "\n\trequest_header X-Seen-Tenant {edge.tenant}\n\trequest_header X-Seen-User {edge.user}\n"

type echoed struct {
	N                         int
	URI, Tenant, User, Cookie string
	Header                    http.Header
}

func (g got) echo(t testing.TB) (e echoed) {
	t.Helper()
	if err := json.Unmarshal([]byte(g.body), &e); err != nil {
		t.Fatalf("%d %s: %v", g.StatusCode, g.body, err)
	}
	return e
}

// behind puts directives behind the cache, wherever their order has them.
func behind(cache string) string {
	return "edge_session {\n\t\toptional\n\t}\n\troute {\n\t\t" + cache + seen + "\t\treverse_proxy ORIGIN\n\t}"
}

func TestPolicy_whomAnAnswerIsFor(t *testing.T) {
	o := newOrigin(t, echo("max-age=60"))
	for policy, want := range map[string]struct {
		ada, alan, grace, nobody string // what the second of each gets
		tenant, user             string // whom ada's fetch speaks for
		shared                   bool   // between ada and alan
	}{
		"public": {"hit", "hit", "hit", "hit", "", "", true},
		"tenant": {"hit", "hit", "hit", `fwd=bypass; detail="no-session"`, "acme", "", true},
		"user":   {"hit", "hit", "hit", `fwd=bypass; detail="no-session"`, "acme", "https://eu.example ada", false},
		"never":  {`fwd=bypass; detail="policy"`, `fwd=bypass; detail="policy"`, `fwd=bypass; detail="policy"`, `fwd=bypass; detail="policy"`, "acme", "https://eu.example ada", false},
		"":       {`fwd=bypass; detail="session"`, `fwd=bypass; detail="session"`, `fwd=bypass; detail="session"`, "hit", "acme", "https://eu.example ada", false},
	} {
		t.Run("policy "+policy, func(t *testing.T) {
			option := "edge_cache"
			if policy != "" {
				option = "edge_cache {\n\t\t\tpolicy " + policy + "\n\t\t}"
			}
			s := newSite(t, o, behind(option))
			target := "/page?" + policy
			first := s.ask("GET", target, "ada").echo(t)
			if first.Tenant != want.tenant || first.User != want.user {
				t.Errorf("fetched in the name of %q %q", first.Tenant, first.User)
			}
			s.ask("GET", target, "ada").is(t, 200, "*", want.ada)
			colleague := s.ask("GET", target, "alan").echo(t)
			if (colleague.N == first.N) != want.shared {
				t.Errorf("ada's is %d, her colleague's %d", first.N, colleague.N)
			}
			s.ask("GET", target, "alan").is(t, 200, "*", want.alan)
			other := s.ask("GET", target, "grace").echo(t)
			if policy != "public" && other.N == first.N || other.Tenant == "acme" {
				t.Errorf("another tenant got acme's answer: %+v", other)
			}
			s.ask("GET", target, "grace").is(t, 200, "*", want.grace)
			nobody := s.get(target).echo(t)
			if nobody.Tenant != "" || policy != "public" && (nobody.N == first.N || nobody.N == other.N) {
				t.Errorf("nobody got somebody's answer: %+v", nobody)
			}
			s.get(target).is(t, 200, "*", want.nobody)
		})
	}
}

// Two tenants that ask at once are two fetches.
func TestPolicy_collapseNeverCrossesTenants(t *testing.T) {
	go_ := make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		go_.wait(r)
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Header.Get("X-Seen-Tenant"))
	})
	s := newSite(t, o, behind("edge_cache {\n\t\t\tpolicy tenant\n\t\t}"))
	var wait sync.WaitGroup
	for i := range 60 {
		who, want := "ada", "acme"
		if i%3 == 1 {
			who = "alan"
		} else if i%3 == 2 {
			who, want = "grace", "globex"
		}
		wait.Go(func() {
			if a := s.ask("GET", "/page", who); a.body != want {
				t.Errorf("%s got %q", who, a.body)
			}
		})
	}
	eventually(t, "both fetches", func() bool { return o.count("/page") == 2 })
	close(go_)
	wait.Wait()
	if n := o.count("/page"); n != 2 {
		t.Errorf("the origin was asked %d times", n)
	}
}

func TestPolicy_theGateStandsBeforeTheMemory(t *testing.T) {
	o := newOrigin(t, echo("max-age=60"))
	s := newSite(t, o, "@admin path /admin\n\tedge_session @admin {\n\t\trequire role admin\n\t}\n\tedge_session {\n\t\toptional\n\t}\n\tedge_cache {\n\t\tpolicy public\n\t}\n\treverse_proxy ORIGIN")
	if a := s.ask("GET", "/admin", "ada"); a.StatusCode != 403 || a.cache() != "" {
		t.Errorf("%d %s", a.StatusCode, a.cache())
	}
	if a := s.get("/admin"); a.StatusCode != 401 {
		t.Errorf("%d", a.StatusCode)
	}
	if n := o.count("/admin"); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

// Whoever wrote a moment ago sees what was written, not what was stored before.
func TestPolicy_whoWroteSeesWhatWasWritten(t *testing.T) {
	o := newOrigin(t, echo("max-age=60"))
	s := newSite(t, o, behind("edge_cache {\n\t\t\tpolicy tenant\n\t\t}"))
	first := s.ask("GET", "/page", "ada").echo(t)
	mark := adasMark(t)
	wrote := s.ask("GET", "/page", "ada", "X-Edge-Wrote", mark).echo(t)
	if wrote.N == first.N {
		t.Error("the client that wrote gets what was stored before")
	}
	if other := s.ask("GET", "/page", "alan", "X-Edge-Wrote", mark); other.cache() == "" || strings.HasPrefix(other.cache(), "fwd") {
		t.Errorf("another session's mark counts: %s", other.cache())
	}
	s.ask("GET", "/page", "ada", "X-Edge-Wrote", "forged").is(t, 200, "*", "hit")
}

func TestKey_whatIsNotKeyedIsNotSent(t *testing.T) {
	o := newOrigin(t, echo("max-age=60"))
	s := newSite(t, o, `edge_cache {
		policy public
		header X-Theme
		cookie currency
		ignore_query utm_* fbclid
	}
	reverse_proxy ORIGIN`)
	a := s.get("/page?b=2&utm_source=x&a=1&fbclid=y", "X-Theme", "dark", "X-Evil", "1", "X-Forwarded-Host", "evil.example",
		"Cookie", "session=1; currency=EUR; _ga=2", "User-Agent", "x", "Referer", "y", "Accept-Encoding", "gzip, deflate, br;q=0.5").echo(t)
	if a.URI != "/page?b=2&a=1" || a.Cookie != "currency=EUR" {
		t.Errorf("asked for %s with cookie %q", a.URI, a.Cookie)
	}
	for field := range a.Header {
		switch field {
		case "X-Theme", "Cookie", "Accept-Encoding", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Seen-User", "X-Seen-Tenant":
		default:
			t.Errorf("%s reaches the origin", field)
		}
	}
	if a.Header.Get("Accept-Encoding") != "br, gzip" || a.Header.Get("X-Forwarded-Host") == "evil.example" {
		t.Errorf("%v", a.Header)
	}
	for name, row := range map[string]struct {
		target string
		header []string
		hit    bool
	}{
		"the same":                  {"/page?b=2&a=1", []string{"X-Theme", "dark", "Cookie", "currency=EUR"}, true},
		"another campaign":          {"/page?utm_medium=z&b=2&a=1", []string{"X-Theme", "dark", "Cookie", "a=b;currency=EUR"}, true},
		"another order":             {"/page?a=1&b=2", []string{"X-Theme", "dark", "Cookie", "currency=EUR"}, false},
		"another currency":          {"/page?b=2&a=1", []string{"Cookie", "currency=USD"}, false},
		"no currency":               {"/page?b=2&a=1", nil, false},
		"an empty currency":         {"/page?b=2&a=1", []string{"Cookie", "currency="}, false},
		"two currencies":            {"/page?b=2&a=1", []string{"Cookie", "currency=EUR; currency=USD"}, false},
		"a parameter, encoded":      {"/page?b=2&a=1&%75tm_source=x", []string{"Cookie", "currency=EUR"}, false},
		"a parameter after ;":       {"/page?b=2&a=1;utm_source=x", []string{"Cookie", "currency=EUR"}, false},
		"another path's case":       {"/PAGE?b=2&a=1", []string{"Cookie", "currency=EUR"}, false},
		"an encoded letter":         {"/p%61ge?b=2&a=1", []string{"Cookie", "currency=EUR"}, false},
		"what an attacker prepends": {"/page?b=2&a=1&b=3", []string{"Cookie", "currency=EUR"}, false},
		"another host":              {"/page?b=2&a=1", []string{"Host", "other.example", "Cookie", "currency=EUR"}, false},
	} {
		if hit := strings.HasPrefix(s.get(row.target, row.header...).cache(), "hit"); hit != row.hit {
			t.Errorf("%s: hit %v", name, hit)
		}
	}
}

func TestKey_whatVaryNames(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", r.URL.Query().Get("vary"))
		fmt.Fprintf(w, "%s %s %s", r.Header.Get("Accept-Language"), r.Header.Get("X-Theme"), r.Header.Get("Accept-Encoding"))
	})
	s := newSite(t, o, "edge_cache {\n\t\tpolicy public\n\t\theader X-Theme\n\t}\n\treverse_proxy ORIGIN")
	lang := "/page?vary=Accept-Language"
	s.get(lang, "Accept-Language", "de").is(t, 200, "de  gzip", "fwd=uri-miss")
	s.get(lang, "Accept-Language", "en").is(t, 200, "en  gzip", "fwd=vary-miss")
	s.get(lang, "Accept-Language", "DE").is(t, 200, "de  gzip", "hit")
	s.get(lang, "Accept-Language", "en", "X-Theme", "x").is(t, 200, "en  gzip", "hit")
	s.get(lang).is(t, 200, "  gzip", "fwd=vary-miss")
	encoding := "/page?vary=Accept-Encoding"
	s.get(encoding, "Accept-Encoding", "br, gzip").is(t, 200, "*", "fwd=uri-miss")
	s.get(encoding, "Accept-Encoding", "deflate, gzip;q=0.8, br").is(t, 200, "*", "hit")
	s.get(encoding, "Accept-Encoding", "zz").is(t, 200, "*", "fwd=vary-miss")
	s.get(encoding, "Accept-Encoding", "identity").is(t, 200, "*", "hit")
	for name, why := range map[string]string{"Cookie": "vary", "*": "vary *", "Authorization": "vary", "X-Theme, Cookie": "vary"} {
		s.get("/page?vary="+strings.ReplaceAll(name, " ", "%20")).is(t, 200, "*", `fwd=uri-miss; fwd-status=200; detail="`+why+`"`)
	}
	for i := range 40 { // the variants of one page are bounded
		s.get("/page?vary=X-Theme", "X-Theme", fmt.Sprint(i)).is(t, 200, "*", "fwd=")
	}
	s.get("/page?vary=X-Theme", "X-Theme", "39").is(t, 200, "*", "hit")
	s.get("/page?vary=X-Theme", "X-Theme", "0").is(t, 200, "*", "fwd=vary-miss")
}

func TestStored_whatIsNot(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.URL.Query() {
			if name == "status" {
				defer w.WriteHeader(map[string]int{"404": 404, "500": 500, "403": 403}[values[0]])
				continue
			}
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	for target, why := range map[string]string{
		"/a?cache-control=max-age=60": "",
		"/b":                          "no freshness",
		"/c?cache-control=max-age=60&set-cookie=a=b":               "set-cookie",
		"/d?cache-control=private":                                 "private",
		"/e?cache-control=no-store":                                "no-store",
		"/f?cache-control=max-age=60&status=404":                   "",
		"/g?cache-control=max-age=60&status=500":                   "error",
		"/h?cache-control=max-age=60&status=403":                   "error",
		"/i?last-modified=Mon,%2001%20Jan%202001%2000:00:00%20GMT": "no freshness",
		"/account/x.css":                                           "no freshness", // no suffix makes a page cacheable
		"/j?cdn-cache-control=max-age=60&cache-control=no-store":   "",
	} {
		s.get(target)
		second := s.get(target)
		if why == "" {
			if !strings.HasPrefix(second.cache(), "hit") {
				t.Errorf("%s: %s", target, second.cache())
			}
		} else if !strings.HasSuffix(second.cache(), `detail="`+why+`"`) {
			t.Errorf("%s: %s, want %s", target, second.cache(), why)
		}
	}
	if a := s.get("/f?cache-control=max-age=60&status=404"); a.StatusCode != 404 {
		t.Errorf("%d", a.StatusCode)
	}
}

func TestPass_whatIsNoneOfTheCaches(t *testing.T) {
	o := newOrigin(t, echo("max-age=60"))
	s := newSite(t, o, "edge_cache {\n\t\tbypass_cookie preview\n\t}\n\treverse_proxy ORIGIN")
	s.get("/page")
	for name, row := range map[string]struct {
		header []string
		why    string
	}{
		"credentials":        {[]string{"Authorization", "Basic eDp5"}, "authorization"},
		"a cookie":           {[]string{"Cookie", "basket=1"}, "cookie"},
		"a cookie of ours":   {[]string{"Cookie", "edge_visitor=1"}, ""},
		"a preview":          {[]string{"Cookie", "preview=1"}, "bypass-cookie"},
		"server-sent events": {[]string{"Accept", "text/event-stream"}, "event-stream"},
		"no-cache":           {[]string{"Cache-Control", "no-cache"}, ""}, // clients do not choose
		"pragma":             {[]string{"Pragma", "no-cache"}, ""},
	} {
		a := s.get("/page", row.header...)
		if want := `fwd=bypass; detail="` + row.why + `"`; row.why != "" && a.cache() != want || row.why == "" && !strings.HasPrefix(a.cache(), "hit") {
			t.Errorf("%s: %s", name, a.cache())
		}
	}
	fat, _ := http.NewRequest("GET", "http://"+s.address+"/page", strings.NewReader("a body"))
	res, err := s.client.Do(fat)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got := (got{Response: res}).cache(); got != `fwd=bypass; detail="body"` {
		t.Errorf("a fat GET: %s", got)
	}
}

// adasMark is the mark of a write that ada's session made just now.
func adasMark(t testing.TB) string {
	t.Helper()
	h := http.Header{}
	marker.New(edgetest.App(t), time.Minute).Keep(&decision.Decision{
		Auth:     decision.AuthBearer,
		Identity: handoff.Identity{Tenant: "acme", Subject: "ada", SubjectIssuer: "https://eu.example", Session: "s-1"},
	}, false, h, "0/1")
	return h.Get(handoff.HeaderWrote)
}

// A framework varies by Cookie as soon as it has looked at the session. Where the cookies
// that count are named, a page of somebody without them is everybody's.
func TestKey_varyByCookieWhereThoseThatCountAreNamed(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Cookie")
		_, _ = io.WriteString(w, "for "+r.Header.Get("Cookie"))
	})
	s := newSite(t, o, "edge_cache {\n\t\tpolicy public\n\t\tpreset django\n\t}\n\treverse_proxy ORIGIN")
	s.get("/page", "Cookie", "_ga=1").is(t, 200, "for ", "fwd=uri-miss")
	s.get("/page", "Cookie", "_ga=2; theme=dark").is(t, 200, "for ", "hit")
	s.get("/page", "Cookie", "_ga=1; sessionid=x").is(t, 200, "for _ga=1; sessionid=x", `fwd=bypass; detail="bypass-cookie"`)
	s.get("/page").is(t, 200, "for ", "hit")
}
