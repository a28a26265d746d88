package e2e

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A region's operator purges a page at every POP, and what is one tenant's is
// another's to keep.
func TestPurge_anOperatorReachesEveryPOP(t *testing.T) {
	shell := login(t, fra(), ada)
	hit := func(a answer) bool { return strings.HasPrefix(a.header.Get("Cache-Status"), "gatehouse; hit") }
	for _, pop := range topology.POPs {
		await(t, "the page in the memory of "+pop.POP, func() bool { return hit(visit(pop).get(t, "/products/coffee")) })
	}
	await(t, "the shell in the memory of fra", func() bool { return hit(shell.get(t, "/app/shell")) })
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "caddy"), "edge", "purge", "--everywhere", "--region", eu().Operator,
		"--token-file", filepath.Join(stateDir, "keys", "operator.token"), "--all").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "Region eu has purged all of everybody's answers, and tells every POP.") {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, pop := range topology.POPs {
		await(t, "the purge at "+pop.POP, func() bool {
			a := visit(pop).get(t, "/products/coffee")
			return a.status == http.StatusOK && !hit(a)
		})
	}
	if a := shell.get(t, "/app/shell"); !hit(a) {
		t.Errorf("a tenant's page is gone with everybody's: %s", a.header.Get("Cache-Status"))
	}
	out, err = exec.CommandContext(t.Context(), filepath.Join(root, "bin", "caddy"), "edge", "purge", "--everywhere", "--region", eu().Operator,
		"--token-file", filepath.Join(stateDir, "keys", "operator.token"), "--tenant", "acme", "--url", "/app/shell").CombinedOutput()
	if err != nil || string(out) != "Region eu has purged /app/shell of tenant acme, and tells every POP.\n" {
		t.Fatalf("%v\n%s", err, out)
	}
	await(t, "the purge of the shell", func() bool { return !hit(shell.get(t, "/app/shell")) })
}
