// Package conformance asks edge_cache what a public suite of tests asks of HTTP
// caches, and holds it to expected.json, which says what edge_cache is to pass and
// why not the rest.
package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/test/node"
)

var update = flag.Bool("update", false, "write expected.json's outcomes and docs/CONFORMANCE.md anew")

// profiles are what edge_cache is asked as, and with which block. The suite counts its
// requests in fields of its own, which have to reach its origin.
var profiles = []struct{ name, block string }{
	{"rfc9111", " {\n\t\tprofile rfc9111\n\t}"},
	{"default", " {\n\t\theader *\n\t}"},
}

// expectation is expected.json.
type expectation struct {
	// Outcomes are, by profile, what becomes of each test alone.
	Outcomes map[string]map[string]outcome `json:"outcomes"`
	// Why is the reason of each miss.
	Why map[string]string `json:"why"`
}

func TestConformance_edgeCache(t *testing.T) {
	dir := install(t)
	tests := read[[]one](t, "testdata/tests.json")
	same(t, tests, list(t, dir))
	expected := read[expectation](t, "expected.json")
	results := ask(t, dir, nil)
	if *update {
		expected.update(tests, results)
		write(t, "expected.json", expected)
	}

	differing := expected.differing(tests, results)
	if len(differing) > 0 {
		// The suite counts in seconds: on a busy machine that alone can be why.
		t.Logf("asked again: %s", strings.Join(differing, " "))
		for profile, again := range ask(t, dir, differing) {
			for id, r := range again {
				results[profile][id] = r
			}
		}
	}
	for _, profile := range profiles {
		got, want := evaluate(tests, outcomes(results[profile.name])), evaluate(tests, expected.Outcomes[profile.name])
		for _, test := range tests {
			switch result := results[profile.name][test.ID]; {
			case got[test.ID] == want[test.ID]:
			case got[test.ID] == pass:
				t.Errorf("%s: %s (%s) passes, and is listed as %s: go test ./test/conformance -update",
					profile.name, test.ID, test.Kind, want[test.ID])
			default:
				t.Errorf("%s: %s (%s): %s, want %s: %s", profile.name, test.ID, test.Kind, got[test.ID], want[test.ID], result.message)
			}
		}
		passed, asked := count(tests, got)
		t.Logf("%s: %s of %s required/optimal/check", profile.name, passed, asked)
	}
}

// differing are the tests that count for something else than they are expected to.
func (e expectation) differing(tests []one, results map[string]map[string]result) []string {
	var ids []string
	for _, profile := range profiles {
		got, want := evaluate(tests, outcomes(results[profile.name])), evaluate(tests, e.Outcomes[profile.name])
		for _, test := range tests {
			if got[test.ID] != want[test.ID] && !slices.Contains(ids, test.ID) {
				ids = append(ids, test.ID)
			}
		}
	}
	return ids
}

// update takes what was seen for what is expected; each new miss waits for a reason.
func (e *expectation) update(tests []one, results map[string]map[string]result) {
	why := map[string]string{}
	e.Outcomes = map[string]map[string]outcome{}
	for _, profile := range profiles {
		e.Outcomes[profile.name] = outcomes(results[profile.name])
		for id, o := range evaluate(tests, e.Outcomes[profile.name]) {
			if o == fail || o == setup {
				why[id] = e.Why[id]
			}
		}
	}
	e.Why = why
}

// ask runs some of the tests, or all, against edge_cache in each of its profiles at
// once: two sites of one Caddy, each before an origin of its own.
func ask(t *testing.T, dir string, ids []string) map[string]map[string]result {
	t.Helper()
	runs := map[string]*run{}
	sites := ""
	for _, profile := range profiles {
		host := profile.name + ".example"
		runs[profile.name] = start(t, dir, host, ids...)
		sites += fmt.Sprintf("http://%s:0 {\n\tbind 127.0.0.1\n\tedge_guard\n\tedge_cache%s\n\treverse_proxy %s\n}\n",
			host, profile.block, runs[profile.name].origin)
	}
	address := edgetest.Run(t, `{
	`+edgetest.Globals+`
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
		}
		assertion {
			key_file `+edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA")))+`
		}
	}
}
`+sites)
	results := map[string]map[string]result{}
	for name, r := range runs {
		r.ask(t, address)
		results[name] = nil
	}
	for name, r := range runs {
		results[name] = r.results(t)
	}
	return results
}

// install gets the suite that package-lock.json pins. The suite names npm and a
// template engine as dependencies, to show results in a browser: package.json puts a
// small package in their place.
func install(t *testing.T) string {
	t.Helper()
	return node.Install(t, "edge_cache was NOT asked what the suite asks", "run.mjs", "corrections.mjs")
}

// run is a run of the suite, whose origin listens and whose client waits to be told
// where the cache is.
type run struct {
	origin string

	node   *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

// start begins a run of some tests, or of all, that asks the cache for host.
func start(t *testing.T, dir, host string, ids ...string) *run {
	t.Helper()
	r := &run{node: exec.CommandContext(t.Context(), "node", append([]string{"run.mjs", host}, ids...)...)}
	r.node.Dir, r.node.Stderr = dir, &r.stderr
	in, err := r.node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.node.Start(); err != nil {
		t.Fatal(err)
	}
	r.in, r.out = in, bufio.NewReader(out)
	address, err := r.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the suite's origin: %v\n%s", err, &r.stderr)
	}
	r.origin = strings.TrimSpace(address)
	return r
}

// ask lets the client begin.
func (r *run) ask(t *testing.T, cache string) {
	t.Helper()
	if _, err := fmt.Fprintln(r.in, cache); err != nil {
		t.Fatal(err)
	}
}

// results waits for what became of each test.
func (r *run) results(t *testing.T) map[string]result {
	t.Helper()
	out, err := io.ReadAll(r.out)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.node.Wait(); err != nil {
		t.Fatalf("node: %v\n%s", err, &r.stderr)
	}
	results := map[string]result{}
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return results
}

// list is what the installed suite asks.
func list(t *testing.T, dir string) []one {
	t.Helper()
	var tests []one
	if err := json.Unmarshal([]byte(node.Run(t, dir, "node", "run.mjs", "list")), &tests); err != nil {
		t.Fatal(err)
	}
	return tests
}

// same fails when testdata/tests.json is not about the tests that are run.
func same(t *testing.T, tests, listed []one) {
	t.Helper()
	var here []one
	for _, test := range tests {
		if test.Name != "" {
			here = append(here, one{ID: test.ID, Name: test.Name, Corrected: test.Corrected})
		}
	}
	if !slices.EqualFunc(here, listed, func(a, b one) bool {
		return a.ID == b.ID && a.Name == b.Name && a.Corrected == b.Corrected
	}) {
		t.Fatalf("testdata/tests.json has %d tests to run, the suite %d, or other ones", len(here), len(listed))
	}
}

func write(t *testing.T, path string, value any) {
	t.Helper()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
