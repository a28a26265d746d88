package accounts

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// Defaults of [Sessions].
const (
	DefaultSessionLife    = time.Hour
	DefaultSessionMaxLife = 12 * time.Hour
)

// DefaultCookie is the session cookie's name. Browsers take a cookie of this
// prefix only from the very host, over TLS, for all paths (RFC 6265bis).
const DefaultCookie = "__Host-session"

// Sessions signs session tokens. The edge verifies them with the published key;
// this region reads them no more: it believes the edge's assertion.
type Sessions struct {
	// Issuer is the token's iss, under which the edge finds the key. Required.
	Issuer string
	// Audience is the token's aud. Required.
	Audience string
	// Region is the token's region: where its tenant is at home. Required.
	Region string
	// Cookie is the cookie's name. Default: [DefaultCookie].
	Cookie string
	// Life is how long a token is good, from its sign-in or its renewal on.
	// Default: [DefaultSessionLife].
	Life time.Duration
	// MaxLife is how long a session can be renewed for, from auth_time on: no
	// token of it ends later. Default: [DefaultSessionMaxLife], or Life where that
	// is longer.
	MaxLife time.Duration

	key ed25519.PrivateKey
	id  string
}

// Claims are what a session token says.
type Claims struct {
	jwt.RegisteredClaims
	Tenant  string   `json:"tenant_id"`
	Region  string   `json:"region"`
	Session string   `json:"sid"`
	Roles   []string `json:"roles"`
	// AuthTime is when the user proved who they are (OpenID Connect Core 1.0,
	// section 2). A renewal keeps it.
	AuthTime int64 `json:"auth_time"`
}

// NewSessions signs with key, whose id is its thumbprint (RFC 7638).
func NewSessions(key ed25519.PrivateKey, s Sessions) (*Sessions, error) {
	switch {
	case len(key) != ed25519.PrivateKeySize:
		return nil, fmt.Errorf("session key: an Ed25519 private key has %d bytes, this one %d", ed25519.PrivateKeySize, len(key))
	case s.Issuer == "" || s.Audience == "" || s.Region == "":
		return nil, errors.New("sessions: issuer, audience and region are required")
	}
	if s.Cookie == "" {
		s.Cookie = DefaultCookie
	}
	if s.Life == 0 {
		s.Life = DefaultSessionLife
	}
	if s.MaxLife == 0 {
		s.MaxLife = max(DefaultSessionMaxLife, s.Life)
	}
	if s.Life < time.Minute {
		return nil, fmt.Errorf("session life %s: must be 1m or more", s.Life)
	}
	if s.MaxLife < s.Life {
		return nil, fmt.Errorf("longest session life %s: must not be shorter than a token's, %s", s.MaxLife, s.Life)
	}
	if err := (&http.Cookie{Name: s.Cookie, Value: "x"}).Valid(); err != nil || strings.HasPrefix(s.Cookie, "__Secure-") {
		return nil, fmt.Errorf("session cookie %q: must be a token, with the prefix __Host- or none", s.Cookie)
	}
	s.key, s.id = key, jwks.Thumbprint(key.Public().(ed25519.PublicKey))
	return &s, nil
}

// LoadKey reads an Ed25519 key in PKCS #8, PEM. A file that others than its
// owner may read is refused.
func LoadKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %#o: others may read the key; chmod 600 %s", path, mode, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("%s: must hold one PEM block PRIVATE KEY (openssl genpkey -algorithm ed25519)", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: is a %T, must be an Ed25519 key (openssl genpkey -algorithm ed25519)", path, parsed)
	}
	return key, nil
}

// sign makes a token, good from now on, of the session sid that began at began:
// when the user proved who they are.
func (s *Sessions) sign(u user, sid string, began, now time.Time) (token string, expires time.Time, err error) {
	began, now = began.Truncate(time.Second), now.Truncate(time.Second) // what the token can say
	expires = now.Add(s.Life)
	if last := began.Add(s.MaxLife); last.Before(expires) {
		expires = last
	}
	claims := Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.Issuer, Audience: jwt.ClaimStrings{s.Audience}, Subject: u.id,
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires),
		},
		Tenant: u.tenant, Region: s.Region, Session: sid, Roles: u.roles, AuthTime: began.Unix(),
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	unsigned.Header["kid"] = s.id
	token, err = unsigned.SignedString(s.key)
	if err != nil {
		return "", expires, fmt.Errorf("sign session: %w", err)
	}
	return token, expires, nil
}

// cookie carries a token that ends then, or with an empty one takes the session
// away.
func (s *Sessions) cookie(token string, expires time.Time) *http.Cookie {
	c := &http.Cookie{
		Name: s.Cookie, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: strings.HasPrefix(s.Cookie, "__Host-"),
		MaxAge: max(1, int(time.Until(expires).Round(time.Second)/time.Second)),
	}
	if token == "" {
		c.MaxAge = -1
	}
	return c
}

// keySetAge is how long a POP or a browser may keep the published keys. A new key
// must be published that much earlier than it signs.
const keySetAge = 5 * time.Minute

// ServeHTTP publishes the key that verifies the tokens.
func (s *Sessions) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	set := jwks.Marshal([]jwks.Key{{ID: s.id, Algorithm: "EdDSA", Material: s.key.Public().(ed25519.PublicKey)}})
	h := w.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Content-Length", strconv.Itoa(len(set)))
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(keySetAge/time.Second)))
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(set)
}
