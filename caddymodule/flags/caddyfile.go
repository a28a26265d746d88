package flags

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Parse makes the handler from the Caddyfile.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	f := new(Flags)
	return f, f.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive:
//
//	edge_flags [<matcher>] {
//		flag <key> {
//			public
//			variant <name> <json>
//			default <variant>
//			rule <variant> {
//				tenants <tenant...>
//				roles <role...>
//				countries <code...>
//				coverage <share>
//			}
//		}
//		file <path>
//		feed <set>
//		country <placeholder>
//	}
//
// No placeholder is read here but that of country, when a request comes.
func (f *Flags) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	f.Source = edge.Where(d)
	whole := *d
	if d.NextArg() {
		return d.Errf("edge_flags takes a matcher and a block, got %q", d.Val())
	}
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "flag":
			err = f.unmarshalFlag(d)
		case "file":
			err = edge.One(d, &f.File)
		case "feed":
			err = edge.One(d, &f.Feed)
		case "country":
			err = edge.One(d, &f.Country)
		default:
			err = edge.Unknown(d, name, "flag", "file", "feed", "country")
		}
		if err != nil {
			return err
		}
	}
	if err := f.check(); err != nil {
		return whole.WrapErr(fmt.Errorf("edge_flags: %w", err))
	}
	return nil
}

func (f *Flags) unmarshalFlag(d *caddyfile.Dispenser) error {
	x := new(Definition)
	if err := edge.One(d, &x.Key); err != nil {
		return err
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "public":
			x.Public = true
			err = edge.None(d)
		case "variant":
			err = unmarshalVariant(d, x)
		case "default":
			err = edge.One(d, &x.Default)
		case "rule":
			err = unmarshalRule(d, x)
		default:
			err = edge.Unknown(d, "flag", "public", "variant", "default", "rule")
		}
		if err != nil {
			return err
		}
	}
	f.Flags = append(f.Flags, x)
	if _, err := compile(f.Flags); err != nil {
		return where.WrapErr(err)
	}
	return nil
}

// unmarshalVariant reads a name and a JSON value; a text needs quotes of its
// own, as in `"short"` between backticks.
func unmarshalVariant(d *caddyfile.Dispenser, x *Definition) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("variant takes a name and a JSON value, got %q", strings.Join(args, " "))
	}
	value := jsontext.Value(args[1])
	if !value.IsValid() {
		return d.Errf("variant %s: %s is not a JSON value; a text needs its quotes, as in: variant %s `\"text\"`", args[0], args[1], args[0])
	}
	x.Variants = append(x.Variants, Variant{Name: args[0], Value: value})
	return nil
}

func unmarshalRule(d *caddyfile.Dispenser, x *Definition) error {
	var r Rule
	if err := edge.One(d, &r.Variant); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch option := d.Val(); {
		case option == "coverage":
			err = unmarshalCoverage(d, &r)
		case slices.Contains(edge.AudienceOptions, option):
			err = edge.UnmarshalAudience(d, &r.Audience)
		default:
			err = edge.Unknown(d, "rule", append([]string{"coverage"}, edge.AudienceOptions...)...)
		}
		if err != nil {
			return err
		}
	}
	x.Rules = append(x.Rules, r)
	return nil
}

func unmarshalCoverage(d *caddyfile.Dispenser, r *Rule) error {
	if r.Coverage != nil {
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
	r.Coverage = &coverage
	return nil
}
