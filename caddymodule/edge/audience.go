package edge

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/gatehouse-edge/gatehouse/handoff/definition"
)

// Audience says whom a definition is for.
type Audience = definition.Audience

// AudienceOptions are the options of a block that [UnmarshalAudience] reads.
var AudienceOptions = []string{"tenants", "roles", "countries"}

// UnmarshalAudience reads the option at hand, one of [AudienceOptions].
func UnmarshalAudience(d *caddyfile.Dispenser, a *Audience) error {
	switch d.Val() {
	case "tenants":
		return Many(d, &a.Tenants)
	case "roles":
		return Many(d, &a.Roles)
	}
	return Many(d, &a.Countries)
}

// CheckPlaceholder refuses what is not one placeholder; empty is none, and fine.
func CheckPlaceholder(option, placeholder string) error {
	if placeholder == "" {
		return nil
	}
	inner, opened := strings.CutPrefix(placeholder, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	if !opened || !closed || inner == "" || strings.ContainsAny(inner, "{} ") {
		return fmt.Errorf("%s %q: it is one placeholder, for example {http.request.header.CF-IPCountry}", option, placeholder)
	}
	return nil
}

// Country is the country of r's client, which placeholder holds, in upper case.
// It is empty where there is no placeholder, or no country in it.
func Country(r *http.Request, placeholder string) string {
	if placeholder == "" {
		return ""
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	code := strings.ToUpper(repl.ReplaceAll(placeholder, ""))
	if !definition.ValidCountry(code) {
		return ""
	}
	return code
}
