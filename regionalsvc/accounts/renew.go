package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// errOver is the cause of the problem of a session that cannot be renewed.
var errOver = errors.New("the session was ended, or it is as old as a session can be")

// Renew makes a new token of who's session: the same session, with the same
// auth_time, for the roles that the user has now. Nothing becomes of the token
// before, which stays good until it expires, so that any number of renewals at
// once each leave the user signed in.
//
// A session that was ended here, or that is older than [Sessions.MaxLife], is a 401
// problem; what ended it may not have reached the POP that asked. One of another
// issuer is a 403 problem: only its issuer knows whether it goes on.
func (s *Service) Renew(ctx context.Context, who handoff.Identity) (Session, error) {
	id, ours := s.ours(who, who.Session)
	subject, err := uuid.Parse(who.Subject)
	if !ours || err != nil {
		return Session{}, problem.New(http.StatusForbidden, problem.Forbidden, "This session is another issuer's, which renews it.")
	}
	u := user{id: subject.String(), tenant: who.Tenant}
	now := time.Now()
	var began time.Time
	err = s.tenancy.Read(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(selectSession, id, subject, now).Row(func(row pgx.Row) error { return row.Scan(&u.email, &u.roles, &began) })
		return nil
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Session{}, problem.New(http.StatusUnauthorized, problem.Unauthenticated, "The session is over. Sign in again.").
			WithHeader("WWW-Authenticate", `Bearer realm="gatehouse", error="invalid_token"`).WithCause(errOver)
	}
	if err != nil {
		return Session{}, fmt.Errorf("renew session: %w", err)
	}
	token, expires, err := s.sessions.sign(u, id.String(), began, now)
	if err != nil {
		return Session{}, err
	}
	return Session{Token: token, Expires: expires, User: u.id, Tenant: u.tenant}, nil
}

// renew answers as login does. It takes no cookie away when it refuses: the
// browser may hold that of another session by now.
func (s *Service) renew(w http.ResponseWriter, r *http.Request) error {
	if err := s.sameOrigin(r); err != nil {
		return err
	}
	session, err := s.Renew(r.Context(), api.Who(r))
	if err != nil {
		return err
	}
	return s.hand(w, session)
}

// hand gives a session to whoever asked for it, and to no cache: the token in the
// cookie alone, where no script reads it.
func (s *Service) hand(w http.ResponseWriter, session Session) error {
	http.SetCookie(w, s.sessions.cookie(session.Token, session.Expires))
	w.Header().Set("Cache-Control", "no-store")
	return api.JSON(w, http.StatusOK, loginOutput{
		User: session.User, Tenant: session.Tenant, Region: s.sessions.Region, Expires: session.Expires.UTC(),
	})
}
