package e2e

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

// TestCommands_documentShowsWhatHappens runs every command of docs/COMMANDS.md and
// holds what it prints to what stands there. White space is as wide as it is, and
// "…" is anything.
func TestCommands_documentShowsWhatHappens(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(root, "docs", "COMMANDS.md"))
	if err != nil {
		t.Fatal(err)
	}
	here := standingHere(t)
	ran := 0
	for _, part := range strings.Split(string(data), "\n```console\n")[1:] {
		block, _, closed := strings.Cut(part, "\n```")
		if !closed {
			t.Fatalf("a block does not end:\n%s", part)
		}
		for _, run := range strings.Split("\n"+here.Replace(block), "\n$ ")[1:] {
			command, want, _ := strings.Cut(run, "\n")
			cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
			cmd.Dir = root
			cmd.Env = append(os.Environ(), "PATH="+filepath.Join(root, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if failed := strings.HasPrefix(want, "Error: "); (err != nil) != failed {
				t.Errorf("$ %s\n%v\n%s", command, err, out)
			}
			if !printed(string(out), want) {
				t.Errorf("$ %s\nprints:\n%s\nthe document:\n%s", command, out, want)
			}
			ran++
		}
	}
	if ran < 8 {
		t.Errorf("%d commands ran", ran)
	}
}

// standingHere replaces the demo's addresses and files by those of the topology.
func standingHere(t *testing.T) *strings.Replacer {
	t.Helper()
	pairs := []string{".demo/keys/", filepath.Join(stateDir, "keys") + "/"}
	add := func(documented, address string) { pairs = append(pairs, documented, address) }
	host := func(address string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return u.Host
	}
	for i, p := range []*demo.POP{fra(), iad()} {
		add([]string{"127.0.0.1:8080", "127.0.0.1:8081"}[i], host(p.URL))
		add([]string{"127.0.0.1:2019", "127.0.0.1:2020"}[i], p.Admin)
	}
	for i, r := range []*demo.Region{eu(), us()} {
		add([]string{"127.0.0.1:9101", "127.0.0.1:9102"}[i], host(r.URL))
		add([]string{"127.0.0.1:9191", "127.0.0.1:9192"}[i], host(r.Operator))
	}
	return strings.NewReplacer(pairs...)
}

func printed(got, want string) bool {
	pattern := regexp.QuoteMeta(strings.Join(strings.Fields(want), " "))
	pattern = strings.ReplaceAll(pattern, " … ", "(?: .*)? ") // or nothing at all
	pattern = strings.ReplaceAll(pattern, "…", ".*")
	return regexp.MustCompile("(?s)^" + pattern + "$").MatchString(strings.Join(strings.Fields(got), " "))
}
