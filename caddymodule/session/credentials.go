package session

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// credentials are what a request offers as its session.
type credentials struct {
	token  string
	bearer bool
	// fault says why there is no token to verify. Empty: there is one.
	fault decision.Auth
}

// read finds the one token that a request offers: the bearer token where one is
// sent, else the session cookie.
func read(h http.Header, cookie string) credentials {
	if c, found := readBearer(h["Authorization"]); found {
		return c
	}
	return readCookie(h["Cookie"], cookie)
}

// readBearer reads "Authorization: Bearer TOKEN" (RFC 6750, section 2.1; the
// scheme's case does not matter, RFC 9110, section 11.1). found is false where
// there is none, or one of another scheme.
func readBearer(lines []string) (c credentials, found bool) {
	switch len(lines) {
	case 0:
		return credentials{}, false
	case 1:
	default: // two programs could believe two of them
		return credentials{bearer: true, fault: decision.AuthMalformed}, true
	}
	const scheme = "Bearer"
	line := lines[0]
	if len(line) < len(scheme) || !strings.EqualFold(line[:len(scheme)], scheme) {
		return credentials{}, false
	}
	rest := line[len(scheme):]
	if rest != "" && isSchemeByte(rest[0]) { // "BearerX" is another scheme
		return credentials{}, false
	}
	token := strings.TrimLeft(rest, " ")
	if token == "" || token == rest {
		return credentials{bearer: true, fault: decision.AuthMalformed}, true
	}
	return credentials{bearer: true, token: token}, true
}

// isSchemeByte reports whether c may stand in the name of a scheme (a token,
// RFC 9110, section 5.6.2).
func isSchemeByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// readCookie reads the cookie of exactly that name. Two of them are tampering,
// be they empty or alike: somebody has set a second for another path or domain,
// and which of them a program sees first is not for us to guess.
//
// It reads as net/http does, which the region uses, but for two things: a value
// in quotes and one with bytes that no cookie has are not passed over, so that
// they count, and fail as tokens.
func readCookie(lines []string, name string) credentials {
	var value string
	count := 0
	for _, line := range lines {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			if v, ok := valueOf(pair, name); ok {
				value = v
				count++
			}
		}
	}
	switch {
	case count > 1:
		return credentials{fault: decision.AuthDuplicate}
	case value == "":
		return credentials{fault: decision.AuthMissing}
	}
	return credentials{token: value}
}

// valueOf gives the value of a cookie-pair (RFC 6265, section 4.2.1) of that
// name, compared with its case.
func valueOf(pair, name string) (string, bool) {
	n, value, _ := strings.Cut(textproto.TrimString(pair), "=")
	return value, textproto.TrimString(n) == name
}

// dropCookie takes the cookie of that name out of the request and leaves the
// others byte for byte.
func dropCookie(h http.Header, name string) {
	lines, ok := h["Cookie"]
	if !ok {
		return
	}
	kept := lines[:0]
	for _, line := range lines {
		if line = withoutCookie(line, name); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}

func withoutCookie(line, name string) string {
	if !holdsCookie(line, name) {
		return line
	}
	var b strings.Builder
	for pair := range strings.SplitSeq(line, ";") {
		if _, ok := valueOf(pair, name); ok {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(';')
		} else {
			b.Grow(len(line))
			pair = strings.TrimLeft(pair, " \t")
		}
		b.WriteString(pair)
	}
	return b.String()
}

func holdsCookie(line, name string) bool {
	for pair := range strings.SplitSeq(line, ";") {
		if _, ok := valueOf(pair, name); ok {
			return true
		}
	}
	return false
}
