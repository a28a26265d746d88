package cache_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// nextjs answers as Next.js 16 does behind a CDN: pages and their data (RSC) at one URL,
// told apart by request fields; drafts by two cookies.
func nextjs(n *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		draft := strings.Contains(r.Header.Get("Cookie"), "__prerender_bypass=")
		h.Set("Vary", "rsc, next-router-state-tree, next-router-prefetch, next-router-segment-prefetch")
		if strings.HasPrefix(r.URL.Path, "/shop/@modal") {
			h.Add("Vary", "next-url")
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/_next/static/"):
			h.Del("Vary")
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		case r.URL.Path == "/dashboard" || draft:
			h.Set("Cache-Control", "private, no-cache, no-store, max-age=0, must-revalidate")
		case r.URL.Path == "/about":
			h.Set("Cache-Control", "s-maxage=31536000")
		default:
			h.Set("Cache-Control", "s-maxage=60, stale-while-revalidate=31535940")
		}
		h.Set("X-Nextjs-Cache", "HIT")
		kind := "text/html; charset=utf-8"
		if r.Header.Get("Rsc") == "1" {
			kind = "text/x-component"
			if r.URL.Query().Get("_rsc") == "wrong" {
				h.Set("Location", r.URL.Path+"?_rsc=right")
				w.WriteHeader(307)
				return
			}
		}
		h.Set("Content-Type", kind)
		fmt.Fprintf(w, "%s %d %s %s %s draft=%v evil=%v", kind, n.Add(1), r.Header.Get("Next-Router-State-Tree"), r.Header.Get("Next-Router-Prefetch"), r.Header.Get("Next-Url"),
			draft, r.Header.Get("X-Middleware-Subrequest")+r.Header.Get("X-Now-Route-Matches")+r.Header.Get("X-Nextjs-Data")+r.Header.Get("Next-Resume")+r.Header.Get("Content-Security-Policy"))
	}
}

func TestPreset_nextjs(t *testing.T) {
	var n atomic.Int64
	o := newOrigin(t, nextjs(&n))
	s := newSite(t, o, "edge_cache {\n\t\tpreset nextjs\n\t}\n\treverse_proxy ORIGIN")
	is := func(a got, begins, cache string) {
		t.Helper()
		if !strings.HasPrefix(a.body, begins) || !strings.HasPrefix(a.cache(), cache) || !strings.HasSuffix(a.body, "evil=") {
			t.Errorf("%s: %q, %s; want %q, %q", a.Request.URL, a.body, a.cache(), begins, cache)
		}
	}
	const html, data = "text/html; charset=utf-8 ", "text/x-component "
	for _, path := range []string{"/", "/about", "/_next/static/chunks/main.js?dpl=1"} {
		is(s.get(path), html, "fwd=uri-miss; fwd-status=200; stored")
		is(s.get(path), html, "hit")
	}
	// The data of a page is never the page, nor for another state of the router.
	is(s.get("/", "Rsc", "1"), data, "fwd=vary-miss")
	is(s.get("/"), html, "hit")
	is(s.get("/", "Rsc", "1"), data, "hit")
	is(s.get("/", "Rsc", "1", "Next-Router-Prefetch", "1"), data, "fwd=vary-miss")
	is(s.get("/", "Rsc", "1", "Next-Router-State-Tree", "[a]"), data, "fwd=vary-miss")
	is(s.get("/", "Rsc", "1", "Next-Router-State-Tree", "[b]"), data, "fwd=vary-miss")
	is(s.get("/", "Rsc", "1", "Next-Router-State-Tree", "[a]"), data, "hit")
	is(s.get("/", "Rsc", "1", "Next-Router-Segment-Prefetch", "/_tree"), data, "fwd=vary-miss")
	is(s.get("/shop/@modal", "Rsc", "1", "Next-Url", "/shop"), data, "fwd=uri-miss")
	is(s.get("/shop/@modal", "Rsc", "1", "Next-Url", "/"), data, "fwd=vary-miss")
	is(s.get("/?_rsc=abc", "Rsc", "1"), data, "fwd=uri-miss")
	if a := s.get("/?_rsc=wrong", "Rsc", "1"); a.StatusCode != 307 {
		t.Errorf("%d", a.StatusCode)
	}
	is(s.get("/"), html, "hit")
	for range 2 { // what is dynamic, or a draft, is nobody else's
		is(s.get("/dashboard"), html, `fwd=uri-miss; fwd-status=200; detail="no-store"`)
		is(s.get("/", "Cookie", "__prerender_bypass=x"), html, `fwd=bypass; detail="bypass-cookie"`)
		is(s.get("/", "Cookie", "__next_preview_data=x"), html, `fwd=bypass; detail="bypass-cookie"`)
	}
	for i, field := range []string{"X-Middleware-Subrequest", "X-Now-Route-Matches", "X-Nextjs-Data", "Next-Resume", "Content-Security-Policy"} {
		is(s.get(fmt.Sprint("/product/", i), field, "evil"), html, "fwd=uri-miss")
		is(s.get(fmt.Sprint("/product/", i)), html, "hit")
	}
}

// django answers as Django does with its sessions, forms, locales and compression.
func django(n *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		session := strings.Contains(r.Header.Get("Cookie"), "sessionid=")
		switch r.URL.Path {
		case "/": // LocaleMiddleware, cache_control(public=True, max_age=60)
			h.Set("Vary", "Accept-Language")
			h.Set("Cache-Control", "public, max-age=60")
		case "/plain": // nothing said
		case "/visits": // the session was looked at
			h.Set("Vary", "Accept-Language, Cookie")
			h.Set("Cache-Control", "max-age=60")
		case "/form": // the template used the token
			h.Set("Vary", "Cookie")
			h.Set("Cache-Control", "max-age=60")
			h.Add("Set-Cookie", "csrftoken=abc; Path=/; SameSite=Lax")
		case "/saved": // SESSION_SAVE_EVERY_REQUEST
			h.Set("Vary", "Cookie")
			h.Set("Cache-Control", "public, max-age=60")
			h.Add("Set-Cookie", "sessionid=abc; HttpOnly; Path=/; SameSite=Lax")
		case "/never": // never_cache
			h.Set("Cache-Control", "max-age=0, no-cache, no-store, must-revalidate, private")
		}
		fmt.Fprintf(w, "%d in %s, session=%v", n.Add(1), r.Header.Get("Accept-Language"), session)
	}
}

func TestPreset_django(t *testing.T) {
	var n atomic.Int64
	o := newOrigin(t, django(&n))
	for _, policy := range []string{"", "\n\t\tpolicy public"} {
		s := newSite(t, o, "edge_cache {\n\t\tpreset django"+policy+"\n\t}\n\treverse_proxy ORIGIN")
		s.get("/", "Accept-Language", "de").is(t, 200, "*", "fwd=uri-miss; fwd-status=200; stored")
		s.get("/", "Accept-Language", "de").is(t, 200, "*", "hit")
		s.get("/", "Accept-Language", "fr").is(t, 200, "*", "fwd=vary-miss")
		for _, cookie := range []string{"sessionid=victim", "csrftoken=x; a=b", "messages=x"} {
			if a := s.get("/", "Accept-Language", "de", "Cookie", cookie); a.cache() != `fwd=bypass; detail="bypass-cookie"` || !strings.HasSuffix(a.body, fmt.Sprint("session=", strings.HasPrefix(cookie, "sessionid"))) {
				t.Errorf("%s: %s, %s", cookie, a.cache(), a.body)
			}
		}
		// Who has no session gets the page of who has none, though it varies by it.
		s.get("/visits", "Cookie", "sessionid=victim").is(t, 200, "*", `fwd=bypass; detail="bypass-cookie"`)
		s.get("/visits").is(t, 200, "*", "fwd=uri-miss; fwd-status=200; stored")
		for _, cookie := range []string{"", "sessionid=victim", "_ga=1"} {
			a := s.get("/visits", "Cookie", cookie)
			if hit := strings.HasPrefix(a.cache(), "hit"); hit && !strings.HasSuffix(a.body, "session=false") || hit != (cookie == "" || cookie == "_ga=1" && policy != "") {
				t.Errorf("%q: %s, %s", cookie, a.cache(), a.body)
			}
		}
		for path, why := range map[string]string{"/plain": "no freshness", "/form": "set-cookie", "/saved": "set-cookie", "/never": "no-store"} {
			s.get(path, "Cookie", "sessionid=victim")
			for range 2 {
				a := s.get(path)
				a.is(t, 200, "*", `fwd=uri-miss; fwd-status=200; detail="`+why+`"`)
				if !strings.HasSuffix(a.body, "session=false") {
					t.Errorf("%s: %s", path, a.body)
				}
			}
		}
	}
}

// rails answers as Rails does: its cookie comes with every page whose session was loaded,
// and nothing says Vary: Cookie.
func rails(n *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Vary", "Accept")
		h.Set("Etag", `W/"`+strings.Trim(r.URL.Path, "/")+`"`)
		session := strings.Contains(r.Header.Get("Cookie"), "_session")
		switch r.URL.Path {
		case "/products": // expires_in 10.minutes, public: true
			h.Set("Cache-Control", "max-age=600, public")
		case "/swr": // expires_in 1, public: true, stale_while_revalidate: 1.hour, stale_if_error: 1.day
			h.Set("Cache-Control", "max-age=600, public, stale-while-revalidate=3600, stale-if-error=86400")
		case "/with-csrf": // csrf_meta_tags, public all the same
			h.Set("Cache-Control", "max-age=600, public")
			h.Add("Set-Cookie", "_shop_session=abc; path=/; HttpOnly; SameSite=Lax")
		default: // an ETag, and nothing said
			h.Set("Cache-Control", "max-age=0, private, must-revalidate")
		}
		if r.Header.Get("If-None-Match") == h.Get("Etag") {
			w.WriteHeader(304)
			return
		}
		frame := r.Header.Get("Turbo-Frame")
		if frame != "" {
			h.Add("Vary", "Turbo-Frame")
		}
		fmt.Fprintf(w, "%d as %s, frame=%s, session=%v", n.Add(1), r.Header.Get("Accept"), frame, session)
	}
}

func TestPreset_rails(t *testing.T) {
	var n atomic.Int64
	o := newOrigin(t, rails(&n))
	for _, policy := range []string{"", "\n\t\tpolicy public"} {
		s := newSite(t, o, "edge_cache {\n\t\tpreset rails"+policy+"\n\t}\n\treverse_proxy ORIGIN")
		for _, path := range []string{"/products", "/swr"} {
			s.get(path, "Accept", "text/html").is(t, 200, "*", "fwd=uri-miss; fwd-status=200; stored; ttl=600")
			s.get(path, "Accept", "text/html").is(t, 200, "*", "hit")
			s.get(path, "Accept", "text/html", "If-None-Match", `W/"`+path[1:]+`"`).is(t, 304, "", "hit")
			s.get(path, "Accept", "application/json").is(t, 200, "*", "fwd=vary-miss")
			for _, cookie := range []string{"_session_id=victim", "remember_user_token=x"} {
				s.get(path, "Accept", "text/html", "Cookie", cookie).is(t, 200, "*", `fwd=bypass; detail="bypass-cookie"`)
			}
		}
		// The session's cookie has the application's name: no session may be in what others get.
		for _, path := range []string{"/products", "/swr", "/account", "/with-csrf"} {
			s.get(path+"?2", "Cookie", "_shop_session=victim")
			for range 2 {
				if a := s.get(path + "?2"); !strings.HasSuffix(a.body, "session=false") {
					t.Errorf("%s: %s, %s", path, a.body, a.cache())
				}
			}
		}
		for path, why := range map[string]string{"/account": "private", "/with-csrf": "set-cookie"} {
			for range 2 {
				s.get(path).is(t, 200, "*", `fwd=uri-miss; fwd-status=200; detail="`+why+`"`)
			}
		}
	}
}
