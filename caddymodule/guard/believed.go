package guard

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// believed are header names that frameworks and servers believe, and that no client
// has a reason to send: in lower case, in the form of [spelt]. A name that ends in a
// dash stands for all that begin with it.
//
// The first list is dropped whoever sends it: these are said by one part of a
// framework to another. CVE-2025-29927 skipped all middleware with the first of them,
// CVE-2024-46982 and CVE-2026-44572, -44579 and -44581 are of others.
var believed = [...]string{
	"x-middleware-", "x-now-route-matches", "x-matched-path", "x-invoke-", nextData, "next-resume", "x-next-resume-state-length",
	"content-security-policy", "content-security-policy-report-only", // as a request's: Next.js takes a nonce from it
	"x-original-url", "x-rewrite-url", "x-original-uri", // IIS, Symfony, Zend: another path than was gated
	"x-http-method-override", "x-http-method", "x-method-override", // Rails, Express, Symfony: another method than was checked
	"proxy",                                                              // becomes HTTP_PROXY (httpoxy, CVE-2016-5385)
	"x-remote-user", "remote-user", "x-forwarded-user", "x-webauth-user", // who is signed in, to what stands behind an authenticating proxy
	"x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username", "x-forwarded-access-token", "x-auth-request-",
}

// hop are names by which a proxy says whom it speaks for. From a trusted one they
// are kept; X-Forwarded-For, -Proto and -Host are Caddy's own to mend.
var hop = [...]string{
	"forwarded", "x-forwarded-", "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "x-cluster-client-ip", "cf-connecting-ip",
	"x-original-host", "x-host", "x-http-host-override", "x-original-forwarded-for", "front-end-https", "x-url-scheme", "x-scheme",
}

// isBelieved reports whether a client must not send the header. kept are names that
// the configuration lets through, in the form of [spelt].
func isBelieved(name string, trusted bool, kept []string) bool {
	switch name[0] | 0x20 {
	case 'x', 'c', 'f', 'n', 'p', 'r', 't':
	default:
		return false
	}
	if !among(believed[:], name) && (trusted || !among(hop[:], name)) {
		return false
	}
	return !among(kept, name)
}

func among(names []string, name string) bool {
	for _, n := range names {
		if n[0] == name[0]|0x20 && spelt(name, n) {
			return true
		}
	}
	return false
}

// spelt reports whether name is a spelling of want: without case, and with any
// character but letters and digits for a dash, as servers fold names that make
// variables of them (CGI, RFC 3875, section 4.1.18).
func spelt(name, want string) bool {
	if len(name) < len(want) || len(name) > len(want) && want[len(want)-1] != '-' {
		return false
	}
	for i := range len(want) {
		if handoff.FoldName(name[i]) != want[i] {
			return false
		}
	}
	return true
}

// nextData is what Next.js's own client sends with a data request, and what turns
// another request's redirect into an answer without Location (CVE-2026-44572).
const nextData = "x-nextjs-data"

// drops reports whether the header is taken away, for it is believed.
func (g *Guard) drops(name string, r *http.Request, trusted bool) bool {
	return name != "" && isBelieved(name, trusted, g.keep) &&
		!(spelt(name, nextData) && strings.Contains(r.URL.Path, "/_next/data/"))
}

// keepNames folds the names of keep_header.
func keepNames(names []string) []string {
	kept := make([]string, 0, len(names))
	for _, n := range names {
		b := []byte(n)
		for i := range b {
			b[i] = handoff.FoldName(b[i])
		}
		kept = append(kept, string(b))
	}
	return slices.Compact(kept)
}

// isToken reports whether s may name a header field or a method (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
