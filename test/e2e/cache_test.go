package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// The shop's page comes from memory, is fetched in nobody's name, and stays up while
// its region is down.
func TestCache_thePageOutlivesItsRegion(t *testing.T) {
	comesBack(t, eu())
	b := login(t, fra(), ada)
	for _, pop := range topology.POPs {
		if a := visit(pop).get(t, "/products/coffee"); a.status != http.StatusOK {
			t.Fatalf("%s: %s", pop.POP, a)
		}
		if a := b.at(pop).get(t, "/api/orders"); a.status != http.StatusOK { // so that the POP has the region's keys
			t.Fatalf("%s: %s", pop.POP, a)
		}
		again := b.at(pop).get(t, "/products/coffee", "Cookie", "theme=dark")
		if again.status != http.StatusOK || !strings.HasPrefix(again.header.Get("Cache-Status"), "gatehouse; hit") || again.header.Get("Age") == "" {
			t.Errorf("%s: not from memory: %s", pop.POP, again)
		}
	}
	if err := eu().Stop(); err != nil {
		t.Fatal(err)
	}
	for _, pop := range topology.POPs {
		await(t, pop.POP+" to see that the region is gone", func() bool { return b.at(pop).get(t, "/api/orders").status == http.StatusServiceUnavailable })
		if a := visit(pop).get(t, "/products/coffee"); a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Cache-Status"), "gatehouse; hit") {
			t.Errorf("%s: the page is gone with its region: %s", pop.POP, a)
		}
		visit(pop).get(t, "/products/tea").is(t, http.StatusServiceUnavailable, "region-unavailable")
	}
}
