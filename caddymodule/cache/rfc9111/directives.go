package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// maxSeconds is what a number of seconds stands for that is greater: 2^31 (RFC
// 9111, section 1.2.2), some 68 years.
const maxSeconds = 1 << 31

// Seconds is a directive's argument in seconds.
type Seconds struct {
	Value time.Duration
	// Given is set when the directive stands there at all.
	Given bool
	// Valid is cleared when its argument is no number. What says how long a
	// response is fresh is then stale at once (RFC 9111, section 4.2.1).
	Valid bool
}

// Or gives the value, or d when there is no valid one.
func (s Seconds) Or(d time.Duration) time.Duration {
	if s.Given && s.Valid {
		return s.Value
	}
	return d
}

// Response are the directives of a response (RFC 9111, section 5.2.2; RFC 5861).
type Response struct {
	MaxAge, SMaxAge                    Seconds
	StaleWhileRevalidate, StaleIfError Seconds
	NoStore, NoCache, Private, Public  bool
	MustRevalidate, ProxyRevalidate    bool
	MustUnderstand, NoTransform        bool
	Immutable                          bool // RFC 8246
	NoCacheFields, PrivateFields       []string
	// Targeted is set when a targeted field said it, and Cache-Control and Expires
	// are to be ignored (RFC 9213, section 2.2).
	Targeted bool
}

// Request are the directives of a request (RFC 9111, section 5.2.1).
type Request struct {
	MaxAge, MinFresh, MaxStale Seconds
	AnyStale                   bool // max-stale without an argument
	NoCache, NoStore           bool
	OnlyIfCached, NoTransform  bool
	StaleIfError               Seconds // RFC 5861, section 4
}

// ParseResponse reads Cache-Control from a response's header. Where a directive
// stands twice, the first counts (RFC 9111, section 4.2.1).
func ParseResponse(h http.Header) Response {
	var d Response
	eachDirective(h["Cache-Control"], func(name, value string, has bool) {
		switch name {
		case "max-age":
			d.MaxAge.read(value, has)
		case "s-maxage":
			d.SMaxAge.read(value, has)
		case "stale-while-revalidate":
			d.StaleWhileRevalidate.read(value, has)
		case "stale-if-error":
			d.StaleIfError.read(value, has)
		case "no-store":
			d.NoStore = true
		case "no-cache":
			if fields := fieldNames(value); has && len(fields) > 0 {
				d.NoCacheFields = append(d.NoCacheFields, fields...)
			} else {
				d.NoCache = true
			}
		case "private":
			if fields := fieldNames(value); has && len(fields) > 0 {
				d.PrivateFields = append(d.PrivateFields, fields...)
			} else {
				d.Private = true
			}
		case "public":
			d.Public = true
		case "must-revalidate":
			d.MustRevalidate = true
		case "proxy-revalidate":
			d.ProxyRevalidate = true
		case "must-understand":
			d.MustUnderstand = true
		case "no-transform":
			d.NoTransform = true
		case "immutable":
			d.Immutable = true
		}
	})
	return d
}

// ParseRequest reads Cache-Control from a request's header and, only where there
// is none, Pragma: no-cache (RFC 9111, section 5.4).
func ParseRequest(h http.Header) Request {
	var d Request
	lines, ok := h["Cache-Control"]
	if !ok {
		eachDirective(h["Pragma"], func(name, _ string, _ bool) { d.NoCache = d.NoCache || name == "no-cache" })
		return d
	}
	eachDirective(lines, func(name, value string, has bool) {
		switch name {
		case "max-age":
			d.MaxAge.read(value, has)
		case "min-fresh":
			d.MinFresh.read(value, has)
		case "max-stale":
			if !has {
				d.AnyStale = true
			} else {
				d.MaxStale.read(value, has)
			}
		case "stale-if-error":
			d.StaleIfError.read(value, has)
		case "no-cache":
			d.NoCache = true
		case "no-store":
			d.NoStore = true
		case "only-if-cached":
			d.OnlyIfCached = true
		case "no-transform":
			d.NoTransform = true
		}
	})
	return d
}

// read takes an argument, if the directive was not there before.
func (s *Seconds) read(value string, has bool) {
	if s.Given {
		return
	}
	s.Given = true
	if has {
		s.Value, s.Valid = parseSeconds(value)
	}
}

// parseSeconds reads delta-seconds (RFC 9111, section 1.2.2): digits alone.
func parseSeconds(text string) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	n := int64(0)
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n > maxSeconds {
			n = maxSeconds // and whatever digits follow
		}
	}
	return time.Duration(n) * time.Second, true
}

// eachDirective calls f for each directive of a Cache-Control, its name in lower
// case and its argument unquoted. Lines are one list (RFC 9110, section 5.3). White
// space is nowhere around "=", and makes an argument no number.
func eachDirective(lines []string, f func(name, value string, has bool)) {
	for _, line := range lines {
		for line != "" {
			var member string
			member, line = cutMember(line)
			name, value, has := strings.Cut(member, "=")
			if name = strings.ToLower(name); name == "" {
				continue
			}
			if text, ok := unquote(value); ok {
				value = text
			}
			// "max-age =1" names no directive that we know, and "max-age= 1" is no number:
			// the first must not read as "no limit given", so that it counts as the second.
			if bare := strings.TrimRight(name, " \t"); has && bare != name {
				f(bare, " ", true)
				continue
			}
			f(name, value, has)
		}
	}
}

// cutMember takes the first member off a list (RFC 9110, section 5.6.1), without
// the white space around it. A comma in a quoted string ends none.
func cutMember(list string) (member, rest string) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), ""
}

// unquote reads a quoted string (RFC 9110, section 5.6.4), whole.
func unquote(text string) (string, bool) {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return "", false
	}
	inner := text[1 : len(text)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner, strings.IndexByte(inner, '"') < 0
	}
	b := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '\\':
			if i++; i == len(inner) {
				return "", false
			}
		case '"':
			return "", false
		}
		b = append(b, inner[i])
	}
	return string(b), true
}

// fieldNames reads the argument of a qualified no-cache or private.
func fieldNames(list string) (names []string) {
	for list != "" {
		var name string
		if name, list = cutMember(list); name != "" {
			names = append(names, http.CanonicalHeaderKey(name))
		}
	}
	return names
}

// trim takes optional white space away (RFC 9110, section 5.6.3).
func trim(s string) string { return strings.Trim(s, " \t") }
