package e2e

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

// raw sends bytes as they are, which an HTTP client would not.
func raw(t *testing.T, p *demo.POP, request string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, body}
}

// popSigner signs as a POP does: its key lies in the topology's directory.
func popSigner(t *testing.T, p *demo.POP) *handoff.Signer {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(stateDir, "keys", p.Name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return signer(t, key.(ed25519.PrivateKey))
}

func signer(t *testing.T, key ed25519.PrivateKey) *handoff.Signer {
	t.Helper()
	s, err := handoff.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whoever reaches a region past the POPs gets nothing. The first row shows that
// the others fail for what they are named after.
func TestRegion_believesTheAssertionAndNothingElse(t *testing.T) {
	t.Parallel()
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pop, stranger := popSigner(t, fra()), signer(t, other)
	now := time.Now()
	who := handoff.Identity{Tenant: "acme", Subject: "somebody", SubjectIssuer: "gatehouse:eu", Session: "s", Roles: []string{"approver"}}
	claims := func(change func(*handoff.Claims)) *handoff.Claims {
		c := handoff.NewClaims("fra", "eu", "eu", who, now)
		if change != nil {
			change(c)
		}
		return c
	}
	sign := func(s *handoff.Signer, c *handoff.Claims) string {
		token, err := s.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	const requestID = "0191d9a8-4f0e-7c5e-9a53-0d6f0c9b7c11"
	good := sign(pop, claims(nil))
	for _, row := range []struct {
		name, method, assertion, tenant string
		want                            int
	}{
		{"a POP's", "GET", good, "acme", http.StatusOK},
		{"none", "GET", "", "acme", http.StatusUnauthorized},
		{"none, an unsafe method", "POST", "", "acme", http.StatusUnauthorized},
		{"forged with another key", "GET", sign(stranger, claims(nil)), "acme", http.StatusUnauthorized},
		{"signed by another POP's key", "GET", sign(popSigner(t, iad()), claims(nil)), "acme", http.StatusUnauthorized},
		{"a POP that nobody knows", "GET", sign(stranger, claims(func(c *handoff.Claims) { c.Issuer, c.POP = "sfo", "sfo" })), "acme", http.StatusUnauthorized},
		{"expired", "GET", sign(pop, handoff.NewClaims("fra", "eu", "eu", who, now.Add(-2*time.Minute))), "acme", http.StatusUnauthorized},
		{"not yet valid", "GET", sign(pop, handoff.NewClaims("fra", "eu", "eu", who, now.Add(2*time.Minute))), "acme", http.StatusUnauthorized},
		{"for another audience", "GET", sign(pop, handoff.NewClaims("fra", "us", "us", who, now)), "acme", http.StatusUnauthorized},
		{"truncated", "GET", good[:len(good)-4], "acme", http.StatusUnauthorized},
		{"another tenant in the header", "GET", good, "globex", http.StatusUnauthorized},
		{"unbound, an unsafe method", "POST", good, "acme", http.StatusUnauthorized},
		{"bound to another path", "POST", sign(pop, claims(func(c *handoff.Claims) { c.Bind(requestID, "POST", "/api/other") })), "acme", http.StatusUnauthorized},
		{"bound to another method", "POST", sign(pop, claims(func(c *handoff.Claims) { c.Bind(requestID, "PUT", "/api/orders") })), "acme", http.StatusUnauthorized},
		{"bound to another request", "POST", sign(pop, claims(func(c *handoff.Claims) { c.Bind("another-request-id-0", "POST", "/api/orders") })), "acme", http.StatusUnauthorized},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			direct := &browser{base: eu().URL, client: newClient()}
			headers := []string{
				handoff.HeaderRequestID, requestID, handoff.HeaderTenant, row.tenant, handoff.HeaderHomeRegion, "eu",
				"Content-Type", "application/json",
			}
			if row.assertion != "" {
				headers = append(headers, handoff.HeaderAssertion, row.assertion)
			}
			if a := direct.do(t, row.method, "/api/orders", nil, headers...); a.status != row.want {
				t.Errorf("answered %s, want %d", a, row.want)
			}
		})
	}
}

// What a client says of itself in the edge's own headers is gone before anything
// looks at it.
func TestEdge_takesNoIdentityFromTheClient(t *testing.T) {
	t.Parallel()
	for _, pop := range topology.POPs {
		a := visit(pop).get(t, "/api/orders", "X-Tenant-Id", "acme", "X-Home-Region", "eu", "X-Edge-Assertion", "x")
		a.is(t, http.StatusUnauthorized, "")

		mine := login(t, pop, grace)
		placed := login(t, pop, ada).place(t, 1299)
		for _, spelling := range []string{"X-Tenant-Id", "X_Tenant_Id", "x-tenant-id", "X.Tenant.Id"} {
			mine.get(t, "/api/orders/"+placed.ID, spelling, "acme").is(t, http.StatusNotFound, "")
			mine.get(t, "/api/orders/"+placed.ID, spelling, "acme", "Connection", "keep-alive, "+spelling).is(t, http.StatusNotFound, "")
		}
	}
}
