package region_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// rawRegion is a region whose every connection is given to serve. It counts what
// it reads as requests.
func rawRegion(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

func TestFailure_regionDownIs503AndTheOtherIsUnharmed(t *testing.T) {
	_, source := keys(t)
	socket := filepath.Join(t.TempDir(), "eu.sock") // an address that nobody else can take meanwhile
	onSocket := func(s *httptest.Server) {
		_ = s.Listener.Close()
		var err error
		if s.Listener, err = net.Listen("unix", socket); err != nil {
			t.Fatal(err)
		}
	}
	p := &pop{eu: newRegion(t, "eu", source, onSocket), us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, "unix/"+socket, p.us.addr(), site("edge_region", ""))
	p.ask(t, "GET", "/", nil, "Test-Home: eu") // leaves a connection in the pool
	p.eu.CloseClientConnections()
	p.eu.Close()
	for _, method := range []string{"GET", "POST"} {
		res, text := p.ask(t, method, "/", strings.NewReader("x"), "Test-Tenant: acme", "Test-Home: eu", "Cookie: session=s")
		got := problemIn(t, res, text)
		d := decided(t, res)
		if res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || got.Outcome != "" || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", method, res.StatusCode, text)
		}
		if d.Outcome != decision.OutcomeUnavailable || d.ShortCircuit != "edge_region" {
			t.Errorf("%+v", d)
		}
		if res, text := p.ask(t, method, "/", nil, "Test-Tenant: globex", "Test-Home: us"); res.StatusCode != 200 {
			t.Errorf("us: %d %s", res.StatusCode, text)
		}
	}
	if all := p.us.requests(); len(all) != 2 {
		t.Errorf("us saw %d requests, two were its own", len(all))
	}

	// It comes back: nobody has to reload.
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	back := &http.Server{Handler: p.eu}
	go func() { _ = back.Serve(l) }()
	defer back.Close()
	if res, text := p.ask(t, "POST", "/", strings.NewReader("x"), "Test-Home: eu"); res.StatusCode != 200 {
		t.Errorf("back: %d %s", res.StatusCode, text)
	}
}

func TestFailure_sentAndUnansweredIsUnknown(t *testing.T) {
	_, source := keys(t)
	var requests atomic.Int32
	var behave atomic.Value // func(net.Conn)
	eu := rawRegion(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		behave.Load().(func(net.Conn))(conn)
	})
	p := &pop{us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, eu, p.us.addr(), `edge_guard
test_session
edge_region
reverse_proxy {
	dynamic edge_region
	lb_retries 3
	lb_try_duration 2s
	lb_try_interval 10ms
	lb_retry_match {
		method POST PUT
	}
	transport edge {
		response_header_timeout 300ms
	}
}`)
	hangs := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	closes := func(net.Conn) {}
	midHeader := func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Ty") }
	garbage := func(conn net.Conn) { _, _ = io.WriteString(conn, "SSH-2.0-x\r\n\r\n") }
	for _, row := range []struct {
		name    string
		behave  func(net.Conn)
		status  int
		problem string
		outcome decision.Outcome
	}{
		{"hangs", hangs, 504, problem.RegionTimeout, decision.OutcomeTimeout},
		{"closes", closes, 502, problem.RegionFailed, decision.OutcomeFailed},
		{"closes in the midst of the header", midHeader, 502, problem.RegionFailed, decision.OutcomeFailed},
		{"speaks something else", garbage, 502, problem.RegionFailed, decision.OutcomeFailed},
	} {
		for _, method := range []string{"POST", "PUT", "DELETE"} {
			for _, key := range []string{"", "Idempotency-Key: k", "X-Idempotency-Key: k"} {
				t.Run(fmt.Sprintf("%s %s %s", row.name, method, key), func(t *testing.T) {
					behave.Store(row.behave)
					requests.Store(0)
					fields := []string{"Test-Tenant: acme", "Test-Home: eu"}
					if key != "" {
						fields = append(fields, key)
					}
					began := time.Now()
					res, text := p.ask(t, method, "/", strings.NewReader("order"), fields...)
					took := time.Since(began)
					got, d := problemIn(t, res, text), decided(t, res)
					if res.StatusCode != row.status || got.Name() != row.problem || got.Outcome != problem.OutcomeUnknown || d.Outcome != row.outcome {
						t.Errorf("%d %s, outcome %s", res.StatusCode, text, d.Outcome)
					}
					if retry := res.Header.Get("Retry-After") != ""; retry != (key == "Idempotency-Key: k") {
						t.Errorf("Retry-After %q with %q", res.Header.Get("Retry-After"), key)
					}
					if n := requests.Load(); n != 1 {
						t.Errorf("the region saw %d requests", n)
					}
					if took > 2500*time.Millisecond {
						t.Errorf("it took %s", took)
					}
				})
			}
		}
	}
	t.Run("a read may be tried again", func(t *testing.T) {
		behave.Store(closes)
		requests.Store(0)
		res, text := p.ask(t, "GET", "/", nil, "Test-Home: eu")
		if got := problemIn(t, res, text); res.StatusCode != 502 || got.Outcome != problem.OutcomeUnknown || res.Header.Get("Retry-After") == "" {
			t.Errorf("%d %s", res.StatusCode, text)
		}
	})
	if len(p.us.requests()) != 0 {
		t.Error("something went to the other region")
	}
}

// A keep-alive connection that the region closes as a request comes is where
// net/http would send again what carries an idempotency key.
func TestFailure_netHTTPSendsNoWriteAgain(t *testing.T) {
	_, source := keys(t)
	var posts atomic.Int32
	eu := rawRegion(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if r.Method == "POST" {
				posts.Add(1)
				return // seen, and closed
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	p := &pop{us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, eu, p.us.addr(), site("edge_region", ""))
	for _, key := range []string{"Idempotency-Key: k", "X-Idempotency-Key: k"} {
		for _, body := range []string{"", "body"} {
			posts.Store(0)
			if res, text := p.ask(t, "GET", "/", nil); res.StatusCode != 200 { // a connection for the POST to reuse
				t.Fatal(res.StatusCode, text)
			}
			res, text := p.ask(t, "POST", "/", strings.NewReader(body), key)
			if res.StatusCode != 502 || posts.Load() != 1 {
				t.Errorf("%s with body %q: %d, %d times: %s", key, body, res.StatusCode, posts.Load(), text)
			}
		}
	}
}

func TestFailure_aRegionThatStopsReadingIsATimeout(t *testing.T) {
	_, source := keys(t)
	done := make(chan struct{})
	eu := rawRegion(t, func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		<-done // and reads no more
	})
	defer close(done)
	p := &pop{us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, eu, p.us.addr(), site("edge_region", "response_header_timeout 300ms"))
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const size = 64 << 20 // more than the sockets between here and there hold
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nTest-Home: eu\r\nContent-Length: %d\r\n\r\n", size)
	go func() { _, _ = io.CopyN(conn, zeros{}, size) }()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if got := problemIn(t, res, string(text)); res.StatusCode != 504 || got.Name() != problem.RegionTimeout || got.Outcome != problem.OutcomeUnknown {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestFailure_aSlowClientIsNotTheRegionsFault(t *testing.T) {
	p := newPOP(t, site("edge_region", "response_header_timeout 200ms"))
	reader, writer := io.Pipe()
	go func() {
		for range 4 {
			_, _ = io.WriteString(writer, "part ")
			time.Sleep(150 * time.Millisecond) // the client's slowness is what is tested
		}
		_ = writer.Close()
	}()
	if res, text := p.ask(t, "POST", "/", reader); res.StatusCode != 200 || text != "eu POST / 20" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

func TestFailure_aClientThatBreaksOffIsNotTheRegionsFault(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	answer := p.raw(t, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nbody\r\nnonsense\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 400") {
		t.Error(answer)
	}
}

func TestFailure_aClientThatLeavesIsNobodysFault(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	reached, ended := make(chan string), make(chan struct{})
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		reached <- r.Header.Get("X-Request-Id")
		<-r.Context().Done() // the edge does not leave the region at work for nobody
		close(ended)
	})
	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "POST", p.url+"/", strings.NewReader("order"))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if res, err := client.Do(r); err == nil {
			_ = res.Body.Close()
		}
	}()
	id := <-reached
	leave()
	<-gone
	<-ended
	for {
		if d, ok := lastDecision.Load(id); ok { // it is kept when the handlers return
			if d := d.(decision.Decision); d.Problem != "" || d.ShortCircuit != "" {
				t.Errorf("%+v", d)
			}
			return
		}
		runtime.Gosched()
	}
}

func TestFailure_aBodyOverCaddysLimitIs413(t *testing.T) {
	p := newPOP(t, "request_body {\nmax_size 10\n}\n"+site("edge_region", ""))
	if res, text := p.ask(t, "POST", "/", unknownLength{strings.NewReader("more than ten bytes")}); res.StatusCode != 413 {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

func TestFailure_aTargetThatCannotBeAsserted(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	res, text := p.ask(t, "POST", "/"+strings.Repeat("a", 15<<10), nil)
	if res.StatusCode != 414 || len(p.eu.requests()) != 0 {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

func TestFailure_handleErrorsSeesTheProblem(t *testing.T) {
	p := newPOP(t, site("edge_region {\nrewrite /{edge.region}{uri}\n}", "")+"handle_errors {\nrespond \"sorry {err.status_code} at {uri}\"\n}")
	p.eu.Close()
	res, text := p.ask(t, "GET", "/app?a=b", nil, "Test-Home: eu")
	if res.StatusCode != 503 || text != "sorry 503 at /app?a=b" || res.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s, Retry-After %q", res.StatusCode, text, res.Header.Get("Retry-After"))
	}
	res, text = p.ask(t, "GET", "/", nil, "Test-Home: us")
	if res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

func TestFailure_noUpstreamToBeHadIs503(t *testing.T) {
	p := newPOP(t, `edge_guard
test_session
edge_region
reverse_proxy {
	dynamic edge_region
	transport edge
	fail_duration 10s
	max_fails 1
}`)
	p.eu.Close()
	for range 2 { // the second finds the upstream marked as down
		res, text := p.ask(t, "POST", "/", nil, "Test-Home: eu")
		got, d := problemIn(t, res, text), decided(t, res)
		if res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || res.Header.Get("Retry-After") == "" || d.Outcome != decision.OutcomeUnavailable {
			t.Errorf("%d %s", res.StatusCode, text)
		}
	}
	if len(p.us.requests()) != 0 {
		t.Error("a write went to another region")
	}
}

func TestFailure_anotherUpstreamOfTheRegionIsTriedForWhatWasNotSent(t *testing.T) {
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, edgetest.Nobody(t)+" "+p.eu.addr(), p.us.addr(), `edge_guard
test_session
edge_region
reverse_proxy {
	dynamic edge_region
	lb_policy first
	lb_retries 2
	fail_duration 10s
	transport edge
}`)
	res, text := p.ask(t, "POST", "/", strings.NewReader("order"), "Test-Home: eu")
	if res.StatusCode != 200 || text != "eu POST / 5" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	if s := p.eu.only(); string(s.body) != "order" {
		t.Errorf("%q", s.body)
	}
}
