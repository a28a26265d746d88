package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/audit"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Passwords are those of a change.
type Passwords struct {
	// Current proves that it is not just somebody at the user's screen.
	Current, New string
	// From is the address that the change comes from, as the POP names it.
	From string
}

// ChangePassword gives who another password and ends, in the same commit, all of
// the user's sessions but the one that who speaks from. A wrong current password
// is a 422 problem, and counts as a wrong login does: 429. A user of another issuer
// has no password here: 403.
func (s *Service) ChangePassword(ctx context.Context, who handoff.Identity, p Passwords) error {
	id, ours := s.ours(who, who.Subject)
	if !ours {
		return problem.New(http.StatusForbidden, problem.Forbidden, "The password of this user is another issuer's.")
	}
	wanted, err := normalizePassword(p.New)
	if err == nil && len(wanted) < MinPassword {
		err = fmt.Errorf("must have at least %d bytes", MinPassword)
	}
	if err != nil {
		return refusedField("/new", err.Error())
	}
	var email, stored string
	err = s.tenancy.Read(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(selectHash, id).Row(func(row pgx.Row) error { return row.Scan(&email, &stored) })
		return nil
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return problem.New(http.StatusForbidden, problem.Forbidden, "There is no such user any more.")
	}
	if err != nil {
		return fmt.Errorf("change password: %w", err)
	}
	if err := s.proveAgain(ctx, email, stored, p); err != nil {
		return err
	}
	fresh, err := s.hasher.hash(ctx, wanted)
	if err != nil {
		return err
	}
	r := &handfeed.Revocation{Issuer: who.SubjectIssuer, Subject: who.Subject, Except: who.Session}
	return s.revoke(ctx, "change password", who.Tenant, r, func(tx *tenancy.Tx) error {
		tx.Queue(updateHash, id, stored, fresh).Tag(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 0 {
				return problem.New(http.StatusConflict, problem.Conflict, "The password was changed meanwhile.")
			}
			return nil
		})
		// A login with the old password that was checked by now either has its
		// session here, to be ended, or finds that the password is another.
		if err := tx.Flush(ctx); err != nil {
			return err
		}
		until(tx, r, revokeSessionsOf, id, who.Session)
		tx.Queue(audit.Record(who, "account.password_changed", who.Subject, ofSession{who.Session}))
		return tx.Flush(ctx)
	})
}

// proveAgain checks the current password, as often as a login may try.
func (s *Service) proveAgain(ctx context.Context, email, stored string, p Passwords) error {
	undo, wait := s.brake.try(time.Now(), email, p.From)
	if wait > 0 {
		return problem.New(http.StatusTooManyRequests, problem.TooManyAttempts, "").WithRetryAfter(wait)
	}
	current, malformed := normalizePassword(p.Current)
	if malformed != nil {
		current = ""
	}
	good, _, err := s.hasher.check(ctx, stored, current)
	if err != nil {
		undo()
		return err
	}
	if !good || malformed != nil {
		return refusedField("/current", "is not the password")
	}
	undo()
	return nil
}

// refusedField is the problem of a well-formed body with one value that is none.
func refusedField(field, message string) error {
	return problem.New(http.StatusUnprocessableEntity, problem.InvalidBody, "").WithField(field, message)
}

// passwordInput is the body of a change.
type passwordInput struct {
	Current string `json:"current"`
	New     string `json:"new"`
}

// Validate implements [api.Validator].
func (in passwordInput) Validate() (faults []problem.FieldError) {
	for _, field := range []struct{ name, value string }{{"/current", in.Current}, {"/new", in.New}} {
		switch {
		case field.value == "":
			faults = append(faults, problem.FieldError{Field: field.name, Message: "is required"})
		case len(field.value) > MaxPassword:
			faults = append(faults, problem.FieldError{Field: field.name, Message: "is too long"})
		}
	}
	return faults
}

func (s *Service) changePassword(w http.ResponseWriter, r *http.Request) error {
	if err := s.sameOrigin(r); err != nil {
		return err
	}
	in, err := api.Decode[passwordInput](r)
	if err != nil {
		return err
	}
	if err := s.ChangePassword(r.Context(), api.Who(r), Passwords{Current: in.Current, New: in.New, From: from(r)}); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
