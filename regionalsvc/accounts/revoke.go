package accounts

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Logout ends who's session, here and at every POP. One that is over already is no
// error.
func (s *Service) Logout(ctx context.Context, who handoff.Identity) error {
	if who.Tenant == "" || who.Session == "" {
		return nil // nobody is logged in
	}
	return s.revoke(ctx, "end session", who.Tenant, handfeed.Revocation{Issuer: who.SubjectIssuer, Session: who.Session}, func(tx *tenancy.Tx) {
		if id, ours := s.ours(who.SubjectIssuer, who.Session); ours {
			tx.Queue(revokeSession, id)
		}
	})
}

// SignOutEverywhere ends all sessions that who has opened until now, but for the
// one that keep names: a user who changes the password stays in. Empty: none
// stays.
func (s *Service) SignOutEverywhere(ctx context.Context, who handoff.Identity, keep string) error {
	r := handfeed.Revocation{Issuer: who.SubjectIssuer, Subject: who.Subject, Except: keep}
	return s.revoke(ctx, "end sessions of user", who.Tenant, r, func(tx *tenancy.Tx) {
		if id, ours := s.ours(who.SubjectIssuer, who.Subject); ours {
			tx.Queue(revokeSessionsOf, id, keep)
		}
	})
}

// RevokeTenant ends all sessions of a tenant that were opened until now.
func (s *Service) RevokeTenant(ctx context.Context, tenant string) error {
	return s.revoke(ctx, "end sessions of tenant", tenant, handfeed.Revocation{Tenant: tenant}, func(tx *tenancy.Tx) {
		tx.Queue(revokeAllSessions)
	})
}

// revoke has rows and the message to the POPs in one commit.
func (s *Service) revoke(ctx context.Context, what, tenant string, r handfeed.Revocation, rows func(*tenancy.Tx)) error {
	err := s.tenancy.Write(ctx, tenant, func(tx *tenancy.Tx) error {
		rows(tx)
		return s.outbox.Revoke(tx, r)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.outbox.Wake()
	return nil
}

// ours reads an id that this region's issuer has given. Another issuer's session
// has no row here; POPs are told of it all the same.
func (s *Service) ours(issuer, id string) (uuid.UUID, bool) {
	parsed, err := uuid.Parse(id)
	return parsed, err == nil && issuer == s.sessions.Issuer
}
