package api_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
)

// TestAPI_believesNothingButTheAssertion sends what somebody inside the network
// could. Each is 401 and reaches no handler.
func TestAPI_believesNothingButTheAssertion(t *testing.T) {
	t.Parallel()
	acme := apitest.User("acme")
	rows := map[string]func(t *testing.T, fra *apitest.POP, r *http.Request){
		"no assertion": func(*testing.T, *apitest.POP, *http.Request) {},
		"bare headers": func(_ *testing.T, _ *apitest.POP, r *http.Request) {
			r.Header.Set(handoff.HeaderTenant, "acme")
			r.Header.Set(handoff.HeaderHomeRegion, "eu")
			r.Header.Set(handoff.HeaderRequestID, "01HV-somebody")
		},
		"another's key under the POP's name": func(t *testing.T, _ *apitest.POP, r *http.Request) {
			apitest.NewPOP(t, "fra", "eu").Sign(t, r, acme)
		},
		"a POP that is not known": func(t *testing.T, _ *apitest.POP, r *http.Request) {
			apitest.NewPOP(t, "mars", "eu").Sign(t, r, acme)
		},
		"expired": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme, func(c *handoff.Claims) {
				c.IssuedAt = jwt.NewNumericDate(time.Now().Add(-2 * time.Minute))
				c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(-handoff.AssertionLeeway - time.Second))
			})
		},
		"from the future": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme, func(c *handoff.Claims) {
				c.IssuedAt = jwt.NewNumericDate(time.Now().Add(time.Minute))
				c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(2 * time.Minute))
			})
		},
		"living too long": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme, func(c *handoff.Claims) { c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(time.Hour)) })
		},
		"for another region": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme, func(c *handoff.Claims) { c.Audience = jwt.ClaimStrings{"us"} })
		},
		"for two regions": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			signed := *fra
			signed.Sign(t, r, acme)
			r.Header.Add(handoff.HeaderAssertion, r.Header.Get(handoff.HeaderAssertion))
		},
		"another tenant in the header": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme)
			r.Header.Set(handoff.HeaderTenant, "globex")
		},
		"two tenants in the header": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme)
			r.Header.Add(handoff.HeaderTenant, "globex")
		},
		"a tenant in the header of nobody": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, handoff.Identity{})
			r.Header.Set(handoff.HeaderTenant, "acme")
		},
		"another home in the header": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme)
			r.Header.Set(handoff.HeaderHomeRegion, "us")
		},
		"a bent signature": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme)
			signed := []byte(r.Header.Get(handoff.HeaderAssertion))
			signed[bytes.LastIndexByte(signed, '.')+1] ^= 1
			r.Header.Set(handoff.HeaderAssertion, string(signed))
		},
		"a bent payload": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme)
			parts := strings.Split(r.Header.Get(handoff.HeaderAssertion), ".")
			other := apitest.NewPOP(t, "fra", "eu")
			forged := httptest.NewRequest(r.Method, r.RequestURI, nil)
			other.Sign(t, forged, apitest.User("globex"))
			parts[1] = strings.Split(forged.Header.Get(handoff.HeaderAssertion), ".")[1]
			r.Header.Set(handoff.HeaderAssertion, strings.Join(parts, "."))
		},
		"no algorithm": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme)
			parts := strings.Split(r.Header.Get(handoff.HeaderAssertion), ".")
			r.Header.Set(handoff.HeaderAssertion, "eyJhbGciOiJub25lIn0."+parts[1]+".")
		},
		"malformed request id": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			r.Header.Set(handoff.HeaderRequestID, "a b\tc")
			fra.Sign(t, r, acme)
		},
		"garbage": func(_ *testing.T, _ *apitest.POP, r *http.Request) {
			r.Header.Set(handoff.HeaderAssertion, strings.Repeat("a.", 1<<15))
		},
	}
	unbound := map[string]func(t *testing.T, fra *apitest.POP, r *http.Request){
		"not bound": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme, func(c *handoff.Claims) { c.Bind("", "", "") })
		},
		"bound to another method": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme, func(c *handoff.Claims) { c.Method = http.MethodPut })
		},
		"bound to another path": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme, func(c *handoff.Claims) { c.Path = "/api/y" })
		},
		"bound to another query": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme, func(c *handoff.Claims) { c.Path += "?a=1" })
		},
		"bound to another request": func(t *testing.T, fra *apitest.POP, r *http.Request) {
			fra.Sign(t, r, acme)
			r.Header.Set(handoff.HeaderRequestID, "another-request")
		},
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		all := []map[string]func(*testing.T, *apitest.POP, *http.Request){rows}
		if handoff.Unsafe(method) {
			all = append(all, unbound)
		}
		for _, table := range all {
			for name, tamper := range table {
				t.Run(method+" "+name, func(t *testing.T) {
					t.Parallel()
					g := newRegion(t, nil, api.Route{Pattern: method + " /api/x", Access: api.Anyone,
						Handle: func(http.ResponseWriter, *http.Request) error {
							t.Error("the handler was reached")
							return nil
						}})
					r := httptest.NewRequest(method, "/api/x", nil)
					tamper(t, g.pop, r)
					resp := g.send(r)
					p := wantProblem(t, resp, http.StatusUnauthorized, problem.UntrustedHop)
					if p.Detail != "" || p.Errors != nil {
						t.Errorf("the caller was told why: %+v", p)
					}
					if resp.Header.Get("WWW-Authenticate") == "" {
						t.Error("no WWW-Authenticate")
					}
					line := g.line(t)
					if line["error"] == nil || line[handoff.FieldTenant] != nil {
						t.Errorf("the log does not say why, or believes: %v", line)
					}
				})
			}
		}
	}
}

// TestAPI_readsAPathInOneWay: what the edge would have refused is refused here
// too, whoever sends it.
func TestAPI_readsAPathInOneWay(t *testing.T) {
	t.Parallel()
	g := newRegion(t, nil, api.Route{Pattern: "GET /api/{rest...}", Handle: hello})
	for _, target := range []string{
		"/api//x", "//api/x", "/api/./x", "/api/../x", "/api/%2e%2e/x", "/api/%2E/x", "/api/a%2fb", "/api/a%2Fb", "/api/a%5cb",
		"/api/a;b", "/api/a%3bb", "/api/%00", "/api/%0a", "/api/%252f", "/api/\\x", "http://eu.internal/api/x",
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/x", nil)
		g.pop.Sign(t, r, apitest.User("acme"))
		r.RequestURI = target
		wantProblem(t, g.send(r), http.StatusBadRequest, problem.AmbiguousPath)
	}
}
