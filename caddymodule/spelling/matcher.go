package spelling

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// MatchPath is the edge_path matcher: every spelling of some prefixes and of the
// pages below them. It is for gates, so that it errs on their side; a route that
// serves something is better off with Caddy's path.
type MatchPath struct {
	// Prefixes are paths such as "/app". At least one.
	Prefixes []string `json:"prefixes,omitempty"`

	// Locales are what may stand before a prefix, as "en" in "/en/app". Default: nothing.
	Locales []string `json:"locales,omitempty"`

	// CaseSensitive tells /App from /app. Default: they are the same, as with Caddy's path.
	CaseSensitive bool `json:"case_sensitive,omitempty"`

	gate Gate
}

// CaddyModule returns the module's information.
func (MatchPath) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.edge_path", New: func() caddy.Module { return new(MatchPath) }}
}

// Provision readies the matcher.
func (m *MatchPath) Provision(caddy.Context) error {
	m.gate = Gate{Prefixes: m.Prefixes, Locales: m.Locales, CaseSensitive: m.CaseSensitive}
	return nil
}

// Validate refuses what could match nothing, or everything.
func (m *MatchPath) Validate() error {
	if len(m.Prefixes) == 0 {
		return errors.New("edge_path needs a prefix such as /app")
	}
	for _, p := range m.Prefixes {
		switch {
		case !strings.HasPrefix(p, "/") || handoff.CheckPath(p) != nil || strings.ContainsAny(p, "*?%"):
			return fmt.Errorf("edge_path %q: it is a plain path such as /app, of which everything below is matched too", p)
		case p == "/":
			return errors.New("edge_path /: that is every path; leave the matcher out")
		}
	}
	for _, l := range m.Locales {
		if l == "" || strings.ContainsAny(l, "/*?%") {
			return fmt.Errorf("edge_path: locale %q is one segment of a path, such as en", l)
		}
	}
	return nil
}

// MatchWithError reports whether the request is for a gated page.
func (m *MatchPath) MatchWithError(r *http.Request) (bool, error) { return m.gate.Holds(r.URL), nil }

// UnmarshalCaddyfile reads the matcher:
//
//	edge_path <prefix...> {
//		locales <locale...>
//		case_sensitive
//	}
func (m *MatchPath) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		m.Prefixes = append(m.Prefixes, d.RemainingArgs()...)
		for nesting := d.Nesting(); d.NextBlock(nesting); {
			var err error
			switch d.Val() {
			case "locales":
				err = edge.Many(d, &m.Locales)
			case "case_sensitive":
				m.CaseSensitive = true
				err = edge.None(d)
			default:
				err = edge.Unknown(d, "edge_path", "locales", "case_sensitive")
			}
			if err != nil {
				return err
			}
		}
	}
	if err := m.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

var ( // interface guards
	_ caddy.Provisioner                 = (*MatchPath)(nil)
	_ caddy.Validator                   = (*MatchPath)(nil)
	_ caddyhttp.RequestMatcherWithError = (*MatchPath)(nil)
	_ caddyfile.Unmarshaler             = (*MatchPath)(nil)
)
