package handoff

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// AssertionType is the typ of an assertion's header. It keeps a session token
// from being taken for an assertion, and the other way round, where both are
// signed with one secret (RFC 8725, sections 3.11 and 3.12).
const AssertionType = "edge-assertion+jwt"

// AssertionMaxBytes bounds an assertion: one that is bound to a target of 8,000
// octets (RFC 9110, section 4.1) still fits. [Signer.Sign] makes none that is
// larger, and [Verifier.Verify] reads none.
const AssertionMaxBytes = 16 << 10

// ErrAssertionTooLarge says that the target, or the roles, are too long to be
// asserted. Nothing was sent; the client should get 414.
var ErrAssertionTooLarge = errors.New("assertion is too large")

// Times of an assertion.
const (
	// AssertionLife is exp - iat at most.
	AssertionLife = 60 * time.Second
	// AssertionReuse is how long the edge may send one assertion again, for
	// safe methods.
	AssertionReuse = 20 * time.Second
	// AssertionLeeway is how far the clocks of a POP and a region may differ.
	AssertionLeeway = 10 * time.Second
)

// Claims are what a POP asserts to a region about one request, or, for safe
// methods, about the requests of one session for a few seconds.
//
// Registered claims (RFC 7519, section 4.1): iss is the POP's name, aud the
// region's, exp - iat at most [AssertionLife], jti random.
type Claims struct {
	jwt.RegisteredClaims
	// POP is the name of the point of presence, as iss.
	POP string `json:"pop"`
	// Tenant is absent when nobody is signed in.
	Tenant string `json:"tenant_id,omitempty"`
	// Home is the region that the edge chose.
	Home string `json:"home"`
	// SubjectIssuer says whose subject, session and roles these are.
	SubjectIssuer string   `json:"sub_iss,omitempty"`
	Session       string   `json:"sid,omitempty"`
	Roles         []string `json:"roles,omitempty"`
	// RequestID, Method and Path bind the assertion to one request. They are
	// required for unsafe methods. Path is the escaped path and query as the
	// region receives them.
	RequestID string `json:"rid,omitempty"`
	Method    string `json:"mth,omitempty"`
	Path      string `json:"pth,omitempty"`
	// Replay is set on the second attempt after a 421: the region must answer
	// 503 in place of another 421.
	Replay bool `json:"replay,omitzero"`
}

// Identity is whom the claims speak for.
func (c *Claims) Identity() Identity {
	return Identity{
		Tenant: c.Tenant, Subject: c.Subject, SubjectIssuer: c.SubjectIssuer,
		Session: c.Session, Roles: c.Roles,
	}
}

// NewClaims begins an assertion of pop to region about who, valid from now.
func NewClaims(pop, region, home string, who Identity, now time.Time) *Claims {
	return &Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    pop,
			Subject:   who.Subject,
			Audience:  jwt.ClaimStrings{region},
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(AssertionLife)),
			ID:        randomID(),
		},
		POP: pop, Home: home, Tenant: who.Tenant,
		SubjectIssuer: who.SubjectIssuer, Session: who.Session, Roles: who.Roles,
	}
}

// Bind ties the claims to one request, as unsafe methods need.
func (c *Claims) Bind(requestID, method, path string) {
	c.RequestID, c.Method, c.Path = requestID, method, path
}

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Signer signs assertions with one key. It is safe for concurrent use.
type Signer struct {
	method jwt.SigningMethod
	secret any
	public jwks.Key
	header string // of every token: it depends on the key alone
}

// NewSigner signs with an Ed25519 key (alg EdDSA). The key's id is its
// thumbprint (RFC 7638).
func NewSigner(key ed25519.PrivateKey) (*Signer, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("an Ed25519 private key has %d bytes, this one %d", ed25519.PrivateKeySize, len(key))
	}
	public := key.Public().(ed25519.PublicKey)
	id := jwks.Thumbprint(public)
	return newSigner(jwt.SigningMethodEdDSA, slices.Clone(key), jwks.Key{ID: id, Algorithm: "EdDSA", Material: public})
}

// NewSecretSigner signs with a secret of at least 32 bytes that edge and region
// share (alg HS256). Whoever can verify can then also sign: prefer [NewSigner].
func NewSecretSigner(secret []byte) (*Signer, error) {
	secret = slices.Clone(secret)
	set, err := jwks.Secret(secret)
	if err != nil {
		return nil, err
	}
	return newSigner(jwt.SigningMethodHS256, secret, set.Keys()[0])
}

func newSigner(method jwt.SigningMethod, secret any, public jwks.Key) (*Signer, error) {
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
		KeyID     string `json:"kid,omitempty"`
	}{method.Alg(), AssertionType, public.ID})
	if err != nil {
		return nil, err
	}
	return &Signer{method: method, secret: secret, public: public, header: base64.RawURLEncoding.EncodeToString(header)}, nil
}

// Key is what verifies: to publish, unless it is a secret.
func (s *Signer) Key() jwks.Key { return s.public }

// Sign makes the compact token (RFC 7515, section 7.1). It refuses claims that
// a region would refuse whatever the request.
func (s *Signer) Sign(c *Claims) (string, error) {
	if err := c.wellFormed(); err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	claims, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	signed := s.header + "." + base64.RawURLEncoding.EncodeToString(claims)
	signature, err := s.method.Sign(signed, s.secret)
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	signed += "." + base64.RawURLEncoding.EncodeToString(signature)
	if len(signed) > AssertionMaxBytes {
		return "", fmt.Errorf("%w: %d bytes, at most %d are read", ErrAssertionTooLarge, len(signed), AssertionMaxBytes)
	}
	return signed, nil
}
