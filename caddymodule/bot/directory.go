package bot

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// directory is the keys that an agent signs with, by their thumbprints.
type directory map[string]signingKey

type signingKey struct {
	key             ed25519.PublicKey
	notBefore, till time.Time // the zero value: no bound
}

// in force at that time?
func (k signingKey) holds(now time.Time) bool {
	return (k.notBefore.IsZero() || !now.Before(k.notBefore)) && (k.till.IsZero() || now.Before(k.till))
}

// directoryKey is a JSON Web Key (RFC 7517, RFC 8037) of a key directory, which
// adds nbf and exp.
type directoryKey struct {
	Type  string   `json:"kty"`
	Curve string   `json:"crv"`
	X     string   `json:"x"`
	Use   string   `json:"use"`
	Ops   []string `json:"key_ops"`
	Alg   string   `json:"alg"`
	D     string   `json:"d"`
	NBF   float64  `json:"nbf"`
	Exp   float64  `json:"exp"`
}

// parseDirectory reads a key directory of draft-ietf-webbotauth-httpsig-protocol: a
// JSON Web Key Set. A key of another type is left out, as is one for another use
// or beside its private part; where none is left the directory is refused. What it
// calls its keys (kid) is not believed: a key's name is its thumbprint.
func parseDirectory(data []byte) (directory, error) {
	if len(data) > jwks.MaxBytes {
		return nil, fmt.Errorf("key directory of %d bytes, at most %d are read", len(data), jwks.MaxBytes)
	}
	var document struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("key directory is not JSON: %w", err)
	}
	if len(document.Keys) > jwks.MaxKeys {
		return nil, fmt.Errorf("%d keys, at most %d are read", len(document.Keys), jwks.MaxKeys)
	}
	keys := directory{}
	for _, raw := range document.Keys {
		if name, key, ok := parseDirectoryKey(raw); ok {
			keys[name] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("key directory holds no Ed25519 key for signatures")
	}
	return keys, nil
}

func parseDirectoryKey(raw jsontext.Value) (string, signingKey, bool) {
	var k directoryKey
	if json.Unmarshal(raw, &k) != nil || k.Type != "OKP" || k.Curve != "Ed25519" || k.D != "" {
		return "", signingKey{}, false
	}
	if k.Use != "" && k.Use != "sig" || len(k.Ops) > 0 && !slices.Contains(k.Ops, "verify") {
		return "", signingKey{}, false
	}
	if k.Alg != "" && k.Alg != "EdDSA" && k.Alg != "Ed25519" && k.Alg != "ed25519" {
		return "", signingKey{}, false
	}
	x, err := base64.RawURLEncoding.Strict().DecodeString(k.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return "", signingKey{}, false
	}
	notBefore, ok1 := instant(k.NBF)
	till, ok2 := instant(k.Exp)
	if !ok1 || !ok2 {
		return "", signingKey{}, false
	}
	return thumbprint(x), signingKey{ed25519.PublicKey(x), notBefore, till}, true
}

// instant reads seconds since 1970 (RFC 7519, section 2). A value that can be no
// such time, as one in milliseconds, takes its key out.
func instant(seconds float64) (time.Time, bool) {
	switch {
	case seconds == 0:
		return time.Time{}, true
	case seconds < 0 || seconds >= 1<<36: // the year 4147
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// thumbprint is the name of an Ed25519 key (RFC 8037, appendix A.3).
func thumbprint(x []byte) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(x) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
