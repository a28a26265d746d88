package cache

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	c := new(Cache)
	where := *h.Dispenser
	if err := c.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	if option, ok := h.Option("edge").(httpcaddyfile.App); ok { // read before the sites are
		app := new(edge.App)
		if err := json.Unmarshal(option.Value, app); err != nil {
			return nil, h.WrapErr(err)
		}
		if err := c.checkSession(cmp.Or(app.SessionCookie, edge.DefaultSessionCookie)); err != nil {
			where.Next()
			return nil, where.WrapErr(err)
		}
	}
	return c, nil
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_cache [<matcher>] {
//		profile rfc9111
//		policy public|tenant|user|never
//		preset nextjs|django|rails
//		host <host>
//		header <name...>
//		language <tag...>
//		cookie <name...>
//		bypass_cookie <name...>
//		query <name...>
//		ignore_query <name...>
//		sort_query
//		vary variant|country|bot...
//		target <field...>
//		ttl <duration>
//		max_ttl <duration>
//		heuristic <duration>
//		store_set_cookie
//		max_object <size>
//		wait <duration>
//		idle <duration>
//	}
//
// No placeholder is read here.
func (c *Cache) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	c.Source = edge.Where(d)
	whole := *d
	if d.NextArg() {
		return d.Errf("edge_cache takes a matcher and a block, got %q", d.Val())
	}
	for d.NextBlock(0) {
		if err := c.unmarshalOption(d); err != nil {
			return err
		}
	}
	if err := c.check(); err != nil {
		return whole.WrapErr(fmt.Errorf("edge_cache: %w", err))
	}
	return nil
}

func (c *Cache) unmarshalOption(d *caddyfile.Dispenser) (err error) {
	switch d.Val() {
	case "profile":
		return edge.One(d, &c.Profile)
	case "policy":
		return edge.One(d, &c.Policy)
	case "preset":
		return c.unmarshalPreset(d)
	case "host":
		return edge.One(d, &c.Host)
	case "header":
		return edge.Many(d, &c.Headers)
	case "language":
		return edge.Many(d, &c.Languages)
	case "cookie":
		return edge.Many(d, &c.Cookies)
	case "bypass_cookie":
		return edge.Many(d, &c.BypassCookies)
	case "query":
		return edge.Many(d, &c.Query)
	case "ignore_query":
		return edge.Many(d, &c.IgnoreQuery)
	case "sort_query":
		c.SortQuery = true
		return edge.None(d)
	case "vary":
		return edge.Many(d, &c.Vary)
	case "target":
		return edge.Many(d, &c.Targets)
	case "ttl":
		return edge.Duration(d, &c.TTL)
	case "max_ttl":
		return edge.Duration(d, &c.MaxTTL)
	case "heuristic":
		return edge.Duration(d, &c.Heuristic)
	case "store_set_cookie":
		c.StoreSetCookie = true
		return edge.None(d)
	case "max_object":
		return edge.Size(d, &c.MaxObject, "")
	case "wait":
		return edge.Duration(d, &c.Wait)
	case "idle":
		return edge.Duration(d, &c.Idle)
	}
	return edge.Unknown(d, name, "profile", "policy", "preset", "host", "header", "language", "cookie", "bypass_cookie", "query", "ignore_query",
		"sort_query", "vary", "target", "ttl", "max_ttl", "heuristic", "store_set_cookie", "max_object", "wait", "idle")
}

// presets are settings under a name. They are written into the configuration, where
// "caddy adapt" shows them.
var presets = map[string]func(*Cache){
	// Next.js tells pages from their data by five request fields, and is asked for
	// drafts by two cookies.
	"nextjs": func(c *Cache) {
		c.Headers = append(c.Headers, "Rsc", "Next-Router-State-Tree", "Next-Router-Prefetch", "Next-Router-Segment-Prefetch", "Next-Url")
		c.BypassCookies = append(c.BypassCookies, "__prerender_bypass", "__next_preview_data")
	},
	// Django varies by Cookie as soon as a session or a form's token was looked at.
	"django": func(c *Cache) {
		c.BypassCookies = append(c.BypassCookies, "sessionid", "csrftoken", "messages")
	},
	// Rails keeps its session in a cookie that the application names.
	"rails": func(c *Cache) {
		c.BypassCookies = append(c.BypassCookies, "_session_id", "remember_user_token")
		c.Headers = append(c.Headers, "Turbo-Frame", "X-Requested-With")
	},
}

func (c *Cache) unmarshalPreset(d *caddyfile.Dispenser) error {
	var text string
	if err := edge.One(d, &text); err != nil {
		return err
	}
	apply, ok := presets[text]
	if !ok {
		return d.Errf("preset %q: there are nextjs, django and rails", text)
	}
	apply(c)
	return nil
}
