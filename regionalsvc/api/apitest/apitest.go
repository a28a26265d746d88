// Package apitest asks a region as a POP would, for tests.
package apitest

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// POP signs what it sends to one region.
type POP struct {
	// Name is the POP's, Region that of whom it asks.
	Name, Region string

	signer *handoff.Signer
}

// NewPOP makes a POP with a key of its own.
func NewPOP(t testing.TB, name, region string) *POP {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := handoff.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return &POP{Name: name, Region: region, signer: signer}
}

// JWKS is the key set that the POP publishes.
func (p *POP) JWKS() []byte { return jwks.Marshal([]jwks.Key{p.signer.Key()}) }

// Keys make a region believe the POP.
func (p *POP) Keys(t testing.TB) handoff.KeySource {
	t.Helper()
	set, err := jwks.NewSet(p.signer.Key())
	if err != nil {
		t.Fatal(err)
	}
	return handoff.StaticKeys{p.Name: set}
}

// Request makes a request of who for a handler. change may alter the claims
// before they are signed.
func (p *POP) Request(t testing.TB, method, target string, body io.Reader, who handoff.Identity, change ...func(*handoff.Claims)) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, target, body)
	p.Sign(t, r, who, change...)
	return r
}

// Sign puts the hand-off headers on r. The request id stays when there is one.
func (p *POP) Sign(t testing.TB, r *http.Request, who handoff.Identity, change ...func(*handoff.Claims)) {
	t.Helper()
	if r.Header.Get(handoff.HeaderRequestID) == "" {
		r.Header.Set(handoff.HeaderRequestID, rand.Text())
	}
	claims := handoff.NewClaims(p.Name, p.Region, p.Region, who, time.Now())
	if handoff.Unsafe(r.Method) {
		claims.Bind(r.Header.Get(handoff.HeaderRequestID), r.Method, r.URL.RequestURI())
	}
	for _, f := range change {
		f(claims)
	}
	signed, err := p.signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(handoff.HeaderAssertion, signed)
	r.Header.Set(handoff.HeaderHomeRegion, claims.Home)
	if claims.Tenant != "" {
		r.Header.Set(handoff.HeaderTenant, claims.Tenant)
	}
}

// User is somebody of tenant, with roles.
func User(tenant string, roles ...string) handoff.Identity {
	return handoff.Identity{
		Tenant: tenant, Subject: "user-of-" + tenant, SubjectIssuer: "https://issuer.example",
		Session: "session-of-" + tenant, Roles: roles,
	}
}
