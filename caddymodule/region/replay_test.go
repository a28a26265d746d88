package region_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"

	"github.com/go-json-experiment/json"
)

// readsFirst answers with h once the whole body was read.
func readsFirst(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		h(w, r)
	}
}

// problemIn reads the problem that the edge answered.
func problemIn(t *testing.T, res *http.Response, body string) problem.Problem {
	t.Helper()
	var p problem.Problem
	if res.Header.Get("Content-Type") != problem.ContentType {
		t.Fatalf("%d, %s: %s", res.StatusCode, res.Header.Get("Content-Type"), body)
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if p.Status != res.StatusCode || p.RequestID != res.Header.Get("X-Request-Id") {
		t.Errorf("the problem says %d, %s, the answer %d, %s", p.Status, p.RequestID, res.StatusCode, res.Header.Get("X-Request-Id"))
	}
	return p
}

// unknownLength hides how long a body is, so that it is sent in chunks.
type unknownLength struct{ io.Reader }

func TestReplay_anyMethodAndBodyUpToTheLimit(t *testing.T) {
	const limit = 64 << 10
	p := newPOP(t, site("edge_region {\nrewrite /{edge.region}{uri}\n}", "replay_limit 64KiB"))
	n := 0
	for _, early := range []bool{false, true} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			for _, size := range []int{0, 1, limit - 1, limit, limit + 1} {
				for _, chunked := range []bool{false, true} {
					if method == "GET" && size > 0 {
						continue
					}
					n++
					name := fmt.Sprintf("%s %d bytes, chunked %v, answered early %v", method, size, chunked, early)
					t.Run(name, func(t *testing.T) {
						if early {
							p.eu.answers(sendsTo("us"))
						} else {
							p.eu.answers(readsFirst(sendsTo("us")))
						}
						body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
						var reader io.Reader = bytes.NewReader(body)
						if chunked {
							reader = unknownLength{reader}
						}
						before := len(p.us.requests())
						res, text := p.ask(t, method, "/eu/app?q=%41", reader, fmt.Sprintf("Test-Tenant: t%d", n), "Test-Home: eu")
						d := decided(t, res)
						if size > limit && (!chunked || !early) {
							if got := problemIn(t, res, text); res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || res.Header.Get("Retry-After") == "" || got.Outcome != "" {
								t.Errorf("%d %s", res.StatusCode, text)
							}
							if len(p.us.requests()) != before || d.Replayed || d.Outcome != decision.OutcomeUnavailable {
								t.Errorf("%+v", d)
							}
							return
						}
						if size > limit && res.StatusCode == 503 {
							return // the transport had read past the limit before the answer came: both are right
						}
						if res.StatusCode != 200 || !d.Replayed || d.Home != "us" || d.Reason != decision.ReasonLearnt || d.Rewritten != "/america/app?q=%41" {
							t.Fatalf("%d %s %+v", res.StatusCode, text, d)
						}
						all := p.us.requests()
						if len(all) != before+1 {
							t.Fatalf("us saw %d requests", len(all)-before)
						}
						s := all[before]
						if s.refused != nil || !s.claims.Replay || s.target != "/america/app?q=%41" || s.header.Get("X-Home-Region") != "us" {
							t.Errorf("%v %+v %s", s.refused, s.claims, s.target)
						}
						if s.bodyErr != nil || !bytes.Equal(s.body, body) {
							t.Errorf("us read %d bytes (%v), %d were sent", len(s.body), s.bodyErr, len(body))
						}
						// The next one goes there at once.
						res, _ = p.ask(t, "GET", "/app", nil, fmt.Sprintf("Test-Tenant: t%d", n), "Test-Home: eu")
						if d := decided(t, res); d.Home != "us" || d.Reason != decision.ReasonLearnt || d.Replayed {
							t.Errorf("not learnt: %+v", d)
						}
					})
				}
			}
		}
	}
}

func TestReplay_no421ReachesAClient(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	with := func(lines ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-Home-Region"] = lines
			w.WriteHeader(http.StatusMisdirectedRequest)
		}
	}
	for _, row := range []struct {
		name   string
		eu, us http.HandlerFunc
		us421  int
		detail string
	}{
		{"to a region that is not there", with("mars"), nil, 0, "does not know"},
		{"to a public name", with("america"), nil, 0, "does not know"},
		{"to itself", with("eu"), nil, 0, "to itself"},
		{"to nowhere", with(), nil, 0, "did not say where"},
		{"to nothing", with(""), nil, 0, "did not say where"},
		{"malformed", with("US"), nil, 0, "did not say where"},
		{"a list", with("us, eu"), nil, 0, "did not say where"},
		{"two headers", with("us", "us"), nil, 0, "did not say where"},
		{"and back", with("us"), with("eu"), 1, "in turn"},
		{"and on to itself", with("us"), with("us"), 1, "in turn"},
	} {
		for _, method := range []string{"GET", "POST"} {
			t.Run(row.name+" "+method, func(t *testing.T) {
				p.eu.answers(row.eu)
				p.us.answers(row.us)
				eu, us := len(p.eu.requests()), len(p.us.requests())
				res, text := p.ask(t, method, "/", strings.NewReader("x"), "Test-Tenant: acme", "Test-Home: eu")
				got := problemIn(t, res, text)
				if res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || !strings.Contains(got.Detail, row.detail) || res.Header.Get("Retry-After") == "" {
					t.Errorf("%d %s", res.StatusCode, text)
				}
				if a, b := len(p.eu.requests())-eu, len(p.us.requests())-us; a != 1 || b != row.us421 {
					t.Errorf("eu saw %d, us %d requests", a, b)
				}
				if res.Header.Get("X-Home-Region") != "" {
					t.Error("the region's word is passed on")
				}
				// A name that a region made up labels no metric.
				if d := decided(t, res); d.Replayed != (row.us421 > 0) || d.Home != "eu" && d.Home != "us" {
					t.Errorf("replayed %v, home %q", d.Replayed, d.Home)
				}
				// Nothing that failed is remembered.
				p.eu.answers(nil)
				res, _ = p.ask(t, "GET", "/", nil, "Test-Tenant: acme", "Test-Home: eu")
				if d := decided(t, res); d.Home != "eu" || d.Reason != decision.ReasonClaim {
					t.Errorf("learnt: %+v", d)
				}
			})
		}
	}
}

func TestReplay_withoutATenantNothingIsLearnt(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	p.eu.answers(readsFirst(sendsTo("us")))
	for range 2 {
		res, text := p.ask(t, "POST", "/login", strings.NewReader("email=grace"))
		if d := decided(t, res); res.StatusCode != 200 || !d.Replayed || !strings.HasPrefix(text, "us POST /login 11") {
			t.Fatalf("%d %s %+v", res.StatusCode, text, d)
		}
	}
	for _, s := range p.us.requests() {
		if s.refused != nil || !s.claims.Replay || s.claims.Tenant != "" {
			t.Errorf("%v %+v", s.refused, s.claims)
		}
	}
}

// reverse_proxy may come again after a replay, for the sake of an answer that it
// does not like: the count is the request's, and not the attempt's.
func TestReplay_isCountedAcrossRetries(t *testing.T) {
	p := newPOP(t, `edge_guard
test_session
edge_region
reverse_proxy {
	dynamic edge_region
	lb_retries 3
	lb_try_interval 1ms
	lb_retry_match {
		expression "{rp.status_code} == 500"
	}
	transport edge
}`)
	p.eu.answers(sendsTo("us"))
	p.us.answers(func(w http.ResponseWriter, r *http.Request) {
		if len(p.us.requests()) == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		sendsTo("eu")(w, r)
	})
	res, text := p.ask(t, "GET", "/", nil, "Test-Tenant: acme", "Test-Home: eu")
	if got := problemIn(t, res, text); res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || len(p.eu.requests()) != 1 {
		t.Errorf("%d %s, eu saw %d", res.StatusCode, text, len(p.eu.requests()))
	}
}

// A region taken over must not carry off the tenants of others: those whose users
// pass by on a route that is pinned to it.
func TestReplay_aPinnedRegionTeachesNothingAboutTenants(t *testing.T) {
	p := newPOP(t, "edge_guard\ntest_session\nhandle /pinned {\nedge_region {\nto eu\n}\n"+proxy+"\n}\nhandle {\nedge_region\n"+proxy+"\n}")
	p.eu.answers(sendsTo("us"))
	if res, text := p.ask(t, "GET", "/pinned", nil, "Test-Tenant: acme"); res.StatusCode != 200 || text != "us GET /pinned 0" {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
	p.eu.answers(nil)
	res, _ := p.ask(t, "GET", "/", nil, "Test-Tenant: acme", "Test-Home: eu")
	if d := decided(t, res); d.Home != "eu" || d.Reason != decision.ReasonClaim {
		t.Errorf("acme is now at home in %s because of %s", d.Home, d.Reason)
	}
}

func TestReplay_goesOnlyWhereItCanBeSent(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	p.us.Close()
	p.eu.answers(sendsTo("us"))
	res, text := p.ask(t, "POST", "/", strings.NewReader("x"), "Test-Tenant: acme", "Test-Home: eu")
	if got := problemIn(t, res, text); res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || got.Outcome != "" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	if len(p.eu.requests()) != 1 {
		t.Error("the region that had sent it away was asked again")
	}
}

func TestReplay_triesTheOtherUpstreamsOfThatRegion(t *testing.T) {
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, p.eu.addr(), edgetest.Nobody(t)+" "+p.us.addr(), site("edge_region", ""))
	p.eu.answers(readsFirst(sendsTo("us")))
	res, text := p.ask(t, "POST", "/", strings.NewReader("body"), "Test-Tenant: acme", "Test-Home: eu")
	if res.StatusCode != 200 || text != "us POST / 4" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	p.us.only()
}

func TestReplay_aRewriteBelowEdgeRegionIsNotGuessedAt(t *testing.T) {
	p := newPOP(t, `edge_guard
test_session
edge_region {
	rewrite /{edge.region}{uri}
}
reverse_proxy {
	dynamic edge_region
	transport edge
	rewrite /v1{uri}
}`)
	p.eu.answers(sendsTo("us"))
	res, text := p.ask(t, "GET", "/app", nil, "Test-Tenant: acme")
	if got := problemIn(t, res, text); res.StatusCode != 503 || !strings.Contains(got.Detail, "path") || len(p.us.requests()) != 0 {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	if s := p.eu.only(); s.target != "/v1/eu/app" {
		t.Errorf("%+v", s)
	}
}

// A region may answer while the client is still sending; what it sends then goes
// to the other region, whole.
func TestReplay_whileTheClientIsStillSending(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	answered := make(chan struct{})
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		first := make([]byte, 5)
		_, _ = io.ReadFull(r.Body, first)
		sendsTo("us")(w, r)
		close(answered)
	})
	reader, writer := io.Pipe()
	go func() {
		_, _ = io.WriteString(writer, "first")
		<-answered
		_, _ = io.WriteString(writer, " second")
		_ = writer.Close()
	}()
	res, text := p.ask(t, "PUT", "/slow", reader, "Test-Tenant: acme")
	if res.StatusCode != 200 || text != "us PUT /slow 12" {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
	if s := p.us.only(); string(s.body) != "first second" {
		t.Errorf("%q", s.body)
	}
}

// The body of a 421 is of no use; one that never ends must not hold the request.
func TestReplay_doesNotWaitForTheBodyOfA421(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	ended := make(chan struct{})
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		sendsTo("us")(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // the edge gives it up
		close(ended)
	})
	if res, text := p.ask(t, "POST", "/", nil); res.StatusCode != 200 || text != "us POST / 0" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	<-ended
}

func TestReplay_expectContinueAndTrailers(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	trailers := make(chan http.Header, 1)
	p.eu.answers(sendsTo("us"))
	p.us.answers(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		trailers <- r.Trailer
		_, _ = w.Write(body)
	})
	answer := p.raw(t, strings.Join([]string{
		"POST /x HTTP/1.1", "Host: shop.example", "Connection: close", "Expect: 100-continue",
		"Transfer-Encoding: chunked", "Trailer: X-Checksum, X-Tenant-Id", "Te: trailers", "",
		"4", "body", "0", "X-Checksum: abc", "X-Tenant-Id: evil", "", "",
	}, "\r\n"))
	if !strings.Contains(answer, "HTTP/1.1 200") || !strings.Contains(answer, "body") || strings.Contains(answer, " 421 ") {
		t.Fatal(answer)
	}
	if got := <-trailers; got.Get("X-Checksum") != "abc" || got.Get("X-Tenant-Id") != "" {
		t.Errorf("trailers: %v", got)
	}
}

// movesTo answers 421 as a region does that knows of the tenant's move.
func movesTo(home string, epoch ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Edge-Home-Epoch"] = epoch
		sendsTo(home)(w, r)
	}
}

// A tenant moves there and back. Each move costs this POP one 421, and a region
// that has not heard of the last one does not lead it back.
func TestReplay_isRememberedByEpoch(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	asks := func(home string, why decision.Reason, replayed bool) {
		t.Helper()
		res, text := p.ask(t, "POST", "/", strings.NewReader("x"), "Test-Tenant: acme", "Test-Home: eu")
		if d := decided(t, res); res.StatusCode != 200 || d.Home != home || d.Reason != why || d.Replayed != replayed {
			t.Fatalf("%d %s: %s because of %s, replayed %v", res.StatusCode, text, d.Home, d.Reason, d.Replayed)
		}
		for _, field := range []string{"X-Edge-Home-Epoch", "X-Home-Region"} {
			if res.Header.Get(field) != "" {
				t.Errorf("%s reaches the client", field)
			}
		}
	}
	p.eu.answers(movesTo("us", "2"))
	asks("us", decision.ReasonLearnt, true)
	asks("us", decision.ReasonLearnt, false)

	p.eu.answers(nil)
	p.us.answers(movesTo("eu", "3"))
	asks("eu", decision.ReasonLearnt, true)
	asks("eu", decision.ReasonLearnt, false)

	// eu is restored from a backup, and knows of the first move alone.
	p.eu.answers(movesTo("us", "2"))
	p.us.answers(nil)
	asks("us", decision.ReasonLearnt, true)

	// What is no epoch is followed, this once.
	p.us.answers(movesTo("eu", "7", "8"))
	p.eu.answers(nil)
	asks("eu", decision.ReasonLearnt, true)
	p.us.answers(nil)
	asks("us", decision.ReasonLearnt, false)
}
