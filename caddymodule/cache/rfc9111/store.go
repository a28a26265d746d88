package rfc9111

import (
	"net/http"
	"net/url"
	"strings"
)

// Refusal says why a response is not stored. The empty one: it may be.
type Refusal string

// Refusals, for people to read.
const (
	Storable              Refusal = ""
	RefusedMethod         Refusal = "method"
	RefusedStatus         Refusal = "status"
	RefusedPartial        Refusal = "partial"
	RefusedNotUnderstood  Refusal = "must-understand"
	RefusedNoStore        Refusal = "no-store"
	RefusedRequestNoStore Refusal = "request no-store"
	RefusedPrivate        Refusal = "private"
	RefusedAuthorization  Refusal = "authorization"
	RefusedVary           Refusal = "vary *"
	RefusedNoFreshness    Refusal = "no freshness"
)

// MayStore says whether a shared cache may store a response (RFC 9111, section 3).
// A response that could never be used without asking again is stored only where it
// has a validator to ask with.
func MayStore(r *http.Request, request Request, s *Stored) Refusal {
	d := &s.Directives
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead && !(r.Method == http.MethodPost && postStorable(r, s)):
		return RefusedMethod
	case s.Status < 200 || s.Status > 599:
		return RefusedStatus
	case s.Status == http.StatusNotModified:
		return RefusedStatus // it updates another, see [Update]
	case s.Status == http.StatusPartialContent && !wholePart(s.Header):
		return RefusedPartial
	case d.MustUnderstand && !understood(s.Status):
		return RefusedNotUnderstood
	case d.NoStore && !d.MustUnderstand: // section 5.2.2.3
		return RefusedNoStore
	case request.NoStore:
		return RefusedRequestNoStore
	case d.Private:
		return RefusedPrivate
	case len(r.Header["Authorization"]) > 0 && !d.forAuthorized():
		return RefusedAuthorization
	case VariesOnAll(s.Header):
		return RefusedVary
	}
	if _, explicit := s.Lifetime(0); explicit || d.Public || Heuristic(s.Status) {
		return Storable
	}
	return RefusedNoFreshness
}

// forAuthorized reports whether what was asked for with Authorization may be used
// for others (RFC 9111, section 3.5).
func (d *Response) forAuthorized() bool {
	return d.Public || d.MustRevalidate || d.SMaxAge.Given
}

// postStorable reports whether a POST's answer is one for a later GET: it says how
// long it is fresh, and that it is a representation of the target itself (RFC
// 9110, section 9.3.3).
func postStorable(r *http.Request, s *Stored) bool {
	lines := s.Header["Content-Location"]
	if len(lines) != 1 {
		return false
	}
	if _, explicit := s.Lifetime(0); !explicit {
		return false
	}
	at, ok := sameOrigin(r, lines[0])
	return ok && at == r.URL.RequestURI()
}

// wholePart reports whether a 206 says of which part of what it is one, in the
// form that can be used: one range, and no multipart.
func wholePart(h http.Header) bool {
	_, ok := ParseContentRange(h["Content-Range"])
	return ok
}

// understood reports whether the cache knows what a status asks of it: all final
// ones of RFC 9110, section 15.
func understood(status int) bool { return status < 600 && http.StatusText(status) != "" }

// hopByHop fields are never stored (RFC 9111, section 3.1; RFC 9110, section 7.6.1).
var hopByHop = [...]string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// Storables gives a response's header as it may be stored: without the fields of
// one hop, those that Connection names, and those that a qualified no-cache or
// private keeps from others (RFC 9111, sections 3.1, 5.2.2.4 and 5.2.2.7). What
// decides who may see a response cannot be named away: a client could otherwise
// have it removed by a proxy that repeats its Connection.
func Storables(h http.Header, d *Response) http.Header {
	kept := make(http.Header, len(h))
	for field, lines := range h {
		kept[field] = lines
	}
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			switch name = http.CanonicalHeaderKey(trim(name)); name {
			case "Cache-Control", "Set-Cookie", "Vary", "Expires", "Date", "Age", "Content-Length", "Content-Type", "Content-Encoding", "Content-Range":
			default:
				delete(kept, name)
			}
		}
	}
	for _, field := range hopByHop {
		delete(kept, field)
	}
	for _, names := range [...][]string{d.NoCacheFields, d.PrivateFields} {
		for _, field := range names {
			delete(kept, field)
		}
	}
	return kept
}

// sameOrigin resolves a reference against a request's target, and gives its path
// and query if it leads to the same origin (RFC 9110, section 4.3.2).
func sameOrigin(r *http.Request, reference string) (target string, ok bool) {
	base := &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	if r.TLS != nil {
		base.Scheme = "https"
	}
	u, err := url.Parse(reference)
	if err != nil {
		return "", false
	}
	u = base.ResolveReference(u)
	if u.Scheme != base.Scheme || !strings.EqualFold(authority(u), authority(base)) {
		return "", false
	}
	return u.RequestURI(), true
}

// authority is host and port, the scheme's own left out.
func authority(u *url.URL) string {
	switch {
	case u.Scheme == "http" && u.Port() == "80", u.Scheme == "https" && u.Port() == "443":
		return u.Hostname()
	}
	return u.Host
}
