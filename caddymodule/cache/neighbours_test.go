package cache_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends a request as it stands and gives all that comes back.
func (s *site) raw(request string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		s.t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(all)
}

// An old client gets a length where there is one, no chunks, and no 1xx (RFC 9110,
// section 15.2).
func TestNeighbour_http10(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Del("Link")
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "one ")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "two")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	for _, want := range []string{"fwd=uri-miss", "hit"} {
		answer := s.raw("GET /page HTTP/1.0\nHost: pop.example\n\n")
		head, body, _ := strings.Cut(answer, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.0 200 ") || body != "one two" || strings.Contains(head, "chunked") || strings.Contains(head, "preload") || !strings.Contains(head, want) {
			t.Errorf("%s:\n%s", want, answer)
		}
		if want == "hit" && !strings.Contains(head, "\r\nContent-Length: 7") {
			t.Errorf("without a length:\n%s", answer)
		}
	}
	if answer := s.raw("GET /page HTTP/1.0\n\n"); !strings.Contains(answer, "one two") {
		t.Errorf("without a host:\n%s", answer)
	}
}
