package handoff

import "net/url"

// maxReturnTo bounds what a login page has to carry.
const maxReturnTo = 2048

// ReturnTo reads where a user wanted to go before the login, and answers
// fallback for anything but a plain path of this site: no scheme, no host, no
// "//" or "/\" that a browser reads as one (WHATWG URL, section 4.4), no
// fragment, and no path that [CheckPath] refuses. Both sides use it: the edge
// when it sends a browser to the login, the region when it sends it back.
func ReturnTo(target, fallback string) string {
	if len(target) > maxReturnTo || CheckPath(target) != nil {
		return fallback
	}
	for i := range len(target) {
		// A browser drops tabs and newlines before it parses an address.
		if c := target[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '#' {
			return fallback
		}
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return fallback
	}
	return target
}
