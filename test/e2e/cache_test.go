package e2e

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The frame of the dashboard is one tenant's, and shows nothing of who asked first.
func TestCache_theShellIsItsTenants(t *testing.T) {
	for _, pop := range topology.POPs {
		visit(pop).get(t, "/app/shell", "Sec-Fetch-Mode", "cors").is(t, http.StatusUnauthorized, "unauthenticated")
		for who, tenant := range map[string]string{ada: "acme", alan: "acme", grace: "globex"} {
			b := login(t, pop, who)
			for range 2 {
				a := b.get(t, "/app/shell")
				if body := string(a.body); a.status != http.StatusOK || !strings.Contains(body, "<strong>"+tenant+"</strong>") ||
					strings.Contains(body, ".example") || a.header.Get("Cdn-Cache-Control") != "" || !strings.HasPrefix(a.header.Get("Cache-Control"), "private") {
					t.Errorf("%s at %s: %s", who, pop.POP, a)
				}
			}
			if a := b.get(t, "/app/shell"); !strings.HasPrefix(a.header.Get("Cache-Status"), "gatehouse; hit") {
				t.Errorf("%s at %s: not from memory: %s", who, pop.POP, a.header.Get("Cache-Status"))
			}
		}
		b := login(t, pop, ada)
		if a := b.do(t, http.MethodPost, "/logout", nil, "Origin", pop.URL, "Sec-Fetch-Site", "same-origin"); a.status >= 400 {
			t.Fatalf("%s", a)
		}
		await(t, "the end of the session at "+pop.POP, func() bool { return b.get(t, "/app/shell", "Sec-Fetch-Mode", "cors").status == http.StatusUnauthorized })
	}
}

// A signed link leads to the storage; one that is changed leads nowhere.
func TestCache_aSignedLinkLeadsToTheStorage(t *testing.T) {
	sign := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "caddy"), "edge", "sign", "--key-file", filepath.Join(stateDir, "keys", "links.keys"),
		"--life", "1m", fra().URL+"/files/report.pdf")
	out, err := sign.Output()
	if err != nil {
		t.Fatal(err)
	}
	link := strings.TrimPrefix(strings.TrimSpace(string(out)), fra().URL)
	for _, pop := range topology.POPs {
		a := visit(pop).get(t, link)
		if a.status != http.StatusFound || a.header.Get("Location") != "https://files.example.com/files/report.pdf" {
			t.Errorf("%s: %s", pop.POP, a)
		}
		visit(pop).get(t, strings.Replace(link, "report", "salary", 1)).is(t, http.StatusForbidden, "link-refused")
		visit(pop).get(t, "/files/report.pdf").is(t, http.StatusForbidden, "link-refused")
	}
}

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
