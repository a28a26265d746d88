package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestServe_thePathOfAnOrder(t *testing.T) {
	t.Parallel()
	g := running(t)

	resp, body := g.ask(t, "POST", "/login", `{"email":"ada@acme.example","password":"`+password+`"}`, handoff.Identity{})
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Set-Cookie"), "session=") {
		t.Fatalf("log in: %d %s", resp.StatusCode, body)
	}
	resp, body = g.ask(t, "POST", "/api/orders", g.order(), g.ada)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("order: %d %s", resp.StatusCode, body)
	}
	location := resp.Header.Get("Location")
	if resp, again := g.ask(t, "GET", location, "", g.ada); resp.StatusCode != http.StatusOK || again != body {
		t.Errorf("read back: %d %s, placed as %s", resp.StatusCode, again, body)
	}
	if resp, page := g.ask(t, "GET", "/eu/app", "", g.ada); resp.StatusCode != http.StatusOK ||
		!strings.Contains(page, path.Base(location)) || !strings.Contains(page, "ada@acme.example") || !strings.Contains(page, "Analytical Engines") {
		t.Errorf("portal: %d %s", resp.StatusCode, page)
	}
	if resp, page := g.ask(t, "GET", "/products/coffee", "", handoff.Identity{}); resp.StatusCode != http.StatusOK {
		t.Errorf("public page: %d %s", resp.StatusCode, page)
	}
	// The line of the order says what it cost in the database.
	line := g.log.wait(t, handoff.FieldRequestID, resp.Header.Get(handoff.HeaderRequestID))
	for _, field := range []string{handoff.FieldDBQueries, handoff.FieldDBRoundTrips, handoff.FieldDBTime, handoff.FieldPoolWait, handoff.FieldDuration} {
		if n, ok := line[field].(float64); !ok || n < 0 || n == 0 && field != handoff.FieldPoolWait {
			t.Errorf("log field %s is %v", field, line[field])
		}
	}
	if line[handoff.FieldRoute] != "/api/orders" ||
		line[handoff.FieldTenant] != "acme" || line[handoff.FieldPOP] != "fra" || line[handoff.FieldRegion] != "eu" {
		t.Errorf("logged as %v", line)
	}
}

func TestServe_theLogSaysHowAKeyStood(t *testing.T) {
	t.Parallel()
	g := running(t)
	for _, row := range []struct {
		key, body string
		want      any
	}{
		{"", g.order(), nil}, {"k", g.order(), "new"}, {"k", g.order(), "replay"}, {"k", strings.Replace(g.order(), "1299", "1300", 1), "mismatch"},
	} {
		var header []string
		if row.key != "" {
			header = []string{handoff.HeaderIdempotencyKey, row.key}
		}
		resp, body := g.ask(t, "POST", "/api/orders", row.body, g.ada, header...)
		line := g.log.wait(t, handoff.FieldRequestID, resp.Header.Get(handoff.HeaderRequestID))
		if line[handoff.FieldIdempotency] != row.want {
			t.Errorf("key %q: %d %s is logged as %v, want %v", row.key, resp.StatusCode, body, line[handoff.FieldIdempotency], row.want)
		}
	}
}

// TestServe_believesNobodyWithoutAnAssertion asks the listener directly, as
// somebody inside the network could.
func TestServe_believesNobodyWithoutAnAssertion(t *testing.T) {
	t.Parallel()
	g := running(t)
	for _, target := range []string{"/", "/login", "/app", "/eu/app", "/api/orders", "/products/coffee", "/healthz", "/readyz", "/metrics", handoff.JWKSPath, handoff.ReadyPath} {
		r, _ := http.NewRequest(http.MethodGet, g.url+target, nil)
		r.Header.Set("X-Tenant-Id", "acme")
		r.Header.Set("X-Home-Region", "eu")
		resp, body := do(t, r)
		var p problem.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != http.StatusUnauthorized || p.Name() != problem.UntrustedHop {
			t.Errorf("%s: %d %s", target, resp.StatusCode, body)
		}
	}
	if resp, body := get(t, g.url+handoff.SessionJWKSPath); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"kid"`) {
		t.Errorf("session keys: %d %s", resp.StatusCode, body)
	}
}

// TestServe_everyTargetGoesThroughTheChain: net/http has an answer of its own for
// some, and none of them has an assertion.
func TestServe_everyTargetGoesThroughTheChain(t *testing.T) {
	t.Parallel()
	g := running(t)
	for request, status := range map[string]int{
		"OPTIONS * HTTP/1.1":                http.StatusBadRequest,
		"GET http://127.0.0.1/app HTTP/1.1": http.StatusBadRequest,
		"CONNECT 127.0.0.1:5432 HTTP/1.1":   http.StatusBadRequest,
		"GET //app HTTP/1.1":                http.StatusBadRequest,
		"OPTIONS /app HTTP/1.1":             http.StatusUnauthorized,
		"PRI * HTTP/2.0":                    http.StatusBadRequest,
		"GET /app HTTP/1.1\r\nUpgrade: h2c": http.StatusUnauthorized,
		"GET /app HTTP/1.1\r\nX: " + strings.Repeat("x", maxHeaderBytes+8<<10): http.StatusRequestHeaderFieldsTooLarge,
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request+"\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%.40q: %v", request, err)
		} else if resp.StatusCode != status {
			t.Errorf("%.40q: %d, want %d", request, resp.StatusCode, status)
		}
		_ = conn.Close()
	}
}

func TestServer_isBounded(t *testing.T) {
	t.Parallel()
	s := (&service{log: zap.NewNop()}).server(nil, time.Second)
	for name, d := range map[string]time.Duration{
		"ReadHeaderTimeout": s.ReadHeaderTimeout, "ReadTimeout": s.ReadTimeout, "WriteTimeout": s.WriteTimeout, "IdleTimeout": s.IdleTimeout,
	} {
		if d <= 0 {
			t.Errorf("%s is not set: a client may take for ever", name)
		}
	}
	if s.IdleTimeout <= 2*time.Minute {
		t.Errorf("IdleTimeout %s: Caddy keeps a connection for 2m and must be the one to close it", s.IdleTimeout)
	}
}

// TestServe_ordersAreStrict asks with bodies that a lenient reader would take.
func TestServe_ordersAreStrict(t *testing.T) {
	t.Parallel()
	g := running(t)
	for name, row := range map[string]struct {
		body, field string
		status      int
	}{
		"unknown member":   {`{"customerId":"` + g.customer + `","totalCents":1,"discount":1}`, "/discount", 400},
		"duplicate member": {`{"customerId":"` + g.customer + `","totalCents":1,"totalCents":2}`, "/totalCents", 400},
		"wrong case":       {`{"customerID":"` + g.customer + `","totalCents":1}`, "/customerID", 400},
		"trailing data":    {g.order() + g.order(), "", 400},
		"string":           {`{"customerId":"` + g.customer + `","totalCents":"1"}`, "/totalCents", 400},
		"fraction":         {`{"customerId":"` + g.customer + `","totalCents":1.0}`, "/totalCents", 400},
		"overflow":         {`{"customerId":"` + g.customer + `","totalCents":9223372036854775808}`, "/totalCents", 400},
		"invalid UTF-8":    {"{\"customerId\":\"\xff\",\"totalCents\":1}", "/customerId", 400},
		"missing":          {`{"totalCents":1}`, "/customerId", 400},
		"null":             {`{"customerId":"` + g.customer + `","totalCents":null}`, "/totalCents", 400},
		"negative":         {`{"customerId":"` + g.customer + `","totalCents":-1}`, "/totalCents", 400},
		"over 1 MiB":       {`{"customerId":"` + strings.Repeat("a", 1<<20) + `","totalCents":1}`, "", 413},
	} {
		resp, body := g.ask(t, "POST", "/api/orders", row.body, g.ada)
		var p problem.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != row.status {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
			continue
		}
		if row.status == 400 && (len(p.Errors) == 0 || p.Errors[0].Field != row.field) {
			t.Errorf("%s: errors %+v, want one of %q", name, p.Errors, row.field)
		}
	}
	if n := g.orders(t); n != 0 {
		t.Errorf("%d orders were placed", n)
	}
}

// orders counts acme's orders.
func (s *setup) orders(t *testing.T) (n int) {
	t.Helper()
	err := s.db.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("select count(*) from orders").Row(func(row pgx.Row) error { return row.Scan(&n) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOperator_saysHowItIs(t *testing.T) {
	t.Parallel()
	g := running(t)
	g.ask(t, "GET", "/api/orders", "", g.ada)
	for target, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "gatehouse_region_request_duration_seconds_count"} {
		if resp, body := get(t, g.operator+target); resp.StatusCode != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", target, resp.StatusCode, body)
		}
	}
	if resp, body := g.ask(t, "GET", handoff.ReadyPath, "", handoff.Identity{}); resp.StatusCode != http.StatusOK {
		t.Errorf("what POPs are told: %d %s", resp.StatusCode, body)
	}
	_, metrics := get(t, g.operator+"/metrics")
	for _, want := range []string{
		`gatehouse_region_request_duration_seconds_count{method="GET",route="/api/orders",status="2xx"} 1`,
		`gatehouse_region_requests_in_flight 0`, `gatehouse_region_pool_connections_max{pool="requests"} 16`,
		`gatehouse_region_pool_connections{pool="jobs"}`, "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%q is not among the metrics", want)
		}
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	var asked int
	var err error
	r := &readiness{check: func(ctx context.Context) error {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the question has no deadline")
		}
		asked++
		return err
	}}
	for range 5 {
		if err := r.ask(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("the database was asked %d times at once", asked)
	}
	r.asked, err = time.Time{}, io.ErrUnexpectedEOF
	if got := r.ask(t.Context()); got != err {
		t.Errorf("%v", got)
	}
	r.asked, err = time.Time{}, nil
	if got := r.ask(t.Context()); got != nil {
		t.Errorf("it does not recover: %v", got)
	}
	r.drain()
	if got := r.ask(t.Context()); got != errDraining {
		t.Errorf("%v", got)
	}
}

// TestServe_drainLosesNothingAcknowledged ends a region under load: every order
// that was acknowledged is there.
func TestServe_drainLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g, end := s.start(t, ctx, "--drain-delay=100ms", "--workers=1")
	var acknowledged, refused atomic.Int64
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for {
				r, _ := http.NewRequest(http.MethodPost, g.url+"/api/orders", strings.NewReader(s.order()))
				r.Header.Set("Content-Type", "application/json")
				s.pop.Sign(t, r, s.ada)
				resp, err := client.Do(r)
				if err != nil {
					return // the listener is closed
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				switch {
				case err == nil && resp.StatusCode == http.StatusCreated:
					if acknowledged.Add(1) == 50 {
						cancel()
					}
				default:
					refused.Add(1)
				}
			}
		})
	}
	wait.Wait()
	if status := <-end; status != 0 {
		t.Fatalf("status %d", status)
	}
	placed := int64(s.orders(t))
	t.Logf("%d acknowledged, %d placed, %d refused", acknowledged.Load(), placed, refused.Load())
	if placed != acknowledged.Load() || refused.Load() > 0 {
		t.Errorf("%d acknowledged, %d placed, %d refused", acknowledged.Load(), placed, refused.Load())
	}
}

// TestServe_jobsAreHandedOver: who stops working on jobs says so, and another
// process need not wait until it is taken for dead.
func TestServe_jobsAreHandedOver(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, end := s.start(t, ctx)
	leads := func() (n int) {
		err := s.db.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
			tx.Queue("select count(*) from river_leader").Row(func(row pgx.Row) error { return row.Scan(&n) })
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for deadline := time.Now().Add(20 * time.Second); leads() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nobody leads the work on jobs")
		}
	}
	time.Sleep(time.Second) // who is ended between the election's commit and hearing of it hands nothing over
	cancel()
	<-end
	if leads() != 0 {
		t.Error("the process is gone and leads the work on jobs still")
	}
}

func TestServe_requestAtWorkIsFinishedAndNotReadyMeanwhile(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g, end := s.start(t, ctx)

	// A request whose body is not there yet is at work.
	body, send := io.Pipe()
	r, _ := http.NewRequest(http.MethodPost, g.url+"/api/orders", body)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Expect", "100-continue")
	s.pop.Sign(t, r, s.ada)
	answered := make(chan *http.Response, 1)
	go func() {
		resp, err := client.Do(r)
		if err != nil {
			t.Errorf("the request at work: %v", err)
		}
		answered <- resp
	}()
	if _, err := io.WriteString(send, s.order()[:10]); err != nil { // taken: the handler reads
		t.Fatal(err)
	}
	cancel()
	g.log.wait(t, "msg", "draining")
	deadline := time.Now().Add(10 * time.Second)
	for { // the listener closes, the operator's stays to say why
		if _, err := client.Get(g.url + handoff.SessionJWKSPath); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the listener is still open")
		}
	}
	if resp, why := get(t, g.operator+"/readyz"); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(why, "draining") {
		t.Errorf("readyz: %d %s", resp.StatusCode, why)
	}
	if resp, _ := get(t, g.operator+"/healthz"); resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %d", resp.StatusCode)
	}
	_, _ = io.WriteString(send, s.order()[10:])
	_ = send.Close()
	resp := <-answered
	if resp == nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("the request at work: %+v", resp)
	}
	_ = resp.Body.Close()
	if status := <-end; status != 0 {
		t.Errorf("status %d", status)
	}
	if n := s.orders(t); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// program starts the region as a process of its own.
func (s *setup) program(t *testing.T, args ...string) (*region, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append(append([]string{}, s.args...), args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return s.watch(t, out), cmd
}

func TestServe_signals(t *testing.T) {
	t.Parallel()
	t.Run("one ends in good order", func(t *testing.T) {
		t.Parallel()
		g, cmd := newSetup(t).program(t)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		g.log.wait(t, "msg", "stopped")
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a second one ends at once", func(t *testing.T) {
		t.Parallel()
		g, cmd := newSetup(t).program(t, "--drain-delay=1h")
		_ = cmd.Process.Signal(syscall.SIGTERM)
		g.log.wait(t, "msg", "draining")
		if resp, _ := get(t, g.operator+"/readyz"); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("readyz: %d", resp.StatusCode)
		}
		if resp, body := g.ask(t, "GET", handoff.ReadyPath, "", handoff.Identity{}); resp.StatusCode != http.StatusServiceUnavailable || body != "draining\n" {
			t.Errorf("what POPs are told: %d %s", resp.StatusCode, body)
		}
		if resp, _ := g.ask(t, "GET", "/api/orders", "", g.ada); resp.StatusCode != http.StatusOK || !resp.Close {
			t.Errorf("while draining: %d, connection closed: %t", resp.StatusCode, resp.Close)
		}
		_ = cmd.Process.Signal(syscall.SIGINT)
		err := cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
			t.Errorf("%v", err)
		}
	})
}
