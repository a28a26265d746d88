package caddymodule_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// upload is what an origin got of one body.
type upload struct {
	read int
	err  error // nil: the body was whole
}

// uploads is an origin that tells what it got of every body.
func uploads(t *testing.T) (address string, got chan upload) {
	t.Helper()
	got = make(chan upload, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		got <- upload{int(n), err}
		_, _ = io.WriteString(w, "taken")
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), got
}

// received gives the next upload; for ever is longer than any of these takes.
func received(t *testing.T, got chan upload) upload {
	t.Helper()
	select {
	case u := <-got:
		return u
	case <-time.After(20 * time.Second):
		t.Fatal("no request came to the origin")
		return upload{}
	}
}

// slowly gives a little, and then nothing until it is closed.
type slowly struct {
	first io.Reader
	ended chan struct{}
}

func (s *slowly) Read(p []byte) (int, error) {
	if n, err := s.first.Read(p); err == nil {
		return n, nil
	}
	<-s.ended
	return 0, errors.New("closed")
}

// TestProtocols_bodiesAreHeldToTheirLimits asks over HTTP/1.1, 2 and 3: a body that is
// too long is refused, early where it says so, and no origin takes a part for the whole.
func TestProtocols_bodiesAreHeldToTheirLimits(t *testing.T) {
	origin, got := uploads(t)
	for _, proxy := range []string{
		"reverse_proxy " + origin,
		"edge_region\n\treverse_proxy {\n\t\tdynamic edge_region\n\t\ttransport edge\n\t}",
	} {
		clients, base, _ := protocolsTo(t, origin, `edge_guard {
		max_body 100KB
	}
	`+proxy)
		for version, client := range clients {
			t.Run(version+" "+strings.Fields(proxy)[0], func(t *testing.T) {
				send := func(size int, declared bool) (int, string) {
					r := request(t, "POST", base+"/upload")
					r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", size)))
					r.ContentLength = -1
					if declared {
						r.ContentLength = int64(size)
					}
					res, err := client.RoundTrip(r)
					if err != nil { // the server broke off before it had read all: the connection may be gone first
						return 0, err.Error()
					}
					defer res.Body.Close()
					text, _ := io.ReadAll(res.Body)
					return res.StatusCode, string(text)
				}
				for _, size := range []int{1, 99_999, 100_000} {
					for _, declared := range []bool{true, false} {
						if status, text := send(size, declared); status != 200 {
							t.Fatalf("%d bytes, declared %v: %d %s", size, declared, status, text)
						}
						if u := received(t, got); u.read != size || u.err != nil {
							t.Errorf("%d bytes, declared %v: the origin read %+v", size, declared, u)
						}
					}
				}
				if status, text := send(100_001, true); status != 413 || !strings.Contains(text, "urn:gatehouse:problem:body-too-large") {
					t.Errorf("a byte more: %d %s", status, text)
				}
				if len(got) > 0 {
					t.Errorf("it reached the origin: %+v", <-got)
				}
				for _, size := range []int{100_001, 5_000_000} {
					status, text := send(size, false)
					if status != 413 && !(status == 0 && size > 1_000_000) {
						t.Errorf("%d bytes of unknown length: %d %s", size, status, text)
					}
					// The origin's side may have been told before the handler ran.
					select {
					case u := <-got:
						if u.err == nil {
							t.Errorf("the origin took %d bytes of %d for the whole", u.read, size)
						}
					case <-time.After(100 * time.Millisecond):
					}
				}
			})
		}
	}
}

// TestProtocols_slowBodiesAreBrokenOff: a client that sends a little and then nothing
// is answered, or cut off, and the origin sees that the request broke off.
func TestProtocols_slowBodiesAreBrokenOff(t *testing.T) {
	origin, got := uploads(t)
	for _, proxy := range []string{
		"reverse_proxy " + origin,
		"edge_region\n\treverse_proxy {\n\t\tdynamic edge_region\n\t\ttransport edge\n\t}",
	} {
		clients, base, _ := protocolsTo(t, origin, `edge_guard {
		min_body_rate 1MB/s
		body_grace 300ms
	}
	`+proxy)
		for version, client := range clients {
			t.Run(version+" "+strings.Fields(proxy)[0], func(t *testing.T) {
				for _, declared := range []int64{-1, 1000} {
					slow := &slowly{strings.NewReader("a little"), make(chan struct{})}
					r := request(t, "POST", base+"/upload")
					r.Body, r.ContentLength = io.NopCloser(slow), declared
					res, err := client.RoundTrip(r)
					close(slow.ended)
					if err == nil {
						text, _ := io.ReadAll(res.Body)
						_ = res.Body.Close()
						if res.StatusCode < 400 {
							t.Errorf("declared %d: %d %s", declared, res.StatusCode, text)
						}
					}
					if u := received(t, got); u.err == nil {
						t.Errorf("declared %d: the origin took %d bytes for the whole", declared, u.read)
					}
				}
				r := request(t, "POST", base+"/upload")
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 1000))), -1
				res, err := client.RoundTrip(r)
				if err != nil || res.StatusCode != 200 {
					t.Fatalf("a quick one: %v", err)
				}
				_ = res.Body.Close()
				if u := received(t, got); u.read != 1000 || u.err != nil {
					t.Errorf("a quick one: %+v", u)
				}
			})
		}
	}
}

// TestCaddy_slowBodyIsAnsweredOverTCP sends byte by byte what a client would: a body
// that stalls is told so, and its connection is closed. net/http ends the request in
// the moment in which the read of the body fails, which is not the client's leaving.
func TestCaddy_slowBodyIsAnsweredOverTCP(t *testing.T) {
	origin, got := uploads(t)
	s, _ := newSite(t, `edge_guard {
		min_body_rate 1MB/s
		body_grace 50ms
	}
	edge_region
	reverse_proxy {
		dynamic edge_region
		transport edge
	}`)
	address := edgetest.Run(t, strings.Replace(s.String(), "upstreams 127.0.0.1:9\n", "upstreams "+origin+"\n", 1))
	for range 10 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nHost: pop.example\r\nContent-Length: 100000\r\n\r\na")
		answer, err := io.ReadAll(conn) // until the server closes
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.Contains(string(answer), "urn:gatehouse:problem:too-slow") || !strings.Contains(string(answer), "Connection: close") {
			t.Errorf("%v: %s", err, answer)
		}
		_ = conn.Close()
		if u := received(t, got); u.err == nil {
			t.Errorf("the origin took %d bytes for the whole", u.read)
		}
	}
}
