package region_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// quick are checks that a test need not wait for, without a breaker.
const quick = "\nhealth {\ninterval 100ms\ntimeout 100ms\nfails 2\npasses 2\n}\n"

// checked is a region that answers checks apart from requests.
type checked struct {
	*fakeRegion
	checks atomic.Int64
	ready  atomic.Value // http.HandlerFunc
}

func newChecked(t *testing.T, name string, configure ...func(*httptest.Server)) *checked {
	t.Helper()
	_, source := keys(t)
	c := new(checked)
	c.says(200, "ready\n")
	verifier := verifierOf(name, source)
	c.fakeRegion = newRegion(t, name, source, append(configure, func(s *httptest.Server) {
		requests := s.Config.Handler
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != handoff.ReadyPath {
				requests.ServeHTTP(w, r)
				return
			}
			if claims, err := verifier.Verify(r); err != nil || claims.Tenant != "" || claims.Subject != "" {
				t.Errorf("a check: %v, %+v", err, claims)
			}
			c.ready.Load().(http.HandlerFunc)(w, r)
			c.checks.Add(1)
		})
	})...)
	return c
}

// says is what the region answers to checks.
func (c *checked) says(status int, text string) {
	c.ready.Store(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
}

// until waits until condition holds.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); !condition(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: did not come to be", what)
		}
	}
}

func runningEdge(t *testing.T) *edge.App {
	t.Helper()
	app, err := caddy.ActiveContext().App("edge")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*edge.App)
}

// upstream is what the POP knows of one of a region's upstreams.
func upstream(t *testing.T, region string, i int) edge.UpstreamReport {
	t.Helper()
	for _, r := range runningEdge(t).RegionReport() {
		if r.Name == region {
			return r.Upstreams[i]
		}
	}
	t.Fatalf("no region %s", region)
	return edge.UpstreamReport{}
}

func stateBecomes(t *testing.T, region string, i int, want health.State) {
	t.Helper()
	until(t, fmt.Sprintf("upstream %d of %s %v", i, region, want), func() bool { return upstream(t, region, i).State == want })
}

// isRefused is the answer of a POP that has sent nothing.
func isRefused(t *testing.T, res *http.Response, text string) {
	t.Helper()
	if got := problemIn(t, res, text); res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || got.Outcome != "" || res.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

// A region that dies is refused without being asked, the other is unharmed, and
// when it is back nobody has to reload.
func TestHealth_aRegionThatDiesIsRefusedAtOnceAndComesBack(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "eu.sock") // an address that nobody else can take meanwhile
	eu := newChecked(t, "eu", func(s *httptest.Server) { onSocket(t, s, socket) })
	_, source := keys(t)
	p := &pop{eu: eu.fakeRegion, us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, "unix/"+socket+quick, p.us.addr(), site("edge_region", ""))
	if res, text := p.ask(t, "POST", "/", strings.NewReader("x")); res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
	eu.CloseClientConnections()
	eu.Close()
	stateBecomes(t, "eu", 0, health.Down)
	if app := runningEdge(t); app.Available("eu") || !app.Available("us") || app.Available("mars") {
		t.Error("eu is down, us is up, mars is no region")
	}
	// Something listens there now that would swallow whatever it is sent.
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var taken atomic.Int64
	back := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == handoff.ReadyPath {
			w.WriteHeader(500)
			return
		}
		taken.Add(1)
	})}
	go func() { _ = back.Serve(l) }()
	for _, method := range []string{"GET", "POST"} {
		res, text := p.ask(t, method, "/", strings.NewReader("x"), "Test-Home: eu")
		isRefused(t, res, text)
		if res, text := p.ask(t, method, "/", nil, "Test-Home: us"); res.StatusCode != 200 {
			t.Errorf("us: %d %s", res.StatusCode, text)
		}
	}
	_ = back.Close()
	if n := taken.Load(); n != 0 || len(p.us.requests()) != 2 {
		t.Errorf("the region that is down was sent %d requests, the other %d", n, len(p.us.requests()))
	}

	if l, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	again := &http.Server{Handler: eu.Config.Handler}
	go func() { _ = again.Serve(l) }()
	defer again.Close()
	stateBecomes(t, "eu", 0, health.Up)
	if res, text := p.ask(t, "POST", "/", strings.NewReader("x")); res.StatusCode != 200 {
		t.Errorf("back: %d %s", res.StatusCode, text)
	}
}

func onSocket(t *testing.T, s *httptest.Server, socket string) {
	t.Helper()
	_ = s.Listener.Close()
	var err error
	if s.Listener, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
}

// A POP begins before it has checked anything: it must not refuse for that.
func TestHealth_beginsWithoutWaitingForAnAnswer(t *testing.T) {
	eu := newChecked(t, "eu")
	leave := make(chan struct{})
	eu.ready.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-leave:
		case <-r.Context().Done():
		}
	}))
	defer close(leave)
	_, source := keys(t)
	p := &pop{eu: eu.fakeRegion, us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, eu.addr()+"\nhealth {\ninterval 1h\ntimeout 1h\n}\n", p.us.addr(), site("edge_region", ""))
	if res, text := p.ask(t, "POST", "/", nil); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	forget(t) // ends with the check under way, and waits for it
}

func TestHealth_whatAnAnswerToACheckMeans(t *testing.T) {
	eu := newChecked(t, "eu")
	_, source := keys(t)
	p := &pop{eu: eu.fakeRegion, us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, eu.addr()+quick, p.us.addr(), site("edge_region", ""))
	for _, row := range []struct {
		status int
		text   string
		state  health.State
	}{
		{200, "ready\n", health.Up},
		{503, "not ready\n", health.Down},
		{204, "", health.Up},
		{503, "draining\n", health.Draining},
		{200, "draining\n", health.Up}, // what counts is the status
		{401, "", health.Down},
		{299, "", health.Up},
		{302, "", health.Down},
		{200, "", health.Up},
		{500, "draining\n", health.Down},
		{200, strings.Repeat("x", 1<<20), health.Up},
		{404, "", health.Down},
	} {
		eu.says(row.status, row.text)
		until(t, fmt.Sprintf("%v by %d", row.state, row.status), func() bool {
			u := upstream(t, "eu", 0)
			return u.State == row.state && u.Check != nil && u.Check.Status == row.status
		})
		if check := upstream(t, "eu", 0).Check; check.At.IsZero() || (check.Result == "failed") != (check.Error != "") {
			t.Errorf("%d %q: %+v", row.status, row.text[:min(20, len(row.text))], check)
		}
	}
}

// It goes from one to the other and back at each check: what it was it stays.
func TestHealth_flappingChangesNothing(t *testing.T) {
	eu := newChecked(t, "eu")
	var n atomic.Int64
	eu.ready.Store(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%2 == 0 {
			w.WriteHeader(500)
		}
	}))
	_, source := keys(t)
	p := &pop{eu: eu.fakeRegion, us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, eu.addr()+quick, p.us.addr(), site("edge_region", ""))
	until(t, "twenty checks", func() bool { return eu.checks.Load() >= 20 })
	if u := upstream(t, "eu", 0); u.State != health.Up || !u.Since.IsZero() {
		t.Errorf("%+v", u)
	}
}

// An upstream that drains still takes requests: it is spared where another is there,
// and asked where none is. A region of one loses nothing before its port is closed.
func TestHealth_drainingIsTheLastResort(t *testing.T) {
	first, second := newChecked(t, "eu"), newChecked(t, "eu")
	_, source := keys(t)
	p := &pop{eu: first.fakeRegion, us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, first.addr()+" "+second.addr()+quick, p.us.addr(), site("edge_region", ""))
	first.says(503, "draining\n")
	stateBecomes(t, "eu", 0, health.Draining)
	for range 10 {
		if res, text := p.ask(t, "POST", "/", nil); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, text)
		}
	}
	if a, b := len(first.requests()), len(second.requests()); a != 0 || b != 10 {
		t.Errorf("the one that drains was sent %d, the other %d", a, b)
	}
	second.says(500, "")
	stateBecomes(t, "eu", 1, health.Down)
	if res, text := p.ask(t, "POST", "/", nil); res.StatusCode != 200 || len(first.requests()) != 1 {
		t.Errorf("%d %s; the one that drains was sent %d", res.StatusCode, text, len(first.requests()))
	}
}

func TestHealth_aReloadKeepsWhatIsKnown(t *testing.T) {
	eu := newChecked(t, "eu")
	eu.says(500, "")
	_, source := keys(t)
	p := &pop{eu: eu.fakeRegion, us: newRegion(t, "us", source)}
	forget(t)
	slow := strings.Replace(quick, "interval 100ms", "interval 1h", 1) // which says nothing of its own
	for _, row := range []struct {
		name   string
		health string
		status int
	}{
		{"checked", quick, 0},
		{"the same", quick, 503},
		{"another interval", slow, 503},
		{"another target has yet to be found down", strings.Replace(slow, "fails 2", "fails 2\nuri /other", 1), 200},
		{"no checks", "", 200},
	} {
		p.loadRegions(t, eu.addr()+row.health, p.us.addr(), site("edge_region", ""))
		if row.status == 0 {
			stateBecomes(t, "eu", 0, health.Down)
			continue
		}
		if res, text := p.ask(t, "POST", "/", nil); res.StatusCode != row.status {
			t.Errorf("%s: %d %s", row.name, res.StatusCode, text)
		}
	}
}

// Checks reach an upstream as requests do: over TLS where those have it, with the
// certificate checked, and over a connection that tells no client.
func TestHealth_checksGoTheWayOfRequests(t *testing.T) {
	_, source := keys(t)
	verifier := verifierOf("eu", source)
	var protocol atomic.Value
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := verifier.Verify(r); err != nil {
			t.Errorf("a check: %v", err)
		}
		protocol.Store(fmt.Sprint(r.TLS != nil))
	}))
	secure.StartTLS()
	defer secure.Close()
	us := newRegion(t, "us", source)
	p := new(pop)
	for _, row := range []struct {
		transport string
		state     health.State
	}{
		{"tls_insecure_skip_verify", health.Up},
		{"tls", health.Down}, // nobody knows its authority
		{"", health.Down},
	} {
		forget(t)
		protocol.Store("")
		p.loadRegions(t, secure.Listener.Addr().String()+quick, us.addr(), site("edge_region", row.transport))
		stateBecomes(t, "eu", 0, row.state)
		if row.state == health.Up {
			until(t, "a check over TLS", func() bool { return protocol.Load() == "true" })
		}
	}

	var first atomic.Value
	address := rawRegion(t, func(conn net.Conn) {
		line := make([]byte, 64)
		n, _ := conn.Read(line)
		first.CompareAndSwap(nil, string(line[:n]))
	})
	forget(t)
	p.loadRegions(t, address+quick, us.addr(), site("edge_region", "proxy_protocol v1"))
	until(t, "a check", func() bool { return first.Load() != nil })
	if line := first.Load().(string); !strings.HasPrefix(line, "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n") {
		t.Errorf("%q", line)
	}
}

// The operator's port is not the region's: it is told who asks by nothing.
func TestHealth_anotherPortHearsNoAssertion(t *testing.T) {
	var seen sync.Map
	operator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.RequestURI, r.Header.Clone())
		w.WriteHeader(503)
	}))
	defer operator.Close()
	_, port, _ := net.SplitHostPort(operator.Listener.Addr().String())
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, p.eu.addr()+strings.Replace(quick, "fails 2", "fails 2\nuri /readyz?full\nport "+port, 1), p.us.addr(), site("edge_region", ""))
	stateBecomes(t, "eu", 0, health.Down)
	header, ok := seen.Load("/readyz?full")
	if !ok {
		t.Fatal("the operator's port was asked for something else")
	}
	for field := range header.(http.Header) {
		if handoff.Protected(field) {
			t.Errorf("%s: %s", field, header.(http.Header)[field])
		}
	}
	if len(p.eu.requests()) != 0 {
		t.Error("the region's own port was checked")
	}
}

// breaker opens at three failures and lets the next one through only when it is told to.
const breaker = "\nbreaker {\nfailures 3\nopen 1h\nmax_open 1h\n}\n"

func gateway(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
	}
}

func TestBreaker_opensHalfOpensAndCloses(t *testing.T) {
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		status int
	}{
		{"breaks off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502},
		{"502", gateway(502), 502},
		{"503 of something before it", gateway(503), 503},
		{"504", gateway(504), 504},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, source := keys(t)
			p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
			forget(t)
			short := strings.ReplaceAll(breaker, "open 1h", "open 50ms")
			p.loadRegions(t, p.eu.addr()+short, p.us.addr(), site("edge_region", ""))
			p.eu.answers(row.answer)
			for range 3 {
				if res, text := p.ask(t, "POST", "/", strings.NewReader("x")); res.StatusCode != row.status {
					t.Fatalf("%d %s", res.StatusCode, text)
				}
			}
			if u := upstream(t, "eu", 0); u.State != health.Open {
				t.Fatalf("%+v", u)
			}
			seen := len(p.eu.requests())
			until(t, "a trial that fails", func() bool {
				res, text := p.ask(t, "POST", "/", strings.NewReader("x"))
				if len(p.eu.requests()) == seen {
					isRefused(t, res, text)
					return false
				}
				return true
			})
			if n := len(p.eu.requests()); n != seen+1 || upstream(t, "eu", 0).State != health.Open {
				t.Errorf("%d trials; %+v", n-seen, upstream(t, "eu", 0))
			}
			p.eu.answers(nil)
			until(t, "a trial that is answered", func() bool {
				res, _ := p.ask(t, "POST", "/", strings.NewReader("x"))
				return res.StatusCode == 200
			})
			if u := upstream(t, "eu", 0); u.State != health.Up {
				t.Errorf("%+v", u)
			}
		})
	}
}

func TestBreaker_openIsKeptAcrossAReload(t *testing.T) {
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, p.eu.addr()+breaker, p.us.addr(), site("edge_region", ""))
	p.eu.answers(gateway(502))
	for range 3 {
		p.ask(t, "POST", "/", nil)
	}
	before := upstream(t, "eu", 0)
	for range 3 {
		p.loadRegions(t, p.eu.addr()+breaker, p.us.addr(), site("edge_region", ""))
		res, text := p.ask(t, "POST", "/", nil)
		isRefused(t, res, text)
	}
	if u := upstream(t, "eu", 0); u.State != health.Open || u.Retry != before.Retry || len(p.eu.requests()) != 3 {
		t.Errorf("%+v, and before %+v; the region saw %d", u, before, len(p.eu.requests()))
	}
}

// Whoever can provoke an answer, or leave before it comes, must not be able to keep
// others out of a region.
func TestBreaker_whatAClientCanProvokeDoesNotOpenIt(t *testing.T) {
	own := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
			w.WriteHeader(status)
		}
	}
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	for name, answer := range map[string]http.HandlerFunc{
		"400": gateway(400), "404": gateway(404), "429": gateway(429), "500": gateway(500), "501": gateway(501), "507": gateway(507),
		"the region's own 503": own(503), "its own 502": own(502), "its own 504": own(504),
		"elsewhere": sendsTo("mars"), "elsewhere for ever": sendsTo("eu"),
	} {
		forget(t)
		p.loadRegions(t, p.eu.addr()+breaker, p.us.addr(), site("edge_region", ""))
		p.eu.answers(answer)
		before := len(p.eu.requests())
		for range 6 {
			p.ask(t, "POST", "/", strings.NewReader("x"))
		}
		if n, u := len(p.eu.requests())-before, upstream(t, "eu", 0); n != 6 || u.State != health.Up || u.Failures != 0 {
			t.Errorf("%s: sent %d of 6; %+v", name, n, u)
		}
	}

	forget(t)
	p.loadRegions(t, p.eu.addr()+breaker, p.us.addr(), site("edge_region", ""))
	entered, left := make(chan struct{}, 1), make(chan struct{}, 1)
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		entered <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	})
	for range 6 { // it leaves while it waits for the answer
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, "POST", p.url, strings.NewReader("x"))
		go func() { <-entered; cancel() }()
		if res, err := client.Do(r); err == nil {
			t.Errorf("answered %d", res.StatusCode)
			res.Body.Close()
		}
		<-left
	}
	p.eu.answers(nil)
	for range 6 { // and while it sends
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		before := len(p.eu.requests())
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
		until(t, "the beginning at the region", func() bool { return len(p.eu.requests()) > before })
		_ = conn.Close()
	}
	// A region may refuse a long body by closing the connection under it.
	refusing := rawRegion(t, func(conn net.Conn) { _, _ = io.CopyN(io.Discard, conn, 1000) })
	p.loadRegions(t, p.eu.addr()+breaker, refusing+breaker, site("edge_region", ""))
	for range 6 {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", p.url, strings.NewReader(strings.Repeat("x", 32<<20)))
		r.Header.Set("Test-Home", "us")
		if res, err := client.Do(r); err == nil { // or Caddy closes in its turn
			if res.Body.Close(); res.StatusCode != 502 {
				t.Errorf("%d", res.StatusCode)
			}
		}
	}
	if u := upstream(t, "us", 0); u.State != health.Up || u.Failures != 0 {
		t.Errorf("%+v", u)
	}
	until(t, "the end of them", func() bool {
		res, _ := p.ask(t, "GET", "/", nil)
		return res.StatusCode == 200
	})
	if u := upstream(t, "eu", 0); u.State != health.Up || u.Failures != 0 {
		t.Errorf("%+v", u)
	}
}

// While one request tries whether a region is back, no other reaches it.
func TestBreaker_oneTrialAtATime(t *testing.T) {
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	forget(t)
	const open = 400 * time.Millisecond
	p.loadRegions(t, p.eu.addr()+fmt.Sprintf("\nbreaker {\nfailures 3\nopen %s\n}\n", open), p.us.addr(), site("edge_region", ""))
	p.eu.answers(gateway(502))
	for range 3 {
		p.ask(t, "GET", "/", nil)
	}
	entered, leave := make(chan struct{}, 100), make(chan struct{})
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-leave
	})
	until(t, "the time for a trial", func() bool { return runningEdge(t).Available("eu") })
	var done sync.WaitGroup
	var answered, refused atomic.Int64
	began := time.Now()
	for range 20 {
		done.Go(func() {
			switch res, _ := p.ask(t, "POST", "/", strings.NewReader("x")); res.StatusCode {
			case 200:
				answered.Add(1)
			case 503:
				refused.Add(1)
			}
		})
	}
	until(t, "all others refused while the trial hangs", func() bool { return int(refused.Load())+len(entered) >= 20 })
	// One that hangs is given up after as long as the breaker was open, a quarter less
	// by chance, and the next after twice that: on a busy machine there may be some.
	most := 1
	for wait := open * 3 / 4; wait < time.Since(began); wait = wait*2 + open*3/4 {
		most++
	}
	close(leave)
	done.Wait()
	if n := len(entered); n < 1 || n > most || int(answered.Load()) != n || int(refused.Load()) != 20-n {
		t.Errorf("%d reached the region, %d at most were to; %d answered, %d refused", n, most, answered.Load(), refused.Load())
	}
}

// Before anybody knows that an upstream is dead, a request that is given to it goes to
// the next: none of it was sent.
func TestHealth_ofTwoUpstreamsOneIsDead(t *testing.T) {
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	socket := filepath.Join(t.TempDir(), "nobody.sock")
	forget(t)
	p.loadRegions(t, "unix/"+socket+" "+p.eu.addr()+breaker, p.us.addr(), site("edge_region", ""))
	for i := range 40 {
		body := fmt.Sprintf("order %d", i)
		res, text := p.ask(t, "POST", "/", strings.NewReader(body))
		if res.StatusCode != 200 {
			t.Fatalf("%d: %d %s", i, res.StatusCode, text)
		}
		if all := p.eu.requests(); len(all) != i+1 || string(all[i].body) != body || all[i].refused != nil {
			t.Fatalf("the region saw %d of %d: %q %v", len(all), i+1, all[len(all)-1].body, all[len(all)-1].refused)
		}
	}
	if u := upstream(t, "eu", 0); u.State != health.Open {
		t.Errorf("%+v", u)
	}
	if u := upstream(t, "eu", 1); u.State != health.Up || u.Failures != 0 {
		t.Errorf("%+v", u)
	}
}

// Somebody has to try whether it is back, and loses nothing by it.
func TestBreaker_aTrialOfADeadUpstreamCostsNobodyAnything(t *testing.T) {
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	socket := filepath.Join(t.TempDir(), "nobody.sock")
	forget(t)
	p.loadRegions(t, "unix/"+socket+" "+p.eu.addr()+"\nbreaker {\nfailures 1\nopen 10ms\nmax_open 10ms\n}\n", p.us.addr(), site("edge_region", ""))
	sent, trials := atomic.Int64{}, func() uint64 { return failures(t, "eu", 0) }
	until(t, "ten trials", func() bool {
		var done sync.WaitGroup
		for range 4 {
			done.Go(func() {
				sent.Add(1)
				if res, text := p.ask(t, "POST", "/", strings.NewReader("x")); res.StatusCode != 200 {
					t.Errorf("%d %s", res.StatusCode, text)
				}
			})
		}
		done.Wait()
		return t.Failed() || trials() > 10
	})
	if n := len(p.eu.requests()); int64(n) != sent.Load() {
		t.Errorf("%d requests were sent %d times", sent.Load(), n)
	}
	// It is back.
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	back := &http.Server{Handler: p.eu}
	go func() { _ = back.Serve(l) }()
	defer back.Close()
	until(t, "a trial that is answered", func() bool {
		p.ask(t, "POST", "/", nil)
		return upstream(t, "eu", 0).State == health.Up
	})
}

// failures is how many requests failed to an upstream, by the metrics.
func failures(t *testing.T, region string, i int) (n uint64) {
	t.Helper()
	ctx := caddy.ActiveContext()
	families, err := ctx.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	address := upstream(t, region, i).Address
	for _, family := range families {
		if family.GetName() != handoff.MetricUpstreamFailures {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "upstream" && label.GetValue() == address {
					n += uint64(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

// What one upstream may have done is not done by the other too.
func TestHealth_whatWasSentGoesToNoOtherUpstream(t *testing.T) {
	_, source := keys(t)
	first, second := newRegion(t, "eu", source), newRegion(t, "eu", source)
	for _, f := range []*fakeRegion{first, second} {
		f.answers(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		})
	}
	p := &pop{eu: first, us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, first.addr()+" "+second.addr()+breaker, p.us.addr(), site("edge_region", ""))
	sent := 0
	for ; upstream(t, "eu", 0).State != health.Open || upstream(t, "eu", 1).State != health.Open; sent++ {
		if sent > 100 {
			t.Fatal("they do not open")
		}
		res, text := p.ask(t, "POST", "/", strings.NewReader("x"))
		if got := problemIn(t, res, text); res.StatusCode != 502 || got.Outcome != problem.OutcomeUnknown {
			t.Fatalf("%d %s", res.StatusCode, text)
		}
	}
	if n := len(first.requests()) + len(second.requests()); n != sent {
		t.Errorf("%d requests were sent %d times", sent, n)
	}
	for range 3 {
		res, text := p.ask(t, "POST", "/", strings.NewReader("x"))
		isRefused(t, res, text)
	}
	if n := len(first.requests()) + len(second.requests()) + len(p.us.requests()); n != sent {
		t.Errorf("%d were sent, and refused ones", n)
	}
}

// A replay is a request like any other: a region that is down is not asked.
func TestHealth_aReplayHeedsItToo(t *testing.T) {
	us := newChecked(t, "us")
	us.says(500, "")
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: us.fakeRegion}
	forget(t)
	p.loadRegions(t, p.eu.addr(), us.addr()+quick, site("edge_region", ""))
	stateBecomes(t, "us", 0, health.Down)
	p.eu.answers(sendsTo("us"))
	res, text := p.ask(t, "POST", "/", strings.NewReader("x"), "Test-Tenant: acme")
	isRefused(t, res, text)
	if len(us.requests()) != 0 {
		t.Error("it was asked")
	}
}

// reverse_proxy's own retries know no more than the breaker does.
func TestBreaker_caddysRetriesComeNoFurther(t *testing.T) {
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, p.eu.addr()+breaker, p.us.addr(), `edge_guard
test_session
edge_region
reverse_proxy {
	dynamic edge_region
	lb_retries 10
	lb_try_interval 1ms
	transport edge
}`)
	p.eu.answers(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	p.ask(t, "GET", "/", nil)
	if n := len(p.eu.requests()); n != 3 {
		t.Errorf("%d attempts at a breaker that opens at three", n)
	}
	res, text := p.ask(t, "POST", "/", nil)
	isRefused(t, res, text)
	if n := len(p.eu.requests()); n != 3 {
		t.Errorf("and %d later", n-3)
	}
}
