package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// kinds of tests, in the order in which they are told.
var kinds = []string{"required", "optimal", "check"}

// one of the suite's tests, as testdata/tests.json has them: kind and depends_on are
// those of the version whose results are published.
type one struct {
	ID      string   `json:"id"`
	Name    string   `json:"name,omitempty"` // what it asks; none: the version that is run has no such test
	Kind    string   `json:"kind"`           // required, optimal, check (a question, to which no is an answer too)
	Parents []string `json:"depends_on,omitempty"`

	// Corrected is whether corrections.mjs turns what the test asks, and Name still
	// says, into what the later version asks.
	Corrected bool `json:"corrected,omitempty"`
}

// An outcome is what became of one test.
type outcome string

const (
	pass       outcome = "pass"       // or yes, to a check
	fail       outcome = "fail"       // or no
	setup      outcome = "setup"      // what is asked about was not reached
	dependency outcome = "dependency" // a test that this one builds on did not pass
)

// UnmarshalJSON reads one result of the suite: true, or what kind of error there
// was and its message.
func (r *result) UnmarshalJSON(data []byte) error {
	var said [2]string
	switch {
	case string(data) == "true":
		*r = result{outcome: pass}
		return nil
	case json.Unmarshal(data, &said) != nil:
		return fmt.Errorf("a result is true or two strings, not %s", data)
	}
	*r = result{outcome: fail, message: said[0] + ": " + said[1]}
	if said[0] == "Setup" {
		r.outcome = setup
	}
	return nil
}

// result is what the suite said of one test, alone.
type result struct {
	outcome outcome
	message string
}

// evaluate says what each test counts for, which is what the suite's own pages
// show: what its result alone says, unless a test that it depends on did not pass.
// Tests without a result are left out, of what the others depend on too.
func evaluate(tests []one, alone map[string]outcome) map[string]outcome {
	all := map[string]outcome{}
	parents := map[string][]string{}
	for _, test := range tests {
		parents[test.ID] = test.Parents
	}
	var of func(id string) outcome
	of = func(id string) outcome {
		if known, ok := all[id]; ok {
			return known
		}
		counts := alone[id]
		for _, parent := range parents[id] {
			if _, asked := alone[parent]; asked && of(parent) != pass {
				counts = dependency
			}
		}
		all[id] = counts
		return counts
	}
	for id := range alone {
		of(id)
	}
	return all
}

// tally is how many tests of each kind passed.
type tally map[string]int

func count(tests []one, outcomes map[string]outcome) (passed, asked tally) {
	passed, asked = tally{}, tally{}
	for _, test := range tests {
		if o, ok := outcomes[test.ID]; ok {
			asked[test.Kind]++
			if o == pass {
				passed[test.Kind]++
			}
		}
	}
	return passed, asked
}

func (t tally) String() string {
	return fmt.Sprintf("%d/%d/%d", t["required"], t["optimal"], t["check"])
}

// A product is a cache whose results the authors of the suite publish, from a later
// version than the one that can be installed.
type product struct {
	name, file string
	// What passes of 160 required, 105 optimal, 100 checks: each test for itself,
	// and with what it depends on.
	raw, counted string
}

var products = []product{
	{"Apache httpd 2.4.64", "apache", "141/69/47", "131/68/44"},
	{"Caddy with cache-handler 0.16.0", "caddy", "138/44/27", "121/44/27"},
	{"Fastly, December 2025", "fastly", "115/57/20", "96/49/17"},
	{"HAProxy 3.0.10", "haproxy", "126/40/36", "89/40/33"},
	{"nginx 1.28.0", "nginx", "115/66/22", "99/59/19"},
	{"Squid 6.13", "squid", "138/59/65", "122/59/62"},
	{"Apache Traffic Server 9.2.5", "trafficserver", "136/74/49", "132/70/45"},
	{"Varnish 7.7.3", "varnish", "138/49/31", "119/45/27"},
}

func TestEvaluate_publishedResults(t *testing.T) {
	t.Parallel()
	tests := read[[]one](t, "testdata/tests.json")
	for _, p := range products {
		alone := p.results(t)
		raw, asked := count(tests, alone)
		counted, _ := count(tests, evaluate(tests, alone))
		if asked.String() != "160/105/100" || len(alone) != 365 {
			t.Errorf("%s: asked %s, %d results", p.name, asked, len(alone))
		}
		if raw.String() != p.raw || counted.String() != p.counted {
			t.Errorf("%s: %s and %s, want %s and %s", p.name, raw, counted, p.raw, p.counted)
		}
	}
}

func TestEvaluate_dependencies(t *testing.T) {
	t.Parallel()
	tests := []one{
		{ID: "child", Parents: []string{"parent", "absent"}}, {ID: "parent", Parents: []string{"grandparent"}},
		{ID: "grandparent"}, {ID: "other", Parents: []string{"absent"}},
	}
	got := evaluate(tests, map[string]outcome{"child": pass, "parent": pass, "grandparent": setup, "other": pass})
	for id, want := range map[string]outcome{"child": dependency, "parent": dependency, "grandparent": setup, "other": pass} {
		if got[id] != want {
			t.Errorf("%s: %s, want %s", id, got[id], want)
		}
	}
}

// results reads what is published about a product.
func (p product) results(t *testing.T) map[string]outcome {
	t.Helper()
	return outcomes(read[map[string]result](t, "testdata/published/"+p.file+".json"))
}

func outcomes(results map[string]result) map[string]outcome {
	all := map[string]outcome{}
	for id, r := range results {
		all[id] = r.outcome
	}
	return all
}

func read[T any](t *testing.T, path string) T {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var into T
	if err := json.Unmarshal(data, &into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return into
}
