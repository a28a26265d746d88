package region_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// A client that leaves takes its connection to the region with it, which by then may be
// another client's (see decision.Strayed): that one must not be told that it has left
// itself. A read is sent again; of a write nobody knows.
func TestLeaver_takesNobodyAlong(t *testing.T) {
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source), us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, p.eu.addr()+"\nbreaker {\nfailures 1\n}", p.us.addr(),
		"test_leaver\nedge_guard\ntest_session\nedge_region\nreverse_proxy {\ndynamic edge_region\ntransport edge\nlb_retries 2\n}")
	for _, row := range []struct {
		method, body string
		status       int
		seen         int // by the region
	}{
		{"GET", "", 200, 2},
		{"HEAD", "", 200, 2},
		{"POST", "", 502, 1},
		{"POST", "an order", 502, 1},
		{"DELETE", "", 502, 1},
	} {
		t.Run(row.method+" "+row.body, func(t *testing.T) {
			before := len(p.eu.requests())
			home := http.Header{"Test-Home": {"eu"}}
			edgetest.Leave(t, p.url, "GET", home, p.eu.answers, func(http.ResponseWriter, *http.Request) {}, func() {
				res, text := p.ask(t, row.method, "/", strings.NewReader(row.body), "Test-Home: eu")
				if res.StatusCode != row.status {
					t.Fatalf("%d %s", res.StatusCode, text)
				}
				if row.status != 502 {
					return
				}
				if got := problemIn(t, res, text); got.Name() != problem.RegionFailed || got.Outcome != problem.OutcomeUnknown || decided(t, res).Outcome != decision.OutcomeFailed {
					t.Error(text)
				}
			})
			if n := len(p.eu.requests()) - before - 1; n != row.seen {
				t.Errorf("eu saw %d requests", n)
			}
			if use := runningEdge(t).Region("eu").Reach()[0].Use(); use != health.Plain {
				t.Errorf("the region is held to be at fault: %v", use)
			}
		})
	}
}
