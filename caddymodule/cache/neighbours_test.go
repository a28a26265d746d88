package cache_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// encode stands outside: what is stored once is packed for each client as it asks.
func TestNeighbour_encode(t *testing.T) {
	text := strings.Repeat("a line of text\n", 200)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("Content-Type", "text/plain")
		switch r.URL.Path {
		case "/weak":
			h.Set("Etag", `W/"one"`)
		case "/cut":
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			h.Set("Etag", `"one"`)
		}
		_, _ = io.WriteString(w, text)
	})
	s := newSite(t, o, "encode gzip zstd\n\tedge_cache\n\treverse_proxy ORIGIN")
	unpacked := func(a got) string {
		z, err := gzip.NewReader(strings.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return string(plain)
	}
	for _, cache := range []string{"fwd=uri-miss", "hit"} {
		a := s.get("/page", "Accept-Encoding", "gzip")
		a.is(t, 200, "*", cache)
		if h := a.Header; unpacked(a) != text || h.Get("Content-Encoding") != "gzip" || h.Get("Etag") != `"one-gzip"` || !slices.Equal(h["Vary"], []string{"Accept-Encoding"}) {
			t.Errorf("%v", h)
		}
	}
	for range 2 { // what one client's answer was packed to is not in another's
		plain := s.get("/page", "Accept-Encoding", "identity")
		plain.is(t, 200, text, "hit")
		if h := plain.Header; h.Get("Content-Encoding") != "" || h.Get("Etag") != `"one"` || !slices.Equal(h["Vary"], []string{"Accept-Encoding"}) || h.Get("Content-Length") != strconv.Itoa(len(text)) {
			t.Errorf("%v", h)
		}
		packed := s.get("/page", "Accept-Encoding", "zstd")
		if h := packed.Header; h.Get("Content-Encoding") != "zstd" || h.Get("Etag") != `"one-zstd"` || !slices.Equal(h["Vary"], []string{"Accept-Encoding"}) {
			t.Errorf("%v", h)
		}
	}
	for tag, coding := range map[string]string{`"one-gzip"`: "gzip", `"one-zstd"`: "zstd", `"one"`: "gzip", `W/"one"`: "identity"} {
		a := s.get("/page", "Accept-Encoding", coding, "If-None-Match", tag)
		a.is(t, 304, "", "hit")
		if !slices.Equal(a.Header["Vary"], []string{"Accept-Encoding"}) {
			t.Errorf("%s: %v", tag, a.Header)
		}
	}
	s.get("/page", "Accept-Encoding", "identity", "If-None-Match", `"one-gzip"`).is(t, 200, text, "hit")
	a := s.get("/page", "Accept-Encoding", "gzip", "Range", "bytes=2-5")
	a.is(t, 206, text[2:6], "hit")
	if a.Header.Get("Content-Encoding") != "" || a.Header.Get("Etag") != `"one"` {
		t.Errorf("%v", a.Header)
	}
	s.ask("HEAD", "/page", "", "Accept-Encoding", "gzip").is(t, 200, "", "hit")
	if weak := s.get("/weak", "Accept-Encoding", "gzip"); weak.Header.Get("Etag") != `W/"one"` || unpacked(weak) != text {
		t.Errorf("%v", weak.Header)
	}
	s.get("/weak", "Accept-Encoding", "gzip", "If-None-Match", `W/"one"`).is(t, 304, "", "hit")
	if n := o.count("/page") + o.count("/weak"); n != 2 {
		t.Errorf("the origin was asked %d times for two pages", n)
	}
	r, _ := http.NewRequest("GET", "http://"+s.address+"/cut", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	if res, err := s.client.Do(r); err == nil {
		_, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err == nil {
			t.Error("what broke off is packed as if it were whole")
		}
	}
}

// What header does to one client's answer is not in what is stored, whether it does it at
// once or when the header is written; what it does behind the cache is.
func TestNeighbour_header(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("X-From", "origin")
		w.Header().Add("Vary", "Accept-Language")
		_, _ = io.WriteString(w, "page")
	})
	s := newSite(t, o, `header X-Now {http.request.header.X-Me}
	header >X-Later {http.request.header.X-Me}
	header +Vary X-Me
	@first header X-Me first
	header @first {
		-X-From
		>Cache-Control private
		defer
	}
	edge_cache
	route {
		header X-Behind {http.request.header.X-Me}
		header >X-Behind-Later {http.request.method}
		reverse_proxy ORIGIN
	}`)
	for i, who := range []string{"first", "second", "first", "third"} {
		a := s.get("/page", "X-Me", who)
		cache, from, control := "hit", "origin", "max-age=60"
		if i == 0 {
			cache = "fwd=uri-miss"
		}
		if who == "first" {
			from, control = "", "private"
		}
		a.is(t, 200, "page", cache)
		h := a.Header
		if h.Get("X-Now") != who || h.Get("X-Later") != who || h.Get("X-From") != from || h.Get("Cache-Control") != control || !slices.Equal(h["Vary"], []string{"X-Me", "Accept-Language"}) {
			t.Errorf("%s: %v", who, h)
		}
		if h.Get("X-Behind") != "" || h.Get("X-Behind-Later") != "GET" { // X-Me is not sent on
			t.Errorf("%s: %v", who, h)
		}
	}
}

// Everybody has an error of his own, and errors that the origin answers are stored where
// they may be, and handled for each.
func TestNeighbour_handleErrorsAndIntercept(t *testing.T) {
	var broken atomic.Bool
	go_ := make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			go_.wait(r)
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.WriteHeader(404)
		_, _ = io.WriteString(w, "nothing here")
	})
	s := newSite(t, o, `@missing {
		path /missing
	}
	intercept @missing {
		@404 status 404
		handle_response @404 {
			header -Content-Length
			respond "no such page for {http.request.header.X-Me}" 404
		}
	}
	edge_cache
	reverse_proxy ORIGIN
	handle_errors {
		respond "{err.status_code} for {http.request.header.X-Me} at {http.request.orig_uri.path}"
	}`)
	s.get("/plain").is(t, 404, "nothing here", "fwd=uri-miss")
	s.get("/plain").is(t, 404, "nothing here", "hit")
	s.get("/missing", "X-Me", "a").is(t, 404, "no such page for a", "fwd=uri-miss")
	s.get("/missing", "X-Me", "b").is(t, 404, "no such page for b", "hit")
	broken.Store(true)
	var wait sync.WaitGroup
	for i := range 10 {
		wait.Go(func() {
			me := fmt.Sprint("client", i)
			s.get("/broken", "X-Me", me).is(t, 502, "502 for "+me+" at /broken", "fwd=uri-miss")
		})
	}
	waitFor(t, "fetch", 10)
	close(go_)
	wait.Wait()
	if n := o.count("/broken"); n > 3 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// Spans end before a fetch does that outlives its client; nothing minds.
func TestNeighbour_tracing(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	var mu sync.Mutex
	var parents []string
	answer := make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		parents = append(parents, r.Header.Get("Traceparent"))
		mu.Unlock()
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/left" {
			answer.wait(r)
		}
		_, _ = io.WriteString(w, "page")
	})
	s := newSite(t, o, "tracing\n\tedge_trace\n\tedge_cache\n\treverse_proxy ORIGIN")
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	s.get("/page", "Traceparent", parent).is(t, 200, "page", "fwd=uri-miss")
	s.get("/page", "Traceparent", parent).is(t, 200, "page", "hit")
	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.address+"/left", nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := s.client.Do(r); err == nil {
			_ = res.Body.Close()
		}
	}()
	eventually(t, "it is asked for", func() bool { return o.count("/left") == 1 })
	leave()
	<-done
	eventually(t, "the client has left", func() bool { return inside("lead") == 0 })
	close(answer)
	eventually(t, "it is stored", func() bool { return inside("run") == 0 })
	s.get("/left").is(t, 200, "page", "hit")
	mu.Lock()
	defer mu.Unlock()
	for _, p := range parents {
		if p == parent {
			t.Errorf("the origin gets the client's own traceparent: %s", p)
		}
	}
}

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

// An answer is the same over all versions of HTTP, and what breaks off is not whole in
// any of them.
func TestNeighbour_allVersionsOfHTTP(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"one"`)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, strings.Repeat("0123456789", 10000))
		if strings.HasPrefix(r.URL.Path, "/cut") {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Sum", "42")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	certificate, key := edgetest.Certificate(t)
	if err := edgetest.Load(strings.Replace(s.config, "http://:0 {", "https://:0 {\n\ttls "+certificate+" "+key, 1)); err != nil {
		t.Fatal(err)
	}
	address := edgetest.Address(t)
	insecure := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test's own certificate
	h1 := &http.Transport{TLSClientConfig: insecure.Clone(), DisableCompression: true}
	h2 := &http.Transport{TLSClientConfig: insecure.Clone(), ForceAttemptHTTP2: true, DisableCompression: true}
	defer h1.CloseIdleConnections()
	defer h2.CloseIdleConnections()
	port := edgetest.H3(t, h2, "https://"+address)
	h3 := &http3.Transport{
		TLSClientConfig: insecure.Clone(), DisableCompression: true,
		Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, "127.0.0.1:"+port, tc, qc)
		},
	}
	defer h3.Close()
	for _, row := range []struct {
		version string
		client  http.RoundTripper
	}{{"HTTP/1.1", h1}, {"HTTP/2.0", h2}, {"HTTP/3.0", h3}} {
		t.Run(row.version, func(t *testing.T) {
			send := func(method, path string, header ...string) (got, error) {
				r := newRequest(t, method, "https://"+address+path)
				for i := 0; i < len(header); i += 2 {
					r.Header.Set(header[i], header[i+1])
				}
				res, err := row.client.RoundTrip(r)
				if err != nil {
					return got{}, err
				}
				defer res.Body.Close()
				res.Request = r
				body, err := io.ReadAll(res.Body)
				if res.Proto != row.version {
					t.Errorf("%s", res.Proto)
				}
				return got{res, string(body)}, err
			}
			path := "/page/" + row.version
			all := strings.Repeat("0123456789", 10000)
			first, err := send("GET", path)
			if err != nil {
				t.Fatal(err)
			}
			first.is(t, 200, all, "fwd=uri-miss")
			if first.Trailer.Get("X-Sum") != "42" {
				t.Errorf("trailers: %v", first.Trailer)
			}
			second, _ := send("GET", path)
			second.is(t, 200, all, "hit")
			if second.ContentLength != int64(len(all)) || len(second.Trailer) != 0 {
				t.Errorf("%d, %v", second.ContentLength, second.Trailer)
			}
			part, _ := send("GET", path, "Range", "bytes=99990-")
			part.is(t, 206, "0123456789", "hit")
			same, _ := send("GET", path, "If-None-Match", `"one"`)
			same.is(t, 304, "", "hit")
			head, _ := send("HEAD", path)
			head.is(t, 200, "", "hit")
			if cut, err := send("GET", "/cut/"+row.version); err == nil {
				t.Errorf("%d bytes look like the whole", len(cut.body))
			}
		})
	}
}

func newRequest(t testing.TB, method, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Expect is between the client and the edge: a hit needs no body, and the origin is not
// asked to wait for one that does not come.
func TestNeighbour_expectContinue(t *testing.T) {
	answer := echo("max-age=60")
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // an origin that answers at once need not have the body
		answer(w, r)
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	a := s.get("/page", "Expect", "100-continue")
	a.is(t, 200, "*", "fwd=uri-miss")
	if got := a.echo(t).Header["Expect"]; got != nil {
		t.Errorf("the origin gets %q", got)
	}
	s.get("/page", "Expect", "100-continue").is(t, 200, "*", "hit")
	fat := s.raw("GET /page HTTP/1.1\nHost: " + s.address + "\nExpect: 100-continue\nContent-Length: 4\nConnection: close\n\nbody")
	if !strings.Contains(fat, `detail="body"`) {
		t.Errorf("%s", fat)
	}
	post := s.raw("POST /page HTTP/1.1\nHost: " + s.address + "\nExpect: 100-continue\nContent-Length: 4\nConnection: close\n\nbody")
	// The origin's own 100 may follow the edge's.
	if !strings.HasPrefix(post, "HTTP/1.1 100 Continue\r\n") || !strings.Contains(post, "\r\n\r\nHTTP/1.1 200 OK\r\n") {
		t.Errorf("%s", post)
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
