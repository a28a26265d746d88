// Package strictjwt reads compact JSON Web Tokens with golang-jwt and closes
// what that library leaves open:
//
//   - the size is bounded before anything is decoded;
//   - every byte is of the base64url alphabet (Go's decoder passes over line
//     breaks, so that one token could be written in many ways);
//   - "crit" and "b64" are refused (RFC 7515, section 4.1.11; RFC 7797, section 7);
//   - the type must be one that is asked for (RFC 8725, section 3.11);
//   - the key is looked up only in the set of the token's own issuer, and the
//     algorithm must be one the key is for (RFC 8725, section 3.1);
//   - JSON is read strictly: a duplicate name is an error and names are
//     compared with their case (RFC 8259, section 4, leaves both to the reader);
//   - a date is a JSON number within the years 1970 to 9999 (RFC 7519, section
//     2, knows no quoted one), so that none can overflow into another century.
package strictjwt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// DefaultMaxBytes bounds a token: more than a cookie can hold.
const DefaultMaxBytes = 8 << 10

// maxKeyID bounds a kid, which is looked up and logged before anything is proved.
const maxKeyID = 256

// Errors of [Verify]. Each stands for one outcome that logs and metrics name.
var (
	ErrMalformed  = errors.New("token is malformed")
	ErrTooLarge   = errors.New("token is too large")
	ErrAlgorithm  = errors.New("token algorithm is not allowed")
	ErrCritical   = errors.New("token has a critical header")
	ErrType       = errors.New("token is of another type")
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
	// Critical and Base64 are refused whatever they hold, null too.
	Critical jsontext.Value `json:"crit"`
	Base64   jsontext.Value `json:"b64"`
}

// Policy is what a token must keep to.
type Policy struct {
	// MaxBytes bounds the token. Default: [DefaultMaxBytes].
	MaxBytes int
	// Type is the typ that the token must have, compared without its case and
	// without "application/" (RFC 7515, section 4.1.9). Empty: the token has
	// none, or "JWT", or "at+jwt" (RFC 9068), so that a token made for another
	// purpose by the same issuer is not taken for a session.
	Type string
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
// A token without exp is refused. A Validate method of claims is heard, as
// golang-jwt does (see [jwt.ClaimsValidator]).
func Verify(raw string, claims jwt.Claims, policy Policy, find Find) (Header, error) {
	header, err := Peek(raw, policy.MaxBytes)
	if err != nil {
		return header, err
	}
	if !policy.allowsType(header.Type) {
		return header, ErrType
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
	if own, ok := claims.(jwt.ClaimsValidator); ok {
		if err := own.Validate(); err != nil {
			return header, fmt.Errorf("%w: %w", ErrClaims, err)
		}
	}
	return header, policy.checkLife(claims, now())
}

// allowsType compares media types (RFC 7515, section 4.1.9).
func (p Policy) allowsType(typ string) bool {
	const prefix = "application/"
	if len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) {
		typ = typ[len(prefix):]
	}
	if p.Type != "" {
		return strings.EqualFold(typ, p.Type)
	}
	return typ == "" || strings.EqualFold(typ, "JWT") || strings.EqualFold(typ, "at+jwt")
}

// Peek decodes the header of raw and nothing else, within maxBytes (zero:
// [DefaultMaxBytes]).
//
// "crit" is refused in every form. No extension is understood here, so that a
// list of them "MUST be rejected"; an empty list, null or anything else is not
// what RFC 7515, section 4.1.11, allows to be written, and whoever writes it
// wants two readers to differ.
func Peek(raw string, maxBytes int) (Header, error) {
	var h Header
	if maxBytes == 0 {
		maxBytes = DefaultMaxBytes
	}
	if len(raw) > maxBytes {
		return h, ErrTooLarge
	}
	first, err := checkForm(raw)
	if err != nil {
		return h, err
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(first)
	if err != nil {
		return h, fmt.Errorf("%w: header is not base64url", ErrMalformed)
	}
	if err := json.Unmarshal(decoded, &h); err != nil {
		return h, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	switch {
	case h.Critical != nil:
		return h, ErrCritical
	case h.Base64 != nil:
		return h, fmt.Errorf("%w: b64", ErrCritical)
	case len(h.KeyID) > maxKeyID:
		return h, fmt.Errorf("%w: kid of %d bytes, at most %d are read", ErrMalformed, len(h.KeyID), maxKeyID)
	case !jwks.Supported(h.Algorithm):
		return h, ErrAlgorithm
	}
	return h, nil
}

// checkForm gives the first of exactly three parts of base64url characters.
func checkForm(raw string) (first string, err error) {
	dots := 0
	for i := range len(raw) {
		switch c := raw[i]; {
		case c == '.':
			if dots++; dots == 1 {
				first = raw[:i]
			}
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_':
		default:
			return "", fmt.Errorf("%w: byte %d is not base64url", ErrMalformed, i)
		}
	}
	if dots != 2 {
		return "", fmt.Errorf("%w: not three parts", ErrMalformed)
	}
	return first, nil
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

func (s *strict) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, s.Claims, Registered) }

// Registered reads the types of golang-jwt, which is laxer than RFC 7519 there:
// for claims that are decoded apart from the token.
var Registered = json.WithUnmarshalers(json.JoinUnmarshalers(
	json.UnmarshalFunc(readDate),
	json.UnmarshalFunc(readAudience),
))

// lastDate is the end of the year 9999, as far as RFC 3339 and most libraries
// can tell the time.
const lastDate = 253402300799

// readDate reads a NumericDate (RFC 7519, section 2). golang-jwt takes a quoted
// one too, and one that overflows.
func readDate(data []byte, date *jwt.NumericDate) error {
	if jsontext.Value(data).Kind() != '0' {
		return errors.New("a date is a JSON number (RFC 7519, section 2)")
	}
	seconds, err := strconv.ParseFloat(string(data), 64)
	if err != nil || seconds < 0 || seconds > lastDate {
		return fmt.Errorf("a date is within 0 and %d seconds", int64(lastDate))
	}
	*date = *jwt.NewNumericDate(time.Unix(int64(seconds), 0))
	return nil
}

// readAudience reads aud: a string or an array of them (RFC 7519, section 4.1.3).
func readAudience(data []byte, audience *jwt.ClaimStrings) error {
	switch jsontext.Value(data).Kind() {
	case '"':
		*audience = jwt.ClaimStrings{""}
		return json.Unmarshal(data, &(*audience)[0])
	case '[':
		var several []*string // a pointer, to tell null from ""
		if err := json.Unmarshal(data, &several); err != nil {
			return err
		}
		*audience = nil
		for _, one := range several {
			if one == nil {
				return errors.New("aud holds null")
			}
			*audience = append(*audience, *one)
		}
		return nil
	}
	return errors.New("aud is a string or an array of strings (RFC 7519, section 4.1.3)")
}

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
