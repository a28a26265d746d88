package experiment

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
)

// MatchVariant is the edge_variant matcher. It matches a request that an
// edge_experiment before it has put on one of the sides named.
type MatchVariant struct {
	// Experiment is the experiment's name. Required.
	Experiment string `json:"experiment,omitempty"`

	// Variants are the sides that match. Default: any, which is everybody who is in
	// the experiment.
	Variants []string `json:"variants,omitempty"`
}

// CaddyModule returns the module's information.
func (MatchVariant) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.edge_variant", New: func() caddy.Module { return new(MatchVariant) }}
}

// Validate refuses what can match nothing.
func (m MatchVariant) Validate() error {
	if !definition.ValidName(m.Experiment) {
		return fmt.Errorf("edge_variant: experiment %q: a name has 1 to 63 characters of a-z, 0-9, '-' and '_'", m.Experiment)
	}
	for _, v := range m.Variants {
		if !definition.ValidName(v) {
			return fmt.Errorf("edge_variant: variant %q: a name has 1 to 63 characters of a-z, 0-9, '-' and '_'", v)
		}
	}
	return nil
}

// MatchWithError reports whether the request is on one of the sides.
func (m MatchVariant) MatchWithError(r *http.Request) (bool, error) {
	d, err := decision.From(r)
	if err != nil {
		return false, err
	}
	side := d.Variant(m.Experiment)
	return side != "" && (len(m.Variants) == 0 || slices.Contains(m.Variants, side)), nil
}

// UnmarshalCaddyfile reads the matcher:
//
//	edge_variant <experiment> [<variant...>]
func (m *MatchVariant) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		if m.Experiment != "" {
			return d.Err("edge_variant stands twice: give it another named matcher")
		}
		if !d.NextArg() {
			return d.Err("edge_variant needs the name of an experiment")
		}
		m.Experiment, m.Variants = d.Val(), d.RemainingArgs()
		if d.NextBlock(0) {
			return d.Errf("edge_variant takes no block, got %q", d.Val())
		}
		if err := m.Validate(); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

var ( // interface guards
	_ caddy.Validator                   = MatchVariant{}
	_ caddyhttp.RequestMatcherWithError = MatchVariant{}
	_ caddyfile.Unmarshaler             = (*MatchVariant)(nil)
)
