package signedurl

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Bounds of keys.
const (
	// MinSecret is how short a key may be, in bytes: HMAC-SHA256 gains nothing
	// from a longer key and loses by a shorter one (RFC 2104, section 3).
	MinSecret = 32
	maxSecret = 1024
	maxKeys   = 16
)

// Keys are the keys of signed links: the first signs, all verify, so that links
// outlive a change of keys. The zero value has none and believes no link.
type Keys struct {
	keys []key
}

type key struct {
	id     string
	secret []byte
}

// ParseKeys reads keys as text: one on each line, its id, a colon and the secret of
// 32 bytes or more in base64, with or without padding, of either alphabet. Empty
// lines and those that begin with "#" are passed over. No error quotes a secret.
func ParseKeys(text []byte) (*Keys, error) {
	k := new(Keys)
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		id, encoded, found := strings.Cut(string(line), ":")
		if !found {
			return nil, fmt.Errorf("line %d: a key is ID:SECRET, the secret in base64", number)
		}
		secret, err := decodeSecret(strings.TrimSpace(encoded))
		if err != nil {
			return nil, fmt.Errorf("line %d: the secret of key %q is not base64", number, id)
		}
		if err := k.add(strings.TrimSpace(id), secret); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if len(k.keys) == 0 {
		return nil, errors.New("holds no key: write one on each line as ID:SECRET, the secret in base64")
	}
	return k, nil
}

func decodeSecret(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	return base64.RawStdEncoding.Strict().DecodeString(text)
}

func (k *Keys) add(id string, secret []byte) error {
	switch {
	case !validKeyID(id):
		return fmt.Errorf("key id %q: it has 1 to 32 letters, digits, '-' and '_'", id)
	case len(secret) < MinSecret || len(secret) > maxSecret:
		return fmt.Errorf("key %s has %d bytes: it has %d to %d (make one with: openssl rand -base64 32)", id, len(secret), MinSecret, maxSecret)
	case len(k.keys) == maxKeys:
		return fmt.Errorf("over %d keys", maxKeys)
	}
	if k.find(id) != nil {
		return fmt.Errorf("key id %s stands twice", id)
	}
	k.keys = append(k.keys, key{id, secret})
	return nil
}

// Join gives the keys of all of sets, in their order: the first signs.
func Join(sets ...*Keys) (*Keys, error) {
	all := new(Keys)
	for _, set := range sets {
		for _, one := range set.keys {
			if err := all.add(one.id, one.secret); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// IDs are the ids of the keys, the one that signs first.
func (k *Keys) IDs() []string {
	ids := make([]string, len(k.keys))
	for i, one := range k.keys {
		ids[i] = one.id
	}
	return ids
}

func (k *Keys) find(id string) *key {
	for i := range k.keys { // a handful
		if k.keys[i].id == id {
			return &k.keys[i]
		}
	}
	return nil
}

func (k *key) sum(message []byte) []byte {
	mac := hmac.New(sha256.New, k.secret)
	_, _ = mac.Write(message) // a hash never fails
	return mac.Sum(make([]byte, 0, sha256.Size))
}

func validKeyID(id string) bool {
	if len(id) < 1 || len(id) > 32 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; !isUnreserved(c) || c == '/' || c == '.' || c == '~' {
			return false
		}
	}
	return true
}
