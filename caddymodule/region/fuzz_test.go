package region

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// FuzzCorrection: what a region sends in X-Home-Region is a region's name or is
// not believed.
func FuzzCorrection(f *testing.F) {
	for _, seed := range []string{"us", "", "US", "us, eu", "us\x00", "америка", strings.Repeat("a", 63), "-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		home, ok := correction(http.Header{"X-Home-Region": {line}})
		if ok != handoff.ValidRegion(line) || ok && home != line || !ok && home != "" {
			t.Errorf("%q: %q %v", line, home, ok)
		}
	})
}

// FuzzCountry: whatever a header says, the answer is one of the regions.
func FuzzCountry(f *testing.F) {
	for _, seed := range []string{"DE", "us", "dE", "", "D", "DEU", "D\xc9", "[\\", "{http.request.uri}", "  "} {
		f.Add(seed)
	}
	b := newBench(f, "")
	f.Fuzz(func(t *testing.T, country string) {
		r, d := request("GET", "/")
		r.Header["Country"] = []string{country}
		home, why := b.region.choose(r, d)
		want, because := "eu", decision.ReasonPOP
		switch {
		case len(country) != 2:
		case strings.EqualFold(country, "DE"):
			because = decision.ReasonCountry
		case strings.EqualFold(country, "US"):
			want, because = "us", decision.ReasonCountry
		}
		if home != want || why != because {
			t.Errorf("%q: %s because of %s", country, home, why)
		}
	})
}

// FuzzRewrite: a path that passes the path rule still passes it when it is
// rewritten, begins with the home region's prefix, ends with what the client
// sent, and is what goes over the wire, for the home region and for any other.
func FuzzRewrite(f *testing.F) {
	for _, seed := range []string{
		"/", "/app", "/eu/app", "/america", "/america?x", "/us/app", "/eu", "/europe/eu/eu", "/%65u/app", "/a%7E/%c3%a9?x={y}&&a=",
		"/eu%3f/x", "/app?", "/eu?%2e%2e", "/a'(b)*", "/é", "/a\"b", "/eu/a\"b%20",
	} {
		f.Add(seed, true)
	}
	b := newBench(f, "/{edge.region}{uri}")
	f.Fuzz(func(t *testing.T, target string, us bool) {
		if handoff.CheckPath(target) != nil {
			t.Skip()
		}
		r, d := request("POST", target)
		if r.RequestURI != target {
			t.Skip() // net/http does not read it either
		}
		sent := r.URL.RequestURI() // what would go out without a rewrite
		home, other := "eu", "america"
		d.Region("eu", decision.ReasonPOP)
		if us {
			home, other = "america", "eu"
			d.Region("us", decision.ReasonPOP)
		}
		b.region.template.rewrite(r, d)
		for region, prefix := range map[string]string{d.Home: "/" + home, map[bool]string{true: "eu", false: "us"}[us]: "/" + other} {
			got := d.Retarget(region)
			rest, ok := strings.CutPrefix(got, prefix)
			if !ok || rest != "" && rest[0] != '/' && rest[0] != '?' {
				t.Errorf("%q for %s became %q", target, region, got)
			}
			if !strings.HasSuffix(sent, rest) || len(rest) < len(sent)-len("/america") {
				t.Errorf("%q for %s became %q: the rest is not the client's", target, region, got)
			}
			if err := handoff.CheckPath(got); err != nil {
				t.Errorf("%q for %s became %q: %v", target, region, got, err)
			}
			out := dialled(r)
			if err := retarget(out, got); err != nil || out.URL.RequestURI() != got {
				t.Errorf("%q: asked for %q, %v; %q goes over the wire", target, got, err, out.URL.RequestURI())
			}
		}
		if r.RequestURI != d.Retarget(d.Home) || r.URL.RequestURI() != r.RequestURI {
			t.Errorf("%q: %q, %q and %q are not the same", target, r.RequestURI, r.URL.RequestURI(), d.Retarget(d.Home))
		}
	})
}
