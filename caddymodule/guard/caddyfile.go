package guard

import (
	"fmt"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	g := new(Guard)
	return g, g.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_guard [<matcher>] {
//		server_timing
//		rate_limit <name> {
//			by client|session|user|tenant|route
//			rate <count>/<duration>
//			burst <count>
//			match <matcher...>
//			dry_run
//			keys <count>
//			prefix <ipv4 bits> <ipv6 bits>
//		}
//		rate_limit login off
//		allow <path...> {
//			methods <method...>
//			content_types <type...>
//		}
//		keep_header <name...>
//		max_url <size>
//		max_headers <count>
//		max_header_bytes <size>
//		max_body <size>
//		min_body_rate <size>/s
//		body_grace <duration>
//	}
//
// No placeholder is read here.
func (g *Guard) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	g.Source = edge.Where(d)
	if d.NextArg() {
		return d.Errf("edge_guard takes a matcher and a block, got %q", d.Val())
	}
	whole := *d
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "server_timing":
			g.ServerTiming = true
			err = edge.None(d)
		case "rate_limit":
			err = g.unmarshalLimit(d)
		case "allow":
			err = g.unmarshalAllow(d)
		case "keep_header":
			err = edge.Many(d, &g.KeepHeaders)
		case "max_url":
			err = edge.Size(d, &g.MaxURL, "")
		case "max_headers":
			err = number(d, &g.MaxHeaders)
		case "max_header_bytes":
			err = edge.Size(d, &g.MaxHeaderBytes, "")
		case "max_body":
			err = edge.Size(d, &g.MaxBody, "")
		case "min_body_rate":
			err = edge.Size(d, &g.MinBodyRate, "/s")
		case "body_grace":
			err = edge.Duration(d, &g.BodyGrace)
		default:
			err = edge.Unknown(d, name, "server_timing", "rate_limit", "allow", "keep_header", "max_url", "max_headers", "max_header_bytes",
				"max_body", "min_body_rate", "body_grace")
		}
		if err != nil {
			return err
		}
	}
	if err := g.check(); err != nil {
		return whole.WrapErr(fmt.Errorf("edge_guard: %w", err))
	}
	return nil
}

func (g *Guard) unmarshalAllow(d *caddyfile.Dispenser) error {
	a := new(Allowed)
	if err := edge.Many(d, &a.Paths); err != nil {
		return err
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "methods":
			err = edge.Many(d, &a.Methods)
		case "content_types":
			err = edge.Many(d, &a.ContentTypes)
		default:
			err = edge.Unknown(d, "allow", "methods", "content_types")
		}
		if err != nil {
			return err
		}
	}
	if len(a.Methods) == 0 && len(a.ContentTypes) == 0 {
		return where.Err("allow needs methods or content_types: without them it allows everything")
	}
	if err := a.check(); err != nil {
		return where.WrapErr(fmt.Errorf("edge_guard: %w", err))
	}
	g.Allow = append(g.Allow, a)
	return nil
}

func (g *Guard) unmarshalLimit(d *caddyfile.Dispenser) error {
	l := new(RateLimit)
	if !d.NextArg() {
		return d.Err("rate_limit needs a name, by which clients and logs call it")
	}
	l.Name = d.Val()
	if g.hasLimit(l.Name) {
		return d.Errf("edge_guard: rate_limit %s stands twice", l.Name)
	}
	g.RateLimits = append(g.RateLimits, l)
	if d.NextArg() {
		if d.Val() != "off" {
			return d.Errf("rate_limit %s takes a block or off, got %q", l.Name, d.Val())
		}
		l.Off = true
		if err := l.check(); err != nil {
			return d.WrapErr(fmt.Errorf("edge_guard: rate_limit %s: %w", l.Name, err))
		}
		return edge.None(d)
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := l.unmarshalOption(d); err != nil {
			return err
		}
	}
	if err := l.check(); err != nil {
		return where.WrapErr(fmt.Errorf("edge_guard: rate_limit %s: %w", l.Name, err))
	}
	return nil
}

func (l *RateLimit) unmarshalOption(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "by":
		return edge.One(d, &l.By)
	case "rate":
		return edge.One(d, &l.Rate)
	case "burst":
		return number(d, &l.Burst)
	case "keys":
		return number(d, &l.Keys)
	case "match":
		set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
		if err != nil {
			return err
		}
		l.MatcherSetsRaw = append(l.MatcherSetsRaw, set)
		return nil
	case "dry_run":
		l.DryRun = true
		return edge.None(d)
	case "prefix":
		return unmarshalPrefix(d, l)
	}
	return edge.Unknown(d, "rate_limit", "by", "rate", "burst", "match", "dry_run", "keys", "prefix")
}

func unmarshalPrefix(d *caddyfile.Dispenser, l *RateLimit) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Err("prefix takes bits of an IPv4 and of an IPv6 address, for example: prefix 32 64")
	}
	v4, err4 := strconv.Atoi(args[0])
	v6, err6 := strconv.Atoi(args[1])
	if err4 != nil || err6 != nil || v4 < 1 || v6 < 1 {
		return d.Errf("prefix %s %s: bits of an IPv4 and of an IPv6 address, for example: prefix 32 64", args[0], args[1])
	}
	l.IPv4Prefix, l.IPv6Prefix = v4, v6
	return nil
}

// number reads a positive whole number.
func number(d *caddyfile.Dispenser, into *int) error {
	option := d.Val()
	var text string
	if *into != 0 {
		return d.Errf("%s stands twice", option)
	}
	if err := edge.One(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return d.Errf("%s %q: it is a whole number from 1", option, text)
	}
	*into = n
	return nil
}
