package cache_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

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
			s := newSite(t, o, behind("edge_cache {\n\t\t\t"+option+"policy public\n\t\t}"))
			s.get("/page").is(t, 200, "for ", "fwd=uri-miss")
			s.ask("HEAD", "/page", "ada", "X-Theme", "evil")
			if option == "" {
				s.ask("HEAD", "/page", "", "X-Theme", "evil")
			}
			a := s.get("/page")
			a.is(t, 200, "for ", "fwd=stale; fwd-status=304")
			if a.Header.Get("X-For") != "" || a.Header.Get("X-Theme") != "" {
				t.Errorf("%v", a.Header)
			}
			s.ask("POST", "/posted", "ada")
			s.get("/posted").is(t, 200, "for ", "fwd=uri-miss")
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
