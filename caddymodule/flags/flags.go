// Package flags answers for feature flags at the edge.
package flags

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

const name = "edge_flags"

// Flags is the edge_flags handler. It evaluates feature flags for the request's
// session, with no region asked:
//
//   - for the edge itself, as {edge.flag.KEY}, when one is looked at;
//   - for clients, by the OpenFeature Remote Evaluation Protocol (OFREP): POST
//     /ofrep/v1/evaluate/flags for all, with an ETag, and one more path segment
//     for one. Only public flags are there for them. Errors are OFREP's.
//
// Every other request is passed on. Rules see what edge_session has verified and
// the country, never what a client says of itself in the evaluation context.
type Flags struct {
	// Flags are those that the configuration defines. Default: none.
	Flags []*Definition `json:"flags,omitempty"`

	// File is a JSON file with more of them, {"flags": […]}, in the form of this
	// configuration, of 256 KiB at most, which only its owner may write. It is read
	// again when it changes; one that cannot be used changes nothing. A flag may
	// not be in both. Default: none.
	File string `json:"file,omitempty"`

	// Feed names a set of flags that the regions publish in the feed, in the form of
	// a file. It is taken as it changes; one that cannot be used changes nothing. The
	// last one is kept in Caddy's storage, and in force after a restart without the
	// feed. A flag may not be in both. It excludes File. Default: none.
	Feed string `json:"feed,omitempty"`

	// Country is a placeholder that holds the client's country as an ISO 3166-1
	// alpha-2 code, for rules by country. Default: no country is known.
	Country string `json:"country,omitempty"`

	// Source is where the directive stands, as "Caddyfile:12", for people. The
	// Caddyfile's adapter sets it. Default: unknown.
	Source string `json:"source,omitempty"`

	current edge.Definitions[set]
	file    *edge.File
	source  *edge.Source
}

// CaddyModule returns the module's information.
func (*Flags) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_flags", New: func() caddy.Module { return new(Flags) }}
}

// Provision reads the definitions.
func (f *Flags) Provision(ctx caddy.Context) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("edge_flags: %w", err)
	}
	app, err := ctx.AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("edge_flags needs the global option edge { … }, which says what this POP is")
	}
	if err != nil {
		return err
	}
	if f.File == "" {
		if err := f.take(nil); err != nil || f.Feed == "" {
			return err
		}
		if f.source, err = app.(*edge.App).FollowDefinitions(feed.Flags, f.Feed, ctx.Logger(), f.use); err != nil {
			return fmt.Errorf("edge_flags: %w", err)
		}
		return nil
	}
	f.file, err = edge.WatchFile(f.File, ctx.Logger(), f.use)
	if err != nil {
		return fmt.Errorf("edge_flags: file: %w", err)
	}
	return nil
}

// use puts a source's flags in force; nil: it has none.
func (f *Flags) use(data []byte) error {
	if data == nil {
		return f.take(nil)
	}
	more, err := definition.ParseFlags(data)
	if err != nil {
		return err
	}
	return f.take(more)
}

// take puts the configuration's flags and those of a source in force.
func (f *Flags) take(more []*Definition) error {
	s, err := compile(append(f.Flags[:len(f.Flags):len(f.Flags)], more...))
	if err != nil {
		return err
	}
	f.current.Set(s)
	return nil
}

// check finds every fault that can be known before the handler runs.
func (f *Flags) check() error {
	switch {
	case len(f.Flags) == 0 && f.File == "" && f.Feed == "":
		return errors.New("no flag: give a flag block, or a file or a set of the feed that holds some")
	case f.File != "" && f.Feed != "":
		return errors.New("file and feed are both there: flags come from one of them")
	case f.Feed != "" && !feed.ValidName(f.Feed):
		return fmt.Errorf("feed %q: a set's name has 1 to 63 characters of a-z, 0-9 and '-'", f.Feed)
	}
	if _, err := compile(f.Flags); err != nil {
		return err
	}
	return edge.CheckPlaceholder("country", f.Country)
}

// Cleanup ends the watch of the file or the feed.
func (f *Flags) Cleanup() error {
	_ = f.source.Close()
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// ServeHTTP answers what is OFREP's and passes the rest on.
func (f *Flags) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	if key, all, ofrep := asked(r.URL.Path); ofrep {
		return f.answer(w, r, d, key, all)
	}
	current := f.current.Get() // one and the same for all that this request looks at
	d.FlagsBy(func(key string) (string, bool) {
		flag := current.find(key)
		if flag == nil {
			return "", false
		}
		return flag.evaluate(d, r, f.Country).text, true
	})
	return next.ServeHTTP(w, r)
}

var ( // interface guards
	_ caddy.Provisioner           = (*Flags)(nil)
	_ caddy.CleanerUpper          = (*Flags)(nil)
	_ caddyhttp.MiddlewareHandler = (*Flags)(nil)
	_ caddyfile.Unmarshaler       = (*Flags)(nil)
)
