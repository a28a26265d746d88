package session

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

// Bounds of a session's claims: what they say travels on with every request.
const (
	maxSubject = 255
	maxSession = 255
	maxRoles   = 64
	maxRole    = 64
)

// claims are those of a session token.
type claims struct {
	jwt.RegisteredClaims
	Tenant string `json:"tenant_id"`
	// Region is the tenant's home region. It may be absent.
	Region  string   `json:"region"`
	Session string   `json:"sid"`
	Roles   []string `json:"roles"`
	// AuthTime is when the user proved who they are (OpenID Connect Core, section 2).
	AuthTime *jwt.NumericDate `json:"auth_time"`
}

var (
	errTenant        = errors.New("tenant_id is absent or no tenant's name")
	errForeignTenant = errors.New("the issuer may not speak for this tenant")
)

// Validate refuses what no issuer of ours would sign: a session without an
// owner, and values that would not fit where they travel. A region's name that
// cannot be one is refused and not passed over, because the request would then
// go to another region than the issuer meant.
func (c *claims) Validate() error {
	switch {
	case !handoff.ValidTenant(c.Tenant):
		return errTenant
	case c.Subject == "" || len(c.Subject) > maxSubject:
		return fmt.Errorf("sub has %d bytes, 1 to %d are read", len(c.Subject), maxSubject)
	case c.Session == "" || len(c.Session) > maxSession:
		return fmt.Errorf("sid has %d bytes, 1 to %d are read", len(c.Session), maxSession)
	case c.Region != "" && !handoff.ValidRegion(c.Region):
		return errors.New("region is not a region's name")
	case len(c.Roles) > maxRoles:
		return fmt.Errorf("%d roles, at most %d are read", len(c.Roles), maxRoles)
	}
	for _, role := range c.Roles {
		if role == "" || len(role) > maxRole {
			return fmt.Errorf("a role has %d bytes, 1 to %d are read", len(role), maxRole)
		}
	}
	return nil
}

// renamed reads claims under the names that the token's issuer has for them. The
// issuer is a claim itself, so that the others wait until it is known: they are
// decoded once the signature held.
type renamed struct {
	jwt.RegisteredClaims
	Members map[string]jsontext.Value `json:",embed"` // all others

	claims *claims           // what is read, in the end
	names  map[string]string // the issuer's, known once the key was looked up
}

// Validate fills claims, and has them validate themselves.
func (r *renamed) Validate() error {
	c := r.claims
	if c == nil { // the claims were null
		return errors.New("the claims are no object")
	}
	c.RegisteredClaims = r.RegisteredClaims
	for _, field := range []struct {
		claim, usual string
		into         any
	}{
		{"tenant", "tenant_id", &c.Tenant},
		{"region", "region", &c.Region},
		{"session", "sid", &c.Session},
		{"roles", "roles", &c.Roles},
		{"auth_time", "auth_time", &c.AuthTime},
	} {
		name := field.usual
		if other, ok := r.names[field.claim]; ok {
			name = other
		}
		if err := json.Unmarshal(r.member(name), field.into, strictjwt.Registered); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return c.Validate()
}

// member gives a claim as JSON. jti is decoded already, and a good name for a
// session where the issuer has no other.
func (r *renamed) member(name string) jsontext.Value {
	if value, ok := r.Members[name]; ok {
		return value
	}
	if name == "jti" && r.ID != "" {
		if value, err := json.Marshal(r.ID); err == nil {
			return value
		}
	}
	return jsontext.Value("null")
}
