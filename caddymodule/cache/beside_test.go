package cache_test

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// encode stands outside: one answer is stored, and each client gets it in its own
// encoding.
func TestBeside_encode(t *testing.T) {
	body := strings.Repeat("compressible ", 200)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Etag", `"one"`)
		if r.Header.Get("If-None-Match") != "" {
			t.Error("a client's condition reaches the origin")
		}
		_, _ = io.WriteString(w, body)
	})
	s := newSite(t, o, "encode gzip\n\tedge_cache\n\treverse_proxy ORIGIN {\n\t\ttransport http {\n\t\t\tcompression off\n\t\t}\n\t}")
	s.get("/page", "Accept-Encoding", "identity").is(t, 200, body, "fwd=uri-miss")
	for range 2 {
		a := s.get("/page", "Accept-Encoding", "gzip")
		if a.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(strings.Join(a.Header["Vary"], ","), "Accept-Encoding") || len(a.Header["Vary"]) != 1 {
			t.Fatalf("%v", a.Header)
		}
		z, err := gzip.NewReader(strings.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := io.ReadAll(z); err != nil || string(plain) != body || !strings.HasPrefix(a.cache(), "hit") {
			t.Errorf("%d bytes, %v, %s", len(plain), err, a.cache())
		}
		s.get("/page", "Accept-Encoding", "gzip", "If-None-Match", a.Header.Get("Etag")).is(t, 304, "", "hit")
	}
	plain := s.get("/page", "Accept-Encoding", "identity")
	plain.is(t, 200, body, "hit")
	if plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("Etag") != `"one"` {
		t.Errorf("%v", plain.Header)
	}
}

// What a handler before the cache writes into one client's header is in nobody
// else's.
func TestBeside_header(t *testing.T) {
	o := newOrigin(t, counted("Cache-Control", "max-age=60", "Link", "<http://internal/x>", "X-Up", "a"))
	s := newSite(t, o, `header >Link http://internal http://{http.request.header.X-Name}
	header +X-Up {http.request.header.X-Name}
	header X-Down {http.request.header.X-Name}
	edge_cache {
		policy public
	}
	reverse_proxy ORIGIN`)
	for i, name := range []string{"one", "two", "three"} {
		a := s.get("/page", "X-Name", name)
		if a.Header.Get("Link") != "<http://"+name+"/x>" || a.Header.Get("X-Down") != name || strings.Join(a.Header["X-Up"], ",") != name+",a" && strings.Join(a.Header["X-Up"], ",") != "a,"+name {
			t.Errorf("%s: %v", name, a.Header)
		}
		if hit := strings.HasPrefix(a.cache(), "hit"); hit != (i > 0) {
			t.Errorf("%s: %s", name, a.cache())
		}
	}
}

func TestBeside_handleErrors(t *testing.T) {
	s := newSite(t, newOrigin(t, nil), "edge_cache\n\treverse_proxy "+edgetest.Nobody(t)+"\n\thandle_errors {\n\t\trespond \"sorry {http.request.header.X-Name}: {err.status_code}\" {err.status_code}\n\t}")
	answers := make(chan got, 8)
	for i := range 8 {
		go func() { answers <- s.get("/page", "X-Name", fmt.Sprint("client ", i)) }()
	}
	for range 8 {
		a := <-answers
		if a.StatusCode != 502 || a.body != "sorry "+a.Request.Header.Get("X-Name")+": 502" {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
	}
}

// An old client gets a length where there is one, and no chunks.
func TestBeside_http10(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "one ")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "two")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	for i := range 2 {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET /page HTTP/1.0\r\nHost: x\r\n\r\n")
		raw, err := io.ReadAll(conn)
		_ = conn.Close()
		if text := string(raw); err != nil || !strings.HasSuffix(text, "\r\n\r\none two") || strings.Contains(text, "chunked") || i == 1 && !strings.Contains(text, "Content-Length: 7\r\n") {
			t.Errorf("%v\n%s", err, text)
		}
	}
	edgetest.Raw(t, s.address, "GET /page HTTP/1.1\nHost: x\n\n")
}

// Events are passed on as they come, and nobody waits for another's.
func TestBeside_serverSentEvents(t *testing.T) {
	events := map[string]chan string{"/0": make(chan string), "/1": make(chan string)}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-cache")
		for {
			select {
			case event := <-events[r.URL.Path]:
				_, _ = io.WriteString(w, "data: "+event+"\n\n")
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	for i, accept := range []string{"text/event-stream", "*/*"} { // who does not say so gets them as they come, too
		next := events[fmt.Sprint("/", i)]
		r, _ := http.NewRequest("GET", fmt.Sprintf("http://%s/%d", s.address, i), nil)
		r.Header.Set("Accept", accept)
		type result struct {
			res *http.Response
			err error
		}
		answer := make(chan result, 1)
		go func() { res, err := s.client.Do(r); answer <- result{res, err} }()
		next <- "first"
		got := <-answer
		if got.err != nil {
			t.Fatal(got.err)
		}
		in := bufio.NewReader(got.res.Body)
		read := func(want string) {
			t.Helper()
			line := make(chan string, 1)
			go func() { text, _ := in.ReadString('\n'); _, _ = in.ReadString('\n'); line <- text }()
			select {
			case text := <-line:
				if text != "data: "+want+"\n" {
					t.Errorf("%s: %q", accept, text)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: %s does not come", accept, want)
			}
		}
		read("first")
		next <- "second"
		read("second")
		_ = got.res.Body.Close()
	}
}

// A WebSocket passes by.
func TestBeside_webSocket(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(400)
			return
		}
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = both.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_ = both.Flush()
		line, _ := both.ReadString('\n')
		_, _ = both.WriteString("echo " + line)
		_ = both.Flush()
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v, %v", res, err)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := in.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}
