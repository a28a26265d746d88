// Package handoff is the contract between the edge and a region: the names of
// the headers that cross, the assertion that makes them worth believing, the
// rule by which both read a path, and the names under which both are observed.
//
// A Go service becomes a region by putting [Verifier.Middleware] before its
// handlers and reading [FromContext]. In another language, docs/HANDOFF.md and
// the vectors in testdata say the same.
package handoff
