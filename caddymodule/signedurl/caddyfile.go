package signedurl

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	s := new(Signed)
	return s, s.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_signed [<matcher>] {
//		key_file <path...>
//		key_env  <variable...>
//		redirect <target>
//		rewrite  <target>
//		max_age  <duration>
//	}
//
// Placeholders: a target may end in {uri} or {path}, and holds no other.
func (s *Signed) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	s.Source = edge.Where(d)
	if d.NextArg() {
		return d.Errf("edge_signed takes a matcher and a block, got %q", d.Val())
	}
	whole := *d
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "key_file":
			err = edge.Many(d, &s.KeyFiles)
		case "key_env":
			err = edge.Many(d, &s.KeyEnvs)
		case "redirect":
			err = target(d, &s.Redirect)
		case "rewrite":
			err = target(d, &s.Rewrite)
		case "max_age":
			err = edge.Duration(d, &s.MaxAge)
		default:
			err = edge.Unknown(d, name, "key_file", "key_env", "redirect", "rewrite", "max_age")
		}
		if err != nil {
			return err
		}
	}
	if err := s.check(); err != nil {
		return whole.WrapErr(fmt.Errorf("edge_signed: %w", err))
	}
	return nil
}

// target reads a target, and says at its own line what is wrong with it.
func target(d *caddyfile.Dispenser, into *string) error {
	option := d.Val()
	if err := edge.One(d, into); err != nil {
		return err
	}
	if _, err := edge.ParseTarget(*into); err != nil {
		return d.WrapErr(fmt.Errorf("edge_signed: %s %w", option, err))
	}
	return nil
}
