package bot

import (
	"fmt"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	b := new(Bot)
	return b, b.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_bot [<matcher>] {
//		refuse       <class...>
//		refuse_score <1-100>
//		shadow|enforce
//	}
//
// No placeholder is read here.
func (b *Bot) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("edge_bot takes a matcher and a block, got %q", d.Val())
	}
	whole, mode := *d, ""
	for d.NextBlock(0) {
		var err error
		switch option := d.Val(); option {
		case "refuse":
			err = b.unmarshalRefuse(d)
		case "refuse_score":
			err = score(d, &b.RefuseScore)
		case "shadow", "enforce":
			if mode != "" {
				return d.Errf("%s: %s stands already: it is one or the other", option, mode)
			}
			mode, b.Enforce = option, option == "enforce"
			err = edge.None(d)
		default:
			err = edge.Unknown(d, name, "refuse", "refuse_score", "shadow", "enforce")
		}
		if err != nil {
			return err
		}
	}
	if err := b.check(); err != nil {
		return whole.WrapErr(fmt.Errorf("edge_bot: %w", err))
	}
	return nil
}

func (b *Bot) unmarshalRefuse(d *caddyfile.Dispenser) error {
	var words []string
	if err := edge.Many(d, &words); err != nil {
		return err
	}
	for _, class := range words {
		b.Refuse = append(b.Refuse, decision.BotClass(class))
	}
	if err := (&Bot{Refuse: b.Refuse}).check(); err != nil {
		return d.WrapErr(fmt.Errorf("edge_bot: %w", err))
	}
	return nil
}

// score reads a score.
func score(d *caddyfile.Dispenser, into *int) error {
	option := d.Val()
	if *into != 0 {
		return d.Errf("%s stands twice", option)
	}
	var text string
	if err := edge.One(d, &text); err != nil {
		return err
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 || value > 100 {
		return d.Errf("%s: %q is not a number from 1 to 100", option, text)
	}
	*into = value
	return nil
}
