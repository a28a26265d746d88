package cache_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What targeted cache control says goes before Cache-Control and Expires, where it is a
// dictionary of structured fields; where it is none it says nothing (RFC 9213, section
// 2). The field goes on to whoever stands nearer to the client.
func TestTargeted_whatItSays(t *testing.T) {
	date := func(after time.Duration) string { return time.Now().Add(after).UTC().Format(http.TimeFormat) }
	now, past, future := date(0), date(-3*time.Hour), date(3*time.Hour)
	const targeted, control = "CDN-Cache-Control", "Cache-Control"
	rows := []struct {
		name   string
		header []string
		second string // what the second request finds
	}{
		{"a time", []string{targeted, "max-age=3600"}, "hit; ttl=3600"},
		{"the longest time", []string{targeted, "max-age=2147483648"}, "hit; ttl="},
		{"a time that is longer", []string{targeted, "max-age=99999999999"}, "hit; ttl="},
		{"a time of sixteen digits", []string{targeted, "max-age=1000000000000000", control, "max-age=60"}, "hit; ttl=60"},
		{"older than that", []string{targeted, "max-age=3600", "Age", "7200", "Date", now}, "fwd=stale"},
		{"no time", []string{targeted, "max-age=0"}, "fwd="},
		{"s-maxage before max-age", []string{targeted, "max-age=1, s-maxage=3600"}, "hit; ttl=3600"},
		{"a word beside it", []string{targeted, "foobar, max-age=3600"}, "hit; ttl=3600"},
		{"two lines", []string{targeted, "foobar", targeted, "max-age=3600"}, "hit; ttl=3600"},
		{"Expires in the past", []string{targeted, "max-age=3600", "Expires", past, "Date", now}, "hit; ttl=3600"},
		{"Expires that is none", []string{targeted, "max-age=3600", "Expires", "0", "Date", now}, "hit; ttl=3600"},
		{"no time, and Expires in the future", []string{targeted, "max-age=0", "Expires", future, "Date", now}, "fwd="},
		{"longer than Cache-Control", []string{control, "max-age=1", targeted, "max-age=3600"}, "hit; ttl=3600"},
		{"shorter than Cache-Control", []string{control, "max-age=3600", targeted, "max-age=0"}, "fwd="},
		{"private", []string{targeted, "private", control, "max-age=10000", "Expires", future}, `fwd=uri-miss; fwd-status=200; detail="private"`},
		{"no-store", []string{targeted, "no-store", control, "max-age=10000", "Expires", future}, `fwd=uri-miss; fwd-status=200; detail="no-store"`},
		{"no-cache", []string{targeted, "no-cache", control, "max-age=10000", "Expires", future}, "fwd="},
		{"against no-store", []string{targeted, "max-age=10000", control, "no-store"}, "hit; ttl=10000"},
		{"against private", []string{targeted, "max-age=10000", control, "private"}, "hit; ttl=10000"},
		{"a space before the =", []string{targeted, "max-age =100", control, "no-store"}, `fwd=uri-miss; fwd-status=200; detail="no-store"`},
		{"a space after it", []string{targeted, "max-age= 100", control, "no-store"}, `fwd=uri-miss; fwd-status=200; detail="no-store"`},
		{"capitals", []string{targeted, "MaX-aGe=3600", control, "no-store"}, `fwd=uri-miss; fwd-status=200; detail="no-store"`},
		{"what is no member", []string{targeted, "max-age=10000, &&&&&", control, "no-store"}, `fwd=uri-miss; fwd-status=200; detail="no-store"`},
		{"a text", []string{targeted, `max-age="10000"`, control, "no-store"}, `fwd=uri-miss; fwd-status=200; detail="no-store"`},
		{"nothing", []string{targeted, "", control, "max-age=60"}, "hit; ttl=60"},
		{"stale while it is revalidated", []string{targeted, "max-age=0, stale-while-revalidate=60"}, "hit; ttl="},
		{"another's", []string{"Surrogate-Control", "max-age=3600", "Fastly-CDN-Cache-Control", "max-age=3600"}, "fwd="},
	}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
		header := rows[n].header
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
	})
	for _, profile := range []string{"", " {\n\t\tprofile rfc9111\n\t}"} {
		s := newSite(t, o, "edge_cache"+profile+"\n\treverse_proxy ORIGIN")
		for i, row := range rows {
			path := fmt.Sprint("/", i)
			s.get(path)
			second := s.get(path)
			if !begins(second.cache(), row.second) {
				t.Errorf("%s%s: %s, want %s", row.name, profile, second.cache(), row.second)
			}
			if got := second.Header.Values(targeted); len(got) == 0 != (row.header[0] != targeted && row.header[2] != targeted) {
				t.Errorf("%s%s: the client gets %q", row.name, profile, got)
			}
		}
	}
}
