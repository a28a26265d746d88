package explain

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// What answers the requests of a route.
const (
	ByEdge   = "edge"   // the POP itself
	ByRegion = "region" // a region, with the hand-off
	ByOther  = "other"  // an upstream that is no region
)

// Row is one route of the boundary, in the order in which routes are tried.
type Row struct {
	Server string `json:"server"`
	// Depth is how many routes this one is inside of.
	Depth int `json:"depth"`
	// Route says which requests it is for, of those that come to it.
	Route string `json:"route"`
	// AnsweredBy is one of [ByEdge], [ByRegion] and [ByOther]; empty: the requests
	// go on to the routes below.
	AnsweredBy string `json:"answeredBy,omitempty"`
	// Region is the one that the route is pinned to, or "home": each request's own.
	Region string `json:"region,omitempty"`
	// Upstreams are those of ByOther.
	Upstreams []string `json:"upstreams,omitempty"`
	// Session is "required" or "optional"; empty: none is looked at.
	Session string `json:"session,omitempty"`
	// Requires is what else a session must be: "role admin", "fresh 5m0s".
	Requires []string `json:"requires,omitempty"`
	// Cache is the policy of edge_cache, "default" for none named; empty: no cache.
	Cache string `json:"cache,omitempty"`
	// Rules are what makes it so.
	Rules []Rule `json:"rules"`
}

// Rule is one handler.
type Rule struct {
	Name string `json:"name"`
	// Where is file:line where a directive of ours stands, else the path of the
	// handler in Caddy's configuration.
	Where string `json:"where"`
}

// Boundary is the table of all routes.
func (c *Config) Boundary() []Row {
	rows := []Row{}
	for _, name := range c.serverNames() {
		s := c.Apps.HTTP.Servers[name]
		t := table{server: name, named: s.NamedRoutes, rows: &rows}
		for i := range s.Routes {
			t.route(&s.Routes[i], below(serversPath(name), "routes", i), Row{Server: name})
		}
	}
	return rows
}

// table writes the rows of a server.
type table struct {
	server string
	named  map[string]*route
	rows   *[]Row
}

// inner is a route inside of another, and what holds where it stands.
type inner struct {
	*route
	path  string
	above Row
}

// route writes the row of r and below it those of the routes inside that are not
// for all of its requests. above holds what stands before it.
func (t *table) route(r *route, path string, above Row) {
	row := above
	row.Route, row.AnsweredBy, row.Upstreams, row.Rules = r.label(), "", nil, []Rule{}
	row.Requires = slices.Clone(above.Requires)
	var inside []inner
	t.collect(r.Handle, path, &row, &inside, 0)
	*t.rows = append(*t.rows, row)
	for _, in := range inside {
		in.above.Depth = row.Depth + 1
		t.route(in.route, in.path, in.above)
	}
}

// maxDepth ends a configuration that invokes itself.
const maxDepth = 64

// collect adds what handlers do to row.
func (t *table) collect(handlers []handler, path string, row *Row, inside *[]inner, depth int) {
	for i := range handlers {
		h, at := &handlers[i], below(path, "handle", i)
		switch h.Name {
		case "subroute":
			for k := range h.Routes {
				t.within(&h.Routes[k], below(at, "routes", k), row, inside, depth)
			}
			continue
		case "invoke":
			if named := t.named[h.Invoked]; named != nil {
				t.within(named, serversPath(t.server)+"/named_routes/"+h.Invoked, row, inside, depth)
				continue
			}
		}
		if h.add(row) {
			row.Rules = append(row.Rules, Rule{called(h.Name), h.where(at)})
		}
	}
}

// within adds a route that is for all requests to row, and keeps others.
func (t *table) within(r *route, path string, row *Row, inside *[]inner, depth int) {
	switch {
	case depth == maxDepth:
	case len(r.Match) == 0 && r.Group == "":
		t.collect(r.Handle, path, row, inside, depth+1)
	default:
		*inside = append(*inside, inner{r, path, *row})
	}
}

// add says in row what h does, and reports whether it is a rule of the boundary.
func (h *handler) add(row *Row) bool {
	switch h.Name {
	case "edge_session":
		row.Session = "required"
		if h.Optional {
			row.Session = "optional"
		}
		if len(h.RequireRoles) > 0 {
			row.Requires = append(row.Requires, "role "+strings.Join(h.RequireRoles, "|"))
		}
		if fresh := duration(h.RequireFresh); fresh != "" {
			row.Requires = append(row.Requires, "fresh "+fresh)
		}
	case "edge_cache":
		row.Cache = "default"
		if h.Policy != "" {
			row.Cache = h.Policy
		}
	case "edge_region":
		row.Region = "home"
		if h.To != "" {
			row.Region = h.To
		}
	case "edge_signed":
		if len(h.Redirect) > 0 {
			row.AnsweredBy = ByEdge
		}
	case "reverse_proxy":
		row.AnsweredBy = ByOther
		if h.Dynamic.Source == "edge_region" {
			row.AnsweredBy = ByRegion
		}
		for _, u := range h.Upstreams {
			row.Upstreams = append(row.Upstreams, u.Dial)
		}
	case "static_response", "error", "file_server", "acme_server", "metrics":
		row.AnsweredBy = ByEdge
	case "rewrite", "authentication", "rate_limit", "php":
	default:
		return strings.HasPrefix(h.Name, "edge_")
	}
	return true
}

// duration writes one of Caddy's JSON: nanoseconds, or a text.
func duration(raw json.RawMessage) string {
	var nanoseconds int64
	var text string
	if json.Unmarshal(raw, &nanoseconds) == nil && nanoseconds > 0 {
		return time.Duration(nanoseconds).String()
	}
	_ = json.Unmarshal(raw, &text)
	return text
}
