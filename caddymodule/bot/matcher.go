package bot

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// MatchBot is the edge_bot matcher. It matches a client for which everything holds
// that is named here. It tags the request itself where no edge_bot has done so
// before it. Whether a user is signed in does not matter to it: that is for
// whoever uses it.
type MatchBot struct {
	// Classes are those that match. Default: any.
	Classes []decision.BotClass `json:"classes,omitempty"`

	// MinScore is the score, 1 to 100, from which a client matches. Default: any.
	MinScore int `json:"min_score,omitempty"`

	// Verified matches those that were proven to be who they say (true), or the
	// others (false). Default: both.
	Verified *bool `json:"verified,omitempty"`

	known *knowledge
}

// CaddyModule returns the module's information.
func (*MatchBot) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.edge_bot", New: func() caddy.Module { return new(MatchBot) }}
}

// Provision finds what this POP knows of agents.
func (m *MatchBot) Provision(ctx caddy.Context) error {
	if err := m.check(); err != nil {
		return err
	}
	app, err := configured(ctx)
	if err != nil {
		return err
	}
	m.known, err = of(app)
	return err
}

// check refuses what can match nothing, or everything.
func (m *MatchBot) check() error {
	for _, class := range m.Classes {
		if !slices.Contains(decision.BotClasses[:], class) {
			return fmt.Errorf("edge_bot: %q is no class: they are %s", class, classes())
		}
	}
	switch {
	case m.MinScore < 0 || m.MinScore > 100:
		return fmt.Errorf("edge_bot: min_score %d: it is 1 to 100", m.MinScore)
	case len(m.Classes) == 0 && m.MinScore == 0 && m.Verified == nil:
		return errors.New("edge_bot: it would match everybody: name a class, min_score, verified or unverified")
	}
	return nil
}

// MatchWithError reports whether the client is one of those named.
func (m *MatchBot) MatchWithError(r *http.Request) (bool, error) {
	d, err := decision.From(r)
	if err != nil {
		return false, err
	}
	m.known.tag(d, r)
	return (len(m.Classes) == 0 || slices.Contains(m.Classes, d.Bot.Class)) && d.Bot.Score >= m.MinScore &&
		(m.Verified == nil || *m.Verified == (d.Bot.Verified != "")), nil
}

// UnmarshalCaddyfile reads the matcher:
//
//	edge_bot [<class...>] {
//		min_score <1-100>
//		verified|unverified
//	}
//
// All that is named has to hold; of several classes, one.
func (m *MatchBot) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	stands := false
	for d.Next() {
		if stands {
			return d.Err("edge_bot stands twice: give it another named matcher")
		}
		stands = true
		whole := *d
		for _, class := range d.RemainingArgs() {
			m.Classes = append(m.Classes, decision.BotClass(class))
		}
		for d.NextBlock(0) {
			var err error
			switch option := d.Val(); option {
			case "min_score":
				err = score(d, &m.MinScore)
			case "verified", "unverified":
				if m.Verified != nil {
					return d.Err("verified or unverified stands already")
				}
				m.Verified = new(bool)
				*m.Verified = option == "verified"
				err = edge.None(d)
			default:
				err = edge.Unknown(d, name, "min_score", "verified", "unverified")
			}
			if err != nil {
				return err
			}
		}
		if err := m.check(); err != nil {
			return whole.WrapErr(err)
		}
	}
	return nil
}

var ( // interface guards
	_ caddy.Provisioner                 = (*MatchBot)(nil)
	_ caddyhttp.RequestMatcherWithError = (*MatchBot)(nil)
	_ caddyfile.Unmarshaler             = (*MatchBot)(nil)
)
