package cache_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
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

// A request in early data, which anybody may send again, gets what is stored; what the
// origin is asked by it, it is asked for this client alone, and knows why (RFC 8470,
// section 5.2).
func TestNeighbour_earlyData(t *testing.T) {
	var early, late atomic.Int64
	go_ := make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/stale" {
			w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		}
		if r.Header.Get("Early-Data") == "1" {
			early.Add(1)
			go_.wait(r)
			w.WriteHeader(425)
			return
		}
		late.Add(1)
		_, _ = io.WriteString(w, "page")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	first := make(chan got, 1)
	go func() { first <- s.get("/page", "Early-Data", "1") }()
	eventually(t, "the origin is asked, and told", func() bool { return early.Load() == 1 })
	s.get("/page").is(t, 200, "page", "fwd=uri-miss") // waits for nobody in early data
	close(go_)
	(<-first).is(t, 425, "", "fwd=uri-miss")
	s.get("/page", "Early-Data", "1").is(t, 200, "page", "hit")
	s.get("/other", "Early-Data", "1").is(t, 425, "", "fwd=uri-miss")
	s.herd(10, "/other")
	if n := o.count("/other"); n != 2 {
		t.Errorf("the origin was asked %d times", n)
	}
	s.get("/stale").is(t, 200, "page", "fwd=uri-miss")
	before := early.Load() + late.Load()
	for range 3 {
		s.get("/stale", "Early-Data", "1").is(t, 200, "page", "hit; ttl=")
	}
	if n := early.Load() + late.Load(); n != before || inside("run") > 0 {
		t.Errorf("early data had the origin asked %d times for others", n-before)
	}
	s.get("/stale").is(t, 200, "page", "hit; ttl=")
	eventually(t, "it is asked now", func() bool { return early.Load()+late.Load() > before })
}
