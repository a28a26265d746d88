package edge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// minCookieSecret is as long as what HMAC-SHA-256 gives (RFC 2104, section 3).
const minCookieSecret = sha256.Size

// loadCookieSecrets reads the secrets that sign cookies: the first signs, every
// one is believed.
func (a *App) loadCookieSecrets() error {
	if a.CookieSecretEnv != "" {
		secret, err := readEnv(a.CookieSecretEnv)
		if err := a.addCookieSecret("cookie_secret_env "+a.CookieSecretEnv, secret, err); err != nil {
			return err
		}
	}
	for _, file := range a.CookieSecretFiles {
		secret, err := readSecret(file, "")
		if err := a.addCookieSecret("cookie_secret_file "+file, secret, err); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) addCookieSecret(where string, secret []byte, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if len(secret) < minCookieSecret {
		return fmt.Errorf("%s: %d bytes: a secret has at least %d, for example of: openssl rand -hex 32", where, len(secret), minCookieSecret)
	}
	a.cookieSecrets = append(a.cookieSecrets, secret)
	return nil
}

// SignsCookies reports whether there is a secret to sign cookies with.
func (a *App) SignsCookies() bool { return a.CookieSecretEnv != "" || len(a.CookieSecretFiles) > 0 }

var errNoCookieSecret = errors.New("no cookie secret: give cookie_secret_file or cookie_secret_env in the global option edge { … }, alike at every POP")

// SignCookie gives the value of a cookie that says payload, for purpose alone:
// what was signed for another purpose does not open. payload is sent as it is,
// so it holds nothing secret and only what a cookie may hold (RFC 6265, section
// 4.1.1).
//
// The value is payload, a dot, and in base64url HMAC-SHA-256 of purpose, a
// newline and payload.
func (a *App) SignCookie(purpose, payload string) (string, error) {
	if err := a.loaded(); err != nil {
		return "", err
	}
	if len(a.cookieSecrets) == 0 {
		return "", errNoCookieSecret
	}
	var mac [sha256.Size]byte
	a.sumCookie(mac[:0], a.cookieSecrets[0], purpose, payload)
	return payload + "." + base64.RawURLEncoding.EncodeToString(mac[:]), nil
}

// OpenCookie gives what the value of a cookie says, if it was signed for purpose
// by a POP with one of this one's secrets. It takes as long for a wrong
// signature as for a right one.
func (a *App) OpenCookie(purpose, value string) (payload string, ok bool) {
	dot := strings.LastIndexByte(value, '.')
	if dot < 0 || a.loaded() != nil {
		return "", false
	}
	payload = value[:dot]
	var sent, mac [sha256.Size]byte
	if base64.RawURLEncoding.DecodedLen(len(value)-dot-1) != len(sent) {
		return "", false
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(sent[:], []byte(value[dot+1:])); err != nil {
		return "", false
	}
	for _, secret := range a.cookieSecrets {
		a.sumCookie(mac[:0], secret, purpose, payload)
		ok = hmac.Equal(mac[:], sent[:]) || ok
	}
	if !ok {
		return "", false
	}
	return payload, true
}

func (a *App) sumCookie(into, secret []byte, purpose, payload string) {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(purpose))
	h.Write([]byte{'\n'})
	h.Write([]byte(payload))
	h.Sum(into)
}
