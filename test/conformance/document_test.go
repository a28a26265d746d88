package conformance

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const document = "../../docs/CONFORMANCE.md"

func TestDocument_isCurrent(t *testing.T) {
	t.Parallel()
	tests := read[[]one](t, "testdata/tests.json")
	expected := read[expectation](t, "expected.json")
	text := render(t, tests, expected)
	if *update {
		if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if string(is) != text {
		t.Error("docs/CONFORMANCE.md is not what expected.json and the published results say: go test ./test/conformance -update")
	}
}

func TestExpected_everyMissHasAReason(t *testing.T) {
	t.Parallel()
	tests := read[[]one](t, "testdata/tests.json")
	expected := read[expectation](t, "expected.json")
	missed := map[string]bool{}
	for _, profile := range profiles {
		for id, o := range evaluate(tests, expected.Outcomes[profile.name]) {
			if o == fail || o == setup {
				missed[id] = true
			}
		}
	}
	for id := range missed {
		if expected.Why[id] == "" {
			t.Errorf("expected.json does not say why %s is missed", id)
		}
	}
	for id := range expected.Why {
		if !missed[id] {
			t.Errorf("expected.json says why %s is missed, which passes or hangs on another", id)
		}
	}
}

// render writes docs/CONFORMANCE.md.
func render(t *testing.T, tests []one, expected expectation) string {
	t.Helper()
	var here []one
	var absent, corrected []string
	for _, test := range tests {
		switch {
		case test.Name == "":
			absent = append(absent, "`"+test.ID+"`")
			continue
		case test.Corrected:
			corrected = append(corrected, "`"+test.ID+"`")
		}
		here = append(here, test)
	}
	of := tally{}
	all := tally{}
	for _, test := range tests {
		all[test.Kind]++
	}
	for _, test := range here {
		of[test.Kind]++
	}

	var b strings.Builder
	p := func(format string, arguments ...any) { fmt.Fprintf(&b, format+"\n", arguments...) }
	p(`# What edge_cache passes of the public tests of HTTP caches

Written by a test; to write it anew: ` + "`go test ./test/conformance -update`" + `.

[cache-tests.fyi](https://cache-tests.fyi/) is Mark Nottingham's suite of tests of HTTP caches, whose results for proxies,
CDNs and browsers are published there. ` + "`make conformance`" + ` runs it in half a minute, as ` + "`make test`" + ` does: against
` + "`edge_guard`, `edge_cache` and `reverse_proxy`" + ` in one Caddy, once with ` + "`profile rfc9111`" + ` and once with the profile that
` + "`edge_cache`" + ` has by default. The run fails when a test that passed does not, and when one that is listed below as a miss
passes.

**Required** tests ask for what the RFCs demand, **optimal** ones for what a cache does well to do, and a **check** only
asks what a cache does, so that *no* is an answer too. A test may depend on another: that stale answers are not served
where it is prohibited proves nothing about a cache that never stores. Where such a dependency is missed, a test doesn't
count; the columns "for itself" count it all the same.
`)

	p("## Beside others\n")
	p("Of the others: results that are published with the suite, evaluated as ours are. They are of a later version of the suite,")
	p("with %d tests. The version that can be installed, 0.4.5, has %d of them, which the right half is about.\n", len(tests), len(here))
	p("| | of all %s: for itself | counted | of our %s: for itself | counted |", all, of)
	p("| --- | --- | --- | --- | --- |")
	for _, profile := range profiles {
		if alone := expected.Outcomes[profile.name]; alone != nil {
			raw, _ := count(here, alone)
			counted, _ := count(here, evaluate(here, alone))
			p("| **Gatehouse, %s** | | | %s | %s |", title(profile.name), raw, counted)
		}
	}
	for _, product := range products {
		alone := product.results(t)
		raw, _ := count(tests, alone)
		counted, _ := count(tests, evaluate(tests, alone))
		shared := map[string]outcome{}
		for _, test := range here {
			shared[test.ID] = alone[test.ID]
		}
		ourRaw, _ := count(here, shared)
		ourCounted, _ := count(here, evaluate(here, shared))
		p("| %s | %s | %s | %s | %s |", product.name, raw, counted, ourRaw, ourCounted)
	}
	p("\nEach cell: required/optimal/check.\n")

	if len(expected.Outcomes) > 0 {
		misses(p, here, expected)
	}

	p("## What is asked otherwise, or not at all\n")
	p("0.4.5 is older than RFC 9111. In %d tests it asks the opposite, or what cannot be; the later version corrected them, and", len(corrected))
	p("`test/conformance/corrections.mjs` does so here, each with the section of the RFC. To see whether that makes them the")
	p("published ones, nginx 1.22.1 and Apache httpd 2.4.71 were asked by the same program: of the %d tests, 322 and 320 came", len(here))
	p("out as published for nginx 1.28.0 and httpd 2.4.64. Corrected are:\n\n%s.\n", strings.Join(corrected, ",\n"))
	p("0.4.5 lacks %d tests of the later version:\n\n%s.", len(absent), strings.Join(absent, ",\n"))
	return b.String()
}

// misses lists what each profile misses, tests with one reason together.
func misses(p func(string, ...any), tests []one, expected expectation) {
	p("## What is missed, and why\n")
	p("Where nothing else stands it is missed in both profiles. *Not reached* is a test whose preparation does not work out.")
	counted := map[string]map[string]outcome{}
	for _, profile := range profiles {
		counted[profile.name] = evaluate(tests, expected.Outcomes[profile.name])
	}
	for _, kind := range kinds {
		var order []string
		ids := map[string][]string{} // by what is said of them
		for _, test := range tests {
			said := map[string]string{} // by profile
			for _, profile := range profiles {
				outcomes := counted[profile.name]
				switch o := outcomes[test.ID]; {
				case test.Kind != kind || o == pass:
					continue
				case o == dependency:
					said[profile.name] = "depends on " + missedParents(test, outcomes) + "."
				case o == setup:
					said[profile.name] = "not reached. " + expected.Why[test.ID]
				default:
					said[profile.name] = expected.Why[test.ID]
				}
			}
			for _, profile := range profiles {
				what, missed := said[profile.name]
				switch {
				case !missed:
					continue
				case len(said) == len(profiles) && said[profiles[0].name] == said[profiles[1].name]:
					clear(said)
				default:
					what = "(" + title(profile.name) + ") " + what
				}
				if ids[what] == nil {
					order = append(order, what)
				}
				ids[what] = append(ids[what], "`"+test.ID+"`")
			}
		}
		p("\n### %s\n", map[string]string{"required": "Required", "optimal": "Optimal", "check": "Checks answered with no"}[kind])
		for _, what := range order {
			p("- %s: %s", strings.Join(ids[what], ", "), what)
		}
	}
	p("")
}

func missedParents(test one, outcomes map[string]outcome) string {
	var missed []string
	for _, parent := range test.Parents {
		if o, ok := outcomes[parent]; ok && o != pass {
			missed = append(missed, "`"+parent+"`")
		}
	}
	return strings.Join(missed, " and ")
}

func title(profile string) string {
	if profile == "default" {
		return "by default"
	}
	return "`profile " + profile + "`"
}
