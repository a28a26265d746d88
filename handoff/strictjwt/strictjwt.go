// Package strictjwt reads compact JSON Web Tokens with golang-jwt and closes
// what that library leaves open: the size is bounded before anything is
// decoded, the key is looked up only in the set of the token's own issuer, the
// algorithm must be one the key is for, "crit" is refused (RFC 7515, section
// 4.1.11), and JSON is read strictly: a duplicate name is an error and names
// are compared with their case (RFC 8259, section 4, leaves both to the reader).
package strictjwt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// DefaultMaxBytes bounds a token: more than a cookie can hold.
const DefaultMaxBytes = 8 << 10

// Errors of [Verify]. Each stands for one outcome that logs and metrics name.
var (
	ErrMalformed  = errors.New("token is malformed")
	ErrTooLarge   = errors.New("token is too large")
	ErrAlgorithm  = errors.New("token algorithm is not allowed")
	ErrCritical   = errors.New("token has a critical header")
	ErrIssuer     = errors.New("token issuer is not known")
	ErrKey        = errors.New("token key is not known")
	ErrKeysAbsent = errors.New("the issuer's keys cannot be had now")
	ErrSignature  = errors.New("token signature is wrong")
	ErrExpired    = errors.New("token is expired")
	ErrNotYet     = errors.New("token is not valid yet")
	ErrAudience   = errors.New("token is for another audience")
	ErrClaims     = errors.New("token claims are not valid")
)

// Header is the part of a token's protected header that is read. "jku", "jwk",
// "x5u" and "x5c" are never looked at: a token cannot bring its own key.
type Header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
	Critical  any    `json:"crit"`
}

// Policy is what a token must keep to.
type Policy struct {
	// MaxBytes bounds the token. Default: [DefaultMaxBytes].
	MaxBytes int
	// Audience must be among the token's audiences. Empty: not checked.
	Audience string
	// Leeway is how far two clocks may differ. Default: none.
	Leeway time.Duration
	// MaxLife bounds exp - iat, and makes iat required. Zero: not checked.
	MaxLife time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Find gives the key for a token of issuer with header h, or one of the errors
// of this package, wrapped or not.
type Find func(issuer string, h Header) (jwks.Key, error)

// Verify checks raw against policy with the key that find gives, and decodes
// its claims into claims, a pointer to a struct that embeds
// [jwt.RegisteredClaims]. What claims held is undefined after an error.
// A token without exp is refused.
func Verify(raw string, claims jwt.Claims, policy Policy, find Find) (Header, error) {
	header, err := Peek(raw, policy.MaxBytes)
	if err != nil {
		return header, err
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{header.Algorithm}), // the key decides below
		jwt.WithExpirationRequired(),
		jwt.WithStrictDecoding(),
		jwt.WithLeeway(policy.Leeway),
	}
	now := time.Now
	if policy.Now != nil {
		now = policy.Now
		options = append(options, jwt.WithTimeFunc(now))
	}
	if policy.Audience != "" {
		options = append(options, jwt.WithAudience(policy.Audience))
	}
	_, err = jwt.NewParser(options...).ParseWithClaims(raw, &strict{claims}, func(*jwt.Token) (any, error) {
		issuer, err := claims.GetIssuer()
		if err != nil || issuer == "" {
			return nil, ErrIssuer
		}
		key, err := find(issuer, header)
		if err != nil {
			return nil, err
		}
		if !key.Allows(header.Algorithm) {
			return nil, ErrAlgorithm
		}
		return key.Material, nil
	})
	if err != nil {
		return header, classify(err)
	}
	return header, policy.checkLife(claims, now())
}

// Peek decodes the header of raw and nothing else, within maxBytes (zero:
// [DefaultMaxBytes]).
func Peek(raw string, maxBytes int) (Header, error) {
	var h Header
	if maxBytes == 0 {
		maxBytes = DefaultMaxBytes
	}
	if len(raw) > maxBytes {
		return h, ErrTooLarge
	}
	first, rest, ok := strings.Cut(raw, ".")
	if !ok || strings.Count(rest, ".") != 1 {
		return h, fmt.Errorf("%w: not three parts", ErrMalformed)
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(first)
	if err != nil {
		return h, fmt.Errorf("%w: header is not base64url", ErrMalformed)
	}
	if err := json.Unmarshal(decoded, &h); err != nil {
		return h, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if h.Critical != nil {
		return h, ErrCritical
	}
	if !jwks.Supported(h.Algorithm) {
		return h, ErrAlgorithm
	}
	return h, nil
}

// checkLife bounds how long a token may live at all.
func (p Policy) checkLife(claims jwt.Claims, now time.Time) error {
	if p.MaxLife == 0 {
		return nil
	}
	issued, err := claims.GetIssuedAt()
	if err != nil || issued == nil {
		return fmt.Errorf("%w: iat is required", ErrClaims)
	}
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil {
		return fmt.Errorf("%w: exp is required", ErrClaims)
	}
	if expires.Sub(issued.Time) > p.MaxLife {
		return fmt.Errorf("%w: it lives longer than %s", ErrClaims, p.MaxLife)
	}
	if issued.After(now.Add(p.Leeway)) {
		return fmt.Errorf("%w: iat is in the future", ErrNotYet)
	}
	return nil
}

// strict makes golang-jwt decode claims with the strict reader.
type strict struct{ jwt.Claims }

func (s *strict) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, s.Claims) }

// classify names the outcome of golang-jwt's error.
func classify(err error) error {
	for _, ours := range []error{ErrIssuer, ErrKey, ErrKeysAbsent, ErrAlgorithm} {
		if errors.Is(err, ours) {
			return err
		}
	}
	for _, row := range []struct{ theirs, ours error }{
		{jwt.ErrTokenMalformed, ErrMalformed},
		{jwt.ErrTokenSignatureInvalid, ErrSignature},
		{jwt.ErrTokenExpired, ErrExpired},
		{jwt.ErrTokenNotValidYet, ErrNotYet},
		{jwt.ErrTokenUsedBeforeIssued, ErrNotYet},
		{jwt.ErrTokenInvalidAudience, ErrAudience},
		{jwt.ErrTokenUnverifiable, ErrKey},
	} {
		if errors.Is(err, row.theirs) {
			return fmt.Errorf("%w: %w", row.ours, err)
		}
	}
	return fmt.Errorf("%w: %w", ErrClaims, err)
}
