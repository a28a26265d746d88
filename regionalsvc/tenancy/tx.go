package tenancy

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
)

// setTenant makes the transaction the tenant's, and only the transaction: the
// setting is gone with it, and the connection carries nothing to the next.
const setTenant = "select set_config('gatehouse.tenant', $1, true)"

// beginWrite is setTenant for a transaction that writes, and holds the tenant here
// until it ends: see the function's comment.
const beginWrite = "select tenant_write($1)"

// logPosition is where PostgreSQL's write-ahead log ends, what is not yet on the disk
// included.
const logPosition = "select pg_current_wal_insert_lsn()::text"

// errBroken marks an error of the connection while nothing was committed.
var errBroken = errors.New("the connection to the database broke")

// Tx is one tenant's transaction. It is not safe for concurrent use and is of no
// use after the function it was given to has returned.
//
//	queued ──Flush──▶ begun ──…Flush──▶ begun ──commit──▶ done
//	   └──────────────── commit ─────────────────────────▶ done
//
// It takes a connection with the first Flush, so that a function which refuses
// before costs the pool nothing, and begin, the tenant and the first statements
// are one message.
type Tx struct {
	db     *DB
	tenant string

	conn  *pgxpool.Conn
	tx    pgx.Tx // nil before the first Flush
	batch *pgx.Batch
	asked bool  // a queued statement's answer is looked at
	err   error // the first failure; everything after it fails alike

	readOnly bool
}

// beginLen is the length of a batch that only begins.
const beginLen = 2

func begin(db *DB, tenant string, options pgx.TxOptions) *Tx {
	tx := &Tx{db: db, tenant: tenant, batch: new(pgx.Batch), readOnly: options.AccessMode == pgx.ReadOnly}
	tx.batch.BeginTx(options)
	statement := beginWrite
	if tx.readOnly {
		statement = setTenant
	}
	tx.batch.Queue(statement, tenant)
	return tx
}

// Tenant is whose transaction this is.
func (tx *Tx) Tenant() string { return tx.tenant }

// Statement is a queued statement whose answer is waited for.
type Statement struct {
	tx     *Tx
	queued *pgx.QueuedQuery
}

// Queue adds a statement to the next message to PostgreSQL: what [Tx.Flush],
// [Tx.Postgres] or the end of the transaction sends. Statements run in the order
// of their queueing, and none after one that failed.
//
// A statement whose answer is looked at ([Statement.Row], [Statement.Rows],
// [Statement.Tag]) is never sent together with the COMMIT of a Write: what the
// answer says may be a reason not to commit.
func (tx *Tx) Queue(sql string, arguments ...any) *Statement {
	return &Statement{tx: tx, queued: tx.batch.Queue(sql, arguments...)}
}

// Row calls fn with the statement's first row, when the answer comes. fn's error
// is the transaction's. Without a row, Scan gives [pgx.ErrNoRows].
func (s *Statement) Row(fn func(pgx.Row) error) {
	s.answer(func(results pgx.BatchResults) (error, error) {
		row := &checkedRow{row: results.QueryRow()}
		err := fn(row)
		if !row.scanned {
			_ = row.Scan()
		}
		return err, row.err
	})
}

// Rows calls fn with all of the statement's rows. They are closed after.
func (s *Statement) Rows(fn func(pgx.Rows) error) {
	s.answer(func(results pgx.BatchResults) (error, error) {
		rows, err := results.Query()
		if err != nil {
			return err, err
		}
		defer rows.Close()
		err = fn(rows)
		rows.Close()
		return err, rows.Err()
	})
}

// Tag calls fn with what the statement did, the number of rows for example.
func (s *Statement) Tag(fn func(pgconn.CommandTag) error) {
	s.answer(func(results pgx.BatchResults) (error, error) {
		tag, err := results.Exec()
		if err != nil {
			return err, err
		}
		return fn(tag), nil
	})
}

// answer runs read when the answer comes. read returns the caller's error and
// PostgreSQL's. Only the latter is pgx's business: after any error in a batch pgx
// prepares all of its statements anew, and a request that is refused must not
// cost the next one two round trips.
func (s *Statement) answer(read func(pgx.BatchResults) (ours, theirs error)) {
	tx := s.tx
	tx.asked = true
	s.queued.Fn = func(results pgx.BatchResults) error {
		if tx.err != nil { // nobody asks any more
			_, err := results.Exec()
			return err
		}
		ours, theirs := read(results)
		if ours != nil && tx.conn.Conn().IsClosed() {
			return ours // see broken
		}
		if ours != nil {
			tx.err = ours
		}
		return theirs
	}
}

// checkedRow tells PostgreSQL's errors from an absent row.
type checkedRow struct {
	row     pgx.Row
	scanned bool
	err     error
}

func (r *checkedRow) Scan(into ...any) error {
	r.scanned = true
	err := r.row.Scan(into...)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		r.err = err
	}
	return err
}

// Flush sends what is queued and waits for the answers. Its error is the first
// one of a statement or of a function that looked at an answer.
func (tx *Tx) Flush(ctx context.Context) error {
	if tx.err != nil {
		return tx.err
	}
	if tx.tx != nil && tx.batch.Len() == 0 {
		return nil
	}
	if err := tx.connect(ctx); err != nil {
		return err
	}
	return tx.send(ctx)
}

func (tx *Tx) connect(ctx context.Context) error {
	if tx.conn != nil {
		return nil
	}
	tx.conn, tx.err = postgres.Acquire(ctx, tx.db.pool, tx.db.patience)
	return tx.err
}

// send sends the batch and begins the next.
func (tx *Tx) send(ctx context.Context) error {
	results := tx.conn.SendBatch(ctx, tx.batch)
	if begun := results.Tx(); begun != nil {
		tx.tx = begun
	}
	err := results.Close()
	tx.batch, tx.asked = new(pgx.Batch), false
	if err != nil && tx.err == nil {
		tx.err = fmt.Errorf("transaction of tenant %s: %w", tx.tenant, tx.broken(ctx, err))
	}
	return tx.err
}

// broken marks err when it is the connection's fault, and not PostgreSQL's, ours
// or that of a client that has left.
func (tx *Tx) broken(ctx context.Context, err error) error {
	var pgErr *pgconn.PgError
	if ctx.Err() != nil || errors.As(err, &pgErr) || !tx.conn.Conn().IsClosed() {
		return err
	}
	return fmt.Errorf("%w: %w", errBroken, err)
}

// Postgres sends what is queued and gives pgx's transaction, for a library that
// needs one. It must be neither committed nor rolled back. After an error of it
// the function that was given the Tx must return that error.
func (tx *Tx) Postgres(ctx context.Context) (pgx.Tx, error) {
	if err := tx.Flush(ctx); err != nil {
		return nil, err
	}
	return tx.tx, nil
}

// commit sends the rest with COMMIT, or before it where an answer decides.
func (tx *Tx) commit(ctx context.Context) error {
	if tx.err != nil {
		return tx.err
	}
	if tx.tx == nil && tx.batch.Len() == beginLen {
		return nil // nothing was asked for
	}
	if tx.asked && !tx.readOnly {
		if err := tx.Flush(ctx); err != nil {
			return err
		}
	}
	if err := tx.connect(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err // nobody waits for it, and nothing is done yet
	}
	if !tx.readOnly { // a client that leaves now does not break the COMMIT off
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
		defer cancel()
	}
	reached, done := false, false // everything before COMMIT succeeded; COMMIT did
	tx.batch.Queue("commit").Fn = func(results pgx.BatchResults) error {
		reached = true
		tag, err := results.Exec()
		if err == nil && tag.String() == "ROLLBACK" {
			err = pgx.ErrTxCommitRollback
		}
		done = err == nil
		return err
	}
	if !tx.readOnly {
		tx.queuePosition(postgres.StatsOf(ctx))
	}
	err := tx.send(ctx)
	if done && !tx.readOnly {
		return nil // whatever became of the question behind it; what decides was looked at before
	}
	if err != nil && !tx.readOnly && (reached || tx.mayHaveArrived(err)) {
		return &commitError{err}
	}
	return err
}

// queuePosition asks, behind COMMIT and in the same message, where the log is now: at
// or after the end of what was committed. Nobody may want to know.
func (tx *Tx) queuePosition(stats *postgres.Stats) {
	if stats == nil {
		return
	}
	tx.batch.Queue(logPosition).Fn = func(results pgx.BatchResults) error {
		var at string
		if err := results.QueryRow().Scan(&at); err != nil {
			return err
		}
		stats.Committed(at)
		return nil
	}
}

// mayHaveArrived reports whether a message that ended with COMMIT may have been
// carried out although no statement of it is known to have failed.
func (tx *Tx) mayHaveArrived(err error) bool {
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr):
		return false // a statement before COMMIT failed, PostgreSQL skipped the rest
	case pgconn.SafeToRetry(err), !tx.conn.Conn().IsClosed():
		return false // it never left: the connection, or an argument, did not allow it
	}
	return true
}

// end rolls back what was not committed and gives the connection back. A
// connection that is still in a transaction would be closed by the pool.
func (tx *Tx) end(ctx context.Context) {
	if tx.conn == nil {
		return
	}
	defer tx.conn.Release()
	if tx.tx == nil || tx.conn.Conn().IsClosed() || tx.conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	_ = tx.tx.Rollback(ctx) // if this fails, the pool closes the connection, and the server rolls back
}
