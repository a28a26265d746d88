package handoff_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

func TestProtected_inEverySpelling(t *testing.T) {
	t.Parallel()
	names := []string{
		handoff.HeaderRequestID, handoff.HeaderTenant, handoff.HeaderHomeRegion, handoff.HeaderAssertion, handoff.HeaderWrote,
		handoff.HeaderServedBy, handoff.HeaderTraceparent, handoff.HeaderTracestate, handoff.HeaderBaggage,
		"X-Edge-Anything", "x-edge-later-version", "X-Edge-1", "X-Edge--", "X-Edge-Replay",
	}
	// The separators of a token (RFC 9110, section 5.6.2) that a server might
	// map to the same variable, and two that no token holds.
	separators := []string{"-", "_", ".", "!", "#", "$", "%", "&", "'", "*", "+", "^", "`", "|", "~", " ", "\x00"}
	for _, name := range names {
		for _, separator := range separators {
			for _, spelling := range []string{name, strings.ToLower(name), strings.ToUpper(name), alternate(name)} {
				spelling = strings.ReplaceAll(spelling, "-", separator)
				if !handoff.Protected(spelling) {
					t.Errorf("%q is not protected", spelling)
				}
			}
		}
	}
	for _, mixed := range []string{"X_Edge.Assertion", "x.edge_assertion", "X-Edge_Assertion", "X_Tenant-Id", "x-Tenant.iD", "X.Request_Id", "x_edge-anything.else"} {
		if !handoff.Protected(mixed) {
			t.Errorf("%q is not protected", mixed)
		}
	}
}

// alternate writes every second letter large.
func alternate(s string) string {
	b := []byte(strings.ToLower(s))
	for i := 0; i < len(b); i += 2 {
		b[i] = strings.ToUpper(string(b[i]))[0]
	}
	return string(b)
}

func TestProtected_leavesOtherNamesAlone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"", "X", "x-", "X-Edge", "X-Edge-", "XEdge-Assertion", "X-Edges-Assertion", "Edge-Assertion", "X-Tenant", "X-Tenant-Id-2",
		"X-Tenant-Ids", "X-TenantId", "XTenantId", "X--Tenant-Id", "X-Request-Ids", "X-Home-Regions", "Traceparents", "Trace-Parent",
		"Baggages", "B3", "Accept", "Cookie", "Authorization", "Idempotency-Key", "X-Forwarded-For", "X-Requested-With",
		"Te", "Trailer", "Transfer-Encoding", "Http-X-Tenant-Id", "X-Tenant-\u0130d", "\u00d7-Edge-Assertion",
	} {
		if handoff.Protected(name) {
			t.Errorf("%q is protected", name)
		}
	}
}

// TestHotPath_allocatesNothing holds what every request asks for every header
// and path.
func TestHotPath_allocatesNothing(t *testing.T) {
	for name, f := range map[string]func(){
		"Protected": func() {
			for _, name := range []string{"X-Forwarded-For", "X-Requested-With", "Accept", "X-Edge-Assertion", "x_tenant_id", "Traceparent"} {
				_ = handoff.Protected(name)
			}
		},
		"CheckPath": func() {
			_ = handoff.CheckPath("/api/orders/018f?limit=20&cursor=abc")
			_ = handoff.CheckPath("/assets/app.3f2a1b.css")
			_ = handoff.CheckPath("/café")
			_ = handoff.CheckPath("/a//b")
		},
		"ReturnTo":       func() { _ = handoff.ReturnTo("/app/orders?cursor=abc", "/app") },
		"ValidRequestID": func() { _ = handoff.ValidRequestID("0191d9a8-4f0e-7c5e-9a53-0d6f0c9b7c11") },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %.0f times", name, n)
		}
	}
}

func TestUnsafe_allButTheSafeMethods(t *testing.T) {
	t.Parallel()
	for method, unsafe := range map[string]bool{
		"GET": false, "HEAD": false, "OPTIONS": false, "TRACE": false,
		"POST": true, "PUT": true, "PATCH": true, "DELETE": true, "CONNECT": true, "PROPFIND": true, "PURGE": true,
		"get": true, "Get": true, "": true, "GET ": true, // methods are compared with their case (RFC 9110, section 9.1)
	} {
		if got := handoff.Unsafe(method); got != unsafe {
			t.Errorf("%q: %t", method, got)
		}
	}
}

func TestValidRequestID(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		"0191d9a8-4f0e-7c5e-9a53-0d6f0c9b7c11": true,
		"12345678":                             true,
		"a.b_c-D9":                             true,
		strings.Repeat("x", 128):               true,
		strings.Repeat("x", 129):               false,
		"1234567":                              false,
		"":                                     false,
		"1234 5678":                            false,
		"12345678\n":                           false,
		"12345678\r\nX-Tenant-Id: acme":        false,
		"12345678\x00":                         false,
		"12345678%0a":                          false,
		"<script>1":                            false,
		"'; DROP--":                            false,
		"äöüäöüäö":                             false,
		"12345678,12345678":                    false,
		"/../../etc":                           false,
	} {
		if got := handoff.ValidRequestID(id); got != ok {
			t.Errorf("%q: %t", id, got)
		}
	}
}

func FuzzValidRequestID(f *testing.F) {
	for _, seed := range []string{"0191d9a8-4f0e-7c5e-9a53-0d6f0c9b7c11", "short", "12345678\r\n", "1234567é", strings.Repeat("x", 129)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if !handoff.ValidRequestID(id) {
			return
		}
		if len(id) < 8 || len(id) > 128 {
			t.Errorf("%d bytes", len(id))
		}
		const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
		if rest := strings.Trim(id, allowed); rest != "" || strings.IndexFunc(id, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) >= 0 {
			t.Errorf("%q is not safe in a log or a header", id)
		}
	})
}

func TestValidTenantAndRegion(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		"acme": true, "a": true, "a-b-9": true, strings.Repeat("a", 63): true,
		"": false, strings.Repeat("a", 64): false, "Acme": false, "a.b": false, "a_b": false, "a/b": false, "..": false,
		"a b": false, "acme\n": false, "acme\x00": false, "acmé": false, "%61cme": false, "acme,globex": false,
	} {
		if handoff.ValidTenant(id) != ok || handoff.ValidRegion(id) != ok {
			t.Errorf("%q: tenant %t, region %t", id, handoff.ValidTenant(id), handoff.ValidRegion(id))
		}
	}
}
