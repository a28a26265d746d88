package caddymodule_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// sick is a region that answers checks with the status that it is told to.
type sick struct {
	*httptest.Server
	status atomic.Int64
}

func newSick(t *testing.T) *sick {
	t.Helper()
	s := new(sick)
	s.status.Store(200)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == handoff.ReadyPath {
			w.WriteHeader(int(s.status.Load()))
			return
		}
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(s.Close)
	return s
}

// checkedSite is a POP that checks region us, which is s, and sends everything there.
func checkedSite(t *testing.T, s *sick, events string) site {
	t.Helper()
	return site{
		key:     edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))),
		globals: "events {\n" + events + "\n\t}",
		issuer: `region us {
			upstreams ` + strings.TrimPrefix(s.URL, "http://") + `
			health {
				interval 100ms
				fails 2
				passes 2
			}
			breaker {
				failures 3
				open 1h
				max_open 1h
			}
		}`,
		body: `edge_guard
	metrics /metrics
	handle /us/* {
		edge_region {
			to us
		}
		reverse_proxy {
			dynamic edge_region
			transport edge
		}
	}`,
	}
}

func TestHealth_changesAreToldInEventsAndFigures(t *testing.T) {
	heard.Lock()
	heard.events = nil
	heard.Unlock()
	s := newSick(t)
	address := edgetest.Run(t, checkedSite(t, s, strings.Join([]string{
		"on " + edge.EventUpstreamChanged + " edgetest", "on " + edge.EventRegionDown + " edgetest", "on " + edge.EventRegionUp + " edgetest",
	}, "\n")).String())
	upstream := strings.TrimPrefix(s.URL, "http://")
	metric := func(name, labels string, value int) bool {
		t.Helper()
		body := edgetest.Raw(t, address, "GET /metrics HTTP/1.1\nHost: pop.example\n\n").Body
		return slices.Contains(strings.Split(body, "\n"), fmt.Sprintf("%s{region=\"us\"%s} %d", name, labels, value))
	}
	// Prometheus sorts labels: kind, region, state, result, upstream.
	of := func(label, value string) string { return fmt.Sprintf(",%s=%q,upstream=%q", label, value, upstream) }
	state := func(name string, value int) bool {
		return metric(handoff.MetricUpstreamState, of("state", name), value)
	}
	eventually(t, "up in the figures", func() bool {
		return state("up", 1) && state("down", 0) && metric(handoff.MetricRegionAvailable, "", 1)
	})

	s.status.Store(500)
	eventually(t, "the end of the region", func() bool { return slices.Contains(heardNames(), edge.EventRegionDown) })
	if !state("up", 0) || !state("down", 1) || !metric(handoff.MetricRegionAvailable, "", 0) {
		t.Error("the figures do not say that it is down")
	}
	s.status.Store(200)
	eventually(t, "its return", func() bool { return slices.Contains(heardNames(), edge.EventRegionUp) })
	if !state("up", 1) || !metric(handoff.MetricRegionAvailable, "", 1) || !metric(handoff.MetricUpstreamChanges, of("state", "down"), 1) {
		t.Error("the figures do not say that it is back")
	}
	for range 3 {
		edgetest.Raw(t, address, "POST /us/x HTTP/1.1\nHost: pop.example\nContent-Length: 0\n\n")
	}
	eventually(t, "the breaker", func() bool { return strings.Count(strings.Join(heardNames(), " "), edge.EventRegionDown) == 2 })
	kind := fmt.Sprintf("%s{kind=%q,region=\"us\",upstream=%q} 3", handoff.MetricUpstreamFailures, "gateway", upstream)
	if body := edgetest.Raw(t, address, "GET /metrics HTTP/1.1\nHost: pop.example\n\n").Body; !strings.Contains(body, kind) || !state("open", 1) {
		t.Errorf("the figures do not say why it is left alone: %s", kind)
	}

	heard.Lock()
	defer heard.Unlock()
	var told []string
	for _, e := range heard.events {
		if e.Name() == edge.EventUpstreamChanged && e.Data["upstream"] != upstream || e.Data["region"] != "us" {
			t.Errorf("%s: %v", e.Name(), e.Data)
		}
		told = append(told, strings.TrimSpace(fmt.Sprint(e.Name(), " ", text(e.Data["from"]), " ", text(e.Data["to"]), " ", text(e.Data["by"]))))
	}
	want := []string{
		"upstream_changed up down checks", "region_down", "upstream_changed down up checks", "region_up",
		"upstream_changed up open requests", "region_down",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// reloader is an event handler that loads another configuration, as an exec of "caddy
// reload" does, and ends when that has ended.
type reloader struct{}

// next is what it loads, and loaded whether it has: a connection that comes while a
// configuration gives way to another may be closed unread, so nothing is asked before.
var (
	next   atomic.Pointer[string]
	loaded atomic.Bool
)

func (reloader) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.edgetest_reload", New: func() caddy.Module { return new(reloader) }}
}

func (reloader) Handle(context.Context, caddy.Event) error {
	config := next.Swap(nil)
	if config == nil {
		return nil
	}
	err := edgetest.Load(*config)
	loaded.Store(err == nil)
	return err
}

func (reloader) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

var _ caddyevents.Handler = reloader{}

func init() { caddy.RegisterModule(reloader{}) }

// A load waits for the checks of the configuration before it, so that these must not
// wait for a load.
func TestHealth_anEventMayLoadAnotherConfiguration(t *testing.T) {
	s := newSick(t)
	config := checkedSite(t, s, "on "+edge.EventRegionDown+" edgetest_reload").String()
	other := strings.Replace(config, "edge_guard\n", "edge_guard\n\trespond /other \"another\"\n", 1)
	loaded.Store(false)
	next.Store(&other)
	edgetest.Run(t, config)
	s.status.Store(500)
	eventually(t, "the other configuration", loaded.Load)
	if body := edgetest.Raw(t, edgetest.Address(t), "GET /other HTTP/1.1\nHost: x\n\n").Body; body != "another" {
		t.Errorf("the other configuration answers %q", body)
	}
	if app, err := caddy.ActiveContext().App("edge"); err != nil || app.(*edge.App).Available("us") {
		t.Errorf("what was known is forgotten: %v", err)
	}
}
