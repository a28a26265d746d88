// Package audit writes down who did what, in the transaction that did it.
//
// Entries are append-only: the service's role may neither change nor delete one.
package audit

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Operator is who acts by the operator's port, as entries name them.
var Operator = handoff.Identity{Subject: "operator"}

const insertEntry = `
insert into audit_entries (id, actor_issuer, actor, action, subject, request_id, detail)
values ($1, $2, $3, $4, $5, $6, $7)`

// Record is the statement that says that who did action to subject, to be queued
// with the statement that does it:
//
//	tx.Queue(audit.Record(who, "order.placed", order.ID, order))
//
// The zero identity is the service itself. detail is kept as JSON; it must hold
// no secret, for an entry stays. The request's id is taken from the assertion.
func Record(who handoff.Identity, action, subject string, detail any) (sql string, arguments any) {
	return insertEntry, entry{tenancy.NewID(), who, action, subject, detail}
}

// entry gives pgx the arguments once the statement is sent, which is when the
// request is known and an error can be told.
type entry struct {
	id              string
	who             handoff.Identity
	action, subject string
	detail          any
}

// RewriteQuery implements [pgx.QueryRewriter].
func (e entry) RewriteQuery(ctx context.Context, _ *pgx.Conn, sql string, _ []any) (string, []any, error) {
	detail, err := json.Marshal(e.detail, json.Deterministic(true))
	if err != nil {
		return "", nil, fmt.Errorf("audit entry %s: %w", e.action, err)
	}
	requestID := ""
	if claims := handoff.FromContext(ctx); claims != nil {
		requestID = claims.RequestID
	}
	return sql, []any{e.id, e.who.SubjectIssuer, e.who.Subject, e.action, e.subject, requestID, detail}, nil
}

var _ pgx.QueryRewriter = entry{} // interface guard
