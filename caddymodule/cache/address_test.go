package cache_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// trustsLoopback has Caddy trust the proxy that the tests are; it ends the edge's block.
const trustsLoopback = "}\n\tservers {\n\t\ttrusted_proxies static 127.0.0.0/8\n"

// An origin that sends everybody to https by X-Forwarded-Proto does so for whom it is
// true alone.
func TestKey_schemeOfATrustedProxy(t *testing.T) {
	for _, profile := range []string{"", "\n\t\tprofile rfc9111"} {
		o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			if r.Header.Get("X-Forwarded-Proto") != "https" {
				http.Redirect(w, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
				return
			}
			_, _ = io.WriteString(w, "over https")
		})
		routes := "edge_cache {\n\t\tpolicy public" + profile + "\n\t}\n\treverse_proxy ORIGIN"
		for _, trusted := range []bool{true, false} {
			options := ""
			if trusted {
				options = trustsLoopback
			}
			s := newSiteWith(t, o, options, routes)
			for _, row := range []struct {
				proto string
				https bool
			}{{"", false}, {"https", true}, {"http", false}, {"HTTPS", true}, {"https, http", true}, {"http, https", false}, {"evil", false}, {"ftp", false}} {
				var header []string
				if row.proto != "" {
					header = []string{"X-Forwarded-Proto", row.proto}
				}
				want := 301
				if trusted && row.https {
					want = 200
				}
				for range 2 {
					if a := s.get("/page", header...); a.StatusCode != want {
						t.Errorf("%s trusted=%v, %q: %d, want %d (%s)", profile, trusted, row.proto, a.StatusCode, want, a.cache())
					}
				}
			}
		}
		if n := o.count("/page"); n != 3 {
			t.Errorf("%s: the origin was asked %d times, want 2 and 1", profile, n)
		}
	}
}

func TestKey_hostOfTheConfiguration(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Host+" "+r.Header.Get("X-Forwarded-Host"))
	})
	s := newSite(t, o, "edge_cache {\n\t\thost shop.example\n\t}\n\treverse_proxy ORIGIN")
	for i, host := range []string{"shop.example", "www.shop.example", "evil.example:8080", "SHOP.EXAMPLE", "127.0.0.1"} {
		want := "hit"
		if i == 0 {
			want = "fwd=uri-miss"
		}
		s.get("/page", "Host", host).is(t, 200, "shop.example shop.example", want)
	}
	s.ask("POST", "/page", "", "Host", "other.example").is(t, 200, "*", "fwd=method")
	s.get("/page", "Host", "third.example").is(t, 200, "shop.example shop.example", "fwd=uri-miss")
	for _, bad := range []string{"Shop.example", "http://shop.example", "a.example/b", "me@shop.example", `"a b"`, ":80", "a.example:http", "a.example?x"} {
		_, err := edgetest.Adapt("{\n\torder edge_cache first\n}\nhttp://a {\n\tedge_cache {\n\t\thost " + bad + "\n\t}\n}")
		if err == nil || !strings.Contains(err.Error(), "edge_cache: host ") || !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("host %s: %v", bad, err)
		}
	}
}

// A page that varies by language has one variant for each of the site's.
func TestKey_languagesOfTheSite(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language, Accept-Encoding")
		_, _ = io.WriteString(w, strings.Join(r.Header.Values("Accept-Language"), "|"))
	})
	s := newSite(t, o, "edge_cache {\n\t\tlanguage en de\n\t}\n\treverse_proxy ORIGIN")
	for _, row := range []struct{ sent, body, cache string }{
		{"de-AT,de;q=0.9,en;q=0.8", "de", "fwd=uri-miss"}, {"de", "de", "hit"}, {"es, de;q=0.1", "de", "hit"},
		{"en-GB", "en", "fwd=vary-miss"}, {"", "en", "hit"}, {"fr", "en", "hit"}, {"*", "en", "hit"}, {"de;q=0.1, en", "en", "hit"},
	} {
		var header []string
		if row.sent != "" {
			header = []string{"Accept-Language", row.sent}
		}
		s.get("/page", header...).is(t, 200, row.body, row.cache)
	}
}

// What Caddy knows of the request before rewrites says no more than the key does.
func TestKey_theOriginalAddress(t *testing.T) {
	const shows = "\n\treverse_proxy ORIGIN {\n\t\theader_up X-Orig \"{http.request.orig_uri} {http.request.orig_uri.query} {http.request.orig_uri.path}\"\n\t}"
	for name, row := range map[string]struct{ routes, target, orig string }{
		"an ignored parameter": {"edge_cache {\n\t\tpolicy public\n\t\tignore_query utm_*\n\t}" + shows, "/page?utm_a=evil&x=1", "/page?x=1 x=1 /page"},
		"nothing is ignored":   {"edge_cache" + shows, "/page?x=1&y=%2f", "/page?x=1&y=%2f x=1&y=%2f /page"},
		"a rewrite":            {"rewrite * /fixed?x=1\n\tedge_cache" + shows, "/page?evil=1", "/page  /page"},
		"a rewritten path":     {"uri strip_prefix /a\n\tedge_cache {\n\t\tignore_query evil\n\t}" + shows, "/a/page?evil=1&x=1", "/a/page?x=1 x=1 /a/page"},
	} {
		o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, r.Header.Get("X-Orig"))
		})
		s := newSite(t, o, row.routes)
		if a := s.get(row.target); a.body != row.orig || !strings.Contains(a.cache(), "stored") {
			t.Errorf("%s: %q, want %q (%s)", name, a.body, row.orig, a.cache())
		}
	}
}
