// Package api is the region's HTTP surface: the routes of the capabilities
// behind one chain that believes nothing but the assertion, and one place where
// an error becomes a problem.
//
//	recover · request id · log, metrics
//	  → session keys, answered without an assertion
//	  → handoff.Verifier: 401 for whoever did not come through a POP
//	    → server span, child of the edge's
//	      → route: 404, 405
//	        → access and home: 401, 421 before any query
//	          → the body, received before a turn is taken: 413
//	            → concurrency and time limits: 503
//	              → the capability's handler
package api

import (
	"net/http"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Handler answers a request. An error becomes problem+json in one place: a
// *problem.Problem, wrapped or not, as it is; anything else is a 500 whose cause
// goes to the log alone. A handler that returns an error has written nothing.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Access says for whom a route is.
type Access int

const (
	// Tenant is for a session with a tenant that is at home in this region:
	// anything else is answered before the handler, 401 or 421.
	Tenant Access = iota
	// Anyone is for whoever comes through a POP, signed in or not. The handler
	// must not touch the rows of [Who]'s tenant: it may be at home elsewhere.
	Anyone
)

// Route is one endpoint of a capability.
type Route struct {
	// Pattern is "METHOD /path/{wildcard}" as net/http.ServeMux reads it. The
	// method is required; GET answers HEAD too.
	Pattern string
	// Access is for whom it is. Default: [Tenant].
	Access Access
	// Handle answers.
	Handle Handler
}

// Who is whom the verified assertion of r speaks for; the zero value is nobody.
func Who(r *http.Request) handoff.Identity {
	claims := handoff.FromContext(r.Context())
	if claims == nil {
		return handoff.Identity{}
	}
	return claims.Identity()
}

// RequestID is the id under which both sides log r.
func RequestID(r *http.Request) string { return r.Header.Get(handoff.HeaderRequestID) }
