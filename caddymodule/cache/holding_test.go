package cache_test

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/common/expfmt"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// counts are the metrics of the configuration that runs whose name begins so, as
// /metrics writes them.
func counts(t *testing.T, prefix string) map[string]float64 {
	t.Helper()
	ctx := caddy.ActiveContext()
	families, err := ctx.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) {
			continue
		}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		var text strings.Builder
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Error(err)
		}
	}
	return values
}

// What is stored is counted once for all caches, and goes on through a reload, as what
// is stored does.
func TestMetrics_sayWhatIsStored(t *testing.T) {
	o := newOrigin(t, counted("Cache-Control", "max-age=60", "Cache-Groups", `"g"`))
	s := newSite(t, o, "edge_cache /a* {\n\t\tpolicy public\n\t}\n\tedge_cache /b* {\n\t\tpolicy public\n\t\tsort_query\n\t}\n\treverse_proxy ORIGIN")
	const prefix = "gatehouse_edge_cache_"
	before := counts(t, prefix)
	if before[prefix+"objects"] != 0 || before[prefix+"limit_bytes"] <= 0 || before[prefix+"stored_bytes"] != 0 {
		t.Fatalf("%v", before)
	}
	for _, path := range []string{"/a", "/b", "/b2", "/b"} {
		s.get(path).is(t, 200, "*", "")
	}
	s.ask("POST", "/b", "").is(t, 200, "*", "fwd=method")
	s.get("/b").is(t, 200, "*", "fwd=uri-miss")
	for range 2 {
		got := counts(t, prefix)
		eventually(t, "nothing on its way", func() bool { got = counts(t, prefix); return got[prefix+"reserved_bytes"] == 0 })
		if got[prefix+"stored_bytes"] < 1000 || got[prefix+"purges_total"] < 1 || got[prefix+"objects"] < 3 {
			t.Errorf("%v", got)
		}
		if got[prefix+"evictions_total replaced"]+got[prefix+"evictions_total purged"] != 1 {
			t.Errorf("%v", got)
		}
		if err := edgetest.Load(s.config + "# again\n"); err != nil {
			t.Fatal(err)
		}
	}
}
