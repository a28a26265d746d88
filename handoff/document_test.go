package handoff_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// TestDocument_saysWhatTheCodeSays looks in docs/HANDOFF.md for every name and
// figure of the contract.
func TestDocument_saysWhatTheCodeSays(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../docs/HANDOFF.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(data)
	lower := strings.ToLower(document)
	has := func(what, want string) {
		t.Helper()
		if !strings.Contains(document, want) {
			t.Errorf("docs/HANDOFF.md does not say %q (%s)", want, what)
		}
	}
	for _, header := range []string{
		handoff.HeaderRequestID, handoff.HeaderTenant, handoff.HeaderHomeRegion, handoff.HeaderAssertion, handoff.HeaderWrote,
		handoff.HeaderServedBy, handoff.HeaderTraceparent, handoff.HeaderTracestate, handoff.HeaderBaggage, handoff.HeaderIdempotencyKey,
	} {
		if !strings.Contains(lower, "`"+strings.ToLower(header)+"`") {
			t.Errorf("docs/HANDOFF.md does not name the header %s", header)
		}
	}
	claims := 0
	var look func(reflect.Type)
	look = func(of reflect.Type) {
		for field := range of.Fields() {
			if field.Anonymous {
				look(field.Type)
				continue
			}
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name != "nbf" { // none is sent
				has("claim "+field.Name, "\n| `"+name+"` | ")
				claims++
			}
		}
	}
	look(reflect.TypeFor[handoff.Claims]())
	if claims < 15 {
		t.Errorf("%d claims were looked for", claims)
	}
	has("AssertionType", "`"+handoff.AssertionType+"`")
	has("AssertionLife", fmt.Sprintf("`iat` + %.0f at most", handoff.AssertionLife.Seconds()))
	has("AssertionReuse", fmt.Sprintf("for up to %.0f s", handoff.AssertionReuse.Seconds()))
	has("AssertionLeeway", fmt.Sprintf("may differ by %.0f s", handoff.AssertionLeeway.Seconds()))
	has("AssertionMaxBytes", fmt.Sprintf("%d KiB (%d bytes)", handoff.AssertionMaxBytes>>10, handoff.AssertionMaxBytes))
	has("life and leeway", fmt.Sprintf("up to %.0f s", (handoff.AssertionLife+handoff.AssertionLeeway).Seconds()))
	has("StatementTimeout", fmt.Sprintf("database | %.0f s |", handoff.StatementTimeout.Seconds()))
	has("RegionRequestTimeout", fmt.Sprintf("in the region | %.0f s |", handoff.RegionRequestTimeout.Seconds()))
	has("EdgeResponseTimeout", fmt.Sprintf("response header | %.0f s |", handoff.EdgeResponseTimeout.Seconds()))
	has("JWKSPath", "`"+handoff.JWKSPath+"`")
	has("SessionJWKSPath", "`"+handoff.SessionJWKSPath+"`")
	has("ReadyPath", "`GET "+handoff.ReadyPath+"`")
	has("Draining", "`"+handoff.Draining+"`")
	has("key set limits", fmt.Sprintf("at most %d KiB and %d keys", jwks.MaxBytes>>10, jwks.MaxKeys))
	has("Refresh", fmt.Sprintf("again after %.0f minutes", jwks.DefaultRefresh.Minutes()))
	has("Cooldown", fmt.Sprintf("and then not for %.0f s", jwks.DefaultCooldown.Seconds()))
	has("MaxStale", fmt.Sprintf("for %.0f h.", jwks.DefaultMaxStale.Hours()))
}
