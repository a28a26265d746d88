package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/telemetry"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// region is one with a POP that it believes.
type region struct {
	*api.API
	pop *apitest.POP
	log *observer.ObservedLogs
	reg *prometheus.Registry
}

func newRegion(t *testing.T, change func(*api.Config), routes ...api.Route) *region {
	t.Helper()
	known, err := directory.New(directory.File{
		Tenants: map[string]directory.Tenant{"acme": {Home: "eu"}, "globex": {Home: "us", Epoch: 7}},
	}, make([]byte, directory.MinKey))
	if err != nil {
		t.Fatal(err)
	}
	pop := apitest.NewPOP(t, "fra", "eu")
	core, log := observer.New(zapcore.InfoLevel)
	reg := prometheus.NewPedanticRegistry()
	config := api.Config{
		Region: "eu", Directory: known, Keys: pop.Keys(t), Log: zap.New(core), Metrics: telemetry.NewMetrics(reg),
	}
	if change != nil {
		change(&config)
	}
	a, err := api.New(config, routes...)
	if err != nil {
		t.Fatal(err)
	}
	return &region{API: a, pop: pop, log: log, reg: reg}
}

// ask sends who's request through the chain.
func (g *region) ask(t *testing.T, method, target string, who handoff.Identity, change ...func(*handoff.Claims)) *http.Response {
	t.Helper()
	return g.send(g.pop.Request(t, method, target, nil, who, change...))
}

func (g *region) send(r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w.Result()
}

// wantProblem checks status, type and that the answer can be found in the log.
func wantProblem(t *testing.T, resp *http.Response, status int, name string) problem.Problem {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p problem.Problem
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("status %d, body %q is no problem: %v", resp.StatusCode, body, err)
	}
	if resp.StatusCode != status || p.Status != status || p.Name() != name {
		t.Errorf("status %d with problem %d %s, want %d %s", resp.StatusCode, p.Status, p.Name(), status, name)
	}
	if got := resp.Header.Get("Content-Type"); got != problem.ContentType {
		t.Errorf("Content-Type %q", got)
	}
	ids := resp.Header.Values(handoff.HeaderRequestID)
	if len(ids) != 1 || p.RequestID != ids[0] || !handoff.ValidRequestID(p.RequestID) {
		t.Errorf("request id %q in the problem, %q in the header", p.RequestID, ids)
	}
	return p
}

// line is the only access line, as name to value.
func (g *region) line(t *testing.T) map[string]any {
	t.Helper()
	lines := g.log.FilterMessage("request").TakeAll()
	if len(lines) != 1 {
		t.Fatalf("%d access lines", len(lines))
	}
	return lines[0].ContextMap()
}

func hello(w http.ResponseWriter, r *http.Request) error {
	return api.JSON(w, http.StatusOK, map[string]string{"tenant": api.Who(r).Tenant})
}

func TestAPI_answersATenantAtHome(t *testing.T) {
	t.Parallel()
	g := newRegion(t, nil, api.Route{Pattern: "GET /api/hello/{name}", Handle: hello})
	resp := g.ask(t, http.MethodGet, "/api/hello/you?x=1", apitest.User("acme"))
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || string(body) != `{"tenant":"acme"}` {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if got := resp.Header.Get("Cache-Control"); got != "private, no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	line := g.line(t)
	for field, want := range map[string]any{
		handoff.FieldTenant: "acme", handoff.FieldUser: "user-of-acme", handoff.FieldPOP: "fra",
		handoff.FieldRoute: "/api/hello/{name}", handoff.FieldPath: "/api/hello/you", handoff.FieldStatus: int64(200),
		handoff.FieldRequestID: resp.Header.Get(handoff.HeaderRequestID),
	} {
		if line[field] != want {
			t.Errorf("log field %s is %v, want %v", field, line[field], want)
		}
	}
	if n, err := testutil.GatherAndCount(g.reg, "gatehouse_region_request_duration_seconds"); n != 1 {
		t.Errorf("%d duration series, %v", n, err)
	}
}

func TestNew_refusesPatterns(t *testing.T) {
	t.Parallel()
	known, _ := directory.New(directory.File{}, make([]byte, directory.MinKey))
	config := api.Config{Region: "eu", Directory: known, Keys: handoff.StaticKeys{}, Metrics: telemetry.NewMetrics(prometheus.NewRegistry())}
	for _, patterns := range [][]string{{"/api"}, {"GET api"}, {"GET"}, {""}, {"GET /a/{b}", "GET /{a}/b"}, {"GET /a", "GET /a"}} {
		var routes []api.Route
		for _, p := range patterns {
			routes = append(routes, api.Route{Pattern: p, Handle: hello})
		}
		if _, err := api.New(config, routes...); err == nil || !strings.Contains(err.Error(), "route ") {
			t.Errorf("%q: %v", patterns, err)
		}
	}
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("a configuration of nothing was taken")
	}
}

func TestAPI_homeIsDecidedBeforeTheHandler(t *testing.T) {
	t.Parallel()
	replay := func(c *handoff.Claims) { c.Replay = true }
	for name, row := range map[string]struct {
		who    handoff.Identity
		change []func(*handoff.Claims)
		status int
		name   string
	}{
		"elsewhere":         {apitest.User("globex"), nil, http.StatusMisdirectedRequest, problem.Misdirected},
		"elsewhere, replay": {apitest.User("globex"), []func(*handoff.Claims){replay}, http.StatusServiceUnavailable, problem.RegionUnavailable},
		"nowhere":           {apitest.User("initech"), nil, http.StatusForbidden, problem.Forbidden},
		"nobody":            {handoff.Identity{}, nil, http.StatusUnauthorized, problem.Unauthenticated},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				g := newRegion(t, nil, api.Route{Pattern: method + " /api/x", Handle: func(http.ResponseWriter, *http.Request) error {
					t.Error("the handler was reached")
					return nil
				}})
				resp := g.ask(t, method, "/api/x", row.who, row.change...)
				wantProblem(t, resp, row.status, row.name)
				want, epoch := "", ""
				if row.status == http.StatusMisdirectedRequest {
					want, epoch = "us", "7"
				}
				if got := resp.Header.Get(handoff.HeaderHomeRegion); got != want {
					t.Errorf("X-Home-Region %q, want %q", got, want)
				}
				if got := resp.Header.Get(handoff.HeaderHomeEpoch); got != epoch {
					t.Errorf("X-Edge-Home-Epoch %q, want %q", got, epoch)
				}
				if row.status == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			})
		}
	}
}

// A write that the database refuses, since its tenant has moved there while this
// process did not know, is answered as if it had known.
func TestAPI_whatTheDatabaseRefusesBelongsElsewhere(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		moved  feed.Tenant
		status int
		name   string
		epoch  string
	}{
		{feed.Tenant{Tenant: "acme", Home: "us", State: feed.Active, Epoch: 7}, http.StatusMisdirectedRequest, problem.Misdirected, "7"},
		{feed.Tenant{Tenant: "acme", Home: "eu", State: feed.Moving, Epoch: 7}, http.StatusServiceUnavailable, problem.RegionUnavailable, ""},
		{feed.Tenant{Tenant: "acme", Home: "eu", State: feed.Closed, Epoch: 7}, http.StatusForbidden, problem.Forbidden, ""},
	} {
		g := newRegion(t, nil, api.Route{Pattern: "POST /api/x", Handle: func(http.ResponseWriter, *http.Request) error {
			return fmt.Errorf("place order: %w", &tenancy.Elsewhere{Tenant: row.moved})
		}})
		resp := g.ask(t, http.MethodPost, "/api/x", apitest.User("acme"))
		wantProblem(t, resp, row.status, row.name)
		if got := resp.Header.Get(handoff.HeaderHomeEpoch); got != row.epoch {
			t.Errorf("%+v: epoch %q, want %q", row.moved, got, row.epoch)
		}
	}
}

func TestAPI_anyoneIsNotAskedWhereTheyLive(t *testing.T) {
	t.Parallel()
	g := newRegion(t, nil, api.Route{Pattern: "GET /products/{slug}", Access: api.Anyone, Handle: hello})
	for _, who := range []handoff.Identity{{}, apitest.User("acme"), apitest.User("globex")} {
		if resp := g.ask(t, http.MethodGet, "/products/coffee", who); resp.StatusCode != http.StatusOK {
			t.Errorf("%q: %d", who.Tenant, resp.StatusCode)
		}
	}
}

func TestAPI_errorsBecomeProblems(t *testing.T) {
	t.Parallel()
	secret := errors.New("dial tcp 10.0.0.7:5432: password is hunter2")
	for name, row := range map[string]struct {
		method string
		err    error
		status int
		name   string
	}{
		"problem":         {"GET", problem.New(404, problem.NotFound, ""), 404, problem.NotFound},
		"wrapped problem": {"GET", fmt.Errorf("place: %w", problem.New(409, problem.Conflict, "").WithCause(secret)), 409, problem.Conflict},
		"fault":           {"POST", secret, 500, problem.Internal},
		"deadline, read":  {"GET", fmt.Errorf("query: %w", context.DeadlineExceeded), 503, problem.Overloaded},
		"deadline, write": {"POST", fmt.Errorf("commit: %w", context.DeadlineExceeded), 504, problem.RegionTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRegion(t, nil, api.Route{Pattern: row.method + " /api/x", Handle: func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Set-Cookie", "half=done")
				return row.err
			}})
			resp := g.ask(t, row.method, "/api/x", apitest.User("acme"))
			p := wantProblem(t, resp, row.status, row.name)
			if strings.Contains(fmt.Sprint(p), "hunter2") {
				t.Errorf("the cause went out: %+v", p)
			}
			if (row.status == 504) != (p.Outcome == problem.OutcomeUnknown) {
				t.Errorf("outcome %q", p.Outcome)
			}
			if resp.Header.Get("Set-Cookie") != "" {
				t.Error("what the handler had begun to answer went out with the problem")
			}
			line := g.line(t)
			if line[handoff.FieldProblem] != row.name {
				t.Errorf("log says problem %v", line[handoff.FieldProblem])
			}
			if cause, _ := line["error"].(string); strings.Contains(row.err.Error(), "hunter2") && !strings.Contains(cause, "hunter2") {
				t.Errorf("the log does not know the cause: %v", line)
			}
		})
	}
}

// TestAPI_retryIsAdvisedWhereAKeyMakesItSafe and nowhere else: nobody knows what
// became of the first.
func TestAPI_retryIsAdvisedWhereAKeyMakesItSafe(t *testing.T) {
	t.Parallel()
	late := func(http.ResponseWriter, *http.Request) error { return context.DeadlineExceeded }
	g := newRegion(t, nil, api.Route{Pattern: "POST /api/x", Handle: late})
	for key, want := range map[string]string{"": "", "k": "1"} {
		r := g.pop.Request(t, http.MethodPost, "/api/x", nil, apitest.User("acme"))
		if key != "" {
			r.Header.Set(handoff.HeaderIdempotencyKey, key)
		}
		resp := g.send(r)
		wantProblem(t, resp, 504, problem.RegionTimeout)
		if got := resp.Header.Get("Retry-After"); got != want {
			t.Errorf("key %q: Retry-After %q, want %q", key, got, want)
		}
	}
}

func TestAPI_routesThatAreNotThere(t *testing.T) {
	t.Parallel()
	g := newRegion(t, nil,
		api.Route{Pattern: "GET /api/orders", Handle: hello},
		api.Route{Pattern: "POST /api/orders", Handle: hello},
		api.Route{Pattern: "GET /api/orders/{id}", Handle: hello})
	for target, row := range map[string]struct {
		method, name, allow string
		status              int
	}{
		"/nowhere":            {"GET", problem.NotFound, "", 404},
		"/":                   {"GET", problem.NotFound, "", 404},
		"/api/orders/1/lines": {"GET", problem.NotFound, "", 404},
		"/api/orders/":        {"GET", problem.NotFound, "", 404},
		"/API/orders":         {"GET", problem.NotFound, "", 404},
		"/api/orders":         {"DELETE", problem.MethodNotAllowed, "GET, HEAD, POST", 405},
		"/api/orders/1":       {"PUT", problem.MethodNotAllowed, "GET, HEAD", 405},
	} {
		resp := g.ask(t, row.method, target, apitest.User("acme"))
		wantProblem(t, resp, row.status, row.name)
		if got := resp.Header.Get("Allow"); got != row.allow {
			t.Errorf("%s: Allow %q, want %q", target, got, row.allow)
		}
	}
	want := `
		# HELP gatehouse_region_problems_total Problems answered, by the last part of their type.
		# TYPE gatehouse_region_problems_total counter
		gatehouse_region_problems_total{problem="method-not-allowed"} 2
		gatehouse_region_problems_total{problem="not-found"} 5
	`
	if err := testutil.GatherAndCompare(g.reg, strings.NewReader(want), "gatehouse_region_problems_total"); err != nil {
		t.Error(err)
	}
}

func TestAPI_headIsAnsweredWithoutABody(t *testing.T) {
	t.Parallel()
	g := newRegion(t, nil, api.Route{Pattern: "GET /api/x", Handle: hello})
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	for _, target := range []string{"/api/x", "/nowhere"} {
		r, _ := http.NewRequest(http.MethodHead, server.URL+target, nil)
		g.pop.Sign(t, r, apitest.User("acme"))
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if len(body) != 0 || resp.ContentLength <= 0 {
			t.Errorf("%s: %d bytes, Content-Length %d", target, len(body), resp.ContentLength)
		}
	}
}

func TestAPI_panicIsAProblem(t *testing.T) {
	t.Parallel()
	g := newRegion(t, nil, api.Route{Pattern: "GET /api/x", Handle: func(http.ResponseWriter, *http.Request) error {
		panic("out of cheese")
	}})
	wantProblem(t, g.ask(t, http.MethodGet, "/api/x", apitest.User("acme")), 500, problem.Internal)
	if g.log.FilterMessage("a handler panicked").Len() != 1 {
		t.Error("the panic is not in the log")
	}
	if line := g.line(t); line[handoff.FieldStatus] != int64(500) {
		t.Errorf("%v", line)
	}
}

// TestAPI_halfAnAnswerIsBrokenOff: a client that reads 200 and a whole body
// must be able to believe both.
func TestAPI_halfAnAnswerIsBrokenOff(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func() error{
		"error": func() error { return errors.New("disk full") },
		"panic": func() error { panic("out of cheese") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRegion(t, nil, api.Route{Pattern: "GET /api/x", Handle: func(w http.ResponseWriter, _ *http.Request) error {
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				return end()
			}})
			server := httptest.NewServer(g)
			t.Cleanup(server.Close)
			r, _ := http.NewRequest(http.MethodGet, server.URL+"/api/x", nil)
			g.pop.Sign(t, r, apitest.User("acme"))
			resp, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%q came as a whole answer", body)
			}
		})
	}
}

func TestAPI_bodyIsBounded(t *testing.T) {
	t.Parallel()
	measure := func(w http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		return api.JSON(w, http.StatusOK, len(body))
	}
	g := newRegion(t, nil, api.Route{Pattern: "POST /api/x", Handle: measure}, api.Route{Pattern: "POST /x", Access: api.Anyone, Handle: measure})
	for _, row := range []struct {
		target string
		bytes  int
		status int
	}{
		{"/api/x", 0, 200}, {"/api/x", 16<<10 + 1, 200}, {"/api/x", api.MaxBody, 200}, {"/api/x", api.MaxBody + 1, 413},
		{"/x", 16 << 10, 200}, {"/x", 16<<10 + 1, 413},
	} {
		for _, length := range []int64{int64(row.bytes), -1} { // said before, or chunked
			r := g.pop.Request(t, http.MethodPost, row.target, strings.NewReader(strings.Repeat("a", row.bytes)), apitest.User("acme"))
			r.ContentLength = length
			resp := g.send(r)
			if row.status == http.StatusRequestEntityTooLarge {
				wantProblem(t, resp, row.status, problem.BodyTooLarge)
				continue
			}
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != row.status || string(body) != strconv.Itoa(row.bytes) {
				t.Errorf("%d bytes to %s, length %d: %d %s", row.bytes, row.target, length, resp.StatusCode, body)
			}
		}
	}
}

// TestAPI_slowBodiesTakeNobodysTurn: it costs a client nothing to begin a login
// and to never end it.
func TestAPI_slowBodiesTakeNobodysTurn(t *testing.T) {
	t.Parallel()
	g := newRegion(t, func(c *api.Config) { c.MaxInFlight = 1 },
		api.Route{Pattern: "POST /login", Access: api.Anyone, Handle: hello}, api.Route{Pattern: "GET /login", Access: api.Anyone, Handle: hello},
		api.Route{Pattern: "POST /api/x", Handle: hello}, api.Route{Pattern: "GET /api/x", Handle: hello})
	var wait sync.WaitGroup
	defer wait.Wait()
	for _, target := range []string{"/login", "/api/x"} {
		body, sent := io.Pipe()
		defer sent.Close()
		r := g.pop.Request(t, http.MethodPost, target, body, apitest.User("acme"))
		wait.Go(func() {
			g.send(r)
			_ = body.Close()
		})
		if _, err := sent.Write([]byte("{")); err != nil {
			t.Errorf("%s is not read: %v", target, err)
		}
	}
	for _, target := range []string{"/login", "/api/x"} {
		if resp := g.ask(t, http.MethodGet, target, apitest.User("acme")); resp.StatusCode != http.StatusOK {
			t.Errorf("%s beside a slow body: %d", target, resp.StatusCode)
		}
	}
}

// TestAPI_largeBodiesAreFew: what is kept of bodies is bounded, whatever tenants
// send, and small ones do not wait for large ones.
func TestAPI_largeBodiesAreFew(t *testing.T) {
	t.Parallel()
	const small = 16 << 10
	g := newRegion(t, func(c *api.Config) { c.MaxInFlight = 4 }, api.Route{Pattern: "POST /api/x", Handle: hello})
	var wait sync.WaitGroup
	defer wait.Wait()
	slow, sent := io.Pipe()
	defer sent.Close()
	r := g.pop.Request(t, http.MethodPost, "/api/x", slow, apitest.User("acme"))
	wait.Go(func() {
		g.send(r)
		_ = slow.Close()
	})
	if _, err := sent.Write(make([]byte, small+2)); err != nil { // the last byte is read once it has its place
		t.Fatal(err)
	}
	for size, status := range map[int]int{small: http.StatusOK, small + 1: http.StatusServiceUnavailable} {
		resp := g.send(g.pop.Request(t, http.MethodPost, "/api/x", strings.NewReader(strings.Repeat("a", size)), apitest.User("acme")))
		if resp.StatusCode != status {
			t.Errorf("%d bytes beside a large body: %d, want %d", size, resp.StatusCode, status)
		}
	}
}

// TestAPI_anyoneLeavesTurnsToTenants: a flood of logins waits for hashes, and
// orders go on.
func TestAPI_anyoneLeavesTurnsToTenants(t *testing.T) {
	t.Parallel()
	const inFlight = 8
	entered, leave := make(chan struct{}), make(chan struct{})
	g := newRegion(t, func(c *api.Config) { c.MaxInFlight, c.RequestTimeout = inFlight, 5*time.Second },
		api.Route{Pattern: "POST /login", Access: api.Anyone, Handle: func(w http.ResponseWriter, r *http.Request) error {
			entered <- struct{}{}
			select {
			case <-leave:
			case <-r.Context().Done():
			}
			return r.Context().Err()
		}}, api.Route{Pattern: "GET /api/x", Handle: hello})
	var wait sync.WaitGroup
	for range inFlight / 4 {
		r := g.pop.Request(t, http.MethodPost, "/login", nil, handoff.Identity{})
		wait.Go(func() { g.send(r) })
		<-entered
	}
	go func() {
		for range entered { // whoever comes in after all
		}
	}()
	wantProblem(t, g.ask(t, http.MethodPost, "/login", handoff.Identity{}), 503, problem.Overloaded)
	if resp := g.ask(t, http.MethodGet, "/api/x", apitest.User("acme")); resp.StatusCode != http.StatusOK {
		t.Errorf("a tenant beside a flood of logins: %d", resp.StatusCode)
	}
	close(leave)
	wait.Wait()
	close(entered)
}

func TestAPI_handlerHasADeadline(t *testing.T) {
	t.Parallel()
	g := newRegion(t, func(c *api.Config) { c.RequestTimeout = time.Millisecond },
		api.Route{Pattern: "GET /api/x", Handle: func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return r.Context().Err()
		}})
	wantProblem(t, g.ask(t, http.MethodGet, "/api/x", apitest.User("acme")), 503, problem.Overloaded)
}

func TestAPI_clientThatLeftIsNotAnswered(t *testing.T) {
	t.Parallel()
	g := newRegion(t, nil, api.Route{Pattern: "GET /api/x", Handle: func(_ http.ResponseWriter, r *http.Request) error {
		<-r.Context().Done()
		return r.Context().Err()
	}})
	ctx, leave := context.WithCancel(t.Context())
	leave()
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler {
				t.Errorf("recovered %v", v)
			}
		}()
		g.send(g.pop.Request(t, http.MethodGet, "/api/x", nil, apitest.User("acme")).WithContext(ctx))
	}()
	if line := g.line(t); line[handoff.FieldStatus] != int64(499) {
		t.Errorf("%v", line)
	}
}

func TestAPI_overItsLimitItSaysSo(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	g := newRegion(t, func(c *api.Config) { c.MaxInFlight = 1 },
		api.Route{Pattern: "GET /api/x", Handle: func(w http.ResponseWriter, r *http.Request) error {
			close(entered)
			<-leave
			return hello(w, r)
		}})
	var wait sync.WaitGroup
	wait.Go(func() { g.ask(t, http.MethodGet, "/api/x", apitest.User("acme")) })
	<-entered
	resp := g.ask(t, http.MethodGet, "/api/x", apitest.User("acme"))
	wantProblem(t, resp, 503, problem.Overloaded)
	if !slices.Contains([]string{"1", "2", "3"}, resp.Header.Get("Retry-After")) {
		t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
	}
	// Who is turned away anyway takes nobody's turn.
	wantProblem(t, g.ask(t, http.MethodGet, "/api/x", apitest.User("globex")), 421, problem.Misdirected)
	close(leave)
	wait.Wait()
}

func TestAPI_drainingClosesConnections(t *testing.T) {
	t.Parallel()
	g := newRegion(t, nil, api.Route{Pattern: "GET /api/x", Handle: hello})
	if got := g.ask(t, http.MethodGet, "/api/x", apitest.User("acme")).Header.Get("Connection"); got != "" {
		t.Errorf("Connection %q before", got)
	}
	g.Drain()
	for _, target := range []string{"/api/x", "/nowhere"} {
		if got := g.ask(t, http.MethodGet, target, apitest.User("acme")).Header.Get("Connection"); got != "close" {
			t.Errorf("%s: Connection %q while draining", target, got)
		}
	}
}

// TestAPI_ready: what a POP decides by, and nobody else hears.
func TestAPI_ready(t *testing.T) {
	t.Parallel()
	var fault error
	g := newRegion(t, func(c *api.Config) { c.Ready = func(context.Context) error { return fault } })
	nobody := handoff.Identity{}
	is := func(method string, status int, text string) {
		t.Helper()
		resp := g.ask(t, method, handoff.ReadyPath, nobody)
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status || string(body) != text || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d %q, want %d %q; %v", resp.StatusCode, body, status, text, resp.Header)
		}
	}
	is("GET", 200, "ready\n")
	if n := g.log.Len(); n != 0 {
		t.Errorf("%d lines in the log for a check that passed", n)
	}
	fault = errors.New("the database is away")
	is("GET", 503, "not ready\n") // and not why
	if n := g.log.FilterField(zap.String(handoff.FieldRoute, handoff.ReadyPath)).Len(); n != 1 {
		t.Errorf("%d lines in the log for one that failed", n)
	}
	g.Drain()
	is("GET", 503, handoff.Draining+"\n")
	fault = nil
	is("GET", 503, handoff.Draining+"\n")
	wantProblem(t, g.send(httptest.NewRequest(http.MethodGet, handoff.ReadyPath, nil)), 401, problem.UntrustedHop)
	wantProblem(t, g.ask(t, "DELETE", handoff.ReadyPath, nobody), 405, problem.MethodNotAllowed)
}

// TestAPI_readyWaitsForNobodysTurn: whoever fills the region with requests must not
// make it look dead.
func TestAPI_readyWaitsForNobodysTurn(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	g := newRegion(t, func(c *api.Config) {
		c.MaxInFlight = 1
		c.Ready = func(context.Context) error { return nil }
	}, api.Route{Pattern: "GET /login", Access: api.Anyone, Handle: func(http.ResponseWriter, *http.Request) error {
		close(entered)
		<-leave
		return nil
	}})
	var wait sync.WaitGroup
	defer wait.Wait()
	defer close(leave)
	wait.Go(func() { g.ask(t, "GET", "/login", handoff.Identity{}) })
	<-entered
	if resp := g.ask(t, "GET", handoff.ReadyPath, handoff.Identity{}); resp.StatusCode != 200 {
		t.Errorf("%d while all turns are taken", resp.StatusCode)
	}
}

func TestAPI_sessionKeysNeedNoAssertion(t *testing.T) {
	t.Parallel()
	g := newRegion(t, func(c *api.Config) {
		c.SessionKeys = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) })
	})
	for target, status := range map[string]int{
		handoff.SessionJWKSPath:             200,
		handoff.SessionJWKSPath + "?x=1":    200,
		handoff.SessionJWKSPath + "/":       401,
		"/x" + handoff.SessionJWKSPath:      401,
		"/.well-known/../.well-known/x":     400,
		"/%2ewell-known/jwks.json":          400,
		"/.well-known/openid-configuration": 401,
	} {
		if resp := g.send(httptest.NewRequest(http.MethodGet, target, nil)); resp.StatusCode != status {
			t.Errorf("%s: %d, want %d", target, resp.StatusCode, status)
		}
	}
	resp := g.send(httptest.NewRequest(http.MethodPost, handoff.SessionJWKSPath, nil))
	wantProblem(t, resp, 405, problem.MethodNotAllowed)
	if resp.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow %q", resp.Header.Get("Allow"))
	}
}
