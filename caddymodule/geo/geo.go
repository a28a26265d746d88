// Package geo knows the country of a client's address: the handler edge_geo.
package geo

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// name is how the handler signs what it answers.
const name = "edge_geo"

// Defaults of [Geo].
const (
	defaultRefresh  = 30 * time.Second
	defaultCookie   = "edge-geo"
	defaultOverride = "edge-geo"
)

// Geo is the edge_geo handler. It looks the client's address up in a country
// database, for whatever comes after it: edge_region's country option, matchers,
// the access log. The address is Caddy's to know (trusted_proxies). In TLS early
// data it may be forged, so the country is then unknown.
//
// Redirects, where there are any, are for people who open a page: navigations,
// by the rule of handoff.IsNavigation, and not those of known crawlers, which would
// index one country's pages alone. A request for a page that is at the target of one of
// the rules already is not redirected, so that no rule can lead to another, or
// in a circle; nor is one for whose country there is no rule. Who wants another
// country's pages follows a link with the override parameter, ?edge-geo=US
// for example: the choice goes into a cookie, and decides from then on in place
// of the address. One that another site's link made holds for that page alone.
//
// A redirect is not cached. A page that was not redirected, although rules looked
// at it, is marked private, since another visitor might be.
//
// Placeholders: {edge.geo.country}, an ISO 3166-1 alpha-2 code, and
// {edge.geo.continent}, one of AF AN AS EU NA OC SA. Both are empty when unknown.
type Geo struct {
	// Database is the file of a country database in the MaxMind DB format, for
	// example GeoLite2-Country.mmdb. A city database does too. Required. It is
	// read into memory: rename a new one into its place, or write over it.
	Database string `json:"database,omitempty"`

	// Refresh is how often the file is looked at. One that changed is read, and
	// used once it was read without a fault. Default: 30s.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// Redirects are the rules. The first whose countries hold the client's decides.
	Redirects []*Redirect `json:"redirects,omitempty"`

	// Cookie remembers a visitor's choice for a year. Default: "edge-geo".
	Cookie string `json:"cookie,omitempty"`

	// Override is the query parameter that makes the choice. Default: "edge-geo".
	Override string `json:"override,omitempty"`

	// Source is where the directive stands, as "Caddyfile:12", for people. The
	// Caddyfile's adapter sets it. Default: unknown.
	Source string `json:"source,omitempty"`

	places *database
}

// Redirect sends visitors from some countries somewhere.
type Redirect struct {
	// Countries are ISO 3166-1 alpha-2 codes in upper case. At least one.
	Countries []string `json:"countries,omitempty"`

	// Target is where to: "/de{uri}", "https://de.example.com{uri}" or "/de/". {uri}
	// is the path and query that was asked for, {path} the path alone. Required.
	Target string `json:"target,omitempty"`

	target edge.Target
}

// CaddyModule returns the module's information.
func (*Geo) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_geo", New: func() caddy.Module { return new(Geo) }}
}

// Provision opens nothing: that waits for the start, so that a configuration can be
// validated where there is no database.
func (g *Geo) Provision(ctx caddy.Context) error {
	configured, err := ctx.AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("edge_geo needs the global option edge { … }, which says what this POP is")
	}
	if err != nil {
		return err
	}
	return g.use(configured.(*edge.App))
}

// use sets the defaults and finds the database that other handlers and other
// configurations of this process have open.
func (g *Geo) use(app *edge.App) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("edge_geo: %w", err)
	}
	if g.Refresh == 0 {
		g.Refresh = caddy.Duration(defaultRefresh)
	}
	if g.Cookie == "" {
		g.Cookie = defaultCookie
	}
	if g.Override == "" {
		g.Override = defaultOverride
	}
	var err error
	g.places, err = edge.Shared(app, fmt.Sprintf("edge_geo: %s every %s", g.Database, time.Duration(g.Refresh)), func() (*database, error) {
		return newDatabase(g.Database, time.Duration(g.Refresh)), nil
	})
	if err == nil {
		app.OnStart(g.places.open)
	}
	return err
}

// check finds every fault that can be known before the handler runs, and reads
// the rules.
func (g *Geo) check() error {
	if g.Database == "" {
		return errors.New("no database: name the file of one, for example: database /var/lib/geo/GeoLite2-Country.mmdb")
	}
	if g.Refresh < 0 {
		return fmt.Errorf("refresh %s is not a positive duration such as 30s", time.Duration(g.Refresh))
	}
	if g.Cookie != "" && !validName(g.Cookie) {
		return fmt.Errorf("cookie %q is not a cookie's name: it has letters, digits, '-' and '_'", g.Cookie)
	}
	if g.Override != "" && !validName(g.Override) {
		return fmt.Errorf("override %q is not a parameter's name: it has letters, digits, '-' and '_'", g.Override)
	}
	taken := map[string]bool{}
	for _, r := range g.Redirects {
		if r == nil || len(r.Countries) == 0 {
			return errors.New("redirect needs at least one country and a target, for example: redirect DE AT /de{uri}")
		}
		for _, c := range r.Countries {
			switch {
			case !isCountry(c):
				return fmt.Errorf("redirect: country %q is not an ISO 3166-1 alpha-2 code such as DE", c)
			case taken[c]:
				return fmt.Errorf("redirect: country %s is in two rules", c)
			}
			taken[c] = true
		}
		target, err := edge.ParseTarget(r.Target)
		if err != nil {
			return fmt.Errorf("redirect: target %w", err)
		}
		if target.Host == "" && (target.Path == "" || target.Path == "/") {
			return fmt.Errorf("redirect: target %q is every path of this site: nobody could be redirected there", r.Target)
		}
		r.target = target
	}
	return nil
}

func validName(n string) bool {
	for i := range len(n) {
		if c := n[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(n) <= 64
}

func isCountry(code string) bool {
	return len(code) == 2 && 'A' <= code[0] && code[0] <= 'Z' && 'A' <= code[1] && code[1] <= 'Z'
}

// ServeHTTP looks the client up, and redirects where a rule says so.
func (g *Geo) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	stage := d.Stage(r.Context(), handoff.SpanGeo)
	if !edge.InEarlyData(r) {
		d.Country, d.Continent = g.places.lookup(edge.Client(r))
	}
	if d.SupposedCountry != "" {
		d.Country, d.Continent = d.SupposedCountry, "" // a database is asked by address alone
	}
	location, looked := g.redirect(w, r, d)
	stage.End()
	if location == "" {
		if looked {
			d.OnAnswer(keepPrivate)
		}
		return next.ServeHTTP(w, r)
	}
	d.ShortCircuit = name
	h := w.Header()
	h.Set("Location", location)
	h.Set("Cache-Control", "private, no-store")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusFound)
	return nil
}

// keepPrivate marks a page that only this visitor was meant to get from here.
// What is no page stays as it is: nobody is redirected who asks for a picture.
func keepPrivate(_ int, h http.Header) {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	if strings.EqualFold(strings.TrimSpace(kind), "text/html") {
		edge.Private(h, edge.Forever)
		h.Add("Vary", "Cookie") // for the browser's own cache: a new choice is another page
	}
}

var ( // interface guards
	_ caddy.Provisioner           = (*Geo)(nil)
	_ caddyhttp.MiddlewareHandler = (*Geo)(nil)
	_ caddyfile.Unmarshaler       = (*Geo)(nil)
)
