package tenancy_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Whoever has replayed the log as far as the position sees the write.
func TestWrite_saysWhereInTheLogItIs(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	db := tenancy.New(pool).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	last := logEnd(t, pool)
	asks := func(tx *tenancy.Tx) error {
		addCustomer(tx, "asked")
		tx.Queue("select 1").Row(func(row pgx.Row) error { return row.Scan(new(int)) })
		return nil
	}
	for _, fn := range []func(*tenancy.Tx) error{func(tx *tenancy.Tx) error { addCustomer(tx, "x"); return nil }, asks} {
		ctx, stats := postgres.WithStats(t.Context())
		if err := db.Write(ctx, "acme", fn); err != nil {
			t.Fatal(err)
		}
		at := stats.Wrote()
		if !handoff.ValidPosition(at) {
			t.Fatalf("position %q", at)
		}
		var after bool
		if err := pool.QueryRow(t.Context(), "select $1::text::pg_lsn > $2::text::pg_lsn", at, last).Scan(&after); err != nil || !after {
			t.Errorf("the write is at %s, the log was at %s before: %v", at, last, err)
		}
		last = at
	}

	refused := errors.New("refused")
	for name, run := range map[string]func(context.Context) error{
		"a read": func(ctx context.Context) error {
			return db.Read(ctx, "acme", func(tx *tenancy.Tx) error { tx.Queue("select 1"); return nil })
		},
		"nothing": func(ctx context.Context) error { return db.Write(ctx, "acme", func(*tenancy.Tx) error { return nil }) },
		"refused": func(ctx context.Context) error {
			return db.Write(ctx, "acme", func(tx *tenancy.Tx) error { addCustomer(tx, "x"); return refused })
		},
		"failed": func(ctx context.Context) error {
			return db.Write(ctx, "acme", func(tx *tenancy.Tx) error { tx.Queue("select 1/0"); return nil })
		},
	} {
		ctx, stats := postgres.WithStats(t.Context())
		_ = run(ctx)
		if at := stats.Wrote(); at != "" {
			t.Errorf("%s wrote at %s", name, at)
		}
	}
}

func logEnd(t *testing.T, pool *pgxpool.Pool) (at string) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "select pg_current_wal_insert_lsn()::text").Scan(&at); err != nil {
		t.Fatal(err)
	}
	return at
}

// behindCommit is a connection that breaks right after PostgreSQL said COMMIT.
type behindCommit struct {
	net.Conn
	armed *atomic.Bool
}

var committed = []byte("C\x00\x00\x00\x0bCOMMIT\x00") // CommandComplete

func (c *behindCommit) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if i := bytes.Index(b[:n], committed); i >= 0 && c.armed.CompareAndSwap(true, false) {
		c.Conn.Close()
		return i + len(committed), nil
	}
	return n, err
}

// The question behind COMMIT must not make a committed write an unknown one.
func TestWrite_isDoneThoughTheConnectionBreaksBehindCommit(t *testing.T) {
	t.Parallel()
	config, err := postgres.PoolConfig(postgres.Config{URL: pgtest.NewDatabase(t).URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	armed := new(atomic.Bool)
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &behindCommit{conn, armed}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db := tenancy.New(pool).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	write := func(name string) (*postgres.Stats, error) {
		ctx, stats := postgres.WithStats(t.Context())
		return stats, db.Write(ctx, "acme", func(tx *tenancy.Tx) error { addCustomer(tx, name); return nil })
	}
	if _, err := write("warm"); err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	stats, err := write("once")
	if err != nil || armed.Load() {
		t.Fatalf("%v, broken %v", err, !armed.Load())
	}
	if at := stats.Wrote(); at != "" {
		t.Errorf("position %s of an answer that did not come", at)
	}
	count := 0
	for _, name := range customerNames(t, db, "acme") {
		if name == "once" {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d rows", count)
	}
	if stats, err := write("again"); err != nil || stats.Wrote() == "" {
		t.Errorf("the pool does not recover: %v, %q", err, stats.Wrote())
	}
}

// A read's answers come with those of its COMMIT, and may still refuse.
func TestRead_isRefusedByAnAnswer(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	refused := errors.New("refused")
	err := db.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("select 1").Row(func(pgx.Row) error { return refused })
		return nil
	})
	if !errors.Is(err, refused) {
		t.Error(err)
	}
}
