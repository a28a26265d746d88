package region_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// mortal is a region that answers, until a step of a write at which it dies: its
// connections are reset and nobody listens any more.
type mortal struct {
	t    *testing.T
	port edgetest.Port

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	step     string
	before   func() // what happens to the POP right before it dies
	writes   int    // that came as far as their header
}

const killBody = "an order of some length, so that a half of it is something"

func newMortal(t *testing.T) *mortal {
	t.Helper()
	m := &mortal{t: t, port: edgetest.NewPort(t), conns: map[net.Conn]bool{}}
	m.revive("", func() {})
	t.Cleanup(m.die)
	return m
}

// revive has it listen again, and die at step.
func (m *mortal) revive(step string, before func()) {
	m.t.Helper()
	m.die()
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.port.Listen(m.t)
	m.listener, m.step, m.before, m.writes = l, step, before, 0
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.conns[conn] = true
			m.mu.Unlock()
			go m.serve(conn)
		}
	}()
}

func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listener != nil {
		_ = m.listener.Close()
		m.listener = nil
	}
	for conn := range m.conns {
		_ = conn.(*net.TCPConn).SetLinger(0) // a process that is killed resets what it has not read
		_ = conn.Close()
		delete(m.conns, conn)
	}
}

// diesAt dies if that is the step.
func (m *mortal) diesAt(step string) bool {
	m.mu.Lock()
	now, before := m.step == step, m.before
	m.mu.Unlock()
	if now {
		before()
		m.die()
	}
	return now
}

func (m *mortal) serve(conn net.Conn) {
	if m.diesAt("after the dial") {
		return
	}
	reader := bufio.NewReader(conn)
	for {
		first, err := reader.Peek(4)
		if err != nil {
			return
		}
		warm := string(first) == "HEAD"
		if !warm && m.diesAt("in the header") {
			return
		}
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if warm {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		m.mu.Lock()
		m.writes++
		m.mu.Unlock()
		if m.diesAt("after the header") {
			return
		}
		if r.Body != http.NoBody {
			_, _ = io.CopyN(io.Discard, r.Body, int64(len(killBody)/2))
			if m.diesAt("in the body") {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
		}
		if m.diesAt("after the body") {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
		if m.diesAt("after an early hint") {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Le")
		if m.diesAt("in the answer's header") {
			return
		}
		_, _ = io.WriteString(conn, "ngth: 20\r\n\r\nhalf of it")
		m.diesAt("in the answer")
		return
	}
}

// The region dies between every pair of steps of a write, with everything turned on
// that could send it again or elsewhere: fallbacks, replicas, retries, idempotency
// keys, connections to reuse, and a new configuration in the midst of it. No other
// region sees the write, the region itself sees it once at most, and the client is
// told what is known: nothing was sent, or nobody knows.
func TestKill_aWriteIsSeenOnceAndNowhereElse(t *testing.T) {
	_, source := keys(t)
	eu := newMortal(t)
	p := &pop{us: newRegion(t, "us", source)}
	config := func(n int) string {
		return fmt.Sprintf(`edge_guard
header X-Configuration %d
test_session
edge_region {
	fallback us {
		replica
	}
	writes /confirm
}
reverse_proxy {
	dynamic edge_region
	lb_retries 3
	lb_try_duration 1s
	lb_try_interval 1ms
	lb_retry_match {
		method GET POST PUT DELETE
	}
	transport edge
}`, n)
	}
	forget(t)
	p.loadRegions(t, eu.port.Address, p.us.addr(), config(0))
	for _, step := range []struct {
		name      string
		sent      bool // 502 and outcome unknown
		mayBeSent bool // or 503: whether anything left is for the sockets to say, as with any connection that is reused
		answered  bool // 201, broken off
		body      bool // there is such a step where there is a body
	}{
		{name: "before the dial"},
		{name: "after the dial", mayBeSent: true},
		{name: "in the header", sent: true},
		{name: "after the header", sent: true},
		{name: "in the body", sent: true, body: true},
		{name: "after the body", sent: true},
		{name: "after an early hint", sent: true},
		{name: "in the answer's header", sent: true},
		{name: "in the answer", answered: true},
	} {
		for _, row := range []struct {
			method, target, body string
			fields               []string
		}{
			{"POST", "/", killBody, nil},
			{"PUT", "/", killBody, []string{"Idempotency-Key: k"}},
			{"DELETE", "/", "", nil},
			{"GET", "/confirm", "", []string{"Idempotency-Key: k"}},
		} {
			for _, reused := range []bool{false, true} {
				for _, reload := range []bool{false, true} {
					if step.body && row.body == "" || step.name == "before the dial" && reload || step.name == "after the dial" && reused {
						continue
					}
					t.Run(fmt.Sprintf("%s, %s %s, reused %v, reloaded %v", step.name, row.method, row.fields, reused, reload), func(t *testing.T) {
						before := func() {}
						if reload {
							before = func() { p.loadRegions(t, eu.port.Address, p.us.addr(), config(1)) }
						}
						eu.revive(step.name, before)
						p.loadRegions(t, eu.port.Address, p.us.addr(), config(0))
						url := p.url
						if reused {
							if res, text := p.ask(t, "HEAD", "/warm", nil); res.StatusCode != 200 || res.Header.Get("X-Edge-Served-By") != "" {
								t.Fatal(res.StatusCode, text)
							}
						}
						if step.name == "before the dial" {
							eu.die()
						}
						us := len(p.us.requests())

						r, _ := http.NewRequestWithContext(t.Context(), row.method, url+row.target, strings.NewReader(row.body))
						r.Header.Set("Test-Tenant", "acme")
						for _, f := range row.fields {
							field, value, _ := strings.Cut(f, ": ")
							r.Header.Set(field, value)
						}
						res, err := client.Do(r)
						if err != nil {
							t.Fatal(err)
						}
						defer res.Body.Close()
						text, broken := io.ReadAll(res.Body)

						if n := len(p.us.requests()) - us; n != 0 {
							t.Errorf("us saw %d requests", n)
						}
						eu.mu.Lock()
						writes := eu.writes
						eu.mu.Unlock()
						if writes > 1 {
							t.Errorf("eu saw the write %d times", writes)
						}
						if step.answered {
							if res.StatusCode != 201 || broken == nil {
								t.Errorf("%d %q %v: half an answer looks whole", res.StatusCode, text, broken)
							}
							return
						}
						got := problemIn(t, res, string(text))
						switch retry := res.Header.Get("Retry-After") != ""; {
						case res.StatusCode == 503 && !step.sent:
							if got.Name() != problem.RegionUnavailable || got.Outcome != "" || !retry {
								t.Errorf("Retry-After %v: %s", retry, text)
							}
						case res.StatusCode == 502 && (step.sent || step.mayBeSent || reused):
							if got.Name() != problem.RegionFailed || got.Outcome != problem.OutcomeUnknown || retry != (row.fields != nil) {
								t.Errorf("Retry-After %v: %s", retry, text)
							}
						default:
							t.Errorf("%d %s", res.StatusCode, text)
						}
					})
				}
			}
		}
	}
}
