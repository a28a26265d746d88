package edge

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// Sealer seals what a client keeps for the POPs, with the cookie secret that they
// have in common: the client can neither read nor change it. Make one with
// [App.Sealer].
type Sealer struct {
	app     *App
	purpose string

	once  sync.Once
	aeads []cipher.AEAD // by secret: the first seals, every one opens
	err   error
}

// Sealer gives a sealer for purpose alone: what was sealed for another does not
// open. It reads no secret yet.
func (a *App) Sealer(purpose string) *Sealer { return &Sealer{app: a, purpose: purpose} }

// load derives the keys: HKDF-SHA-256 (RFC 5869) of the secret, with no salt and the
// purpose as info.
func (s *Sealer) load() error {
	s.once.Do(func() {
		if s.err = s.app.loaded(); s.err != nil {
			return
		}
		if len(s.app.cookieSecrets) == 0 {
			s.err = errNoCookieSecret
			return
		}
		for _, secret := range s.app.cookieSecrets {
			key, err := hkdf.Key(sha256.New, secret, nil, "gatehouse seal "+s.purpose, chacha20poly1305.KeySize)
			if err != nil {
				s.err = err
				return
			}
			aead, err := chacha20poly1305.NewX(key)
			if err != nil {
				s.err = err
				return
			}
			s.aeads = append(s.aeads, aead)
		}
	})
	return s.err
}

// Seal gives plain, sealed with XChaCha20-Poly1305 under a random nonce, in
// base64url: a value that a cookie and a header may hold. It fails without a cookie
// secret.
func (s *Sealer) Seal(plain []byte) (string, error) {
	if err := s.load(); err != nil {
		return "", err
	}
	aead := s.aeads[0]
	out := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	_, _ = rand.Read(out) // never fails
	return base64.RawURLEncoding.EncodeToString(aead.Seal(out, out, plain, nil)), nil
}

// Open gives what was sealed for the same purpose with a secret that this POP has
// too. ok is false for all else.
func (s *Sealer) Open(sealed string) (plain []byte, ok bool) {
	if s.load() != nil {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(raw) < chacha20poly1305.NonceSizeX {
		return nil, false
	}
	nonce, box := raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:]
	for _, aead := range s.aeads {
		if plain, err := aead.Open(nil, nonce, box, nil); err == nil {
			return plain, true
		}
	}
	return nil, false
}
