package cache_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

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
