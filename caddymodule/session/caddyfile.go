package session

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	s := new(Session)
	return s, s.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_session [<matcher>] {
//		login <path>
//		realm <text>
//		optional
//		require role <role...>
//		require claim <name> <value...>
//		require fresh <duration>
//		trusted_origin <origin...>
//		csrf_exempt <matcher> <value...> | { <matcher> <value...> … }
//		forward_token
//		max_token_size <size>
//	}
//
// No placeholder is read here.
func (s *Session) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	s.Source = edge.Where(d)
	if d.NextArg() {
		return d.Errf("edge_session takes a matcher and a block, got %q", d.Val())
	}
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "login":
			err = edge.One(d, &s.Login)
		case "realm":
			err = edge.One(d, &s.Realm)
		case "optional":
			s.Optional = true
			err = edge.None(d)
		case "require":
			err = s.unmarshalRequire(d)
		case "trusted_origin":
			err = edge.Many(d, &s.TrustedOrigins)
		case "csrf_exempt":
			err = s.unmarshalExempt(d)
		case "forward_token":
			s.ForwardToken = true
			err = edge.None(d)
		case "max_token_size":
			err = s.unmarshalSize(d)
		default:
			err = edge.Unknown(d, name, "login", "realm", "optional", "require", "trusted_origin", "csrf_exempt", "forward_token", "max_token_size")
		}
		if err != nil {
			return err
		}
		if err := s.check(); err != nil {
			return d.WrapErr(fmt.Errorf("edge_session: %w", err))
		}
	}
	return nil
}

func (s *Session) unmarshalRequire(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("require needs to know what: require role <role...>, require claim <name> <value...>, or require fresh <duration>")
	}
	switch d.Val() {
	case "role":
		if s.RequireRoles != nil {
			return d.Err("require role stands twice: name all the roles in one line, of which any is enough")
		}
		return edge.Many(d, &s.RequireRoles)
	case "claim":
		return s.unmarshalClaim(d)
	case "fresh":
		if s.RequireFresh != 0 {
			return d.Err("require fresh stands twice")
		}
		return edge.Duration(d, &s.RequireFresh)
	}
	return edge.Unknown(d, "require", "role", "claim", "fresh")
}

func (s *Session) unmarshalClaim(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("require claim needs its name and a value: require claim <name> <value...>")
	}
	name, values := d.Val(), d.RemainingArgs()
	if _, twice := s.RequireClaims[name]; twice {
		return d.Errf("require claim %s stands twice: name all the values in one line, of which any is enough", name)
	}
	if s.RequireClaims == nil {
		s.RequireClaims = map[string][]string{}
	}
	s.RequireClaims[name] = values
	return nil
}

// unmarshalExempt reads one set of matchers, as lb_retry_match of reverse_proxy
// does: all of a set must match, and any of several sets.
func (s *Session) unmarshalExempt(d *caddyfile.Dispenser) error {
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
	if err != nil {
		return err
	}
	if len(set) == 0 {
		return d.Err("csrf_exempt needs a matcher, such as: csrf_exempt path /hooks/*")
	}
	s.CSRFExemptRaw = append(s.CSRFExemptRaw, set)
	return nil
}

func (s *Session) unmarshalSize(d *caddyfile.Dispenser) error {
	if s.MaxTokenSize != 0 {
		return d.Err("max_token_size stands twice")
	}
	var text string
	if err := edge.One(d, &text); err != nil {
		return err
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size < minTokenSize || size > maxTokenSize {
		return d.Errf("max_token_size %q: it is a size of %d to %d bytes such as 8KiB", text, minTokenSize, maxTokenSize)
	}
	s.MaxTokenSize = int(size)
	return nil
}
