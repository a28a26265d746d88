package handoff

import (
	"errors"
	"net/url"
	"strings"
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
	ErrPathByte        = errors.New("the path holds a control character or a byte that is not UTF-8")
)

// CheckPath refuses a path that two programs could read differently. It is
// the one rule for both sides: the edge applies it before it matches a route,
// the region before it looks for a handler. target is the path as it was sent:
// not decoded, a query is allowed and not looked at.
//
// Refused are, anywhere in the path:
//
//   - an empty segment: "//" (some servers merge slashes, some do not);
//   - a segment "." or ".." (RFC 3986, section 5.2.4), also when it is encoded
//     or followed by a parameter;
//   - a backslash (WHATWG URL reads it as a slash);
//   - an encoded slash, backslash, dot or control character: %2f %5c %2e
//     %00–%1f %7f, in any case of the digits;
//   - an encoded percent sign before two hexadecimal digits (%252f): a program
//     that decodes twice would see one of the others;
//   - ';', plain or encoded: some servers cut a segment there;
//   - a raw control character, a space, DEL, or bytes that are not UTF-8 once
//     decoded.
//
// Everything else is left to the router, with the bytes as they came.
func CheckPath(target string) error {
	path, _, _ := strings.Cut(target, "?")
	if path == "" || path[0] != '/' {
		return ErrPathForm
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
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c <= ' ' || c == 0x7f:
			return ErrPathByte
		case c == '\\':
			return ErrPathBackslash
		case c == ';':
			return ErrPathParameter
		case c == '/' && i > 0 && path[i-1] == '/':
			return ErrPathDoubleSlash
		case c == '%':
			decoded, ok := unhexPair(path[i+1:])
			if !ok {
				return ErrPathEncoded
			}
			switch {
			case decoded == ';':
				return ErrPathParameter
			case decoded == '/' || decoded == '\\' || decoded == '.' || decoded < ' ' || decoded == 0x7f:
				return ErrPathEncoded
			case decoded == '%':
				if _, twice := unhexPair(path[i+3:]); twice {
					return ErrPathEncoded
				}
			}
		}
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "." || segment == ".." {
			return ErrPathDotSegment
		}
	}
	if decoded, err := url.PathUnescape(path); err != nil || strings.ToValidUTF8(decoded, "") != decoded {
		return ErrPathByte
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
