// Package jwks reads and writes JSON Web Key Sets (RFC 7517) for verifying
// signatures, with limits, and keeps a remote one fresh.
package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits on a key set.
const (
	MaxBytes   = 256 << 10
	MaxKeys    = 64
	minRSABits = 2048
	maxRSABits = 8192 // a larger one costs more to verify than a refused request may
	maxRSAExp  = 1<<31 - 1
	minSecret  = 32
)

// Key verifies (or, where the material is private, signs) with the algorithms
// that its type is for and no others.
type Key struct {
	// ID is the kid. It may be empty in a set of one key.
	ID string
	// Algorithm narrows the key to one algorithm. Empty: any of its type's.
	Algorithm string
	// Material is an ed25519.PublicKey, *ecdsa.PublicKey, *rsa.PublicKey, or
	// the []byte of a shared secret.
	Material any
}

// algorithms lists what a key of that type may verify (RFC 7518, section 3.1;
// RFC 8037).
func (k Key) algorithms() []string {
	switch material := k.Material.(type) {
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	case *ecdsa.PublicKey:
		switch material.Curve {
		case elliptic.P256():
			return []string{"ES256"}
		case elliptic.P384():
			return []string{"ES384"}
		}
	case *rsa.PublicKey:
		return []string{"RS256", "PS256"}
	case []byte:
		return []string{"HS256"}
	}
	return nil
}

// Algorithms are those that the key may verify with.
func (k Key) Algorithms() []string {
	if k.Algorithm != "" {
		return []string{k.Algorithm}
	}
	return k.algorithms()
}

// Allows reports whether the key may verify a signature made with algorithm.
func (k Key) Allows(algorithm string) bool {
	if k.Algorithm != "" && k.Algorithm != algorithm {
		return false
	}
	return slices.Contains(k.algorithms(), algorithm)
}

// Supported reports whether any key here could verify with algorithm.
func Supported(algorithm string) bool {
	switch algorithm {
	case "EdDSA", "ES256", "ES384", "RS256", "PS256", "HS256":
		return true
	}
	return false
}

// Set is the keys of one issuer. It is not changed once made.
type Set struct{ keys []Key }

// NewSet makes a set of keys. Refused are a key too weak or of a type that
// cannot verify here, and two keys of one id, or without any: a token could not
// say which it means.
func NewSet(keys ...Key) (*Set, error) {
	if len(keys) > MaxKeys {
		return nil, fmt.Errorf("%d keys, at most %d are read", len(keys), MaxKeys)
	}
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		if seen[k.ID] {
			return nil, fmt.Errorf("key id %q stands twice", k.ID)
		}
		seen[k.ID] = true
	}
	return &Set{keys: slices.Clone(keys)}, nil
}

// check refuses a key that must not or cannot verify.
func (k Key) check() error {
	switch material := k.Material.(type) {
	case ed25519.PublicKey:
		if len(material) != ed25519.PublicKeySize {
			return fmt.Errorf("an Ed25519 public key has %d bytes, this one %d", ed25519.PublicKeySize, len(material))
		}
	case *rsa.PublicKey:
		if err := checkRSA(material); err != nil {
			return err
		}
	case *ecdsa.PublicKey:
		if material == nil {
			return errors.New("no EC key")
		}
	case []byte:
		if len(material) < minSecret {
			return fmt.Errorf("the secret has %d bytes, HS256 needs at least %d", len(material), minSecret)
		}
	}
	if len(k.algorithms()) == 0 {
		return fmt.Errorf("%T is no key that can verify here", k.Material)
	}
	if k.Algorithm != "" && !k.Allows(k.Algorithm) {
		return fmt.Errorf("%q is no algorithm of %T", k.Algorithm, k.Material)
	}
	return nil
}

// checkRSA keeps to NIST SP 800-57 from below and to a bearable cost from above.
// With an exponent of 1, any message would be its own signature.
func checkRSA(key *rsa.PublicKey) error {
	if key == nil || key.N == nil {
		return errors.New("no RSA key")
	}
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return fmt.Errorf("an RSA key of %d bits, %d to %d are read", bits, minRSABits, maxRSABits)
	}
	if key.E < 3 || key.E > maxRSAExp || key.E%2 == 0 || key.N.Bit(0) == 0 {
		return errors.New("n and e are not an RSA public key")
	}
	return nil
}

// Secret makes a set of one shared secret for HS256, of at least 32 bytes
// (RFC 7518, section 3.2), which has no id.
func Secret(secret []byte) (*Set, error) {
	set, err := NewSet(Key{Algorithm: "HS256", Material: slices.Clone(secret)})
	if err != nil {
		return nil, errors.Unwrap(err) // it has no id to be named by
	}
	return set, nil
}

// Len is the number of keys.
func (s *Set) Len() int { return len(s.keys) }

// Keys is a copy of the keys.
func (s *Set) Keys() []Key { return slices.Clone(s.keys) }

// Equal reports whether two sets hold the same keys, whatever their order.
func (s *Set) Equal(other *Set) bool {
	if s == nil || other == nil || len(s.keys) != len(other.keys) {
		return s == other
	}
	for _, k := range s.keys {
		if !slices.ContainsFunc(other.keys, k.equal) {
			return false
		}
	}
	return true
}

func (k Key) equal(other Key) bool {
	return k.ID == other.ID && k.Algorithm == other.Algorithm && SameMaterial(k.Material, other.Material)
}

// SameMaterial reports whether two keys are the same key. Secrets are compared
// in constant time.
func SameMaterial(a, b any) bool {
	switch a := a.(type) {
	case ed25519.PublicKey:
		other, ok := b.(ed25519.PublicKey)
		return ok && a.Equal(other)
	case *ecdsa.PublicKey:
		other, ok := b.(*ecdsa.PublicKey)
		return ok && (a == other || a.Equal(other))
	case *rsa.PublicKey:
		other, ok := b.(*rsa.PublicKey)
		return ok && (a == other || a.Equal(other))
	case []byte:
		other, ok := b.([]byte)
		return ok && subtle.ConstantTimeCompare(a, other) == 1
	}
	return false
}

// Find gives the key with that id. A token without a kid is answered by a set
// of a single key.
func (s *Set) Find(id string) (Key, bool) {
	if s == nil {
		return Key{}, false
	}
	if len(s.keys) == 1 && (id == "" || s.keys[0].ID == "") {
		return s.keys[0], true
	}
	for _, k := range s.keys {
		if k.ID == id && id != "" {
			return k, true
		}
	}
	return Key{}, false
}

// document and jwk are the wire form (RFC 7517, sections 4 and 5).
type document struct {
	Keys []jwk `json:"keys"`
}

// rawDocument is read in place of document: a key with members of other types
// than these must not take the others with it.
type rawDocument struct {
	Keys []jsontext.Value `json:"keys"`
}

type jwk struct {
	Type      string   `json:"kty"`
	ID        string   `json:"kid,omitempty"`
	Use       string   `json:"use,omitempty"`
	Ops       []string `json:"key_ops,omitempty"`
	Algorithm string   `json:"alg,omitempty"`
	Curve     string   `json:"crv,omitempty"`
	X         string   `json:"x,omitempty"`
	Y         string   `json:"y,omitempty"`
	N         string   `json:"n,omitempty"`
	E         string   `json:"e,omitempty"`
	// D is the private part of a key of any type (RFC 7518, section 6).
	D string `json:"d,omitempty"`
}

// Parse reads a key set. A key that is not understood, is for another use, or
// is broken or too weak to be trusted is left out, as RFC 7517, section 5, asks:
// it can verify nothing, and need not take the good ones with it. A set in which
// nothing is left is an error that says why. Symmetric keys are never read from
// a set: whoever can read it could sign. Neither is a key beside its private
// part, for the same reason.
func Parse(data []byte) (*Set, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("key set of %d bytes, at most %d are read", len(data), MaxBytes)
	}
	var d rawDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("key set is not JSON: %w", err)
	}
	if len(d.Keys) > MaxKeys {
		return nil, fmt.Errorf("%d keys, at most %d are read", len(d.Keys), MaxKeys)
	}
	var keys []Key
	var broken error
	for i, raw := range d.Keys {
		key, err := parseKey(raw)
		switch {
		case err == nil:
			keys = append(keys, key)
		case broken == nil && !errors.Is(err, errForeign):
			broken = fmt.Errorf("key %d (%.64q): %w", i, key.ID, err)
		}
	}
	switch {
	case len(keys) > 0:
		return NewSet(keys...)
	case broken != nil:
		return nil, fmt.Errorf("key set holds no key that can verify here: %w", broken)
	}
	return nil, errors.New("key set holds no key that can verify here")
}

// errForeign is of a key that is well, but not for us.
var errForeign = errors.New("key is of another type or for another use")

func parseKey(data []byte) (Key, error) {
	var j jwk
	if err := json.Unmarshal(data, &j); err != nil {
		return Key{}, err
	}
	key := Key{ID: j.ID, Algorithm: j.Algorithm}
	switch {
	case j.Use != "" && j.Use != "sig", len(j.Ops) > 0 && !slices.Contains(j.Ops, "verify"):
		return key, errForeign
	case j.Algorithm != "" && !Supported(j.Algorithm):
		return key, errForeign
	}
	material, err := j.material()
	if err != nil {
		return key, err
	}
	if j.D != "" {
		return key, errors.New("the private part stands beside it: this key is lost")
	}
	key.Material = material
	return key, key.check()
}

// material decodes the key. It fails with errForeign for a type that is not
// known here.
func (j jwk) material() (crypto.PublicKey, error) {
	switch {
	case j.Type == "OKP" && j.Curve == "Ed25519":
		x, err := decode(j.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("x is not an Ed25519 public key")
		}
		return ed25519.PublicKey(x), nil
	case j.Type == "EC" && (j.Curve == "P-256" || j.Curve == "P-384"):
		return j.ec()
	case j.Type == "RSA":
		return j.rsa()
	}
	return nil, errForeign
}

func (j jwk) ec() (crypto.PublicKey, error) {
	curve := elliptic.P256()
	if j.Curve == "P-384" {
		curve = elliptic.P384()
	}
	size := (curve.Params().BitSize + 7) / 8
	x, err1 := decode(j.X)
	y, err2 := decode(j.Y)
	if err1 != nil || err2 != nil || len(x) != size || len(y) != size {
		return nil, fmt.Errorf("x and y are not a point of %s", j.Curve)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, fmt.Errorf("x and y are not a point of %s", j.Curve)
	}
	return key, nil
}

func (j jwk) rsa() (crypto.PublicKey, error) {
	n, err1 := decode(j.N)
	e, err2 := decode(j.E)
	if err1 != nil || err2 != nil || len(e) == 0 || len(e) > 4 || len(n) > maxRSABits/8 {
		return nil, errors.New("n and e are not an RSA public key")
	}
	exponent := new(big.Int).SetBytes(e).Int64() // 32 bits at most; check looks at the rest
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(min(exponent, maxRSAExp+1))}, nil
}

func decode(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }

// ParsePEM reads one or more public keys ("PUBLIC KEY" or "CERTIFICATE" blocks).
// Their ids are their thumbprints (see [Thumbprint]).
func ParsePEM(data []byte) (*Set, error) {
	var keys []Key
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var material any
		switch block.Type {
		case "PUBLIC KEY":
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("PEM public key: %w", err)
			}
			material = key
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("PEM certificate: %w", err)
			}
			material = cert.PublicKey
		default:
			return nil, fmt.Errorf("PEM block %q is no public key", block.Type)
		}
		keys = append(keys, Key{ID: Thumbprint(material), Material: material})
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM block found")
	}
	return NewSet(keys...)
}

// Marshal writes the public keys as a key set. Secrets are left out.
func Marshal(keys []Key) []byte {
	d := document{Keys: []jwk{}}
	for _, k := range keys {
		if j, ok := wire(k.Material); ok {
			j.ID, j.Algorithm, j.Use = k.ID, k.Algorithm, "sig"
			d.Keys = append(d.Keys, j)
		}
	}
	data, err := json.Marshal(d)
	if err != nil { // not reachable: strings only
		panic(err)
	}
	return data
}

func wire(material any) (jwk, bool) {
	encode := base64.RawURLEncoding.EncodeToString
	switch key := material.(type) {
	case ed25519.PublicKey:
		return jwk{Type: "OKP", Curve: "Ed25519", X: encode(key)}, true
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return jwk{}, false
		}
		size := (len(point) - 1) / 2
		return jwk{Type: "EC", Curve: key.Params().Name, X: encode(point[1 : 1+size]), Y: encode(point[1+size:])}, true
	case *rsa.PublicKey:
		return jwk{Type: "RSA", N: encode(key.N.Bytes()), E: encode(big.NewInt(int64(key.E)).Bytes())}, true
	}
	return jwk{}, false
}

// Thumbprint is the SHA-256 thumbprint of a public key (RFC 7638), the id of a
// key that has no other. It is empty for a secret.
func Thumbprint(material any) string {
	j, ok := wire(material)
	if !ok {
		return ""
	}
	// The members of RFC 7638, section 3.2, in lexical order; their values need
	// no escaping.
	var canonical string
	switch j.Type {
	case "OKP":
		canonical = fmt.Sprintf(`{"crv":%q,"kty":"OKP","x":%q}`, j.Curve, j.X)
	case "EC":
		canonical = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, j.Curve, j.X, j.Y)
	case "RSA":
		canonical = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, j.E, j.N)
	}
	sum := sha256.Sum256([]byte(canonical))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
