package experiment

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff/bucket"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	e := new(Experiment)
	return e, e.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_experiment [<matcher>] {
//		experiment <name> {
//			variant <name> [<weight>]
//			by user|tenant|anonymous
//			coverage <share>
//			seed <text>
//			namespace <name> <from> <to>
//			tenants <tenant...>
//			roles <role...>
//			countries <code...>
//		}
//		file <path>
//		feed <set>
//		country <placeholder>
//		cookie <name>
//		override_cookie <name>
//	}
//
// No placeholder is read here but that of country, when a request comes.
func (e *Experiment) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	e.Source = edge.Where(d)
	whole := *d
	if d.NextArg() {
		return d.Errf("edge_experiment takes a matcher and a block, got %q", d.Val())
	}
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "experiment":
			err = e.unmarshalExperiment(d)
		case "file":
			err = edge.One(d, &e.File)
		case "feed":
			err = edge.One(d, &e.Feed)
		case "country":
			err = edge.One(d, &e.Country)
		case "cookie":
			err = edge.One(d, &e.Cookie)
		case "override_cookie":
			err = edge.One(d, &e.OverrideCookie)
		default:
			err = edge.Unknown(d, name, "experiment", "file", "feed", "country", "cookie", "override_cookie")
		}
		if err != nil {
			return err
		}
	}
	if err := e.check(); err != nil {
		return whole.WrapErr(fmt.Errorf("edge_experiment: %w", err))
	}
	return nil
}

func (e *Experiment) unmarshalExperiment(d *caddyfile.Dispenser) error {
	x := new(Definition)
	if err := edge.One(d, &x.Name); err != nil {
		return err
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch option := d.Val(); {
		case option == "variant":
			err = unmarshalVariant(d, x)
		case option == "by":
			err = edge.One(d, &x.By)
		case option == "coverage":
			err = unmarshalCoverage(d, x)
		case option == "seed":
			err = edge.One(d, &x.Seed)
		case option == "namespace":
			err = unmarshalNamespace(d, x)
		case slices.Contains(edge.AudienceOptions, option):
			err = edge.UnmarshalAudience(d, &x.Audience)
		default:
			err = edge.Unknown(d, "experiment", append([]string{"variant", "by", "coverage", "seed", "namespace"}, edge.AudienceOptions...)...)
		}
		if err != nil {
			return err
		}
	}
	e.Experiments = append(e.Experiments, x)
	if _, err := compile(e.Experiments); err != nil {
		return where.WrapErr(err)
	}
	return nil
}

func unmarshalVariant(d *caddyfile.Dispenser, x *Definition) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Errf("variant takes a name and, if you like, a weight, got %q", strings.Join(args, " "))
	}
	v := Variant{Name: args[0]}
	if len(args) == 2 {
		var err error
		if v.Weight, err = edge.Share(args[1]); err != nil {
			return d.Errf("variant %s: weight %v", v.Name, err)
		}
	}
	x.Variants = append(x.Variants, v)
	return nil
}

func unmarshalCoverage(d *caddyfile.Dispenser, x *Definition) error {
	if x.Coverage != nil {
		return d.Err("coverage stands twice")
	}
	var text string
	if err := edge.One(d, &text); err != nil {
		return err
	}
	coverage, err := edge.Share(text)
	if err != nil {
		return d.Errf("coverage %v", err)
	}
	x.Coverage = &coverage
	return nil
}

func unmarshalNamespace(d *caddyfile.Dispenser, x *Definition) error {
	if x.Namespace != nil {
		return d.Err("namespace stands twice")
	}
	args := d.RemainingArgs()
	if len(args) != 3 {
		return d.Errf("namespace takes a name and where its slice begins and ends, as in: namespace checkout 0 0.5; got %q", strings.Join(args, " "))
	}
	s := bucket.Space{Name: args[0]}
	var err error
	if s.From, err = edge.Share(args[1]); err == nil {
		s.To, err = edge.Share(args[2])
	}
	if err != nil {
		return d.Errf("namespace %s: %v", s.Name, err)
	}
	x.Namespace = &s
	return nil
}
