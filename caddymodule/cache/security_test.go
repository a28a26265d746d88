package cache_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// Cache deception: whatever a victim is made to ask for, what is its own is not stored
// for others. The origin here is the worst there is: it takes every path that begins with
// /account for the account, and its pages say nothing, or that they are public.
func TestSecurity_deception(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".css") {
			w.Header().Set("Content-Type", "text/css")
			w.Header().Set("Cache-Control", "public, max-age=60")
		}
		if strings.Contains(r.Header.Get("Cookie"), "sid=victim") || r.Header.Get("Authorization") != "" || r.Header.Get("X-Seen-User") != "" {
			_, _ = io.WriteString(w, "the victim's secret")
			return
		}
		_, _ = io.WriteString(w, "log in")
	})
	for name, routes := range map[string]string{
		"as it is":        "edge_cache\n\treverse_proxy ORIGIN",
		"public, and ttl": "edge_cache {\n\t\tpolicy public\n\t\tttl 1m\n\t}\n\treverse_proxy ORIGIN",
		"every header":    "edge_cache {\n\t\tpolicy public\n\t\theader *\n\t\tttl 1m\n\t}\n\treverse_proxy ORIGIN",
		"user":            behind("edge_cache {\n\t\t\tpolicy user\n\t\t\tttl 1m\n\t\t}"),
		"session":         behind("edge_cache {\n\t\t\tttl 1m\n\t\t}"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, o, routes)
			for _, path := range []string{
				"/account", "/account/x.css", "/account/x.js", "/account.css", "/account;x.css", "/account%3bx.css", "/account%2fx.css", "/account/%2e%2e/x.css",
				"/static/..%2faccount/x.css", "/account%00.css", "/account%0a.css", "/account%23.css", "/account%3f.css", "/account?x.css", "/account/x.css?v=1",
				"//account/x.css", "/account\\x.css", "/account%5cx.css", "/account/.css", "/account/x.css/", "/account%252fx.css",
			} {
				request := "GET " + path + " HTTP/1.1\nHost: shop.example\nConnection: close\n"
				for _, victim := range []string{"Cookie: sid=victim\n", "Authorization: Basic eDp5\n", "Authorization: Bearer " + s.tokens["ada"] + "\n"} {
					s.raw(request + victim + "\n")
				}
				for range 2 {
					if got := s.raw(request + "\n"); strings.Contains(got, "secret") {
						t.Errorf("%s: whoever asks next gets\n%s", path, got)
					}
				}
				if got := s.raw(request + "Authorization: Bearer " + s.tokens["grace"] + "\n\n"); strings.Contains(got, "secret") && strings.Contains(got, "; hit") {
					t.Errorf("%s: another user gets\n%s", path, got)
				}
			}
		})
	}
}

// Poisoning: what an attacker sends beside the key changes nothing of what others get.
// The origin here takes in all that it gets.
func TestSecurity_poisoning(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("Etag", `"one"`)
		if origin := r.Header.Get("Origin"); origin != "" {
			h.Set("Access-Control-Allow-Origin", origin)
		}
		body, _ := io.ReadAll(r.Body)
		what := fmt.Sprint(r.Method, " ", r.Host, " ", r.URL, " ", string(body))
		for field, lines := range r.Header {
			what += fmt.Sprint("\n", field, ": ", lines)
		}
		if strings.Contains(strings.ToLower(what), "evil") {
			h.Set("X-Poisoned", "evil")
			what += "evil"
		}
		if size := len(what); size > 4000 {
			w.WriteHeader(431)
		}
		_, _ = io.WriteString(w, what)
	})
	s := newSite(t, o, "edge_cache {\n\t\tpolicy public\n\t\tignore_query utm_*\n\t}\n\treverse_proxy ORIGIN")
	large := strings.Repeat("evil", 2000)
	attacks := map[string]string{}
	for _, field := range []string{
		"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded-Scheme", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-For", "Forwarded",
		"X-Host", "X-Original-Url", "X-Rewrite-Url", "X-Original-Host", "X-Http-Method-Override", "X-Method-Override", "X-Middleware-Subrequest", "X-Middleware-Prefetch",
		"X-Nextjs-Data", "X-Now-Route-Matches", "X-Matched-Path", "Rsc", "Origin", "Referer", "User-Agent", "Cookie", "X-Theme", "Content-Security-Policy", "Content-Type",
		"Accept-Charset", "Cache-Control", "Pragma", "Te", "Transfer-Encodin", "Via", "Max-Forwards", "Range-Unit", "If-Match", "Surrogate-Capability",
	} {
		attacks[field] = "GET /PAGE HTTP/1.1\nHost: shop.example\n" + field + ": evil.example\n"
		attacks["HEAD with "+field] = "HEAD /PAGE HTTP/1.1\nHost: shop.example\n" + field + ": evil.example\n"
		attacks["large "+field] = "GET /PAGE HTTP/1.1\nHost: shop.example\n" + field + ": " + large + "\n"
	}
	for name, request := range map[string]string{
		"a fat GET":                "GET /PAGE HTTP/1.1\nHost: shop.example\nContent-Length: 4\n\nevil",
		"a fat chunked GET":        "GET /PAGE HTTP/1.1\nHost: shop.example\nTransfer-Encoding: chunked\n\n4\nevil\n0\n",
		"another in the target":    "GET http://evil.example/PAGE HTTP/1.1\nHost: shop.example\n",
		"the same in the target":   "GET http://shop.example/PAGE HTTP/1.1\nHost: evil.example\n",
		"a parameter after ;":      "GET /PAGE;a=evil HTTP/1.1\nHost: shop.example\n",
		"an ignored one's ;":       "GET /PAGE?utm_x=1;a=evil HTTP/1.1\nHost: shop.example\n",
		"an ignored parameter":     "GET /PAGE?utm_evil=evil HTTP/1.1\nHost: shop.example\n",
		"the host in capitals":     "GET /PAGE HTTP/1.1\nHost: SHOP.example\n",
		"the host with its port":   "GET /PAGE HTTP/1.1\nHost: shop.example:80\n",
		"another host":             "GET /PAGE HTTP/1.1\nHost: evil.example\n",
		"a large language":         "GET /PAGE HTTP/1.1\nHost: shop.example\nAccept-Language: " + large + "\n",
		"the host, hop by hop":     "GET /PAGE HTTP/1.1\nHost: shop.example\nConnection: close, Host, X-Forwarded-Host, Cache-Control, Cookie\n",
		"a split header":           "GET /PAGE?x=%0d%0aX-Evil:evil HTTP/1.1\nHost: shop.example\n",
		"a range that is too much": "GET /PAGE HTTP/1.1\nHost: shop.example\nRange: bytes=evil\n",
	} {
		attacks[name] = request
	}
	normal := func(path string) string {
		answer := s.raw("GET " + path + " HTTP/1.1\nHost: shop.example\nConnection: close\n\n")
		head, body, _ := strings.Cut(answer, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || strings.Contains(head, "evil") {
			t.Errorf("%s: %s", path, head)
		}
		lines := strings.Split(body, "\n")
		lines[0] = strings.ReplaceAll(lines[0], path, "PATH")
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "X-Forwarded-For: ") })
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	want := normal("/clean")
	i := 0
	for name, request := range attacks {
		for _, stored := range []bool{false, true} { // before the page is stored, and after
			i++
			path := fmt.Sprint("/page", i)
			if stored {
				normal(path)
			}
			attack := strings.ReplaceAll(request, "/PAGE", path)
			head, body, _ := strings.Cut(attack, "\n\n")
			if !strings.Contains(head, "\nConnection: ") {
				head = strings.TrimRight(head, "\n") + "\nConnection: close"
			}
			s.raw(strings.TrimRight(head, "\n") + "\n\n" + body + "\n")
			if got := normal(path); got != want {
				t.Errorf("%s, stored %v: the next gets\n%s\nwant\n%s", name, stored, got, want)
			}
		}
	}
}

// What the origin says of a request that is wrong is no reason to let go of the page, or
// to have everybody go alone.
func TestSecurity_aRequestThatIsWrong(t *testing.T) {
	var n atomic.Int64
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Accept-Language") != "":
			w.WriteHeader(431)
		case n.Add(1) > 1:
			w.WriteHeader(503)
		default:
			w.Header().Set("Cache-Control", "max-age=0, stale-if-error=60")
			w.Header().Set("Etag", `"one"`)
			_, _ = io.WriteString(w, "page")
		}
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	s.get("/page").is(t, 200, "page", "fwd=uri-miss; fwd-status=200; stored")
	s.get("/page", "Accept-Language", "wrong").is(t, 431, "", "fwd=stale")
	s.get("/page").is(t, 200, "page", "hit; ttl=")
}

// Two sites of one Caddy share nothing, though host and path are the same.
func TestSecurity_sitesAreApart(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Host+" "+r.Header.Get("X-Site"))
	})
	proxy := func(site string) string {
		return "reverse_proxy " + o.address() + " {\n\t\theader_up X-Site " + site + "\n\t}"
	}
	s := newSite(t, o, "edge_cache\n\t"+proxy("first"))
	if err := edgetest.Load(s.config + "\nhttp://b.example:0 {\n\tbind 127.0.0.2\n\tedge_guard\n\tedge_cache\n\t" + proxy("second") + "\n}\n"); err != nil {
		t.Fatal(err)
	}
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[bool]string{}
	for _, server := range app.(*caddyhttp.App).Servers {
		at := server.Listeners()[0].Addr().String()
		addresses[strings.HasPrefix(at, "127.0.0.1:")] = at
	}
	for range 2 {
		for _, row := range []struct {
			first      bool
			host, body string
		}{{true, "b.example", "b.example first"}, {false, "b.example", "b.example second"}, {true, "a.example", "a.example first"}} {
			s.address = addresses[row.first]
			s.get("/page", "Host", row.host).is(t, 200, row.body, "")
		}
	}
	for first, address := range addresses {
		s.address = address
		if a := s.get("/page", "Host", "b.example"); !strings.HasPrefix(a.cache(), "hit") {
			t.Errorf("first %v: %s", first, a.cache())
		}
	}
}

// Paths that a rewrite makes the same are apart, wherever it stands.
func TestSecurity_rewritesNeverCollide(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Header.Get("X-Part")+" "+r.URL.String())
	})
	part := func(name string) string {
		return "reverse_proxy ORIGIN {\n\t\t\theader_up X-Part " + name + "\n\t\t}"
	}
	for name, routes := range map[string]string{
		"the cache within": "handle_path /a/* {\n\t\tedge_cache\n\t\t" + part("a") + "\n\t}\n\thandle_path /b/* {\n\t\tedge_cache\n\t\t" + part("b") + "\n\t}",
		"the cache before": "edge_cache\n\thandle_path /a/* {\n\t\t" + part("a") + "\n\t}\n\thandle_path /b/* {\n\t\t" + part("b") + "\n\t}",
		"a rewrite":        "@a path /a/*\n\tvars @a part a\n\t@b path /b/*\n\tvars @b part b\n\troute {\n\t\turi path_regexp ^/[ab]/ /\n\t\tedge_cache\n\t\treverse_proxy ORIGIN {\n\t\t\theader_up X-Part {http.vars.part}\n\t\t}\n\t}",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, o, routes)
			for range 2 {
				for _, part := range []string{"a", "b"} {
					for _, rest := range []string{"/page", "/page?x=1", "/p%61ge", "/a/page"} {
						if a := s.get("/" + part + rest); a.StatusCode != 200 || a.body != part+" "+rest {
							t.Errorf("/%s%s: %d %q", part, rest, a.StatusCode, a.body)
						}
					}
				}
			}
			s.get("/a/page").is(t, 200, "a /page", "hit")
		})
	}
}

// The answer to a HEAD or POST that came with more than the key, or in somebody's name,
// is not what others get.
func TestSecurity_headAndPostAreOnesOwn(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-cache")
		h.Set("Etag", `"one"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(304)
			return
		}
		h.Set("X-For", r.Header.Get("X-Seen-User"))
		h.Set("X-Theme", r.Header.Get("X-Theme"))
		if r.Method == "POST" {
			h.Set("Cache-Control", "max-age=60")
			h.Set("Content-Location", r.URL.RequestURI())
		}
		_, _ = io.WriteString(w, "for "+r.Header.Get("X-Seen-User"))
	})
	for name, option := range map[string]string{"as it is": "", "rfc9111": "profile rfc9111\n\t\t\t"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, o, behind("header X-Me {http.request.header.X-Me}\n\t\tedge_cache {\n\t\t\t"+option+"policy public\n\t\t}"))
			s.get("/page").is(t, 200, "for ", "fwd=uri-miss")
			s.ask("HEAD", "/page", "ada", "X-Theme", "evil")
			if me := s.ask("HEAD", "/page", "", "X-Me", "evil").Header["X-Me"]; !slices.Equal(me, []string{"evil"}) {
				t.Errorf("X-Me %q", me)
			}
			if option == "" {
				s.ask("HEAD", "/page", "", "X-Theme", "evil")
				s.ask("HEAD", "/page", "", "X-Theme", "evil", "If-None-Match", `"two"`)
			}
			a := s.get("/page")
			a.is(t, 200, "for ", "fwd=stale; fwd-status=304")
			if a.Header.Get("X-For") != "" || a.Header.Get("X-Theme") != "" || slices.Contains(a.Header["X-Me"], "evil") {
				t.Errorf("%v", a.Header)
			}
			s.ask("POST", "/posted", "ada")
			s.get("/posted").is(t, 200, "for ", "fwd=uri-miss")
			s.ask("POST", "/anonymous", "", "X-Me", "evil").is(t, 200, "for ", "fwd=method")
			if a := s.get("/anonymous"); slices.Contains(a.Header["X-Me"], "evil") || strings.HasPrefix(a.cache(), "hit") != (option != "") {
				t.Errorf("%v", a.Header)
			}
		})
	}
}

// A field that Connection names ends here, and would not be the origin's to vary by.
func TestSecurity_aVariantNamedAway(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		_, _ = io.WriteString(w, "in "+r.Header.Get("Accept-Language"))
	})
	for _, options := range []string{"", " {\n\t\tprofile rfc9111\n\t}", " {\n\t\theader *\n\t}"} {
		s := newSite(t, o, "edge_cache"+options+"\n\treverse_proxy ORIGIN")
		const request = "GET /page HTTP/1.1\nHost: shop.example\nAccept-Language: de\nConnection: close"
		s.raw(request + ", Accept-Language\n\n")
		for _, want := range []string{"fwd=uri-miss", "hit"} {
			if got := s.raw(request + "\n\n"); !strings.HasSuffix(got, "in de") || !strings.Contains(got, want) {
				t.Errorf("%q: %s", options, got)
			}
		}
	}
}

// No line of an answer becomes two, and fields of one hop stay on it.
func TestSecurity_fieldsOfOneHop(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		conn, out, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		answer := map[string]string{
			"/hop":     "HTTP/1.1 200 OK\nCache-Control: max-age=60\nConnection: X-Hop\nX-Hop: 1\nKeep-Alive: timeout=5\nProxy-Authenticate: Basic\nProxy-Connection: close\nUpgrade: h2c\nTe: trailers\nX-End: 1\nContent-Length: 4\n\npage",
			"/cookie":  "HTTP/1.1 200 OK\nCache-Control: max-age=60\nConnection: Set-Cookie\nSet-Cookie: a=b\nContent-Length: 4\n\npage",
			"/control": "HTTP/1.1 200 OK\nCache-Control: private\nConnection: Cache-Control\nContent-Length: 4\n\npage",
			"/fold":    "HTTP/1.1 200 OK\nCache-Control: max-age=60\nConnection: close\nX-Folded: a\n Set-Cookie: evil=1\nContent-Length: 4\n\npage",
			"/cr":      "HTTP/1.1 200 OK\nCache-Control: max-age=60\nConnection: close\nX-Bare: a\rSet-Cookie: evil=1\nContent-Length: 4\n\npage",
			"/nul":     "HTTP/1.1 200 OK\nCache-Control: max-age=60\nConnection: close\nX-Nul: a\x00b\nContent-Length: 4\n\npage",
			"/lengths": "HTTP/1.1 200 OK\nCache-Control: max-age=60\nConnection: close\nContent-Length: 4\nContent-Length: 5\n\npage!",
			"/both":    "HTTP/1.1 200 OK\nCache-Control: max-age=60\nConnection: close\nContent-Length: 4\nTransfer-Encoding: chunked\n\n5\npage!\n0\n\n",
		}[r.URL.Path]
		_, _ = io.WriteString(out, strings.ReplaceAll(answer, "\n", "\r\n"))
		_ = out.Flush()
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	for _, path := range []string{"/hop", "/cookie", "/control", "/fold", "/cr", "/nul", "/lengths", "/both"} {
		var answers [2]string
		for i := range answers {
			a := s.get(path)
			for _, field := range []string{"X-Hop", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Upgrade", "Set-Cookie"} {
				if lines := a.Header[field]; lines != nil && (field != "Set-Cookie" || strings.HasPrefix(a.cache(), "hit")) {
					t.Errorf("%s: %s %q", path, field, lines)
				}
			}
			if a.StatusCode == 200 {
				answers[i] = a.body
			}
			if path == "/control" && strings.HasPrefix(a.cache(), "hit") {
				t.Errorf("%s is stored", path)
			}
		}
		if answers[0] != answers[1] {
			t.Errorf("%s: %q, then %q", path, answers[0], answers[1])
		}
	}
}
