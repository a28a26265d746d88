package accounts

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/audit"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// MinOperatorToken is the least length of the operator's token in bytes.
const MinOperatorToken = 32

// operator is who ends sessions by the operator's port, in the audit's words.
var operator = handoff.Identity{Subject: "operator"}

// Ended is whose sessions an operator ends: one session or one user's where it is
// named, else all of the tenant.
type Ended struct {
	// Tenant is whose they are. Required: no row can be reached without.
	Tenant string `json:"tenant"`
	// Issuer signed the session, or the user's. Default: this region.
	Issuer  string `json:"iss,omitempty"`
	Session string `json:"sid,omitempty"`
	Subject string `json:"sub,omitempty"`
	// Except is the one session of the user that stays.
	Except string `json:"except,omitempty"`
}

// Validate implements [api.Validator].
func (e Ended) Validate() (faults []problem.FieldError) {
	if !handoff.ValidTenant(e.Tenant) {
		faults = append(faults, problem.FieldError{Field: "/tenant", Message: "must be a tenant's name"})
	}
	for field, value := range map[string]string{"/iss": e.Issuer, "/sid": e.Session, "/sub": e.Subject, "/except": e.Except} {
		if len(value) > handfeed.MaxName {
			faults = append(faults, problem.FieldError{Field: field, Message: "is too long"})
		}
	}
	switch {
	case e.Session != "" && e.Subject != "":
		faults = append(faults, problem.FieldError{Field: "/sub", Message: "goes without sid"})
	case e.Except != "" && e.Subject == "":
		faults = append(faults, problem.FieldError{Field: "/except", Message: "goes with sub alone"})
	case e.Issuer != "" && e.Session == "" && e.Subject == "":
		faults = append(faults, problem.FieldError{Field: "/iss", Message: "goes with sid or sub"})
	}
	return faults
}

// revoked is the answer to an operator.
type revoked struct {
	Region string    `json:"region"`
	Ended  Ended     `json:"ended"`
	At     time.Time `json:"at"`
	// Scope is "everywhere" where the commit tells every POP, and "region" where
	// there is no feed.
	Scope string `json:"scope"`
}

// Operator answers POST /revocations of the operator's port: who sends token as a
// bearer token (RFC 6750) ends sessions of a tenant that is at home here, with what
// is written in the audit and told to the POPs in one commit. A tenant that is at
// home elsewhere is a 421 that names the region. An empty token lets nobody in.
func (s *Service) Operator(token string) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if err := s.operate(w, r, token != "", want); err != nil {
			var p *problem.Problem
			if !errors.As(err, &p) {
				p = problem.New(http.StatusInternalServerError, problem.Internal, "").WithCause(err)
			}
			p.Write(w, r, "")
		}
	})
}

func (s *Service) operate(w http.ResponseWriter, r *http.Request, open bool, want [sha256.Size]byte) error {
	if !open {
		return problem.New(http.StatusForbidden, problem.Forbidden, "This region was started without --operator-token: nobody may.")
	}
	// Of the same length whatever was sent, so that the time says nothing of it.
	got := sha256.Sum256([]byte(bearer(r.Header)))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return problem.New(http.StatusUnauthorized, problem.Unauthenticated, "The operator's token is asked for.").
			WithHeader("WWW-Authenticate", `Bearer realm="gatehouse operator"`)
	}
	in, err := api.Decode[Ended](r)
	if err != nil {
		return err
	}
	home, known := s.directory.Home(in.Tenant)
	switch {
	case !known:
		return problem.New(http.StatusNotFound, problem.NotFound, "There is no such tenant.")
	case home != s.sessions.Region:
		w.Header().Set(handoff.HeaderHomeRegion, home)
		return problem.New(http.StatusMisdirectedRequest, problem.Misdirected, "The tenant is at home in "+home+": ask there.")
	}
	if in, err = s.EndSessions(r.Context(), in); err != nil {
		return err
	}
	scope := "everywhere"
	if s.outbox == nil {
		scope = "region"
	}
	return api.JSON(w, http.StatusOK, revoked{s.sessions.Region, in, time.Now().UTC(), scope})
}

// bearer gives the one bearer token that was sent, empty where there is none.
func bearer(h http.Header) string {
	values := h["Authorization"]
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// EndSessions ends what in names, as an operator. It gives in with its defaults.
func (s *Service) EndSessions(ctx context.Context, in Ended) (Ended, error) {
	if in.Issuer == "" && (in.Session != "" || in.Subject != "") {
		in.Issuer = s.sessions.Issuer
	}
	whose := handoff.Identity{Tenant: in.Tenant, Subject: in.Subject, SubjectIssuer: in.Issuer, Session: in.Session}
	r := &handfeed.Revocation{Issuer: in.Issuer, Session: in.Session, Subject: in.Subject, Except: in.Except}
	action, subject := "operator.session_ended", in.Session
	var rows func(*tenancy.Tx)
	switch {
	case in.Session != "":
		rows = func(tx *tenancy.Tx) {
			if id, ours := s.ours(whose, in.Session); ours {
				tx.Queue(revokeSession, id)
			}
		}
	case in.Subject != "":
		action, subject = "operator.user_signed_out", in.Subject
		rows = func(tx *tenancy.Tx) {
			if id, ours := s.ours(whose, in.Subject); ours {
				until(tx, r, revokeSessionsOf, id, in.Except)
			}
		}
	default:
		r.Tenant = in.Tenant
		action, subject = "operator.tenant_signed_out", in.Tenant
		rows = func(tx *tenancy.Tx) { until(tx, r, revokeAllSessions) }
	}
	return in, s.revoke(ctx, "end sessions by an operator", in.Tenant, r, func(tx *tenancy.Tx) error {
		rows(tx)
		tx.Queue(audit.Record(operator, action, subject, in))
		return tx.Flush(ctx)
	})
}
