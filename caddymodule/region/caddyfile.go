package region

import (
	"encoding/json"
	"errors"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	r := new(Region)
	if err := r.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return r, checkPin(h, r.To)
}

// checkPin refuses a pin to a region that the edge option does not have. The
// option is read before the sites are.
func checkPin(h httpcaddyfile.Helper, to string) error {
	option, ok := h.Option("edge").(httpcaddyfile.App)
	if !ok || to == "" {
		return nil // a missing option is said when the handler is provisioned
	}
	var app edge.App
	if err := json.Unmarshal(option.Value, &app); err != nil {
		return h.WrapErr(err)
	}
	if app.Region(to) == nil {
		return h.Err(unknownPin(to, app.Regions))
	}
	return nil
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
func (h *Region) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("edge_region takes a matcher and a block, got %q", d.Val())
	}
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "to":
			err = edge.One(d, &h.To)
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
	// The http transport's tokens are these without our own.
	inner := []caddyfile.Token{d.Token()}
	opened := false
	for d.NextBlock(0) {
		if !opened {
			opened = true
			d.Prev()
			inner = append(inner, d.Token()) // "{"
			d.Next()
		}
		if d.Val() == "replay_limit" {
			if err := t.unmarshalReplayLimit(d); err != nil {
				return err
			}
			continue
		}
		inner = append(inner, d.NextSegment()...)
	}
	if opened {
		inner = append(inner, d.Token()) // "}"
	}
	if err := t.HTTPTransport.UnmarshalCaddyfile(caddyfile.NewDispenser(inner)); err != nil {
		return err
	}
	return at(d, t.check())
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
