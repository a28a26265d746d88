package handoff

import "net/http"

// Names of the headers that cross the boundary. They are in Go's canonical
// form; on the wire their case does not matter (RFC 9110, section 5.1).
const (
	// HeaderRequestID names one request on both sides. See [ValidRequestID].
	HeaderRequestID = "X-Request-Id"
	// HeaderTenant is the tenant the edge verified. It must equal the
	// assertion's tenant_id, and is absent without one.
	HeaderTenant = "X-Tenant-Id"
	// HeaderHomeRegion is, on a request, the region that the edge chose and, on
	// a 421 answer, the region that the edge should have chosen.
	HeaderHomeRegion = "X-Home-Region"
	// HeaderHomeEpoch is, on a 421 answer, the epoch of the tenant's home that
	// HeaderHomeRegion names: a whole number that grows with every move. It may be
	// absent.
	HeaderHomeEpoch = "X-Edge-Home-Epoch"
	// HeaderAssertion carries the signed assertion. See [Claims].
	HeaderAssertion = "X-Edge-Assertion"
	// HeaderWrote is, on a region's answer, its word that it wrote, with the position
	// of the write in its log ([ValidPosition]), and on a request to a region such a
	// position that the client is to see. Between the edge and a client with a bearer
	// token it holds the recent-write marker, which is sealed.
	HeaderWrote = "X-Edge-Wrote"
	// HeaderServedBy names the region that answered in place of the home region.
	HeaderServedBy = "X-Edge-Served-By"
	// HeaderTraceparent, HeaderTracestate and HeaderBaggage carry the trace
	// (W3C Trace Context, W3C Baggage).
	HeaderTraceparent = "Traceparent"
	HeaderTracestate  = "Tracestate"
	HeaderBaggage     = "Baggage"
	// HeaderIdempotencyKey is draft-ietf-httpapi-idempotency-key-header.
	HeaderIdempotencyKey = "Idempotency-Key"
)

// JWKSPath is where a POP publishes the keys of its assertions.
const JWKSPath = "/.well-known/edge-jwks.json"

// SessionJWKSPath is where a region publishes the keys of the sessions it
// signs: the only path that a region answers without an assertion.
const SessionJWKSPath = "/.well-known/jwks.json"

// ReadyPath is where a POP asks a region whether requests should be sent there. It
// is asked with an assertion, as everything else: any 2xx says yes, all else no.
const ReadyPath = "/.well-known/edge-ready"

// Draining begins the text of a region's 503 at [ReadyPath] that says: I still
// answer, and am about to stop.
const Draining = "draining"

// protected holds the names that only the edge may set, in lower case.
var protected = [...]string{"x-request-id", "x-tenant-id", "x-home-region", "traceparent", "tracestate", "baggage"}

// protectedPrefix is reserved whole, so that a header which a later version
// introduces is already out of a client's reach.
const protectedPrefix = "x-edge-"

// Protected reports whether only the edge may set the header name, in any
// spelling. X_Tenant_Id, X.Tenant.Id and X~Tenant~Id are all the same name to
// servers that map header names to variables (CGI, RFC 3875, section 4.1.18):
// letters are compared without their case, and whatever is neither letter nor
// digit counts as '-'.
//
// It allocates nothing: the guard asks for every header of every request.
func Protected(name string) bool {
	if len(name) > len(protectedPrefix) && spells(name[:len(protectedPrefix)], protectedPrefix) {
		return true
	}
	for _, p := range protected {
		if spells(name, p) {
			return true
		}
	}
	return false
}

// spells reports whether name is a spelling of want.
func spells(name, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(name) {
		if FoldName(name[i]) != want[i] {
			return false
		}
	}
	return true
}

// FoldName folds a character of a header's name as servers do that make variables of
// names (CGI, RFC 3875, section 4.1.18): it lowers a letter, keeps a digit, and turns
// all else into '-'.
func FoldName(c byte) byte {
	switch {
	case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		return c
	case 'A' <= c && c <= 'Z':
		return c + ('a' - 'A')
	}
	return '-'
}

// Unsafe reports whether method may change something: any but the safe methods
// of RFC 9110, section 9.2.1.
func Unsafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return true
}

// ValidRequestID reports whether id may name a request: 8 to 128 letters,
// digits, dots, underscores and dashes. A region's log can hold it as it is.
func ValidRequestID(id string) bool {
	if len(id) < 8 || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if !isRequestIDByte(id[i]) {
			return false
		}
	}
	return true
}

func isRequestIDByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '.' || c == '_' || c == '-'
}

// ValidTenant reports whether id may name a tenant: 1 to 63 characters of
// a-z, 0-9 and '-'. It is safe in a header, a path segment and a cache key.
func ValidTenant(id string) bool {
	if len(id) < 1 || len(id) > 63 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// ValidPosition reports whether p may be a position in a region's log: 1 to 64
// letters, digits, slashes, dots, underscores and dashes. It is opaque to the edge.
func ValidPosition(p string) bool {
	if len(p) < 1 || len(p) > 64 {
		return false
	}
	for i := range len(p) {
		if p[i] != '/' && !isRequestIDByte(p[i]) {
			return false
		}
	}
	return true
}

// ValidRegion reports whether name may name a region or a POP. The rule is
// that of [ValidTenant].
func ValidRegion(name string) bool { return ValidTenant(name) }
