package region

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// placeholderRegion and placeholderURI are all that a template may hold. The
// Caddyfile has written {uri} out by the time that we see it.
const (
	placeholderRegion = "{edge.region}"
	placeholderURI    = "{http.request.uri}"
)

// template puts a region's prefix before the path.
//
// Caddy's own rewrite is not used: it decodes the path and encodes it again
// (%7E becomes ~) and writes the query anew (a= becomes a, {x} becomes %7Bx%7D),
// where a region has to see, and an assertion is bound to, what the client sent.
type template struct {
	prefixes []prefix
}

// prefix is what the paths of one region begin with.
type prefix struct {
	region string
	text   string // "/eu"
}

// parseTemplate reads a template and expands it for every region.
func parseTemplate(text string, regions []*edge.Region) (*template, error) {
	before, err := splitTemplate(text)
	if err != nil {
		return nil, err
	}
	t := new(template)
	for _, r := range regions {
		t.prefixes = append(t.prefixes, prefix{r.Name, strings.ReplaceAll(before, placeholderRegion, r.PublicName)})
	}
	return t, nil
}

// splitTemplate gives what stands before {uri} in a template, if that can be the
// beginning of a path.
func splitTemplate(text string) (string, error) {
	before, after, found := strings.Cut(strings.Replace(text, "{uri}", placeholderURI, 1), placeholderURI)
	fault := ""
	switch plain := strings.ReplaceAll(before, placeholderRegion, "x"); {
	case !found || after != "":
		fault = "it ends with {uri}, which is the path and the query"
	case !strings.Contains(before, placeholderRegion):
		fault = "it names no {edge.region}: Caddy's rewrite is enough for that"
	case !strings.HasPrefix(before, "/"):
		fault = "it begins with a slash"
	case strings.HasSuffix(before, "/"):
		fault = "{uri} begins with a slash itself"
	case strings.ContainsAny(plain, "{}"):
		fault = "{edge.region} and {uri} are the placeholders that it may hold"
	case strings.ContainsAny(plain, "%?") || handoff.CheckPath(plain) != nil:
		fault = "what stands before {uri} is a plain path"
	}
	if fault != "" {
		return "", fmt.Errorf("rewrite %q: %s; for example: rewrite /{edge.region}{uri}",
			strings.ReplaceAll(text, placeholderURI, "{uri}"), fault)
	}
	return before, nil
}

// of is the prefix of a region.
func (t *template) of(region string) string {
	for _, p := range t.prefixes {
		if p.region == region {
			return p.text
		}
	}
	return "" // not reachable: every region has one
}

// asked is how much of path is some region's prefix already.
func (t *template) asked(path string) int {
	for _, p := range t.prefixes {
		if rest, ok := strings.CutPrefix(path, p.text); ok && (rest == "" || rest[0] == '/') {
			return len(p.text)
		}
	}
	return 0
}

// rewrite makes r ask for the path of the home region, and tells d how to ask
// another.
func (t *template) rewrite(r *http.Request, d *decision.Decision) {
	path := r.URL.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		return // "*", which OPTIONS may ask for (RFC 9110, section 9.3.7)
	}
	client := r.URL.RequestURI()
	// A prefix holds no escape, so that it has the same length in the path as it
	// came and in the path as it reads.
	n := t.asked(path)
	home := t.of(d.Home)
	if r.URL.RawPath != "" {
		r.URL.RawPath = home + path[n:]
	}
	r.URL.Path = home + r.URL.Path[n:]
	r.RequestURI = r.URL.RequestURI()
	if r.RequestURI != client {
		d.Rewritten = r.RequestURI
	}
	d.Retarget = func(region string) string { return t.of(region) + client[n:] }
}

// unknownPin is the error for a pin to a region that is not there.
func unknownPin(to string, regions []*edge.Region) string {
	return fmt.Sprintf("to %s", unknownRegion(to, regions))
}

// unknownRegion says which regions there are, and that this one is not among them.
func unknownRegion(name string, regions []*edge.Region) string {
	names := make([]string, len(regions))
	for i, r := range regions {
		names[i] = r.Name
	}
	slices.Sort(names)
	return fmt.Sprintf("%s: there is no such region; the edge option has: %s", name, strings.Join(names, ", "))
}

// checkCountry refuses what is not one placeholder.
func checkCountry(placeholder string) error {
	if placeholder == "" {
		return nil
	}
	inner, opened := strings.CutPrefix(placeholder, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	if !opened || !closed || inner == "" || strings.ContainsAny(inner, "{} ") {
		return fmt.Errorf("country %q: it is one placeholder, for example {http.request.header.CF-IPCountry}", placeholder)
	}
	return nil
}
