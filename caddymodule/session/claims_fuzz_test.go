package session

import (
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

// FuzzClaims reads what an issuer may have signed, under our names and under
// others: what is accepted is bounded and can be told apart, by either reading.
func FuzzClaims(f *testing.F) {
	for _, payload := range []string{
		`{"iss":"i","sub":"ada","sid":"s","tenant_id":"acme","region":"eu","roles":["clerk"],"auth_time":1700000000}`,
		`{"iss":"i","sub":"ada","jti":"s","org":"acme","groups":["clerk"]}`,
		`{"sub":"ada","sid":"s","tenant_id":"acme","roles":null,"auth_time":null,"region":null}`,
		`{"sub":"ada","sid":"s","tenant_id":"acme","tenant_id":"globex"}`,
		`{"sub":"ada","sid":"s","Tenant_id":"acme"}`, `{"auth_time":1e99}`, `{"auth_time":"1"}`, `{"roles":["",1]}`, `{"aud":[null]}`, `null`, `[]`, `{}`, `{"sub":"\ud800"}`,
	} {
		f.Add([]byte(payload))
	}
	names := map[string]string{"tenant": "org", "session": "jti", "roles": "groups", "region": "where", "auth_time": "login_time"}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var plain claims
		if json.Unmarshal(payload, &plain, strictjwt.Registered) == nil && plain.Validate() == nil {
			bounded(t, &plain)
			var again claims // the same under our names, read as another issuer's
			other := renamed{claims: &again}
			if json.Unmarshal(payload, &other, strictjwt.Registered) == nil && other.Validate() == nil &&
				(again.Tenant != plain.Tenant || again.Session != plain.Session || again.Subject != plain.Subject || again.Region != plain.Region || len(again.Roles) != len(plain.Roles)) {
				t.Fatalf("%s is %+v and %+v", payload, plain, again)
			}
		}
		var c claims
		other := renamed{claims: &c, names: names}
		if json.Unmarshal(payload, &other, strictjwt.Registered) == nil && other.Validate() == nil {
			bounded(t, &c)
		}
	})
}

func bounded(t *testing.T, c *claims) {
	t.Helper()
	if !handoff.ValidTenant(c.Tenant) || c.Subject == "" || len(c.Subject) > maxSubject || c.Session == "" || len(c.Session) > maxSession ||
		len(c.Roles) > maxRoles || c.Region != "" && !handoff.ValidRegion(c.Region) {
		t.Fatalf("accepted: %+v", c)
	}
	for _, role := range c.Roles {
		if role == "" || len(role) > maxRole {
			t.Fatalf("accepted role %q", role)
		}
	}
	if c.AuthTime != nil && (c.AuthTime.Unix() < 0 || c.AuthTime.Year() > 9999) {
		t.Fatalf("accepted auth_time %s", c.AuthTime)
	}
}
