package session

import (
	"net/http"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// standing asks whether the session was ended before its time: on every request,
// whether its token was verified now or long ago. [decision.AuthNone] says that it
// stands.
func (s *Session) standing(r *http.Request, v *verdict) decision.Auth {
	asked := feed.Session{
		Issuer: v.identity.SubjectIssuer, ID: v.identity.Session,
		Subject: v.identity.Subject, Tenant: v.identity.Tenant,
	}
	if !v.authTime.IsZero() {
		asked.AuthTime = v.authTime.Unix()
	}
	switch s.app.Standing(&asked, v.home, writes(r)) {
	case edge.Revoked:
		return decision.AuthRevoked
	case edge.Stale:
		return decision.AuthStale
	}
	return decision.AuthNone
}

// writes reports whether a request may change something. What goes over a
// connection after an upgrade nobody here sees.
func writes(r *http.Request) bool {
	return handoff.Unsafe(r.Method) || len(r.Header["Upgrade"]) > 0
}
