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
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// name is how the handler signs what it answers.
const name = "edge_region"

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

	app      *edge.App
	table    table
	learnt   *learnt
	template *template
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
	return checkCountry(h.Country)
}

// ServeHTTP chooses, rewrites, and answers for a region that did not.
func (h *Region) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	if p := d.Unwelcome(); p != nil { // on a route without edge_session
		return d.Refuse(w, r, p, name)
	}
	stage := d.Stage(r.Context(), handoff.SpanRegionSelect)
	home, why := h.choose(r, d)
	d.Region(home, why)
	if h.template != nil {
		h.template.rewrite(r, d)
	}
	x := beginExchange(d)
	stage.End()

	return x.answer(w, r, next.ServeHTTP(w, r))
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
