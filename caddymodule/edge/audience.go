package edge

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Audience says whom a definition is for: whoever fits every list that is not
// empty, which is everybody when all are.
type Audience struct {
	// Tenants of the session. Default: any, and none.
	Tenants []string `json:"tenants,omitempty"`
	// Roles of which the session has one. Default: any, and none.
	Roles []string `json:"roles,omitempty"`
	// Countries of the client: ISO 3166-1 alpha-2 codes in upper case. Default:
	// any, known or not.
	Countries []string `json:"countries,omitempty"`
}

// Includes reports whether id, in country, is meant. An unknown country is the
// empty string.
func (a *Audience) Includes(id handoff.Identity, country string) bool {
	return (len(a.Tenants) == 0 || slices.Contains(a.Tenants, id.Tenant)) &&
		(len(a.Roles) == 0 || slices.ContainsFunc(a.Roles, id.Has)) &&
		(len(a.Countries) == 0 || slices.Contains(a.Countries, country))
}

// Check refuses what no session and no client can be.
func (a *Audience) Check() error {
	for _, t := range a.Tenants {
		if !handoff.ValidTenant(t) {
			return fmt.Errorf("tenant %q: a tenant's name has 1 to 63 characters of a-z, 0-9 and '-'", t)
		}
	}
	if slices.Contains(a.Roles, "") {
		return fmt.Errorf("a role is empty")
	}
	for _, c := range a.Countries {
		if !validCountry(c) {
			return fmt.Errorf("country %q is not an ISO 3166-1 alpha-2 code such as DE", c)
		}
	}
	return nil
}

// AudienceOptions are the options of a block that [Audience.Unmarshal] reads.
var AudienceOptions = []string{"tenants", "roles", "countries"}

// Unmarshal reads the option at hand, one of [AudienceOptions].
func (a *Audience) Unmarshal(d *caddyfile.Dispenser) error {
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
	if !validCountry(code) {
		return ""
	}
	return code
}
