package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func enroll(t testing.TB, db *tenancy.DB, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := db.Enroll(t.Context(), tenancy.Tenant{ID: id, Name: id, Currency: "EUR"}); err != nil {
			t.Fatal(err)
		}
	}
}

func addCustomer(tx *tenancy.Tx, name string) {
	tx.Queue("insert into customers (id, name) values (gen_random_uuid(), $1)", name)
}

func customerNames(t testing.TB, db *tenancy.DB, tenant string) []string {
	t.Helper()
	var names []string
	err := db.Read(t.Context(), tenant, func(tx *tenancy.Tx) error {
		tx.Queue("select name from customers order by name").Rows(func(rows pgx.Rows) (err error) {
			names, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Many goroutines of many tenants share few connections: no answer may hold a row
// of another tenant than was asked for.
func TestDB_tenantsDoNotMixInThePool(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	tenants := []string{"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"}
	enroll(t, db, tenants...)
	for _, tenant := range tenants {
		if err := db.Write(t.Context(), tenant, func(tx *tenancy.Tx) error { addCustomer(tx, tenant); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	refused := errors.New("refused")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				tenant := tenants[rand.N(len(tenants))]
				run := db.Read
				var want error
				switch rand.N(3) {
				case 0: // a transaction that is rolled back leaves nothing behind either
					run, want = db.Write, refused
				case 1:
					run = db.Write
				}
				err := run(t.Context(), tenant, func(tx *tenancy.Tx) error {
					tx.Queue("select tenant_id from customers").Rows(func(rows pgx.Rows) error {
						seen, err := pgx.CollectRows(rows, pgx.RowTo[string])
						if len(seen) != 1 || seen[0] != tenant {
							t.Errorf("tenant %s was shown rows of %q", tenant, seen)
						}
						return err
					})
					if err := tx.Flush(t.Context()); err != nil {
						return err
					}
					return want
				})
				if !errors.Is(err, want) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestWrite_errorLeavesNothing(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	refused := problem.New(404, problem.NotFound, "")
	for name, fn := range map[string]func(*tenancy.Tx) error{
		"before anything was sent": func(tx *tenancy.Tx) error { addCustomer(tx, "x"); return refused },
		"after a flush": func(tx *tenancy.Tx) error {
			addCustomer(tx, "x")
			if err := tx.Flush(t.Context()); err != nil {
				return err
			}
			return refused
		},
		"by an answer, with nothing flushed": func(tx *tenancy.Tx) error {
			addCustomer(tx, "x")
			tx.Queue("select 1 where false").Row(func(row pgx.Row) error {
				if err := row.Scan(new(int)); errors.Is(err, pgx.ErrNoRows) {
					return refused
				}
				return nil
			})
			addCustomer(tx, "y")
			return nil
		},
		"by an answer, and the function goes on": func(tx *tenancy.Tx) error {
			tx.Queue("select 1").Row(func(pgx.Row) error { return refused })
			_ = tx.Flush(t.Context())
			addCustomer(tx, "x")
			return nil
		},
	} {
		if err := db.Write(t.Context(), "acme", fn); !errors.Is(err, refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if names := customerNames(t, db, "acme"); len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
}

func TestWrite_nothingQueuedAsksNothing(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	ctx, stats := postgres.WithStats(t.Context())
	if err := db.Write(ctx, "acme", func(*tenancy.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if stats.RoundTrips() != 0 {
		t.Errorf("%d round trips for nothing", stats.RoundTrips())
	}
}

func TestDB_roundTrips(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	one := func(tx *tenancy.Tx) error {
		tx.Queue("select 1").Row(func(row pgx.Row) error { return row.Scan(new(int)) })
		return nil
	}
	for name, row := range map[string]struct {
		run  func(context.Context, string, func(*tenancy.Tx) error) error
		fn   func(*tenancy.Tx) error
		want int
	}{
		"a read":                        {db.Read, one, 1},
		"a write that asks nothing":     {db.Write, func(tx *tenancy.Tx) error { addCustomer(tx, "x"); return nil }, 1},
		"a write that hangs on answers": {db.Write, one, 2},
	} {
		ctx, stats := postgres.WithStats(t.Context())
		if err := row.run(ctx, "acme", row.fn); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if stats.RoundTrips() != row.want {
			t.Errorf("%s: %d round trips, want %d", name, stats.RoundTrips(), row.want)
		}
	}
}

func TestRead_cannotWrite(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	err := db.Read(t.Context(), "acme", func(tx *tenancy.Tx) error { addCustomer(tx, "x"); return nil })
	if code(err) != "25006" {
		t.Errorf("got %v", err)
	}
}

func TestDB_hostileTenantNames(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	for _, tenant := range []string{"", "A", "a b", "a'; drop table orders; --", "ä", string(make([]byte, 64))} {
		err := db.Read(t.Context(), tenant, func(*tenancy.Tx) error {
			t.Errorf("tenant %q was let in", tenant)
			return nil
		})
		if err == nil {
			t.Errorf("tenant %q: no error", tenant)
		}
	}
}

// raise fails the transaction with a SQLSTATE, as PostgreSQL would.
func raise(tx *tenancy.Tx, state string) {
	tx.Queue("select gatehouse_test_raise($1)", state)
}

func raising(t *testing.T) (*tenancy.DB, *pgxpool.Pool) {
	t.Helper()
	database := pgtest.NewDatabase(t)
	mustExec(t, connect(t, database.Owner), `create function gatehouse_test_raise(state text) returns void language plpgsql as
		$$ begin raise exception 'as asked' using errcode = state; end $$`)
	pool := pgtest.Open(t, database.URL)
	db := tenancy.New(pool).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	return db, pool
}

func TestWrite_repeatsWhatPostgreSQLAsksToRepeat(t *testing.T) {
	t.Parallel()
	db, pool := raising(t)
	for state, want := range map[string]struct {
		tries  int
		status int // of the problem, 0: the error as it is
	}{
		"40001": {3, 503},
		"40P01": {3, 503},
		"57014": {1, 503},
		"55P03": {1, 503},
		"23505": {1, 0},
	} {
		tries := 0
		err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
			tries++
			addCustomer(tx, state)
			raise(tx, state)
			return tx.Flush(t.Context())
		})
		var p *problem.Problem
		isProblem := errors.As(err, &p)
		if tries != want.tries || isProblem != (want.status != 0) || isProblem && p.Status != want.status {
			t.Errorf("%s: %d tries, %v", state, tries, err)
		}
	}
	tries := 0
	err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		addCustomer(tx, "second try")
		if tries++; tries == 1 {
			raise(tx, "40001")
		}
		return tx.Flush(t.Context())
	})
	if err != nil || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
	if names := customerNames(t, db, "acme"); len(names) != 1 {
		t.Errorf("customers %q", names)
	}
	if broken := pool.Stat().CanceledAcquireCount(); broken != 0 {
		t.Errorf("%d connections were lost", broken)
	}
}

// A deferred trigger raises at COMMIT: the answer is known, nothing was done, and
// it is not repeated.
func TestWrite_errorOfCommitIsNotRepeated(t *testing.T) {
	t.Parallel()
	database := pgtest.NewDatabase(t)
	mustExec(t, connect(t, database.Owner), `
		create function at_commit() returns trigger language plpgsql as $$ begin raise exception 'late' using errcode = '40001'; end $$;
		create constraint trigger late after insert on customers deferrable initially deferred for each row execute function at_commit()`)
	db := tenancy.New(pgtest.Open(t, database.URL)).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	tries := 0
	err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tries++
		addCustomer(tx, "x")
		return nil
	})
	if tries != 1 || code(err) != "40001" {
		t.Errorf("%d tries, %v", tries, err)
	}
	var p *problem.Problem
	if errors.As(err, &p) && p.Outcome != "" {
		t.Errorf("outcome %q, but PostgreSQL has said that it did not commit", p.Outcome)
	}
}

// cutter is a connection that breaks when told to, before or after the message
// went out.
type cutter struct {
	net.Conn
	beforeWrite, beforeRead *atomic.Bool
}

var errCut = errors.New("cut")

func (c *cutter) Write(b []byte) (int, error) {
	if c.beforeWrite.CompareAndSwap(true, false) {
		c.Conn.Close()
		return 0, errCut
	}
	return c.Conn.Write(b)
}

func (c *cutter) Read(b []byte) (int, error) {
	if c.beforeRead.CompareAndSwap(true, false) {
		// Wait for the answer, so that PostgreSQL has certainly done it.
		_, _ = c.Conn.Read(b)
		c.Conn.Close()
		return 0, errCut
	}
	return c.Conn.Read(b)
}

func cutting(t *testing.T) (db *tenancy.DB, beforeWrite, beforeRead *atomic.Bool) {
	t.Helper()
	config, err := postgres.PoolConfig(postgres.Config{URL: pgtest.NewDatabase(t).URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	beforeWrite, beforeRead = new(atomic.Bool), new(atomic.Bool)
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &cutter{conn, beforeWrite, beforeRead}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db = tenancy.New(pool).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	// Prepare what the tests send: a cut while preparing is another test.
	for range 2 {
		if err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
			addCustomer(tx, "warm")
			tx.Queue("select 1").Row(func(row pgx.Row) error { return row.Scan(new(int)) })
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return db, beforeWrite, beforeRead
}

func TestWrite_lostAnswerOfCommitIsUnknownAndNotRepeated(t *testing.T) {
	t.Parallel()
	db, _, beforeRead := cutting(t)
	tries := 0
	err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tries++
		addCustomer(tx, "once")
		if err := tx.Flush(t.Context()); err != nil {
			return err
		}
		beforeRead.Store(true)
		return nil
	})
	var p *problem.Problem
	if !errors.As(err, &p) || p.Outcome != problem.OutcomeUnknown || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
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
}

func TestWrite_connectionLostBeforeCommitIsRepeated(t *testing.T) {
	t.Parallel()
	db, beforeWrite, beforeRead := cutting(t)
	for name, cut := range map[string]*atomic.Bool{"message": beforeWrite, "answer": beforeRead} {
		for _, asking := range []bool{false, true} {
			tries, label := 0, fmt.Sprintf("%s lost, asking %t", name, asking)
			err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
				if tries++; tries == 1 {
					cut.Store(true)
				}
				addCustomer(tx, label)
				if asking {
					tx.Queue("select 1").Row(func(row pgx.Row) error { return row.Scan(new(int)) })
				}
				return tx.Flush(t.Context())
			})
			if err != nil || tries != 2 {
				t.Errorf("%s: %d tries, %v", label, tries, err)
			}
		}
	}
	if names := customerNames(t, db, "acme"); len(names) != 2+4 {
		t.Errorf("customers %q", names)
	}
}

func TestWrite_clientThatLeftCommitsNothing(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	for _, sent := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		err := db.Write(ctx, "acme", func(tx *tenancy.Tx) error {
			addCustomer(tx, "x")
			if sent {
				if err := tx.Flush(ctx); err != nil {
					return err
				}
			}
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("sent %t: %v", sent, err)
		}
	}
	if names := customerNames(t, db, "acme"); len(names) != 0 {
		t.Errorf("customers %q", names)
	}
}

// The client leaves while PostgreSQL commits: to break that off is to not know
// what became of it.
func TestWrite_commitGoesOnWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	const gate = 4242
	database := pgtest.NewDatabase(t)
	admin := connect(t, database.Superuser)
	mustExec(t, connect(t, database.Owner), fmt.Sprintf(`
		create function at_commit() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(%d); return null; end $$;
		create constraint trigger late after insert on customers deferrable initially deferred for each row execute function at_commit()`, gate))
	mustExec(t, admin, fmt.Sprintf("select pg_advisory_lock(%d)", gate))
	db := tenancy.New(pgtest.Open(t, database.URL)).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	done := make(chan error, 1)
	go func() {
		done <- db.Write(ctx, "acme", func(tx *tenancy.Tx) error { addCustomer(tx, "x"); return nil })
	}()
	waiting := false
	for deadline := time.Now().Add(20 * time.Second); !waiting && time.Now().Before(deadline); {
		const sql = `select exists(select from pg_locks where locktype = 'advisory' and not granted
			and database = (select oid from pg_database where datname = current_database()))`
		if err := admin.QueryRow(t.Context(), sql).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	mustExec(t, admin, fmt.Sprintf("select pg_advisory_unlock(%d)", gate))
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
	if names := customerNames(t, db, "acme"); len(names) != 1 {
		t.Errorf("customers %q", names)
	}
}

// A library's statement fails and the function goes on as if it had not: COMMIT
// then rolls back, and says so. Nothing is unknown about that.
func TestWrite_abortedTransactionIsNotTakenForCommitted(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		addCustomer(tx, "x")
		pgxTx, err := tx.Postgres(t.Context())
		if err != nil {
			return err
		}
		if _, err := pgxTx.Exec(t.Context(), "select 1/0"); err == nil {
			t.Error("1/0 is something")
		}
		return nil
	})
	var p *problem.Problem
	if !errors.Is(err, pgx.ErrTxCommitRollback) || errors.As(err, &p) {
		t.Errorf("got %v", err)
	}
	if names := customerNames(t, db, "acme"); len(names) != 0 {
		t.Errorf("customers %q", names)
	}
}

// The tenant is gone with its transaction: a statement that goes around this
// package on the same connection sees nobody's rows.
func TestDB_connectionIsNobodysAfterwards(t *testing.T) {
	t.Parallel()
	database := pgtest.NewDatabase(t)
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: database.URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db := tenancy.New(pool).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	for name, run := range map[string]func(context.Context, string, func(*tenancy.Tx) error) error{"read": db.Read, "write": db.Write} {
		if err := run(t.Context(), "acme", func(tx *tenancy.Tx) error { tx.Queue("select 1"); return nil }); err != nil {
			t.Fatal(err)
		}
		var tenant string
		var rows int
		const sql = "select current_setting('gatehouse.tenant', true), count(*) from tenants"
		if err := pool.QueryRow(t.Context(), sql).Scan(&tenant, &rows); err != nil || tenant != "" || rows != 0 {
			t.Errorf("after a %s: tenant %q, %d rows, %v", name, tenant, rows, err)
		}
	}
}

// A refusal must not cost the next request on its connection anything.
func TestWrite_refusalKeepsConnectionAndStatements(t *testing.T) {
	t.Parallel()
	database := pgtest.NewDatabase(t)
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: database.URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db := tenancy.New(pool).Waiting(pgtest.Patience)
	enroll(t, db, "acme")
	refused := errors.New("refused")
	place := func(want error) *postgres.Stats {
		ctx, stats := postgres.WithStats(t.Context())
		err := db.Write(ctx, "acme", func(tx *tenancy.Tx) error {
			addCustomer(tx, "x")
			tx.Queue("select 1").Row(func(row pgx.Row) error { return errors.Join(row.Scan(new(int)), want) })
			return nil
		})
		if !errors.Is(err, want) {
			t.Error(err)
		}
		return stats
	}
	place(nil)
	conns, prepared := pool.Stat().NewConnsCount(), preparedStatements(t, pool)
	for range 5 {
		place(refused)
	}
	place(nil)
	if now := pool.Stat().NewConnsCount(); now != conns {
		t.Errorf("%d connections more", now-conns)
	}
	if now := preparedStatements(t, pool); now != prepared {
		t.Errorf("statements prepared anew: %s, were %s", now, prepared)
	}
}

// preparedStatements is when the session's statements were prepared.
func preparedStatements(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var times string
	const sql = "select string_agg(prepare_time::text, ' ' order by prepare_time) from pg_prepared_statements where statement ~ 'customers|begin|set_config'"
	if err := pool.QueryRow(t.Context(), sql).Scan(&times); err != nil {
		t.Fatal(err)
	}
	return times
}

func ExampleDB_Write() {
	place := func(ctx context.Context, db *tenancy.DB) error {
		return db.Write(ctx, "acme", func(tx *tenancy.Tx) error {
			tx.Queue("insert into customers (id, name) values ($1, $2)", "019a…", "Ada")
			tx.Queue("update products set price_cents = 1 where slug = $1", "coffee").Tag(func(tag pgconn.CommandTag) error {
				if tag.RowsAffected() == 0 {
					return problem.New(404, problem.NotFound, "") // nothing is committed
				}
				return nil
			})
			return nil
		})
	}
	_ = place
}
