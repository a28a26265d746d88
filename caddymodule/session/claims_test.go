package session

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// several is a handler that believes these issuers, who all sign with one key.
func several(t *testing.T, issuers ...*edge.Issuer) (f *fixture, sign func(iss string, changes jwt.MapClaims) string) {
	t.Helper()
	key := edgetest.Key(t, "EdDSA")
	file := edgetest.KeyFile(t, jwks.Key{ID: "k", Material: edgetest.Public(key)})
	for _, i := range issuers {
		i.KeyFile, i.Audience = file, audience
	}
	f = &fixture{Session: &Session{MaxTokenSize: 8 << 10}}
	if err := f.begin(edgetest.App(t, issuers...)); err != nil {
		t.Fatal(err)
	}
	return f, func(iss string, changes jwt.MapClaims) string {
		return edgetest.Token(t, "EdDSA", key, edgetest.Claims(iss, audience, changes), map[string]any{"kid": "k"})
	}
}

func TestClaims_anIssuerSpeaksForItsTenantsAlone(t *testing.T) {
	t.Parallel()
	f, sign := several(t,
		&edge.Issuer{Name: "eu", Tenants: []string{"acme", "initech"}},
		&edge.Issuer{Name: "us", Tenants: []string{"globex"}},
		&edge.Issuer{Name: "ours", AnyTenant: true})
	for _, row := range []struct {
		iss, tenant string
		want        decision.Auth
	}{
		{"eu", "acme", decision.AuthSession}, {"eu", "initech", decision.AuthSession},
		{"eu", "globex", decision.AuthTenant}, {"eu", "Acme", decision.AuthTenant}, {"eu", "acme2", decision.AuthTenant},
		{"us", "globex", decision.AuthSession}, {"us", "acme", decision.AuthTenant},
		{"ours", "acme", decision.AuthSession}, {"ours", "hooli", decision.AuthSession},
	} {
		token := sign(row.iss, jwt.MapClaims{"tenant_id": row.tenant})
		for _, what := range []string{"cold", "again"} {
			s := f.serve(t, "GET", "/app", header("Cookie", "session="+token))
			if s.Auth != row.want || (s.next != nil) != (row.want == decision.AuthSession) {
				t.Errorf("%s for %s, %s: %q, want %q", row.iss, row.tenant, what, s.Auth, row.want)
			}
		}
	}
}

func TestClaims_areReadUnderTheIssuersNames(t *testing.T) {
	t.Parallel()
	f, sign := several(t,
		&edge.Issuer{Name: "theirs", AnyTenant: true, Claims: map[string]string{
			"tenant": "org_id", "region": "https://portal.example/region", "session": "jti", "roles": "groups", "auth_time": "login_time",
		}},
		&edge.Issuer{Name: "partly", AnyTenant: true, Claims: map[string]string{"tenant": "org_id"}},
		&edge.Issuer{Name: "ours", AnyTenant: true})
	theirs := jwt.MapClaims{
		"org_id": "globex", "https://portal.example/region": "us", "jti": "j-7", "groups": []string{"owner", "clerk"}, "login_time": 1_700_000_000,
		// what ours would mean by these is nothing to theirs, be they of another type
		"tenant_id": "acme", "region": 5, "sid": []int{1}, "roles": "everything", "auth_time": "yesterday",
	}
	with := func(changes jwt.MapClaims) jwt.MapClaims {
		merged := jwt.MapClaims{}
		for _, m := range []jwt.MapClaims{theirs, changes} {
			for name, value := range m {
				merged[name] = value
			}
		}
		return merged
	}

	s := f.serve(t, "GET", "/app", header("Cookie", "session="+sign("theirs", theirs)))
	id := s.Identity
	if s.Auth != decision.AuthSession || id.Tenant != "globex" || id.Session != "j-7" || id.Subject != "ada" || id.SubjectIssuer != "theirs" ||
		!slices.Equal(id.Roles, []string{"owner", "clerk"}) || s.ClaimedHome != "us" || !s.AuthTime.Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("%s %+v home %q auth_time %s", s.Auth, id, s.ClaimedHome, s.AuthTime)
	}
	for _, row := range []struct {
		name, iss string
		changes   jwt.MapClaims
		want      decision.Auth
	}{
		{"ours beside it", "ours", nil, decision.AuthSession},
		{"ours does not know org_id", "ours", jwt.MapClaims{"tenant_id": nil, "org_id": "acme"}, decision.AuthTenant},
		{"partly", "partly", jwt.MapClaims{"tenant_id": nil, "org_id": "globex"}, decision.AuthSession},
		{"no tenant under its name", "theirs", with(jwt.MapClaims{"org_id": nil}), decision.AuthTenant},
		{"tenant is a number", "theirs", with(jwt.MapClaims{"org_id": 5}), decision.AuthClaims},
		{"tenant is null", "theirs", with(jwt.MapClaims{"org_id": json.RawMessage("null")}), decision.AuthTenant},
		{"no session under its name", "theirs", with(jwt.MapClaims{"jti": nil}), decision.AuthClaims},
		{"roles are text", "theirs", with(jwt.MapClaims{"groups": "owner"}), decision.AuthClaims},
		{"too many roles", "theirs", with(jwt.MapClaims{"groups": slices.Repeat([]string{"r"}, maxRoles+1)}), decision.AuthClaims},
		{"region is none", "theirs", with(jwt.MapClaims{"https://portal.example/region": "no/region"}), decision.AuthClaims},
		{"login_time is quoted", "theirs", with(jwt.MapClaims{"login_time": "1700000000"}), decision.AuthClaims},
		{"expired", "theirs", with(jwt.MapClaims{"exp": 1}), decision.AuthExpired},
		{"another audience", "theirs", with(jwt.MapClaims{"aud": "billing"}), decision.AuthAudience},
		{"long subject", "theirs", with(jwt.MapClaims{"sub": strings.Repeat("s", maxSubject+1)}), decision.AuthClaims},
	} {
		if s := f.serve(t, "GET", "/app", header("Cookie", "session="+sign(row.iss, row.changes))); s.Auth != row.want {
			t.Errorf("%s: %q, want %q", row.name, s.Auth, row.want)
		}
	}
}

// TestClaims_anotherReadingIsAnotherSession: whoever keeps something of a
// session, as an assertion, must not find it where the same token means somebody
// else.
func TestClaims_anotherReadingIsAnotherSession(t *testing.T) {
	t.Parallel()
	key := edgetest.Key(t, "EdDSA")
	file := edgetest.KeyFile(t, jwks.Key{ID: "k", Material: edgetest.Public(key)})
	token := edgetest.Token(t, "EdDSA", key, edgetest.Claims("eu", audience, jwt.MapClaims{"org_id": "globex"}), map[string]any{"kid": "k"})
	ask := func(claims map[string]string) seen {
		f := &fixture{Session: &Session{MaxTokenSize: 8 << 10}}
		if err := f.begin(edgetest.App(t, &edge.Issuer{Name: "eu", Audience: audience, KeyFile: file, Claims: claims})); err != nil {
			t.Fatal(err)
		}
		return f.serve(t, "GET", "/app", header("Cookie", "session="+token))
	}
	plain, again, other := ask(nil), ask(nil), ask(map[string]string{"tenant": "org_id"})
	if plain.Identity.Tenant != "acme" || other.Identity.Tenant != "globex" {
		t.Fatalf("tenants %q and %q", plain.Identity.Tenant, other.Identity.Tenant)
	}
	if plain.SessionKey != again.SessionKey || plain.SessionKey == other.SessionKey || plain.SessionKey == [32]byte{} {
		t.Errorf("keys %x, %x, %x", plain.SessionKey, again.SessionKey, other.SessionKey)
	}
}

// TestClaims_usersOfTwoIssuersAreTwo in every name that the edge gives them.
func TestClaims_usersOfTwoIssuersAreTwo(t *testing.T) {
	t.Parallel()
	f, sign := several(t, &edge.Issuer{Name: "eu", AnyTenant: true}, &edge.Issuer{Name: "us", AnyTenant: true})
	names := map[string]bool{}
	for _, iss := range []string{"eu", "us"} {
		s := f.serve(t, "GET", "/app", header("Cookie", "session="+sign(iss, nil)))
		for _, placeholder := range []string{"edge.user", "edge.session"} {
			names[placeholderOf(t, s, placeholder)] = true
		}
	}
	for _, want := range []string{"eu ada", "us ada", "eu s-1", "us s-1"} {
		if !names[want] {
			t.Errorf("%q is missing: %v", want, names)
		}
	}
	if s := f.serve(t, "OPTIONS", "/app", header("Origin", "https://a.example", "Access-Control-Request-Method", "PUT")); placeholderOf(t, s, "edge.user") != "" {
		t.Error("nobody has a name")
	}
}
