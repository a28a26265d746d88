package accounts

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/audit"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// ofSession is the detail of an audit entry.
type ofSession struct {
	Session string `json:"session"`
}

// Logout ends who's session, here and at every POP. One that is over already is no
// error. Of one that another issuer opened there is no row here; POPs are told of
// it all the same.
func (s *Service) Logout(ctx context.Context, who handoff.Identity) error {
	if who.Tenant == "" || who.Session == "" {
		return nil // nobody is logged in
	}
	r := &handfeed.Revocation{Issuer: who.SubjectIssuer, Session: who.Session}
	return s.revoke(ctx, "end session", who.Tenant, r, func(tx *tenancy.Tx) error {
		id, ours := s.ours(who, who.Session)
		if !ours {
			return nil
		}
		ended := false
		tx.Queue(revokeSession, id).Tag(func(tag pgconn.CommandTag) error {
			ended = tag.RowsAffected() > 0
			return nil
		})
		if err := tx.Flush(ctx); err != nil || !ended {
			return err
		}
		tx.Queue(audit.Record(who, "account.logged_out", who.Subject, ofSession{id.String()}))
		return nil
	})
}

// SignOutEverywhere ends all sessions that who has opened until now, but for the
// one that keep names: a user who changes the password stays in. Empty: none
// stays.
func (s *Service) SignOutEverywhere(ctx context.Context, who handoff.Identity, keep string) error {
	r := &handfeed.Revocation{Issuer: who.SubjectIssuer, Subject: who.Subject, Except: keep}
	return s.revoke(ctx, "end sessions of user", who.Tenant, r, func(tx *tenancy.Tx) error {
		if id, ours := s.ours(who, who.Subject); ours {
			until(tx, r, revokeSessionsOf, id, keep)
		}
		tx.Queue(audit.Record(who, "account.signed_out_everywhere", who.Subject, ofSession{keep}))
		return tx.Flush(ctx)
	})
}

// until ends sessions and has r end, at every POP, those that began up to the last
// of them: another process of this region whose clock is ahead may have said that
// one begins in a second.
func until(tx *tenancy.Tx, r *handfeed.Revocation, sql string, arguments ...any) {
	tx.Queue(sql, arguments...).Row(func(row pgx.Row) error {
		var last *time.Time
		if err := row.Scan(&last); err != nil || last == nil {
			return err
		}
		r.At = last.Unix()
		return nil
	})
}

// RevokeTenant ends all sessions of who's tenant that were opened until now,
// who's own too.
func (s *Service) RevokeTenant(ctx context.Context, who handoff.Identity) error {
	r := &handfeed.Revocation{Tenant: who.Tenant}
	return s.revoke(ctx, "end sessions of tenant", who.Tenant, r, func(tx *tenancy.Tx) error {
		until(tx, r, revokeAllSessions)
		tx.Queue(audit.Record(who, "tenant.sessions_ended", who.Tenant, struct{}{}))
		return tx.Flush(ctx)
	})
}

// revoke has rows and the message to the POPs in one commit. What the rows decide
// about r they have decided when they return: its time is no earlier.
func (s *Service) revoke(ctx context.Context, what, tenant string, r *handfeed.Revocation, rows func(*tenancy.Tx) error) error {
	err := s.tenancy.Write(ctx, tenant, func(tx *tenancy.Tx) error {
		if err := rows(tx); err != nil {
			return err
		}
		return s.outbox.Revoke(tx, *r)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.outbox.Wake()
	return nil
}
