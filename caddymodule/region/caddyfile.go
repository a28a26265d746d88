package region

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	r := new(Region)
	option, ok := h.Option("edge").(httpcaddyfile.App)
	if !ok { // that it is missing is said when the handler is provisioned
		return r, r.UnmarshalCaddyfile(h.Dispenser)
	}
	app := new(edge.App)
	if err := json.Unmarshal(option.Value, app); err != nil {
		return nil, h.WrapErr(err)
	}
	return r, r.unmarshal(h.Dispenser, app)
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_region [<matcher>] {
//		to <region>
//		rewrite <template>
//		country <placeholder>
//	}
//
// Placeholders: the template of rewrite holds {edge.region} and ends with {uri},
// and no other; country is one.
func (h *Region) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return h.unmarshal(d, nil) }

// unmarshal refuses a pin to a region that app does not have, where the app is
// known: the edge option is read before the sites are.
func (h *Region) unmarshal(d *caddyfile.Dispenser, app *edge.App) error {
	d.Next() // the directive's name
	h.Source = edge.Where(d)
	if d.NextArg() {
		return d.Errf("edge_region takes a matcher and a block, got %q", d.Val())
	}
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "to":
			if err = edge.One(d, &h.To); err == nil && app != nil && app.Region(h.To) == nil {
				err = d.Err(unknownPin(h.To, app.Regions))
			}
		case "rewrite":
			if err = edge.One(d, &h.Rewrite); err == nil {
				_, fault := splitTemplate(h.Rewrite)
				err = at(d, fault)
			}
		case "country":
			if err = edge.One(d, &h.Country); err == nil {
				err = at(d, checkCountry(h.Country))
			}
		default:
			err = edge.Unknown(d, name, "to", "rewrite", "country")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// at adds the place in the file to an error.
func at(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.WrapErr(err)
}

// UnmarshalCaddyfile reads the upstream source, which has no options:
//
//	dynamic edge_region
func (*Upstreams) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "edge_region"
	if d.NextArg() {
		return d.Errf("dynamic edge_region takes no argument, got %q: the regions are in the edge option", d.Val())
	}
	if d.NextBlock(0) {
		return d.Errf("dynamic edge_region takes no block, got %q", d.Val())
	}
	return nil
}

// UnmarshalCaddyfile reads the transport:
//
//	transport edge {
//		replay_limit <size>
//		<every option of transport http>
//	}
//
// Placeholders are read where transport http reads them (tls_server_name).
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "edge"
	if d.NextArg() {
		return d.Errf("transport edge takes a block and no argument, got %q", d.Val())
	}
	first, brace := d.Token(), d.Token()
	for d.NextBlock(0) {
		if brace.Text != "{" {
			d.Prev()
			brace = d.Token()
			d.Next()
		}
		if err := t.unmarshalOption(d, first, brace); err != nil {
			return err
		}
	}
	return nil
}

// unmarshalOption reads one option: our own, or one that the http transport
// reads, as if it stood there alone. So what is wrong with it is said with its
// own line.
func (t *Transport) unmarshalOption(d *caddyfile.Dispenser, first, brace caddyfile.Token) error {
	if d.Val() == "replay_limit" {
		return t.unmarshalReplayLimit(d)
	}
	alone := append([]caddyfile.Token{first, brace}, d.NextSegment()...)
	closing := d.Token()
	closing.Text, closing.Line = "}", closing.Line+1
	err := t.HTTPTransport.UnmarshalCaddyfile(caddyfile.NewDispenser(append(alone, closing)))
	if err != nil && strings.Contains(err.Error(), "unrecognized subdirective") {
		return fmt.Errorf("%w; transport edge has replay_limit and the options of transport http", err)
	}
	if err == nil {
		err = at(d, t.check())
	}
	return err
}

var errReplayLimit = errors.New("replay_limit is a size from 1 byte to 64MiB, such as 1MiB")

func (t *Transport) unmarshalReplayLimit(d *caddyfile.Dispenser) error {
	if t.ReplayLimit != 0 {
		return d.Err("replay_limit stands twice")
	}
	var text string
	if err := edge.One(d, &text); err != nil {
		return err
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size < 1 || size > maxReplayLimit {
		return d.Errf("%w, got %q", errReplayLimit, text)
	}
	t.ReplayLimit = int64(size)
	return nil
}
