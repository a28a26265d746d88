package region

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
)

// Upstreams is the upstream source edge_region of reverse_proxy: those of the home
// region's upstreams that can be asked, in the order of the configuration, and
// nothing else. It works with transport edge alone, and beside no static upstream: a
// write goes home or fails.
//
// One that is draining is given only where no other can be asked, one that the
// circuit breaker had left alone as the only one while it is due for a trial. Where
// none can be asked none is given: 503, and nothing was sent.
type Upstreams struct {
	app *edge.App
}

// CaddyModule returns the module's information.
func (*Upstreams) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.upstreams.edge_region", New: func() caddy.Module { return new(Upstreams) }}
}

// Provision finds the edge app, and refuses a reverse_proxy in which a request
// could go elsewhere or without an assertion.
func (u *Upstreams) Provision(ctx caddy.Context) error {
	var err error
	if u.app, err = edgeApp(ctx, "dynamic edge_region"); err != nil {
		return err
	}
	proxy := proxyOf(ctx)
	if proxy == nil {
		return nil
	}
	if len(proxy.Upstreams) > 0 {
		return errors.New("dynamic edge_region: reverse_proxy has static upstreams too, which would take what belongs to a region: drop them")
	}
	// reverse_proxy loads its transport before its upstreams.
	if _, ok := proxy.Transport.(*Transport); !ok {
		return errors.New("dynamic edge_region: reverse_proxy needs transport edge too, which sends the assertion that a region asks for")
	}
	return nil
}

// proxyOf gives the reverse_proxy that the module at hand is part of.
func proxyOf(ctx caddy.Context) *reverseproxy.Handler {
	lineage := ctx.Modules() // the module itself is the last
	if len(lineage) < 2 {
		return nil
	}
	proxy, _ := lineage[len(lineage)-2].(*reverseproxy.Handler)
	return proxy
}

// noRegion is the upstream of a request that edge_region has not seen. It is
// never dialled: transport edge answers with what is wrong. No upstream at all
// would be Caddy's 503, which sends people to look at the region.
const noRegion = "edge-region-has-not-seen-this-request.invalid:1"

// GetUpstreams gives the upstreams of the region that edge_region chose, or, for a
// read that may go there, of a fallback where none of the home region's can be
// asked. It never fails: reverse_proxy would fall back to its static upstreams.
//
// They are new for each request, since reverse_proxy writes into them.
func (u *Upstreams) GetUpstreams(r *http.Request) ([]*reverseproxy.Upstream, error) {
	x := exchangeOf(r.Context())
	if x == nil {
		return []*reverseproxy.Upstream{{Dial: noRegion}}, nil
	}
	x.selecting = true
	x.divert(u.app, r.Method)
	region := u.app.Region(x.region())
	if region == nil {
		return nil, nil
	}
	return usable(region), nil
}

// usable gives the region's upstreams that are as good as the best of them is now.
func usable(region *edge.Region) []*reverseproxy.Upstream {
	best, trial := region.Best()
	switch {
	case best == health.None:
		return nil
	case trial != nil:
		return []*reverseproxy.Upstream{{Dial: trial.Address}} // should it fail unsent, the others follow
	}
	all := region.Reach()
	upstreams := make([]reverseproxy.Upstream, len(all))
	list := make([]*reverseproxy.Upstream, 0, len(all))
	for i, u := range all {
		if u.Use() >= best {
			upstreams[i].Dial = u.Address
			list = append(list, &upstreams[i])
		}
	}
	return list
}

var ( // interface guards
	_ caddy.Provisioner           = (*Upstreams)(nil)
	_ reverseproxy.UpstreamSource = (*Upstreams)(nil)
	_ caddyfile.Unmarshaler       = (*Upstreams)(nil)
)
