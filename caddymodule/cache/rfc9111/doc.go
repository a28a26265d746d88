// Package rfc9111 is what the RFCs say about caching, as functions without a
// cache, a clock or a connection: what may be stored, how long it is fresh, when it
// may be used, how it is validated, updated and invalidated. Each function cites
// the section that it follows.
//
// The cache that asks them is a shared one (RFC 9111, section 1). Sources:
//
//   - RFC 9111, HTTP Caching
//   - RFC 9110, HTTP Semantics (fields, validators, conditions, ranges)
//   - RFC 5861, stale-while-revalidate and stale-if-error
//   - RFC 9213, targeted cache control (CDN-Cache-Control)
//   - RFC 9875, cache groups
//   - RFC 9651, structured fields, of which the last two are made
//
// It imports the standard library alone.
package rfc9111
