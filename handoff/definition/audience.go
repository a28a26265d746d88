package definition

import (
	"errors"
	"fmt"
	"slices"

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
		return errors.New("a role is empty")
	}
	for _, c := range a.Countries {
		if !ValidCountry(c) {
			return fmt.Errorf("country %q is not an ISO 3166-1 alpha-2 code such as DE", c)
		}
	}
	return nil
}

// ValidCountry reports whether code is one of ISO 3166-1 alpha-2 by its form.
func ValidCountry(code string) bool {
	return len(code) == 2 && 'A' <= code[0] && code[0] <= 'Z' && 'A' <= code[1] && code[1] <= 'Z'
}
