package demo

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
)

// keys are the demo's secrets. They are made at the first start, stay in
// .demo/keys and are worth nothing anywhere else.
type keys struct{ dir string }

func (k keys) path(name string) string { return filepath.Join(k.dir, name) }

// signing gives the path of an Ed25519 key, PKCS #8 in PEM, mode 0600.
func (k keys) signing(name string) (string, error) {
	path := k.path(name + ".pem")
	_, err := k.once(path, func() ([]byte, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	})
	return path, err
}

// published writes the public half of a signing key as a JWKS and gives its path.
func (k keys) published(name string) (string, error) {
	private, err := os.ReadFile(k.path(name + ".pem"))
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(private)
	if block == nil {
		return "", fmt.Errorf("%s is not PEM: remove it and start again", k.path(name+".pem"))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("%s: %w", k.path(name+".pem"), err)
	}
	signer, ok := key.(ed25519.PrivateKey)
	if !ok {
		return "", fmt.Errorf("%s is a %T, not an Ed25519 key: remove it and start again", k.path(name+".pem"), key)
	}
	public := signer.Public().(ed25519.PublicKey)
	path := k.path(name + ".jwks.json")
	set := jwks.Marshal([]jwks.Key{{ID: jwks.Thumbprint(public), Algorithm: "EdDSA", Material: public}})
	return path, os.WriteFile(path, set, 0o644)
}

// secret gives the path of a random secret in hexadecimal, mode 0600, and the
// secret.
func (k keys) secret(name string) (path string, secret []byte, err error) {
	path = k.path(name)
	text, err := k.once(path, func() ([]byte, error) {
		secret := make([]byte, directory.MinKey)
		_, _ = rand.Read(secret) // never fails (crypto/rand)
		return []byte(hex.EncodeToString(secret) + "\n"), nil
	})
	if err != nil {
		return "", nil, err
	}
	secret, err = hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return "", nil, fmt.Errorf("%s is not hexadecimal: remove it and start again", path)
	}
	return path, secret, nil
}

// links gives the path of a file with the key of signed links, mode 0600.
func (k keys) links() (string, error) {
	path := k.path("links.keys")
	_, err := k.once(path, func() ([]byte, error) {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails
		return []byte("demo:" + base64.StdEncoding.EncodeToString(secret) + "\n"), nil
	})
	return path, err
}

// once gives the content of path, made the first time. Half a file is never seen.
func (k keys) once(path string, content func() ([]byte, error)) ([]byte, error) {
	found, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	fresh, err := content()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, err
	}
	beside := path + ".new"
	if err := os.WriteFile(beside, fresh, 0o600); err != nil {
		return nil, err
	}
	return fresh, os.Rename(beside, path)
}
