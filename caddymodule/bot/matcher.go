package bot

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// Match is the edge_bot matcher. It matches by the tag that edge_guard has given the
// request; all that is asked must hold.
type Match struct {
	// Classes of which the client is one. Default: any.
	Classes []string `json:"classes,omitempty"`

	// MinScore is how likely it must be, from 0 to 100, that the client is a program.
	// Default: 0.
	MinScore int `json:"min_score,omitempty"`

	// Verified is whether the client must have proven, or must not have proven, which
	// crawler it is. Default: either.
	Verified *bool `json:"verified,omitempty"`
}

// CaddyModule returns the module's information.
func (Match) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.edge_bot", New: func() caddy.Module { return new(Match) }}
}

// Validate refuses what can match nothing.
func (m Match) Validate() error {
	for _, class := range m.Classes {
		if !slices.Contains(Classes, class) {
			return fmt.Errorf("edge_bot: %q is no class; there are: %s", class, strings.Join(Classes, ", "))
		}
	}
	if m.MinScore < 0 || m.MinScore > 100 {
		return fmt.Errorf("edge_bot: score %d: it is 0 to 100", m.MinScore)
	}
	return nil
}

// MatchWithError reports whether the tag is as asked.
func (m Match) MatchWithError(r *http.Request) (bool, error) {
	d, err := decision.From(r)
	if err != nil {
		return false, err
	}
	tag := &d.Bot
	return tag.Class != "" && (len(m.Classes) == 0 || slices.Contains(m.Classes, tag.Class)) &&
		tag.Score >= m.MinScore && (m.Verified == nil || *m.Verified == tag.Verified), nil
}

// UnmarshalCaddyfile reads the matcher:
//
//	edge_bot [<class...>] {
//		score <least>
//		verified
//		unverified
//	}
func (m *Match) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		m.Classes = append(m.Classes, d.RemainingArgs()...)
		for d.NextBlock(0) {
			switch d.Val() {
			case "score":
				if !d.NextArg() {
					return d.Err("score needs a number from 0 to 100")
				}
				score, err := strconv.Atoi(d.Val())
				if err != nil || d.NextArg() {
					return d.Errf("score needs one number from 0 to 100, got %q", d.Val())
				}
				m.MinScore = score
			case "verified", "unverified":
				verified := d.Val() == "verified"
				if m.Verified != nil || d.NextArg() {
					return d.Err("verified or unverified stands once, without an argument")
				}
				m.Verified = &verified
			default:
				return d.Errf("unknown option %q of edge_bot; there are: score, verified, unverified", d.Val())
			}
		}
		if err := m.Validate(); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

var ( // interface guards
	_ caddy.Validator                   = Match{}
	_ caddyhttp.RequestMatcherWithError = Match{}
	_ caddyfile.Unmarshaler             = (*Match)(nil)
)
