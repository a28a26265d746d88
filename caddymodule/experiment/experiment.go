// Package experiment puts requests on the sides of experiments.
package experiment

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

const name = "edge_experiment"

// Defaults of [Experiment].
const (
	DefaultCookie         = "__Host-edge_visitor"
	DefaultOverrideCookie = "__Host-edge_override"
)

// Experiment is the edge_experiment handler. It puts a request on one side of
// each experiment that is meant for it; {edge.variant.NAME} and the matcher
// edge_variant then say which. Without a side both say nothing.
//
// A side follows from the unit, the seed and the weights by GrowthBook's hash,
// so that it is the same at every POP and nothing is stored. A change of weights
// moves those units alone whose part of the buckets changes hands.
//
// That a unit met a variant is told once per POP and day, in the log's field
// exposures and in the trace; the variants are in every line. Put the directive
// where the experiment is met, and nowhere else.
type Experiment struct {
	// Experiments are those that the configuration defines. Default: none.
	Experiments []*Definition `json:"experiments,omitempty"`

	// File is a JSON file with more of them, {"experiments": […]}, in the form of
	// this configuration, of 256 KiB at most, which only its owner may write. It is
	// read again when it changes; one that cannot be used changes nothing. An
	// experiment may not be in both. Default: none.
	File string `json:"file,omitempty"`

	// Feed names a set of experiments that the regions publish in the feed, in the
	// form of a file. It is taken as it changes; one that cannot be used changes
	// nothing. The last one is kept in Caddy's storage, and in force after a restart
	// without the feed. An experiment may not be in both. It excludes File. Default:
	// none.
	Feed string `json:"feed,omitempty"`

	// Country is a placeholder that holds the client's country as an ISO 3166-1
	// alpha-2 code, for rules by country. Default: no country is known.
	Country string `json:"country,omitempty"`

	// Cookie is the name of the cookie that holds a visitor's signed id, for
	// experiments by "anonymous". Default: "__Host-edge_visitor".
	Cookie string `json:"cookie,omitempty"`

	// OverrideCookie is the name of the cookie that holds a signed override.
	// Default: "__Host-edge_override".
	OverrideCookie string `json:"override_cookie,omitempty"`

	// Source is where the directive stands, as "Caddyfile:12", for people. The
	// Caddyfile's adapter sets it. Default: unknown.
	Source string `json:"source,omitempty"`

	app       *edge.App
	current   edge.Definitions[set]
	file      *edge.File
	source    *edge.Source
	exposures *exposures
}

// CaddyModule returns the module's information.
func (*Experiment) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_experiment", New: func() caddy.Module { return new(Experiment) }}
}

// Provision reads the definitions.
func (e *Experiment) Provision(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("edge_experiment needs the global option edge { … }, which says what this POP is")
	}
	if err != nil {
		return err
	}
	return e.use(app.(*edge.App), ctx)
}

// use prepares the handler for the app.
func (e *Experiment) use(app *edge.App, ctx caddy.Context) (err error) {
	e.app = app
	if e.Cookie == "" {
		e.Cookie = DefaultCookie
	}
	if e.OverrideCookie == "" {
		e.OverrideCookie = DefaultOverrideCookie
	}
	if err := e.check(); err != nil {
		return fmt.Errorf("edge_experiment: %w", err)
	}
	if e.exposures, err = edge.Shared(app, name+" exposures", newExposures); err != nil {
		return err
	}
	if e.File == "" {
		if err := e.take(nil); err != nil || e.Feed == "" {
			return err
		}
		if e.source, err = app.FollowDefinitions(feed.Experiments, e.Feed, ctx.Logger(), e.read); err != nil {
			return fmt.Errorf("edge_experiment: %w", err)
		}
		return nil
	}
	e.file, err = edge.WatchFile(e.File, ctx.Logger(), e.read)
	if err != nil {
		return fmt.Errorf("edge_experiment: file: %w", err)
	}
	return nil
}

// read puts a source's experiments in force; nil: it has none.
func (e *Experiment) read(data []byte) error {
	if data == nil {
		return e.take(nil)
	}
	more, err := definition.ParseExperiments(data)
	if err != nil {
		return err
	}
	return e.take(more)
}

// take puts the configuration's experiments and those of a source in force.
func (e *Experiment) take(more []*Definition) error {
	s, err := compile(append(e.Experiments[:len(e.Experiments):len(e.Experiments)], more...))
	if err != nil {
		return err
	}
	if s.visitors && !e.app.SignsCookies() {
		return errors.New("an experiment by anonymous needs cookie_secret_file or cookie_secret_env in the global option edge { … }, alike at every POP")
	}
	e.current.Set(s)
	return nil
}

// check finds every fault that can be known before the handler runs.
func (e *Experiment) check() error {
	switch {
	case len(e.Experiments) == 0 && e.File == "" && e.Feed == "":
		return errors.New("no experiment: give an experiment block, or a file or a set of the feed that holds some")
	case e.File != "" && e.Feed != "":
		return errors.New("file and feed are both there: experiments come from one of them")
	case e.Feed != "" && !feed.ValidName(e.Feed):
		return fmt.Errorf("feed %q: a set's name has 1 to 63 characters of a-z, 0-9 and '-'", e.Feed)
	}
	for option, cookie := range map[string]string{"cookie": e.Cookie, "override_cookie": e.OverrideCookie} {
		if cookie != "" && (&http.Cookie{Name: cookie, Value: "v"}).Valid() != nil {
			return fmt.Errorf("%s %q is not a cookie's name: it has letters, digits and !#$%%&'*+-.^_`|~ (RFC 6265, section 4.1.1)", option, cookie)
		}
	}
	if e.Cookie != "" && e.Cookie == e.OverrideCookie {
		return fmt.Errorf("cookie and override_cookie are both %q: they are two cookies", e.Cookie)
	}
	_, err := compile(e.Experiments)
	if err != nil {
		return err
	}
	return edge.CheckPlaceholder("country", e.Country)
}

// Cleanup ends the watch of the file or the feed.
func (e *Experiment) Cleanup() error {
	_ = e.source.Close()
	if e.file == nil {
		return nil
	}
	return e.file.Close()
}

// ServeHTTP finds the request's sides and passes it on.
func (e *Experiment) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	stage := d.Stage(r.Context(), handoff.SpanExperiment)
	err = e.assign(r, d)
	stage.End()
	if err != nil {
		return fmt.Errorf("edge_experiment: %w", err)
	}
	return next.ServeHTTP(w, r)
}

// assign records the side that the request is on in each experiment meant for it.
func (e *Experiment) assign(r *http.Request, d *decision.Decision) error {
	override := e.override(r.Header["Cookie"], time.Now())
	for _, x := range e.current.Get().definitions {
		if side, ok := override[x.Name]; ok && x.Index(side) >= 0 {
			d.Assign(x.Name, side) // whoever tests a side does not count
			continue
		}
		if !x.meant(d, r, e.Country) {
			continue
		}
		if x.By == ByAnonymous && d.AnonymousID == "" {
			id, err := e.visitor(r, d)
			if err != nil {
				return err
			}
			d.AnonymousID = id
		}
		unit := x.unit(d)
		side := x.choose(unit)
		if side != "" && d.Assign(x.Name, side) && e.exposures.first(exposed{x.Name, side, unit}, d.DryRun) {
			d.Expose(x.Name, side)
		}
	}
	return nil
}

var ( // interface guards
	_ caddy.Provisioner           = (*Experiment)(nil)
	_ caddy.CleanerUpper          = (*Experiment)(nil)
	_ caddyhttp.MiddlewareHandler = (*Experiment)(nil)
	_ caddyfile.Unmarshaler       = (*Experiment)(nil)
)
