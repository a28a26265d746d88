// Package spelling tells whether a path is one of the spellings of a page. It knows no
// HTTP server, and no framework but by what they serve where.
//
// A framework serves one page at more paths than one: Next.js answers /app also at
// /app.rsc, /app.segments/_tree.segment.rsc and /_next/data/BUILD/app.json, and many
// servers add or drop a trailing slash, look at no case, or know a page by its file
// name. A gate that knows /app and /app/* alone stands open there
// (CVE-2026-44575, for one).
package spelling

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Gate holds paths to prefixes. It errs on the side of the gate: whatever might be a
// spelling of a page below a prefix is one.
type Gate struct {
	// Prefixes are paths such as "/app". Each begins with a slash.
	Prefixes []string
	// Locales are what may stand before a prefix, as "en" in "/en/app".
	Locales []string
	// CaseSensitive tells /App from /app. Default: they are the same.
	CaseSensitive bool
}

// Holds reports whether the URL, whose path was decoded once and has let
// handoff.CheckPath through, is a spelling of a prefix, or of a page below it.
//
// Those are: the prefix itself and what follows it after any character that goes on
// no name, which is none of letters, digits, '-' and '_': a slash, a dot, a space and
// all the rest; either of them after a locale; the path of a data request,
// /_next/data/BUILD/PATH; and the picture that /_next/image is to fetch for the
// client.
func (g *Gate) Holds(u *url.URL) bool {
	path := plain(u.Path)
	return g.holds(path) || strings.IndexByte(path, '_') >= 0 && g.holdsInside(path, u.RawQuery)
}

// plain folds what is written in another width or form, as in ／ａｐｐ.
func plain(path string) string {
	if ascii(path) {
		return path
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) { // invisible, to a server that drops them
			return -1
		}
		return r
	}, norm.NFKC.String(path))
}

// holds looks at a path as it stands.
func (g *Gate) holds(path string) bool {
	path = trimSlashes(path)
	for _, p := range g.Prefixes {
		if g.under(path, p) {
			return true
		}
	}
	for _, l := range g.Locales {
		if rest, ok := g.cut(path, "/"+l); ok && strings.HasPrefix(rest, "/") {
			for _, p := range g.Prefixes {
				if g.under(rest, p) {
					return true
				}
			}
		}
	}
	return false
}

// trimSlashes leaves one slash of several at the beginning: NFKC may have made some.
func trimSlashes(path string) string {
	for strings.HasPrefix(path, "//") {
		path = path[1:]
	}
	return path
}

func (g *Gate) under(path, prefix string) bool {
	if prefix == "/" {
		return true
	}
	rest, ok := g.cut(path, strings.TrimSuffix(prefix, "/"))
	return ok && (rest == "" || !goesOn(rest))
}

// cut takes a prefix off a path.
func (g *Gate) cut(path, prefix string) (rest string, found bool) {
	if g.CaseSensitive {
		return strings.CutPrefix(path, prefix)
	}
	if len(path) > 1 && len(prefix) > 1 && path[1]|prefix[1] < utf8.RuneSelf && path[1]|0x20 != prefix[1]|0x20 {
		return "", false // most paths: both begin with a slash, and go on with another letter
	}
	if len(path) >= len(prefix) && strings.EqualFold(path[:len(prefix)], prefix) {
		return path[len(prefix):], true
	}
	if ascii(path) && ascii(prefix) {
		return "", false
	}
	return cutFolded(path, prefix)
}

// cutFolded is cut where two spellings of a letter may differ in length.
func cutFolded(path, prefix string) (string, bool) {
	for prefix != "" {
		if path == "" {
			return "", false
		}
		_, n := utf8.DecodeRuneInString(path)
		_, m := utf8.DecodeRuneInString(prefix)
		if !strings.EqualFold(path[:n], prefix[:m]) {
			return "", false
		}
		path, prefix = path[n:], prefix[m:]
	}
	return path, true
}

// goesOn reports whether rest makes another name of what stands before it.
func goesOn(rest string) bool {
	c := rest[0]
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// What Next.js puts around another path.
const (
	dataPath  = "/_next/data/"
	imagePath = "/_next/image"
)

// holdsInside looks at the paths that a path of Next.js's own stands for, after
// whatever base path.
func (g *Gate) holdsInside(path, query string) bool {
	if at := indexFold(path, dataPath); at >= 0 {
		if _, rest, found := strings.Cut(path[at+len(dataPath):], "/"); found && (g.holds("/"+rest) || g.holds(path[:at]+"/"+rest)) {
			return true
		}
	}
	if at := indexFold(path, imagePath); at >= 0 {
		return g.holdsPicture(path[:at], query)
	}
	return false
}

// holdsPicture looks at every url parameter: which one counts is the server's to say.
func (g *Gate) holdsPicture(base, query string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err != nil || !strings.HasPrefix(strings.ToLower(name), "url") {
			continue
		}
		value, err := url.QueryUnescape(value)
		if err != nil {
			return true
		}
		inner, err := url.Parse(value)
		if err != nil || strings.HasPrefix(value, "//") || strings.Contains(inner.Path, "..") || strings.Contains(inner.Path, "/./") || strings.Contains(inner.Path, "//") ||
			strings.Contains(inner.Path, `\`) {
			return true // it is the server's to find out what it is
		}
		if p := plain(inner.Path); g.holds(p) || g.holds(base+p) {
			return true
		}
	}
	return false
}

func indexFold(s, what string) int {
	for i := 0; i+len(what) <= len(s); i++ {
		if s[i] == '/' && strings.EqualFold(s[i:i+len(what)], what) {
			return i
		}
	}
	return -1
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
