package idempotency

import (
	"errors"
	"strings"
)

// MaxKey is the length of the longest key, in bytes.
const MaxKey = 255

var errKey = errors.New(`must be 1 to 255 printable ASCII characters, best in quotes: "…" (RFC 9651, section 3.3.3)`)

// readKey reads the header's one value: a structured field's string (RFC 9651,
// section 3.3.3) or, as most clients send it, the bare characters. `k` and `"k"`
// are one key. No header gives the empty key.
//
// A bare key holds no comma: that is how two headers look once something on the
// way has made them one.
func readKey(values []string) (string, error) {
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", errors.New("must stand once")
	}
	raw := strings.Trim(values[0], " \t")
	quoted := strings.HasPrefix(raw, `"`)
	key := raw
	if quoted {
		var ok bool
		if key, ok = unquote(raw); !ok {
			return "", errKey
		}
	}
	if key == "" || len(key) > MaxKey || !quoted && strings.Contains(key, ",") {
		return "", errKey
	}
	for _, c := range []byte(key) {
		if c < 0x20 || c > 0x7e {
			return "", errKey
		}
	}
	return key, nil
}

// unquote reads a string in quotes with nothing after it. Parameters, which the
// draft gives no meaning, are refused.
func unquote(s string) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), i == len(s)-1
		case '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", false
}
