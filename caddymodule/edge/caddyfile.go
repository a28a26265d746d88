package edge

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"
)

// ParseOption makes the app from the global option of the Caddyfile.
func ParseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next() // so that the error says where
		return nil, d.Err("edge stands twice: a POP has one edge block")
	}
	a := new(App)
	if err := a.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "edge", Value: caddyconfig.JSON(a, nil)}, nil
}

// UnmarshalCaddyfile reads the global option:
//
//	edge {
//		pop <name>
//		default_region <region>
//		region <name> {
//			upstreams <address...>
//			public_name <name>
//			countries <code...>
//			health …
//			breaker …
//		}
//		health off|{
//			uri <uri>
//			port <port>
//			interval <duration>
//			timeout <duration>
//			fails <n>
//			passes <n>
//		}
//		breaker off|{
//			failures <n>
//			ratio <share>
//			window <duration>
//			open <duration>
//			max_open <duration>
//			trials <n>
//		}
//		cache {
//			memory <size>
//			disk <directory> <size>
//			disk_from <size>
//		}
//		assertion {
//			key_file <path...>
//			key_env <variable>
//			secret_file <path>
//			secret_env <variable>
//		}
//		issuer <iss> {
//			jwks_url <url>
//			discovery
//			key_file <path>
//			secret_file <path>
//			secret_env <variable>
//			audience <aud>
//			any_audience
//			tenants <tenant...>
//			any_tenant
//			claim tenant|region|session|roles|auth_time <name>
//			algorithms <alg...>
//			leeway <duration>
//		}
//		session_cookie <name>
//		cookie_secret_file <path...>
//		cookie_secret_env <variable>
//		feed {
//			url <url>
//			credentials <path>
//			ca <path>
//			max_stale <duration>
//			max_stale_reads <duration>|unlimited
//		}
//		bots {
//			authority <host...>
//			agent <name> {
//				class <class>
//				user_agent <word...>
//				ranges <path...>
//				signature_agent <url>
//				keys <path>
//			}
//		}
//	}
//
// Placeholders are not read here; {$VARIABLE} is, as everywhere in a Caddyfile.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "edge"
	if d.NextArg() {
		return d.Errf("edge takes a block and no argument, got %q", d.Val())
	}
	whole, defaultRegion := *d, *d
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "pop":
			if err = One(d, &a.POP); err == nil {
				err = at(d, checkPOP(a.POP))
			}
		case "default_region":
			err = One(d, &a.DefaultRegion)
			defaultRegion = *d
		case "region":
			err = a.unmarshalRegion(d)
		case "assertion":
			err = a.unmarshalAssertion(d)
		case "issuer":
			err = a.unmarshalIssuer(d)
		case "session_cookie":
			if err = One(d, &a.SessionCookie); err == nil {
				err = at(d, checkCookie(a.SessionCookie))
			}
		case "cookie_secret_file":
			err = Many(d, &a.CookieSecretFiles)
		case "cookie_secret_env":
			err = One(d, &a.CookieSecretEnv)
		case "feed":
			err = a.unmarshalFeed(d)
		case "bots":
			err = a.unmarshalBots(d)
		case "health":
			err = unmarshalHealth(d, &a.Health)
		case "breaker":
			err = unmarshalBreaker(d, &a.Breaker)
		case "cache":
			err = a.unmarshalCache(d)
		default:
			err = Unknown(d, "edge", "pop", "default_region", "region", "assertion", "issuer", "session_cookie", "cookie_secret_file", "cookie_secret_env", "feed", "bots", "health", "breaker", "cache")
		}
		if err != nil {
			return err
		}
	}
	if a.DefaultRegion != "" && len(a.Regions) > 0 && a.Region(a.DefaultRegion) == nil {
		return defaultRegion.Errf("default_region %q is not one of the regions", a.DefaultRegion)
	}
	return at(&whole, a.check())
}

func (a *App) unmarshalRegion(d *caddyfile.Dispenser) error {
	r := new(Region)
	if err := One(d, &r.Name); err != nil {
		return err
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "upstreams":
			err = Many(d, &r.Upstreams)
		case "public_name":
			err = One(d, &r.PublicName)
		case "countries":
			err = Many(d, &r.Countries)
		case "health":
			err = unmarshalHealth(d, &r.Health)
		case "breaker":
			err = unmarshalBreaker(d, &r.Breaker)
		default:
			err = Unknown(d, "region", "upstreams", "public_name", "countries", "health", "breaker")
		}
		if err != nil {
			return err
		}
	}
	if r.PublicName == "" {
		r.PublicName = r.Name
	}
	if err := r.check(a.Regions); err != nil {
		return at(&where, err)
	}
	a.Regions = append(a.Regions, r)
	return nil
}

// isOff reads what may stand between the option and its block.
func isOff(d *caddyfile.Dispenser, option string) (bool, error) {
	args := d.RemainingArgs()
	switch {
	case len(args) == 0:
		return false, nil
	case len(args) == 1 && args[0] == "off":
		return true, nil
	}
	return false, d.Errf("%s takes off or a block, got %q", option, strings.Join(args, " "))
}

// count reads a number from 1.
func count(d *caddyfile.Dispenser, into *int) error {
	option := d.Val()
	if *into != 0 {
		return d.Errf("%s stands twice", option)
	}
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 {
		return d.Errf("%s: %q is not a number from 1", option, text)
	}
	*into = value
	return nil
}

// once reads a duration that may not stand twice.
func once(d *caddyfile.Dispenser, into *caddy.Duration) error {
	if *into != 0 {
		return d.Errf("%s stands twice", d.Val())
	}
	return Duration(d, into)
}

// at says where err is in the file; nil stays nil.
func at(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.WrapErr(fmt.Errorf("edge: %w", err))
}

func (a *App) unmarshalAssertion(d *caddyfile.Dispenser) error {
	if a.Assertion != nil {
		return d.Err("assertion stands twice")
	}
	a.Assertion = new(Assertion)
	if d.NextArg() {
		return d.Errf("assertion takes a block and no argument, got %q", d.Val())
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "key_file":
			err = Many(d, &a.Assertion.KeyFiles)
		case "key_env":
			err = One(d, &a.Assertion.KeyEnv)
		case "secret_file":
			err = One(d, &a.Assertion.SecretFile)
		case "secret_env":
			err = One(d, &a.Assertion.SecretEnv)
		default:
			err = Unknown(d, "assertion", "key_file", "key_env", "secret_file", "secret_env")
		}
		if err != nil {
			return err
		}
	}
	if err := a.Assertion.check(); err != nil {
		return where.WrapErr(fmt.Errorf("assertion: %w", err))
	}
	return nil
}

func (a *App) unmarshalIssuer(d *caddyfile.Dispenser) error {
	i := new(Issuer)
	if err := One(d, &i.Name); err != nil {
		return err
	}
	if a.Issuer(i.Name) != nil {
		return d.Errf("issuer %q stands twice", i.Name)
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "jwks_url":
			err = One(d, &i.JWKSURL)
		case "key_file":
			err = One(d, &i.KeyFile)
		case "secret_file":
			err = One(d, &i.SecretFile)
		case "secret_env":
			err = One(d, &i.SecretEnv)
		case "audience":
			err = One(d, &i.Audience)
		case "any_audience":
			i.AnyAudience = true
			err = None(d)
		case "discovery":
			i.Discovery = true
			err = None(d)
		case "tenants":
			err = Many(d, &i.Tenants)
		case "any_tenant":
			i.AnyTenant = true
			err = None(d)
		case "claim":
			err = i.unmarshalClaim(d)
		case "algorithms":
			err = Many(d, &i.Algorithms)
		case "leeway":
			err = Duration(d, &i.Leeway)
		default:
			err = Unknown(d, "issuer", "jwks_url", "discovery", "key_file", "secret_file", "secret_env",
				"audience", "any_audience", "tenants", "any_tenant", "claim", "algorithms", "leeway")
		}
		if err != nil {
			return err
		}
	}
	if err := i.check(); err != nil {
		return where.WrapErr(fmt.Errorf("issuer %q: %w", i.Name, err))
	}
	a.Issuers = append(a.Issuers, i)
	return nil
}

func (i *Issuer) unmarshalClaim(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("claim takes which claim it is and what the issuer calls it, for example: claim tenant org_id")
	}
	if _, twice := i.Claims[args[0]]; twice {
		return d.Errf("claim %s stands twice", args[0])
	}
	if err := checkClaim(args[0], args[1]); err != nil {
		return d.WrapErr(err)
	}
	if i.Claims == nil {
		i.Claims = map[string]string{}
	}
	i.Claims[args[0]] = args[1]
	return nil
}

// One reads the one argument that the option at hand takes. An option that
// stands twice is an error: the second would silently win.
func One(d *caddyfile.Dispenser, into *string) error {
	option := d.Val()
	if *into != "" {
		return d.Errf("%s stands twice", option)
	}
	if !d.NextArg() || d.Val() == "" {
		return d.Errf("%s needs a value", option)
	}
	*into = d.Val()
	if d.NextArg() {
		return d.Errf("%s takes one value, got %q too", option, d.Val())
	}
	return nil
}

// Many reads one argument or more.
func Many(d *caddyfile.Dispenser, into *[]string) error {
	option := d.Val()
	values := d.RemainingArgs()
	if len(values) == 0 {
		return d.Errf("%s needs at least one value", option)
	}
	*into = append(*into, values...)
	return nil
}

// None refuses an argument.
func None(d *caddyfile.Dispenser) error {
	option := d.Val()
	if d.NextArg() {
		return d.Errf("%s takes no value, got %q", option, d.Val())
	}
	return nil
}

// Size reads a positive size in bytes such as 8KiB, with what stands behind it.
func Size(d *caddyfile.Dispenser, into *int64, behind string) error {
	option := d.Val()
	if *into != 0 {
		return d.Errf("%s stands twice", option)
	}
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	number, found := strings.CutSuffix(text, behind)
	n, ok := parseSize(number)
	if !found || !ok {
		return d.Errf("%s %q: it is a size such as 8KiB%s", option, text, behind)
	}
	*into = n
	return nil
}

// maxSize is more than there is.
const maxSize = 1 << 50

func parseSize(text string) (int64, bool) {
	n, err := humanize.ParseBytes(text)
	return int64(n), err == nil && n >= 1 && n <= maxSize
}

// Duration reads a positive duration such as 10s.
func Duration(d *caddyfile.Dispenser, into *caddy.Duration) error {
	option := d.Val()
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	value, err := caddy.ParseDuration(text)
	if err != nil || value <= 0 {
		return d.Errf("%s: %q is not a positive duration such as 10s", option, text)
	}
	*into = caddy.Duration(value)
	return nil
}

// Share reads a share as 0.25 or 25%.
func Share(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	value, err := strconv.ParseFloat(number, 64)
	if percent {
		value /= 100
	}
	if err != nil || !(value >= 0 && value <= 1) {
		return 0, fmt.Errorf("%q: it is a share such as 0.25 or 25%%", text)
	}
	return value, nil
}

// Unknown is the error for an option that block does not have, with the one
// that was probably meant.
func Unknown(d *caddyfile.Dispenser, block string, allowed ...string) error {
	hint := "; allowed: " + strings.Join(allowed, ", ")
	for _, candidate := range allowed {
		if distance(d.Val(), candidate) <= 2 {
			hint = fmt.Sprintf("; did you mean %q?", candidate)
			break
		}
	}
	return d.Errf("%s: unknown option %q%s", block, d.Val(), hint)
}

// distance is the edit distance of two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(cost, above+1, row[j]+1)
			diagonal = above
		}
	}
	return row[len(b)]
}

var _ caddyfile.Unmarshaler = (*App)(nil)
