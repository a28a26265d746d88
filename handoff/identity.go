package handoff

import "slices"

// Identity is whom a request speaks for. The zero value is nobody: a request
// without a session, or the fill of a cache entry that is public.
//
// A user is (SubjectIssuer, Subject) and a session is (SubjectIssuer, Session):
// two issuers may name two people alike.
type Identity struct {
	// Tenant is the customer whose data the request may touch. See [ValidTenant].
	Tenant string
	// Subject is the user's id, as its issuer names it.
	Subject string
	// SubjectIssuer is who vouches for Subject, Session and Roles.
	SubjectIssuer string
	// Session is the session's id. It stays the same when the session is renewed.
	Session string
	// Roles are what the user may do, in the issuer's words.
	Roles []string
}

// Anonymous reports whether the request speaks for nobody.
func (i Identity) Anonymous() bool { return i.Tenant == "" && i.Subject == "" }

// Has reports whether role is among the identity's roles.
func (i Identity) Has(role string) bool { return slices.Contains(i.Roles, role) }
