package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// sessions are those of the bench's issuer.
type sessions struct {
	private ed25519.PrivateKey // kid ed
	tokens  map[string]string  // one, by algorithm
}

// writeKeys makes, in dir, the POP's key assertion.pem, an issuer's key set
// sessions.json, and rsa.pem, the public key of its RS256 sessions.
func writeKeys(dir string) (*sessions, error) {
	_, assertion, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(assertion)
	if err != nil {
		return nil, err
	}
	if err := writePEM(dir, "assertion.pem", "PRIVATE KEY", der); err != nil {
		return nil, err
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	rsaPrivate, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	if der, err = x509.MarshalPKIXPublicKey(&rsaPrivate.PublicKey); err != nil {
		return nil, err
	}
	if err := writePEM(dir, "rsa.pem", "PUBLIC KEY", der); err != nil {
		return nil, err
	}
	set := jwks.Marshal([]jwks.Key{
		{ID: "ed", Algorithm: "EdDSA", Material: edPublic},
		{ID: "rsa", Algorithm: "RS256", Material: &rsaPrivate.PublicKey},
	})
	if err := os.WriteFile(filepath.Join(dir, "sessions.json"), set, 0o600); err != nil {
		return nil, err
	}
	tokens := map[string]string{}
	if tokens["EdDSA"], err = session(jwt.SigningMethodEdDSA, "ed", edPrivate); err != nil {
		return nil, err
	}
	tokens["RS256"], err = session(jwt.SigningMethodRS256, "rsa", rsaPrivate)
	return &sessions{edPrivate, tokens}, err
}

func session(method jwt.SigningMethod, kid string, key any) (string, error) {
	now := time.Now()
	t := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": "gatehouse:bench", "aud": "gatehouse", "sub": "ada", "sid": "s-1", "tenant_id": "acme",
		"region": "eu", "roles": []string{"approver"}, "auth_time": now.Unix(), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	t.Header["kid"] = kid
	return t.SignedString(key)
}

func writePEM(dir, name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
