package geo

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	g := new(Geo)
	return g, g.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_geo [<matcher>] {
//		database <path>
//		refresh  <duration>
//		redirect <country...> <target>
//		cookie   <name>
//		override <parameter>
//	}
//
// Placeholders: a target may end in {uri} or {path}, and holds no other.
func (g *Geo) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	g.Source = edge.Where(d)
	if d.NextArg() {
		return d.Errf("edge_geo takes a matcher and a block, got %q", d.Val())
	}
	whole := *d
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "database":
			err = edge.One(d, &g.Database)
		case "refresh":
			err = edge.Duration(d, &g.Refresh)
		case "redirect":
			err = g.unmarshalRedirect(d)
		case "cookie":
			err = edge.One(d, &g.Cookie)
		case "override":
			err = edge.One(d, &g.Override)
		default:
			err = edge.Unknown(d, name, "database", "refresh", "redirect", "cookie", "override")
		}
		if err != nil {
			return err
		}
		if g.Database == "" {
			continue // what else is wrong is said at the end
		}
		if err := g.check(); err != nil {
			return d.WrapErr(fmt.Errorf("edge_geo: %w", err))
		}
	}
	if err := g.check(); err != nil {
		return whole.WrapErr(fmt.Errorf("edge_geo: %w", err))
	}
	return nil
}

func (g *Geo) unmarshalRedirect(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 {
		return d.Err("redirect needs at least one country and a target, for example: redirect DE AT /de{uri}")
	}
	last := len(args) - 1
	g.Redirects = append(g.Redirects, &Redirect{Countries: args[:last], Target: args[last]})
	return nil
}
