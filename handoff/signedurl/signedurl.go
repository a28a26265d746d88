// Package signedurl makes and checks signed links: addresses that open
// something for whoever holds them, until they expire. A region makes a link, a
// POP checks it, and neither asks the other.
//
// A link is an ordinary path and query with parameters added whose names begin
// with "edge-":
//
//	edge-v       the version of this format: 1
//	edge-kid     the id of the key that signed
//	edge-exp     when the link ends, in Unix seconds
//	edge-nbf     when it begins to hold; absent: at once
//	edge-prefix  it holds for every path that begins with this; absent: for this path
//	edge-method  the one method that it is for; absent: GET, and so HEAD
//	edge-host    the host that it is for; absent: any
//	edge-tenant  the tenant whose session must be there too; absent: none need be
//	edge-net     the network that the client must be in; absent: any
//	edge-free    names of parameters, with commas between them, that are not signed
//	edge-sig     the signature: base64url, without padding
//
// The signature is HMAC-SHA256 over these lines, each of which ends in a newline
// and is empty where the parameter is absent:
//
//	gatehouse-link-1
//	edge-kid
//	edge-method, GET where it is absent
//	edge-host
//	"path" or "prefix"
//	the path, or the prefix, in its one form
//	the rest of the query: its pairs as they were sent and in their order, without
//	  those named "edge-…" or in edge-free, joined with "&"
//	edge-free
//	edge-exp
//	edge-nbf
//	edge-tenant
//	edge-net
//
// The one form of a path: percent-decoded, then every byte but letters, digits and
// "-._~/" percent-encoded, with digits in upper case. Paths that handoff.CheckPath refuses
// have none. No name of a parameter may stand twice in a link, whatever its
// spelling, and a query with ";" is refused, since some servers take that for
// "&".
//
// The package uses the standard library alone, and testdata/vectors.json holds
// links for whoever writes it again in another language.
package signedurl

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Version is the one version of the format there is.
const Version = "1"

// Bounds of a link.
const (
	// MaxTarget bounds the path and query of a link.
	MaxTarget = 8192
	// maxPairs bounds the parameters of a link.
	maxPairs = 64
	// maxValue bounds the value of a parameter of ours.
	maxValue = 2048
)

// header is the first line of what is signed: no other use of the key begins so.
const header = "gatehouse-link-1"

// reserved begins the name of every parameter of ours.
const reserved = "edge-"

// Names of the parameters.
const (
	paramVersion   = "edge-v"
	paramKey       = "edge-kid"
	paramExpires   = "edge-exp"
	paramNotBefore = "edge-nbf"
	paramPrefix    = "edge-prefix"
	paramMethod    = "edge-method"
	paramHost      = "edge-host"
	paramTenant    = "edge-tenant"
	paramNetwork   = "edge-net"
	paramFree      = "edge-free"
	paramSignature = "edge-sig"
)

// Reasons why a link does not hold. Except for [ErrExpired], a client learns
// none of them: they are for the log of whoever checks.
var (
	ErrMissing   = errors.New("the link is not signed")
	ErrMalformed = errors.New("the link is malformed")
	ErrDuplicate = errors.New("a parameter of the link stands twice")
	ErrVersion   = errors.New("the link has an unknown version")
	ErrKey       = errors.New("the link is signed with an unknown key")
	ErrSignature = errors.New("the link's signature is wrong")
	ErrExpired   = errors.New("the link has expired")
	ErrNotYet    = errors.New("the link does not hold yet")
	ErrMethod    = errors.New("the link is for another method")
	ErrHost      = errors.New("the link is for another host")
	ErrPath      = errors.New("the link is for other paths")
	ErrTenant    = errors.New("the link is for another tenant")
	ErrNetwork   = errors.New("the link is for another network")
)

// Link is what a signature says.
type Link struct {
	// Target is the path and query that the link opens, escaped as it is sent.
	// Required.
	Target string
	// Prefix, where it is set, makes the same parameters hold for every path that
	// begins with it: a directory, which ends in "/". Target is one of them.
	Prefix string
	// Free names parameters that the client may add or change, a player's
	// position for example. They are not signed.
	Free []string
	// Method is the one method that the link is for. Empty: GET, and so HEAD.
	Method string
	// Host is the host that the link is for, without a port. Empty: any.
	Host string
	// Tenant is the tenant whose session must come with the link. Empty: no
	// session is asked for.
	Tenant string
	// Network is where the client must be. The zero value: anywhere. Phones
	// change their network: prefer a short life.
	Network netip.Prefix
	// Expires is when the link ends, in whole seconds. Required.
	Expires time.Time
	// NotBefore is when the link begins to hold, in whole seconds. The zero
	// value: at once.
	NotBefore time.Time
}

// ExpiresIn gives an end at least life from now, rounded up to whole steps of
// the clock: links that are made within one step are the same link, which a
// browser has in its cache. A step under a second is one of a second.
func ExpiresIn(now time.Time, life, step time.Duration) time.Time {
	step = max(step.Truncate(time.Second), time.Second)
	end := now.Add(life)
	rounded := end.Truncate(step)
	if rounded.Before(end) {
		rounded = rounded.Add(step)
	}
	return rounded
}

// message is what is signed.
func (f *fields) message(kind, path, query string) []byte {
	method := f.method
	if method == "" {
		method = "GET"
	}
	parts := [...]string{header, f.key, method, f.host, kind, path, query, f.free, f.expires, f.notBefore, f.tenant, f.network}
	size := len(parts)
	for _, p := range parts {
		size += len(p)
	}
	message := make([]byte, 0, size)
	for _, p := range parts {
		message = append(append(message, p...), '\n')
	}
	return message
}

// canonicalPath gives a path, which CheckPath has let through, its one form.
func canonicalPath(path string) string {
	plain := true
	for i := range len(path) {
		if !isUnreserved(path[i]) {
			plain = false
			break
		}
	}
	if plain {
		return path
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(path) + 16)
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) { // CheckPath has found the escapes whole
			c = unhex(path[i+1])<<4 | unhex(path[i+2])
			i += 2
		}
		if isUnreserved(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&0xf])
	}
	return b.String()
}

// isUnreserved reports whether c stands for itself in a canonical path (RFC 3986,
// section 2.3, and the slash).
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~' || c == '/'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// validPrefix reports whether p is a directory that a path can be below.
func validPrefix(p string) bool {
	return strings.HasSuffix(p, "/") && !strings.Contains(p, "?") && handoff.CheckPath(p) == nil && canonicalPath(p) == p
}

// validMethod refuses GET, which is written by leaving the parameter away, and
// HEAD, which GET allows.
func validMethod(m string) bool {
	if m == "GET" || m == "HEAD" || m == "CONNECT" || m == "TRACE" || len(m) > 20 || m == "" {
		return false
	}
	for i := range len(m) {
		if m[i] < 'A' || m[i] > 'Z' {
			return false
		}
	}
	return true
}

// validHost reports whether h is a name in lower case, or an IPv4 address.
func validHost(h string) bool {
	if h == "" || len(h) > 253 {
		return false
	}
	for i := range len(h) {
		if c := h[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// validName reports whether n may name a parameter in edge-free.
func validName(n string) bool {
	if n == "" || len(n) > 64 || isReserved(n) {
		return false
	}
	for i := range len(n) {
		if c := n[i]; !isUnreserved(c) || c == '/' {
			return false
		}
	}
	return true
}

// isReserved reports whether a name begins as ours do, in any case: a program
// that ignores case must not see a second parameter of ours.
func isReserved(name string) bool {
	return len(name) >= len(reserved) && strings.EqualFold(name[:len(reserved)], reserved)
}

// parseNetwork reads a network in its one form.
func parseNetwork(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() || p.Addr().Is4In6() || p.String() != text {
		return netip.Prefix{}, false
	}
	return p, true
}

// parseTime reads Unix seconds in their one form.
func parseTime(text string) (time.Time, bool) {
	if len(text) == 0 || len(text) > 11 || text[0] == '0' {
		return time.Time{}, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return time.Time{}, false
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(n, 0), err == nil
}
