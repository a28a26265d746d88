package region

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
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
		return r, r.unmarshal(h.Dispenser, nil, h.MatcherToken)
	}
	app := new(edge.App)
	if err := json.Unmarshal(option.Value, app); err != nil {
		return nil, h.WrapErr(err)
	}
	return r, r.unmarshal(h.Dispenser, app, h.MatcherToken)
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_region [<matcher>] {
//		to <region>
//		rewrite <template>
//		country <placeholder>
//		writes <matcher>|{
//			<matchers>
//		}
//		reads <matcher>|{
//			<matchers>
//		}
//		fallback <region...> {
//			replica
//		}
//		recent_write <duration>|off
//	}
//
// writes and reads may stand more than once: any of them is enough. Named matchers
// are known where [Parse] reads the directive, not here.
//
// Placeholders: the template of rewrite holds {edge.region} and ends with {uri},
// and no other; country is one.
func (h *Region) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return h.unmarshal(d, nil, nil)
}

// unmarshal refuses a region that app does not have, and what else app does not
// allow, where the app is known: the edge option is read before the sites are. named
// reads a matcher's name, or is nil where none can be known.
func (h *Region) unmarshal(d *caddyfile.Dispenser, app *edge.App, named matcherToken) error {
	d.Next() // the directive's name
	h.Source = edge.Where(d)
	last := *d
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
		case "writes":
			err = unmarshalMatcher(d, &h.WritesRaw, named)
		case "reads":
			err = unmarshalMatcher(d, &h.ReadsRaw, named)
		case "fallback":
			last = *d
			err = h.unmarshalFallback(d)
		case "recent_write":
			if len(h.Fallback) == 0 {
				last = *d
			}
			err = h.unmarshalRecentWrite(d)
		default:
			err = edge.Unknown(d, name, "to", "rewrite", "country", "writes", "reads", "fallback", "recent_write")
		}
		if err != nil {
			return err
		}
	}
	if app == nil {
		return nil
	}
	return at(&last, h.checkFallback(app))
}

// matcherToken reads the next argument as a matcher of Caddy's: *, /path or @name.
type matcherToken func() (set caddy.ModuleMap, found bool, err error)

// unmarshalMatcher reads one matcher, or a block of them that all have to match.
func unmarshalMatcher(d *caddyfile.Dispenser, into *caddyhttp.RawMatcherSets, named matcherToken) error {
	option, ahead := d.Val(), *d
	if !ahead.NextArg() {
		if !ahead.NextBlock(ahead.Nesting()) {
			return d.Errf("%s needs a matcher, such as @%s or a path, or a block of matchers", option, option)
		}
		set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
		if err != nil {
			return err
		}
		*into = append(*into, set)
		return nil
	}
	if named == nil {
		return ahead.Errf("%s %s: no matcher can be named here", option, ahead.Val())
	}
	set, found, err := named()
	switch {
	case err != nil:
		return d.WrapErr(err)
	case !found:
		return d.Errf("%s %s: that is no matcher: it is *, /path or @name", option, d.Val())
	case d.NextArg():
		return d.Errf("%s takes one matcher, got %q too", option, d.Val())
	case set == nil:
		set = caddy.ModuleMap{} // *
	}
	*into = append(*into, set)
	return nil
}

func (h *Region) unmarshalFallback(d *caddyfile.Dispenser) error {
	if len(h.Fallback) > 0 {
		return d.Err("fallback stands twice")
	}
	if err := edge.Many(d, &h.Fallback); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "replica" {
			return edge.Unknown(d, "fallback", "replica")
		}
		h.Replica = true
		if err := edge.None(d); err != nil {
			return err
		}
	}
	return nil
}

// unmarshalRecentWrite reads a duration, or "off".
func (h *Region) unmarshalRecentWrite(d *caddyfile.Dispenser) error {
	if h.RecentWrite != 0 {
		return d.Err("recent_write stands twice")
	}
	ahead := *d
	if !ahead.NextArg() || ahead.Val() != "off" {
		return edge.Duration(d, &h.RecentWrite)
	}
	h.RecentWrite = -1
	d.NextArg()
	if d.NextArg() {
		return d.Errf("recent_write takes one value, got %q too", d.Val())
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
