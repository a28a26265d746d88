package accounts

import (
	"context"
	"net/http"
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

// Operator answers POST /revocations of the operator's port: who sends token
// ([api.Operator]) ends sessions of a tenant that is at home here, with what is
// written in the audit and told to the POPs in one commit. A tenant that is at home
// elsewhere is a 421 that names the region.
func (s *Service) Operator(token string) http.Handler { return api.Operator(token, s.operate) }

func (s *Service) operate(w http.ResponseWriter, r *http.Request) error {
	in, err := api.Decode[Ended](r)
	if err != nil {
		return err
	}
	if err := api.AtHome(w, s.directory, in.Tenant, s.sessions.Region); err != nil {
		return err
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
		tx.Queue(audit.Record(audit.Operator, action, subject, in))
		return tx.Flush(ctx)
	})
}
