// Package bot says what a client is taken for, and refuses those that a site does
// not want: the handler edge_bot and the matcher of the same name.
package bot

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// name is how the handler signs what it answers.
const name = "edge_bot"

// Bot is the edge_bot handler. It tags each request with what its client is taken
// for: a class, a score of how much speaks against what the client says of
// itself, the reason and, where the edge app's bots give the means, the agent that
// it was proven to be. Nothing else happens unless rules are written.
//
// A rule names classes, or a score. In shadow mode, the default, the log and the
// metric say whom it would refuse; enforced, those get 403. Never refused are
//
//   - a signed-in user. Where a request carries credentials the rule waits for
//     edge_session. Where none stands in the request's way, the request goes on as
//     "unsettled": nobody said whether the credentials hold;
//   - a tool or git that asks for no page, as on an API (see handoff.IsNavigation
//     for what a page is);
//   - by its score, an agent that was proven to be who it says.
//
// Placeholders: {edge.bot.class}, {edge.bot.name}, {edge.bot.score},
// {edge.bot.reason} and {edge.bot.verified}, the name of the agent that was proven.
type Bot struct {
	// Refuse is the classes that are refused. Default: none.
	Refuse []decision.BotClass `json:"refuse,omitempty"`

	// RefuseScore is the score, 1 to 100, from which a client is refused.
	// Default: none is.
	RefuseScore int `json:"refuse_score,omitempty"`

	// Enforce refuses what the rules name. Default: it is only told.
	Enforce bool `json:"enforce,omitempty"`

	app   *edge.App
	known *knowledge
}

// CaddyModule returns the module's information.
func (*Bot) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_bot", New: func() caddy.Module { return new(Bot) }}
}

// Provision finds what this POP knows of agents. It reads no file: that waits for the
// start.
func (b *Bot) Provision(ctx caddy.Context) error {
	if err := b.check(); err != nil {
		return fmt.Errorf("edge_bot: %w", err)
	}
	app, err := configured(ctx)
	if err != nil {
		return err
	}
	return b.use(app)
}

// configured gives the edge app.
func configured(ctx caddy.Context) (*edge.App, error) {
	app, err := ctx.AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errors.New("edge_bot needs the global option edge { … }, which says what this POP is")
	}
	if err != nil {
		return nil, err
	}
	return app.(*edge.App), nil
}

func (b *Bot) use(app *edge.App) (err error) {
	b.app = app
	b.known, err = of(app)
	return err
}

// check finds every fault that can be known before the handler runs.
func (b *Bot) check() error {
	for i, class := range b.Refuse {
		switch {
		case class == decision.BotGit:
			return errors.New("refuse git: git is never refused; where a place is closed to it, use the matcher edge_bot")
		case !slices.Contains(decision.BotClasses[:], class):
			return fmt.Errorf("refuse: %q is no class: they are %s", class, classes())
		case slices.Contains(b.Refuse[:i], class):
			return fmt.Errorf("refuse: %s stands twice", class)
		}
	}
	if b.RefuseScore < 0 || b.RefuseScore > 100 {
		return fmt.Errorf("refuse_score %d: it is 1 to 100", b.RefuseScore)
	}
	if b.Enforce && len(b.Refuse) == 0 && b.RefuseScore == 0 {
		return errors.New("enforce: there is nothing to enforce: say whom to refuse, for example: refuse impostor")
	}
	return nil
}

func classes() string {
	var b strings.Builder
	for i, class := range decision.BotClasses {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(class))
	}
	return b.String()
}

// ServeHTTP tags the request, and refuses it where a rule says so.
func (b *Bot) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	b.known.tag(d, r)
	if !b.speaksOf(&d.Bot) {
		return next.ServeHTTP(w, r)
	}
	switch {
	case isProgram(d.Bot.Class) && !handoff.IsNavigation(r):
		d.Bot.Action = decision.BotProgramOnAPI
	case d.Auth == decision.AuthNone && b.claims(r.Header):
		d.Bot.Action = decision.BotUnsettled
		d.AfterSession(b)
	default:
		if passes, err := b.SessionSettled(w, r, d); !passes {
			return err
		}
	}
	return next.ServeHTTP(w, r)
}

// speaksOf reports whether a rule names the client.
func (b *Bot) speaksOf(bot *decision.Bot) bool {
	return b.RefuseScore > 0 && bot.Score >= b.RefuseScore && bot.Verified == "" || slices.Contains(b.Refuse, bot.Class)
}

// SessionSettled refuses the client, unless it is signed in or nothing is enforced.
// By now it is known whether it is, or it sent nothing by which it could be.
func (b *Bot) SessionSettled(w http.ResponseWriter, r *http.Request, d *decision.Decision) (passes bool, err error) {
	switch {
	case d.SignedIn():
		d.Bot.Action = decision.BotSignedIn
		return true, nil
	case !b.Enforce:
		d.Bot.Action = decision.BotWouldRefuse
		return true, nil
	}
	d.Bot.Action, d.Outcome = decision.BotRefused, decision.OutcomeRefused
	return false, d.Refuse(w, r, problem.New(http.StatusForbidden, problem.BotRefused, ""), name)
}

// isProgram reports whether a client is one of those that are never kept from an API.
func isProgram(class decision.BotClass) bool {
	return class == decision.BotTool || class == decision.BotGit
}

// claims reports whether a request carries what could be credentials.
func (b *Bot) claims(h http.Header) bool {
	if len(h["Authorization"]) > 0 {
		return true
	}
	for _, line := range h["Cookie"] {
		if namesCookie(line, b.app.SessionCookie) {
			return true
		}
	}
	return false
}

func namesCookie(line, cookie string) bool {
	for line != "" {
		var pair string
		pair, line, _ = strings.Cut(line, ";")
		if n, _, _ := strings.Cut(pair, "="); strings.TrimSpace(n) == cookie {
			return true
		}
	}
	return false
}

var ( // interface guards
	_ caddy.Provisioner           = (*Bot)(nil)
	_ caddyhttp.MiddlewareHandler = (*Bot)(nil)
	_ caddyfile.Unmarshaler       = (*Bot)(nil)
	_ decision.Gate               = (*Bot)(nil)
)
