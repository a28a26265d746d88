package handoff_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

var benchIdentity = handoff.Identity{
	Tenant: "acme", Subject: "ada@acme.example", SubjectIssuer: "https://eu.gatehouse.example",
	Session: "6VlCzvJzqf8gqfW2dHqTGg", Roles: []string{"member", "approver"},
}

func BenchmarkSign(b *testing.B) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	eddsa, err := handoff.NewSigner(private)
	if err != nil {
		b.Fatal(err)
	}
	hs256, err := handoff.NewSecretSigner(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		signer *handoff.Signer
	}{{"EdDSA", eddsa}, {"HS256", hs256}} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			now := time.Now()
			for b.Loop() {
				claims := handoff.NewClaims("fra", "eu", "eu", benchIdentity, now)
				claims.Bind("0191d9a8-4f0e-7c5e-9a53-0d6f0c9b7c11", "POST", "/api/orders?draft=false")
				if _, err := row.signer.Sign(claims); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerify is the whole of Verifier.Verify, of which the signature is
// the most.
func BenchmarkVerify(b *testing.B) {
	edPublic, edPrivate, _ := ed25519.GenerateKey(rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	secret := make([]byte, 32)
	for _, row := range []struct {
		method          jwt.SigningMethod
		private, public any
	}{
		{jwt.SigningMethodEdDSA, edPrivate, edPublic},
		{jwt.SigningMethodHS256, secret, secret},
		{jwt.SigningMethodES256, p256, &p256.PublicKey},
		{jwt.SigningMethodES384, p384, &p384.PublicKey},
		{jwt.SigningMethodRS256, rsa2048, &rsa2048.PublicKey},
		{jwt.SigningMethodPS256, rsa2048, &rsa2048.PublicKey},
	} {
		b.Run(row.method.Alg(), func(b *testing.B) {
			b.ReportAllocs()
			set, err := jwks.NewSet(jwks.Key{ID: "k", Material: row.public})
			if err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			claims := handoff.NewClaims("fra", "eu", "eu", benchIdentity, now)
			claims.Bind("0191d9a8-4f0e-7c5e-9a53-0d6f0c9b7c11", "POST", "/api/orders?draft=false")
			token := jwt.NewWithClaims(row.method, claims)
			token.Header["kid"], token.Header["typ"] = "k", handoff.AssertionType
			raw, err := token.SignedString(row.private)
			if err != nil {
				b.Fatal(err)
			}
			r := httptest.NewRequest("POST", "/api/orders?draft=false", nil)
			r.Header.Set(handoff.HeaderAssertion, raw)
			r.Header.Set(handoff.HeaderTenant, "acme")
			r.Header.Set(handoff.HeaderHomeRegion, "eu")
			r.Header.Set(handoff.HeaderRequestID, "0191d9a8-4f0e-7c5e-9a53-0d6f0c9b7c11")
			verifier := &handoff.Verifier{Region: "eu", Keys: handoff.StaticKeys{"fra": set}, Now: func() time.Time { return now }}
			for b.Loop() {
				if _, err := verifier.Verify(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCheckPath(b *testing.B) {
	for _, row := range []struct{ name, target string }{
		{"plain", "/api/orders/018f3c1e?limit=20"},
		{"file", "/assets/app.3f2a1b.css"},
		{"escaped", "/caf%C3%A9/menu%20du%20jour.html"},
		{"refused", "/app/%2e%2e/admin"},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = handoff.CheckPath(row.target)
			}
		})
	}
}

// BenchmarkProtected asks for every header of an ordinary browser's request.
func BenchmarkProtected(b *testing.B) {
	names := []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Connection", "Cookie", "Priority", "Referer",
		"Sec-Ch-Ua", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Te", "Upgrade-Insecure-Requests",
		"User-Agent", "X-Forwarded-For", "X-Requested-With", "X-Request-Id", "Traceparent", "X-Edge-Assertion",
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, name := range names {
			_ = handoff.Protected(name)
		}
	}
}

func BenchmarkValidRequestID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = handoff.ValidRequestID("0191d9a8-4f0e-7c5e-9a53-0d6f0c9b7c11")
	}
}

func BenchmarkReturnTo(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = handoff.ReturnTo("/app/orders?cursor=abc", "/app")
	}
}

// BenchmarkPeek is what a token costs that is refused before any key is asked for.
func BenchmarkPeek(b *testing.B) {
	raw := "eyJhbGciOiJub25lIn0.e30."
	b.ReportAllocs()
	for b.Loop() {
		_, _ = strictjwt.Peek(raw, 0)
	}
}
