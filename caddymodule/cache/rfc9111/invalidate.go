package rfc9111

import "net/http"

// Invalidates reports whether an answer makes stored responses of its target invalid
// (RFC 9111, section 4.4): it is no error, and the method is not known to be safe.
func Invalidates(method string, status int) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return status >= 200 && status < 400
}

// AlsoInvalid gives the paths and queries of other targets that the same answer makes
// invalid: Location and Content-Location of the same origin (RFC 9111, section 4.4).
// One of another origin is left alone: anybody could empty anybody's cache.
func AlsoInvalid(r *http.Request, answer http.Header) (targets []string) {
	for _, field := range [...]string{"Location", "Content-Location"} {
		if lines := answer[field]; len(lines) == 1 {
			if target, ok := sameOrigin(r, lines[0]); ok && target != r.URL.RequestURI() {
				targets = append(targets, target)
			}
		}
	}
	return targets
}
