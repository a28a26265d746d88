package handoff

import (
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Errors of [CheckPath], one for each way in which two programs could read the
// same path differently.
var (
	ErrPathForm        = errors.New("the request target is not a path: it must begin with '/'")
	ErrPathDoubleSlash = errors.New("the path holds an empty segment ('//')")
	ErrPathDotSegment  = errors.New("the path holds a dot segment ('.' or '..')")
	ErrPathBackslash   = errors.New("the path holds a backslash")
	ErrPathEncoded     = errors.New("the path holds an encoded slash, backslash, dot or control character, or is encoded twice")
	ErrPathParameter   = errors.New("the path holds a path parameter (';')")
	ErrPathFragment    = errors.New("the request target holds a fragment ('#')")
	ErrPathByte        = errors.New("the request target holds a control character, a space or a byte that is not UTF-8")
)

// CheckPath refuses a path that two programs could read differently. It is
// the one rule for both sides: the edge applies it before it matches a route,
// the region before it looks for a handler. target is the path as it was sent,
// not decoded, with or without a query.
//
// Refused are, anywhere in the path:
//
//   - an empty segment: "//" (some servers merge slashes, some do not);
//   - a segment "." or ".." (RFC 3986, section 5.2.4);
//   - a backslash (WHATWG URL reads it as a slash);
//   - an encoded slash, backslash, dot or control character: %2f %5c %2e
//     %00–%1f %7f, in any case of the digits;
//   - a '%' that begins no escape, and one that still does after the path was
//     decoded (%252f, %25%32%66): a program that decodes twice would see one of
//     the others;
//   - ';', plain or encoded: some servers cut a segment there;
//   - what is not UTF-8 once decoded (an overlong %c0%af is a slash to some).
//
// And anywhere in the target, the query too: a raw '#' (some servers cut there,
// some do not), a raw control character, space or DEL, or bytes that are not
// UTF-8. The query is otherwise not looked at.
//
// Everything else is left to the router, with the bytes as they came. An
// encoded '?' or '#' (%3f, %23) is data: whoever reads the path splits the
// target first and decodes then.
func CheckPath(target string) error {
	path, query, _ := strings.Cut(target, "?")
	if path == "" || path[0] != '/' {
		return ErrPathForm
	}
	if err := checkBytes(query); err != nil {
		return err
	}
	if plainPath(path) {
		return nil
	}
	return checkOddPath(path)
}

// plainPath is the fast answer for paths of letters, digits and single slashes.
func plainPath(path string) bool {
	last := byte(0)
	for i := range len(path) {
		c := path[i]
		if c == '/' && last == '/' {
			return false
		}
		if !(c == '/' || c == '-' || c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') {
			return false
		}
		last = c
	}
	return true
}

func checkOddPath(path string) error {
	if err := checkBytes(path); err != nil {
		return err
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\':
			return ErrPathBackslash
		case c == ';':
			return ErrPathParameter
		case c == '/' && i > 0 && path[i-1] == '/':
			return ErrPathDoubleSlash
		case c == '%':
			if err := checkEscape(path[i+1:]); err != nil {
				return err
			}
		}
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "." || segment == ".." {
			return ErrPathDotSegment
		}
	}
	return checkDecoded(path)
}

// checkBytes refuses what no target may hold as it is.
func checkBytes(s string) error {
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c == 0x7f:
			return ErrPathByte
		case c == '#':
			return ErrPathFragment
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && !utf8.ValidString(s) {
		return ErrPathByte
	}
	return nil
}

// checkEscape judges the two digits after a '%'.
func checkEscape(digits string) error {
	c, ok := unhexPair(digits)
	switch {
	case ok && c == ';':
		return ErrPathParameter
	case !ok, c == '/', c == '\\', c == '.', c < ' ', c == 0x7f:
		return ErrPathEncoded
	}
	return nil
}

// checkDecoded looks at the path as a program sees it that decodes it, and
// refuses what a second decoding would change.
func checkDecoded(path string) error {
	if strings.IndexByte(path, '%') < 0 {
		return nil
	}
	decoded, err := url.PathUnescape(path)
	if err != nil || !utf8.ValidString(decoded) {
		return ErrPathByte
	}
	for i := strings.IndexByte(decoded, '%'); i >= 0 && i < len(decoded); i++ {
		if _, escape := unhexPair(decoded[i+1:]); escape && decoded[i] == '%' {
			return ErrPathEncoded
		}
	}
	return nil
}

func unhexPair(s string) (byte, bool) {
	if len(s) < 2 {
		return 0, false
	}
	high, ok1 := unhex(s[0])
	low, ok2 := unhex(s[1])
	return high<<4 | low, ok1 && ok2
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
