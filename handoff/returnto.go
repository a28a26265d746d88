package handoff

// maxReturnTo bounds what a login page has to carry.
const maxReturnTo = 2048

// ReturnTo reads where a user wanted to go before the login, and answers
// fallback for anything but a plain path of this site: no scheme, no host, no
// "//" or "/\" that a browser reads as one (WHATWG URL, section 4.4), no
// fragment, no character that is not ASCII, and no path that [CheckPath]
// refuses. Both sides use it: the edge when it sends a browser to the login,
// the region when it sends it back.
func ReturnTo(target, fallback string) string {
	if len(target) > maxReturnTo || CheckPath(target) != nil {
		return fallback
	}
	for i := range len(target) {
		// CheckPath has looked for controls, which a browser drops before it
		// parses an address (WHATWG URL, section 4.4), and for a fragment.
		if c := target[i]; c >= 0x7f || c == '\\' {
			return fallback
		}
	}
	return target
}
