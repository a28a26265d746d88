package command_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/caddymodule/command"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// regionsJSON is what programs are promised.
type regionsJSON struct {
	POP     string
	Regions []struct {
		Name, PublicName   string
		Default, Available bool
		Upstreams          []struct {
			Address, State     string
			Since, Retry       time.Time
			Requests, Failures int
			Check              *struct {
				At            time.Time
				Took          float64
				Result, Error string
				Status        int
				InARow        int `json:"in_a_row"`
			}
		}
	}
}

func TestRegions_showWhatThePOPKnows(t *testing.T) {
	var checks [3]atomic.Int64
	region := func(i, status int, text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != handoff.ReadyPath {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
			checks[i].Add(1)
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	well, leaving, ill := region(0, 200, "ready"), region(1, 503, "draining"), region(2, 500, "")
	p := newPOP(t, false)
	p.config = strings.NewReplacer(
		"upstreams 127.0.0.1:9\n\t\t}", fmt.Sprintf(`upstreams %s %s
			public_name europe
		}
		region us {
			upstreams %s
			breaker off
		}
		health {
			interval 200ms
			fails 2
		}
		breaker {
			failures 2
			open 1h
			max_open 1h
		}`, well, leaving, ill),
		`respond "in as {http.auth.user.id}"`, `edge_region
	reverse_proxy {
		dynamic edge_region
		transport edge
	}`, "edge_session\n", "").Replace(p.config)
	p.run(t)

	ask := func() (got regionsJSON) {
		t.Helper()
		out, err := typed(t, command.Regions, "--json", "--address", p.admin)
		if err == nil {
			err = json.Unmarshal([]byte(out), &got, json.MatchCaseInsensitiveNames(true))
		}
		if err != nil || len(got.Regions) != 2 || len(got.Regions[0].Upstreams) != 2 || len(got.Regions[1].Upstreams) != 1 {
			t.Fatalf("%v\n%s", err, out)
		}
		return got
	}
	states := func() string {
		got := ask()
		return got.Regions[0].Upstreams[0].State + " " + got.Regions[0].Upstreams[1].State + " " + got.Regions[1].Upstreams[0].State
	}
	become := func(want string) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for limit := time.After(20 * time.Second); ; {
			got := states()
			if got == want {
				return
			}
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("%s, want %s", got, want)
			}
		}
	}
	become("up draining down")
	for range 2 {
		if a := edgetest.Raw(t, p.site, "POST / HTTP/1.1\nHost: x\nContent-Length: 0\n\n"); a.StatusCode != 502 {
			t.Fatalf("%d %s", a.StatusCode, a.Body)
		}
	}
	become("open draining down")
	until := time.Now().Add(20 * time.Second)
	for checks[0].Load() == 0 && time.Now().Before(until) {
		ask()
	}

	got := ask()
	eu, us := got.Regions[0], got.Regions[1]
	if got.POP != "fra" || eu.Name != "eu" || !eu.Default || !eu.Available || us.Name != "us" || us.Default || us.Available {
		t.Errorf("%+v", got)
	}
	if u := eu.Upstreams[0]; u.Address != well || u.Since.IsZero() || time.Until(u.Retry) < 40*time.Minute || u.Check == nil || u.Check.Result != "passed" || u.Check.Status != 200 || u.Check.Took <= 0 || u.Check.InARow < 1 {
		t.Errorf("%+v %+v", u, u.Check)
	}
	if u := eu.Upstreams[1]; u.Address != leaving || !u.Retry.IsZero() || u.Check.Result != "draining" || u.Check.Status != 503 {
		t.Errorf("%+v %+v", u, u.Check)
	}
	if u := us.Upstreams[0]; u.Address != ill || !u.Retry.IsZero() || u.Check.Result != "failed" || u.Check.Error != "status 500" || u.Check.InARow < 2 {
		t.Errorf("%+v %+v", u, u.Check)
	}

	table, err := typed(t, command.Regions, "--address", p.admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`REGION +UPSTREAM +STATE +SINCE +REQUESTS +FAILED +LAST CHECK`,
		`eu \(default\) +` + well + ` +open, tried in [45]\dm\d+s +\S+s +0 +0 +passed( ×\d+)?, \S+ ago`,
		`eu \(default\) +` + leaving + ` +draining +\S+s +0 +0 +draining, \S+ ago`,
		`us +` + ill + ` +down +\S+s +0 +0 +failed ×\d+, \S+ ago: status 500`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `\s*$`).MatchString(table) {
			t.Errorf("%s is not in\n%s", line, table)
		}
	}
}
