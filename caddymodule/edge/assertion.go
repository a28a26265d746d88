package edge

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// Assertion says with which keys this POP signs.
type Assertion struct {
	// KeyFiles are PEM files with an Ed25519 private key (PKCS #8), readable by
	// their owner alone. The first signs; all are published, so that a new key can
	// be known to the regions before it signs.
	KeyFiles []string `json:"key_files,omitempty"`

	// KeyEnv is the name of an environment variable that holds such a PEM. It
	// comes before KeyFiles.
	KeyEnv string `json:"key_env,omitempty"`

	// SecretFile and SecretEnv name a secret of at least 32 bytes, shared with the
	// regions, for HS256 in place of a key. Prefer a key: whoever holds the
	// secret can sign.
	SecretFile string `json:"secret_file,omitempty"`
	SecretEnv  string `json:"secret_env,omitempty"`
}

func (a *Assertion) check() error {
	keys := len(a.KeyFiles) > 0 || a.KeyEnv != ""
	secrets := a.SecretFile != "" || a.SecretEnv != ""
	switch {
	case keys && secrets:
		return errors.New("a key or a secret signs, not both: drop key_file and key_env, or secret_file and secret_env")
	case a.SecretFile != "" && a.SecretEnv != "":
		return errors.New("one secret is needed: drop secret_file or secret_env")
	case !keys && !secrets:
		return errors.New("nothing to sign with: give key_file, key_env, secret_file or secret_env")
	}
	return nil
}

// signing is the loaded keys.
type signing struct {
	signer    *handoff.Signer
	name      string // of the key that signs, see SigningKey
	published []byte // JWKS
}

func (a *Assertion) load() (*signing, error) {
	if a.SecretFile != "" || a.SecretEnv != "" {
		secret, err := readSecret(a.SecretFile, a.SecretEnv)
		if err != nil {
			return nil, err
		}
		signer, err := handoff.NewSecretSigner(secret)
		if err != nil {
			return nil, err
		}
		digest := sha256.Sum256(secret)
		return &signing{signer: signer, name: "HS256 " + hex.EncodeToString(digest[:]), published: jwks.Marshal(nil)}, nil
	}
	var signers []*handoff.Signer
	add := func(where string, data []byte, err error) error {
		if err != nil {
			return err
		}
		key, err := parseKey(data)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		signer, err := handoff.NewSigner(key)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		signers = append(signers, signer)
		return nil
	}
	if a.KeyEnv != "" {
		data, err := readEnv(a.KeyEnv)
		if err := add("key_env "+a.KeyEnv, data, err); err != nil {
			return nil, err
		}
	}
	for _, file := range a.KeyFiles {
		data, err := readPrivate(file)
		if err := add("key_file "+file, data, err); err != nil {
			return nil, err
		}
	}
	var public []jwks.Key
	for _, s := range signers {
		public = append(public, s.Key())
	}
	return &signing{signer: signers[0], name: signers[0].Key().ID, published: jwks.Marshal(public)}, nil
}

func parseKey(data []byte) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("not a PEM block \"PRIVATE KEY\" (make one with: openssl genpkey -algorithm ed25519)")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("holds more than one key: give each a file of its own")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse PKCS #8: %w", err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("is a %T, an Ed25519 key is needed", parsed)
	}
	return key, nil
}

// Sign signs claims with the POP's first key.
func (a *App) Sign(c *handoff.Claims) (string, error) {
	if err := a.loaded(); err != nil {
		return "", err
	}
	return a.keys.signer.Sign(c)
}

// SigningKey names the key or the secret that [App.Sign] signs with: no two have
// the same name. It is for the key of a cache, and never leaves the process.
func (a *App) SigningKey() (string, error) {
	if err := a.loaded(); err != nil {
		return "", err
	}
	return a.keys.name, nil
}

// PublishedKeys is the key set that regions verify this POP's assertions with,
// as JSON. It is empty where a secret signs.
func (a *App) PublishedKeys() ([]byte, error) {
	if err := a.loaded(); err != nil {
		return nil, err
	}
	if a.keys == nil {
		return nil, errors.New("the keys of this POP cannot be read here")
	}
	return a.keys.published, nil
}
