// Package region decides where a request belongs and sends it there: the
// handler edge_region, the upstreams edge_region and the transport edge.
//
// One request, from the top down:
//
//	edge_region           chooses the home region and rewrites the path
//	reverse_proxy         Caddy's
//	  dynamic edge_region the home region's upstreams, and nothing else
//	  transport edge      stamps the hand-off, signs, sends, replays a 421 once
//	edge_region           turns what went wrong into a problem, on the way back
//
// What the three have to tell each other about a request is in its exchange.
package region

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/marker"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// name is how the handler signs what it answers.
const name = "edge_region"

// DefaultRecentWrite is how long reads follow a write home.
const DefaultRecentWrite = 30 * time.Second

// Region is the edge_region handler. It picks the home region of a request: the
// route's pin; where the tenant is by the feed's table or by what a region taught
// this POP, whichever has the larger epoch; the session's claim; the client's
// country; the POP's own region, in that order. A name that the edge app does not
// know is passed over, except for the pin, which is then a load error.
//
// A request that its home region does not answer is answered here: 503
// region-unavailable when nothing was sent, 502 region-failed or 504
// region-timeout, outcome unknown, when it was.
//
// A write goes home or fails. So does a read, unless Fallback names regions that may
// answer it and its client did not write a moment ago.
//
// Placeholder: {edge.region}, the name of the home region.
type Region struct {
	// To pins the route to the region of that name. Default: the region is
	// chosen for each request.
	To string `json:"to,omitempty"`

	// Rewrite is what the path becomes, for example "/{edge.region}{uri}": a
	// prefix that holds {edge.region}, then {uri}. In it {edge.region} is the
	// home region's public name, and {uri} the path and query, byte for byte; when
	// they begin with that prefix of any region already, it is taken off first, so
	// that a client that asks for /us/app and is at home in eu gets /eu/app.
	// Default: the path is left alone.
	Rewrite string `json:"rewrite,omitempty"`

	// Country is a placeholder that holds the client's country as an ISO 3166-1
	// alpha-2 code, for example {http.request.header.CF-IPCountry}. A client can
	// set a header: name one that a proxy before this one overwrites. It decides
	// only where nothing better is known. Default: no country is looked at.
	Country string `json:"country,omitempty"`

	// Source is where the directive stands, as "Caddyfile:12", for people. The
	// Caddyfile's adapter sets it. Default: unknown.
	Source string `json:"source,omitempty"`
	// WritesRaw match requests that change something although their method is safe: a
	// GET that confirms, for example. They go home or nowhere, and once; in TLS early
	// data they are 425. Default: none. Caddy's matchers, each set by itself.
	WritesRaw caddyhttp.RawMatcherSets `json:"writes,omitempty" caddy:"namespace=http.matchers"`

	// ReadsRaw match requests that change nothing although their method is unsafe: a
	// POST that searches, for example. What WritesRaw match too is a write. Default:
	// none.
	ReadsRaw caddyhttp.RawMatcherSets `json:"reads,omitempty" caddy:"namespace=http.matchers"`

	// Fallback are the regions that may answer a read in place of the home region, in
	// this order, where none of its upstreams can be asked, nothing was sent to it, or
	// it broke off before it answered: a read that names no tenant, from a client that
	// did not write within RecentWrite. The answer says X-Edge-Served-By: REGION.
	// Default: none.
	Fallback []string `json:"fallback,omitempty"`

	// Replica says that the fallbacks hold a replica of the tenants' data, so that
	// reads with a session may go there too. Default: they do not.
	Replica bool `json:"replica,omitempty"`

	// RecentWrite is how long the reads of a session go home after a write of it that
	// a region told of (X-Edge-Wrote). Negative: no mark of a write is made or read.
	// Default: 30s where the edge app has a cookie secret, which marks need.
	RecentWrite caddy.Duration `json:"recent_write,omitempty"`

	app      *edge.App
	table    table
	learnt   *learnt
	template *template
	writes   caddyhttp.MatcherSets
	reads    caddyhttp.MatcherSets
	marks    *marker.Marks // nil: none are made
}

// table says where the feed has put a tenant ([edge.App.TenantHome]).
type table func(tenant string) (home string, epoch int64, known bool)

// CaddyModule returns the module's information.
func (*Region) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_region", New: func() caddy.Module { return new(Region) }}
}

// Provision finds the edge app and what the configuration before this one had
// learnt.
func (h *Region) Provision(ctx caddy.Context) error {
	var err error
	if h.app, err = edgeApp(ctx, name); err != nil {
		return err
	}
	h.table = h.app.TenantHome
	if h.learnt, err = sharedLearnt(h.app); err != nil {
		return err
	}
	if h.Rewrite != "" {
		if h.template, err = parseTemplate(h.Rewrite, h.app.Regions); err != nil {
			return err
		}
	}
	if life := h.RecentWrite; life >= 0 && h.app.SignsCookies() {
		if life == 0 {
			life = caddy.Duration(DefaultRecentWrite)
		}
		h.marks = marker.New(h.app, time.Duration(life))
	}
	return h.loadMatchers(ctx)
}

func (h *Region) loadMatchers(ctx caddy.Context) error {
	for _, m := range []struct {
		field string
		raw   caddyhttp.RawMatcherSets
		into  *caddyhttp.MatcherSets
	}{{"WritesRaw", h.WritesRaw, &h.writes}, {"ReadsRaw", h.ReadsRaw, &h.reads}} {
		if len(m.raw) == 0 {
			continue
		}
		loaded, err := ctx.LoadModule(h, m.field)
		if err != nil {
			return err
		}
		if err := m.into.FromInterface(loaded); err != nil {
			return err
		}
	}
	return nil
}

// edgeApp gives the edge app to the module that who names.
func edgeApp(ctx caddy.Context, who string) (*edge.App, error) {
	app, err := ctx.AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errors.New(who + " needs the global option edge { … }, which names the regions")
	}
	if err != nil {
		return nil, err
	}
	return app.(*edge.App), nil
}

// Validate refuses what cannot work.
func (h *Region) Validate() error {
	if h.To != "" && h.app.Region(h.To) == nil {
		return errors.New(unknownPin(h.To, h.app.Regions))
	}
	if err := h.checkFallback(h.app); err != nil {
		return err
	}
	return checkCountry(h.Country)
}

// ServeHTTP chooses, rewrites, and answers for a region that did not.
func (h *Region) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	stage := d.Stage(r.Context(), handoff.SpanRegionSelect)
	x := beginExchange(d)
	if err := h.look(x, r); err != nil {
		stage.End()
		return err
	}
	home, why := h.choose(r, d)
	d.Region(home, why)
	if h.template != nil {
		h.template.rewrite(r, d)
	}
	stage.End()

	if x.write && edge.InEarlyData(r) { // edge_guard goes by the method
		return d.Refuse(w, r, problem.New(http.StatusTooEarly, problem.TooEarly, ""), name)
	}
	return x.answer(w, r, next.ServeHTTP(w, r))
}

// look finds out what the request does, and who may answer it.
func (h *Region) look(x *exchange, r *http.Request) (err error) {
	if len(h.writes) > 0 {
		if x.write, err = h.writes.AnyMatchWithError(r); err != nil {
			return err
		}
	}
	if len(h.reads) > 0 && !x.write {
		if x.read, err = h.reads.AnyMatchWithError(r); err != nil {
			return err
		}
	}
	x.marks, x.tls = h.marks, r.TLS != nil
	if x.writes(r.Method) {
		return nil
	}
	d := x.d
	mark, recent := h.marks.Recent(r, d)
	x.wrote, d.RecentWrite = mark.Position, recent || d.RecentWrite // a cache may have read it
	switch {
	case d.RecentWrite:
	case d.Identity.Tenant != "" && !h.Replica:
	case len(r.Header["Upgrade"]) > 0: // what comes after it nobody sees
	default:
		x.fallbacks = h.Fallback
	}
	return nil
}

// checkFallback refuses fallbacks that cannot be, or that could not keep their
// promise. The app's cookie secret is what a client's own writes are known by.
func (h *Region) checkFallback(app *edge.App) error {
	for i, region := range h.Fallback {
		switch {
		case app.Region(region) == nil:
			return fmt.Errorf("fallback: %s", unknownRegion(region, app.Regions))
		case region == h.To:
			return fmt.Errorf("fallback %s: the route is pinned to that region", region)
		case slices.Contains(h.Fallback[:i], region):
			return fmt.Errorf("fallback %s stands twice", region)
		}
	}
	switch {
	case h.Replica && len(h.Fallback) == 0:
		return errors.New("replica: name the regions that hold one, with fallback")
	case h.RecentWrite > 0 && time.Duration(h.RecentWrite) < time.Second:
		return fmt.Errorf("recent_write %s: a second is the least", time.Duration(h.RecentWrite))
	case h.RecentWrite > 0 && !app.SignsCookies():
		return errors.New("recent_write: the mark of a write is sealed: give cookie_secret_file or cookie_secret_env in the global option edge { … }, alike at every POP")
	case len(h.Fallback) > 0 && h.RecentWrite >= 0 && !app.SignsCookies():
		return errors.New("fallback: a client that has just written must not be sent there, and is known by a sealed mark: give cookie_secret_file or cookie_secret_env in the global option edge { … }, alike at every POP; or write recent_write off, if nobody writes what is read here")
	}
	return nil
}

// choose names the home region and why it is that: pin, table or learnt, claim,
// country, POP, in that order.
func (h *Region) choose(r *http.Request, d *decision.Decision) (string, decision.Reason) {
	if h.To != "" {
		return h.To, decision.ReasonPin
	}
	if tenant := d.Identity.Tenant; tenant != "" {
		if home, why := h.ofTenant(tenant); home != "" {
			return home, why
		}
	}
	if d.ClaimedHome != "" && h.app.Region(d.ClaimedHome) != nil {
		return d.ClaimedHome, decision.ReasonClaim
	}
	if h.Country != "" {
		if region := h.ofCountry(r); region != nil {
			return region.Name, decision.ReasonCountry
		}
	}
	return h.app.DefaultRegion, decision.ReasonPOP
}

// ofTenant gives the home that the feed or a region's 421 named for a tenant, by
// the larger epoch. Empty: neither did.
func (h *Region) ofTenant(tenant string) (string, decision.Reason) {
	home, epoch, known := h.table(tenant)
	known = known && h.app.Region(home) != nil
	told := h.learnt.of(tenant)
	switch {
	case told.home != "" && h.app.Region(told.home) != nil && (!known || told.beats(epoch)):
		return told.home, decision.ReasonLearnt
	case known:
		return home, decision.ReasonTable
	}
	return "", ""
}

// ofCountry gives the region of the client's country, nil when either is unknown.
func (h *Region) ofCountry(r *http.Request) *edge.Region {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return nil
	}
	code, ok := upper(repl.ReplaceAll(h.Country, ""))
	if !ok {
		return nil
	}
	return h.app.RegionOfCountry(code)
}

// upper gives a code of two letters in upper case, and whether it is one.
func upper(code string) (string, bool) {
	if len(code) != 2 {
		return "", false
	}
	a, b := code[0]&^0x20, code[1]&^0x20 // to upper case, for a letter
	if a < 'A' || a > 'Z' || b < 'A' || b > 'Z' {
		return "", false
	}
	if a == code[0] && b == code[1] {
		return code, true
	}
	return string([]byte{a, b}), true
}

var ( // interface guards
	_ caddy.Provisioner           = (*Region)(nil)
	_ caddy.Validator             = (*Region)(nil)
	_ caddyhttp.MiddlewareHandler = (*Region)(nil)
	_ caddyfile.Unmarshaler       = (*Region)(nil)
)
