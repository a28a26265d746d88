// Package tenancy is the only way to a tenant's rows.
//
// A transaction here belongs to one tenant. PostgreSQL itself holds it to that:
// row-level security is forced on every table with a tenant_id, and the service's
// role cannot bypass it. A statement therefore never names the tenant, and one
// that forgets to ask for it still sees one tenant's rows only.
//
// Statements are queued and travel together: see [Tx.Queue].
package tenancy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
)

// attempts is how often a transaction is tried that PostgreSQL asks to repeat.
const attempts = 3

// Bounds of the pause before a repetition; it is drawn from between.
const (
	minPause = 2 * time.Millisecond
	maxPause = 30 * time.Millisecond
)

// finishTimeout bounds COMMIT and ROLLBACK, which go on when the client has left:
// to break a COMMIT off is to not know what became of it.
const finishTimeout = 5 * time.Second

// DB opens transactions. It is safe for concurrent use.
type DB struct {
	pool     *pgxpool.Pool
	patience time.Duration
}

// New uses pool, which [postgres.Open] has opened.
func New(pool *pgxpool.Pool) *DB { return &DB{pool, postgres.AcquireTimeout} }

// Waiting is a DB of the same pool whose transactions wait as long as patience for
// a connection. Default: [postgres.AcquireTimeout].
func (db *DB) Waiting(patience time.Duration) *DB { return &DB{db.pool, patience} }

// Write runs fn in a transaction of tenant and commits when fn returns nil.
// Otherwise nothing was done, and the error is fn's.
//
// fn may run up to three times: when PostgreSQL asks for it (serialization
// failure 40001, deadlock 40P01) and when the connection breaks before COMMIT was
// sent. It must therefore do nothing but with its Tx. After an error of COMMIT it
// is never repeated. If that error leaves open whether the commit took place, the
// problem's outcome is [problem.OutcomeUnknown]: only a retry with the same
// Idempotency-Key can tell.
//
// A tenant that has moved away, or is about to, is [*Elsewhere]: nothing was done,
// and no process's older directory can have it otherwise.
//
// No connection in time, and a statement over its time limit, are 503 problems.
func (db *DB) Write(ctx context.Context, tenant string, fn func(*Tx) error) error {
	return db.run(ctx, tenant, pgx.TxOptions{AccessMode: pgx.ReadWrite}, fn)
}

// Read is [DB.Write] for a transaction that PostgreSQL holds to reading. When all
// statements are queued, begin, tenant, statements and commit are one round trip.
func (db *DB) Read(ctx context.Context, tenant string, fn func(*Tx) error) error {
	return db.run(ctx, tenant, pgx.TxOptions{AccessMode: pgx.ReadOnly}, fn)
}

func (db *DB) run(ctx context.Context, tenant string, options pgx.TxOptions, fn func(*Tx) error) error {
	if !handoff.ValidTenant(tenant) {
		return fmt.Errorf("transaction of tenant %q: not a tenant's name", tenant)
	}
	for attempt := 1; ; attempt++ {
		err := db.attempt(ctx, tenant, options, fn)
		if err == nil || attempt == attempts || !repeatable(err) || ctx.Err() != nil {
			return translate(tenant, err)
		}
		pause := time.NewTimer(minPause + rand.N(maxPause-minPause))
		select {
		case <-ctx.Done():
			pause.Stop()
			return translate(tenant, err)
		case <-pause.C:
		}
	}
}

func (db *DB) attempt(ctx context.Context, tenant string, options pgx.TxOptions, fn func(*Tx) error) error {
	tx := begin(db, tenant, options)
	defer tx.end(ctx)
	if err := fn(tx); err != nil {
		return err
	}
	return tx.commit(ctx)
}

// Elsewhere is the error of a write for a tenant that is not at work in this region.
type Elsewhere struct{ feed.Tenant }

func (e *Elsewhere) Error() string {
	return fmt.Sprintf("tenant %s is not at work here but %s in %s", e.Tenant.Tenant, e.State, e.Home)
}

// notHere is the code of the function tenant_write.
const notHere = "GH001"

// elsewhere reads the error of that function.
func elsewhere(tenant string, e *pgconn.PgError) error {
	known := feed.Tenant{Tenant: tenant}
	if _, err := fmt.Sscan(e.Detail, &known.Home, &known.State, &known.Epoch); err != nil {
		return fmt.Errorf("%s: %q: %w", e.Message, e.Detail, err)
	}
	return &Elsewhere{known}
}

// commitError is an error of COMMIT, or of a message that held it.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

// unknown reports whether the commit may have taken place: the connection broke,
// or the server ended the session. An ERROR, and ROLLBACK in answer to COMMIT,
// say that it has not.
func (e *commitError) unknown() bool {
	if errors.Is(e.err, pgx.ErrTxCommitRollback) {
		return false
	}
	var pgErr *pgconn.PgError
	return !errors.As(e.err, &pgErr) || pgErr.SeverityUnlocalized != "ERROR"
}

// repeatable reports whether nothing was done and the same may well succeed.
func repeatable(err error) bool {
	var committing *commitError
	if errors.As(err, &committing) {
		return false
	}
	var known *problem.Problem
	if errors.As(err, &known) {
		return false
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "40001", "40P01": // serialization_failure, deadlock_detected
			return true
		case "57P01", "57P02", "57P03": // the server is going down or coming up
			return true
		}
		return false
	}
	return errors.Is(err, errBroken)
}

// translate makes what a client should be told out of what PostgreSQL said.
func translate(tenant string, err error) error {
	var committing *commitError
	if errors.As(err, &committing) && committing.unknown() {
		p := problem.New(500, problem.Internal, "the database did not say whether it has committed").WithCause(err)
		p.Outcome = problem.OutcomeUnknown
		return p
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case notHere:
			return elsewhere(tenant, pgErr)
		case "57014", "55P03", // query_canceled (statement_timeout), lock_not_available (lock_timeout)
			"40001", "40P01", // again and again
			"25P03",                   // idle_in_transaction_session_timeout
			"53300",                   // too_many_connections
			"57P01", "57P02", "57P03": // shut down, crashed, starting up
			return postgres.Overloaded(err)
		}
	}
	if errors.Is(err, errBroken) {
		return postgres.Overloaded(err)
	}
	return err
}
