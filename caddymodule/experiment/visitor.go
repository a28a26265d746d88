package experiment

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// visitorPurpose is what the signature of a visitor's id is for.
const visitorPurpose = "edge-visitor"

// visitorLife is how long a browser keeps the id. Browsers allow no more than
// 400 days (RFC 6265bis, section 5.6).
const visitorLife = 365 * 24 * 60 * 60 // seconds

// visitorBytes is the length of an id before it is written in base64url.
const visitorBytes = 16

// maxCookie bounds our cookies: a longer one is not ours.
const maxCookie = 1024

// visitor gives the id that the request's cookie proves, or a new one that the
// answer's cookie will. A forged id, an id of another secret and two ids are no
// id: nobody chooses a side by choosing a cookie.
func (e *Experiment) visitor(r *http.Request, d *decision.Decision) (string, error) {
	if id, ok := e.readVisitor(r.Header["Cookie"]); ok {
		return id, nil
	}
	var random [visitorBytes]byte
	_, _ = rand.Read(random[:]) // never fails
	id := base64.RawURLEncoding.EncodeToString(random[:])
	value, err := e.app.SignCookie(visitorPurpose, id)
	if err != nil {
		return "", err
	}
	d.SetCookie(&http.Cookie{
		Name: e.Cookie, Value: value, Path: "/", MaxAge: visitorLife, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: r.TLS != nil || strings.HasPrefix(e.Cookie, "__"),
	})
	return id, nil
}

func (e *Experiment) readVisitor(lines []string) (string, bool) {
	value, ok := readCookie(lines, e.Cookie)
	if !ok {
		return "", false
	}
	id, ok := e.app.OpenCookie(visitorPurpose, value)
	return id, ok && len(id) == base64.RawURLEncoding.EncodedLen(visitorBytes)
}

// readCookie gives the value of the one cookie of that name, with its case. Two
// are none: which of them is ours cannot be known.
func readCookie(lines []string, name string) (value string, ok bool) {
	for _, line := range lines {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			n, v, _ := strings.Cut(textproto.TrimString(pair), "=")
			if n != name {
				continue
			}
			if ok {
				return "", false
			}
			value, ok = v, true
		}
	}
	return value, ok && value != "" && len(value) <= maxCookie
}
