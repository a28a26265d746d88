package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestMigrate_manyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		wg.Go(func() {
			errs[i] = postgres.Migrate(t.Context(), db.Owner, postgres.DefaultAppRole, t.Logf)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	pool := pgtest.Open(t, db.URL)
	if err := postgres.Check(t.Context(), pool); err != nil {
		t.Error(err)
	}
	ours, _, err := postgres.CurrentVersion(t.Context(), pool)
	if err != nil || ours != postgres.SchemaVersion() {
		t.Errorf("version %d (%v), want %d", ours, err, postgres.SchemaVersion())
	}
}

func TestMigrate_unknownAppRoleSaysWhatToDo(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	err := postgres.Migrate(t.Context(), db.Owner, "nobody_knows", t.Logf)
	if err == nil || !strings.Contains(err.Error(), `create role "nobody_knows" nologin`) {
		t.Errorf("got %v", err)
	}
}

func TestCheck_oldSchemaIsNotReady(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	owner, err := pgx.Connect(t.Context(), db.Owner)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(context.Background())
	if _, err := owner.Exec(t.Context(), "delete from goose_db_version where version_id = $1", postgres.SchemaVersion()); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Check(t.Context(), pgtest.Open(t, db.URL)); err == nil || !strings.Contains(err.Error(), "run migrate") {
		t.Errorf("got %v", err)
	}
}

func TestOpen_refusesRolesThatRowSecurityDoesNotBind(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	for name, row := range map[string]struct{ url, want string }{
		"superuser": {db.Superuser, "is a superuser"},
		"owner":     {db.Owner, "owner of audit_entries"},
	} {
		pool, err := postgres.Open(t.Context(), postgres.Config{URL: row.url})
		if err == nil {
			pool.Close()
			t.Errorf("%s was let in", name)
		} else if !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A login role that is a member of one that row-level security does not bind is
// one SET ROLE away from every tenant.
func TestOpen_refusesRolesThatCanBecomeOthers(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	admin, err := pgx.Connect(t.Context(), db.Superuser)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	unbound, login := "unbound_"+strings.ToLower(rand.Text()), "login_"+strings.ToLower(rand.Text())
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), "drop role if exists "+login+"; drop role if exists "+unbound); err != nil {
			t.Error(err)
		}
	})
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("create role " + unbound + " nologin bypassrls")
	exec("create role " + login + " login noinherit password 'p' in role " + postgres.DefaultAppRole)
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(login, "p")
	open := func() error {
		pool, err := postgres.Open(t.Context(), postgres.Config{URL: u.String()})
		if err == nil {
			pool.Close()
		}
		return err
	}
	if err := open(); err != nil {
		t.Errorf("a plain login role: %v", err)
	}
	exec("grant " + unbound + " to " + login)
	if err := open(); err == nil || !strings.Contains(err.Error(), "can become "+unbound) {
		t.Errorf("a member of a role with BYPASSRLS: %v", err)
	}
	exec("alter role " + unbound + " nobypassrls")
	exec("alter role " + login + " bypassrls")
	if err := open(); err == nil || !strings.Contains(err.Error(), "has BYPASSRLS") {
		t.Errorf("a role with BYPASSRLS: %v", err)
	}
}

// The service's role may do what its statements do, and no more: what an injected
// statement, or a mistake, could do in the tenant that it is held to.
func TestMigrate_grantsNoMoreThanIsNeeded(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for _, sql := range []string{
		"update users set roles = '{approver}'", "update users set email = 'x'", "delete from users",
		"update tenants set currency = 'XXX'", "delete from tenants",
		"update customers set name = 'x'", "delete from customers",
		"update orders set total_cents = 1", "delete from orders", "update invoices set total_cents = 1", "delete from invoices",
		"update products set currency = 'XXX'", "delete from products",
		"update audit_entries set actor = 'x'", "delete from audit_entries", "truncate audit_entries",
		"update sessions set user_id = id", "update sessions set expires_at = now()", "truncate sessions",
		"update idempotency_keys set fingerprint = 'x'", "truncate idempotency_keys",
		"insert into goose_db_version (version_id, is_applied) values (9, true)", "select nextval('goose_db_version_id_seq')",
		"update river_migration set version = 0", "create table mine (x int)", "select make_tenant_table('orders')",
		"alter table orders disable row level security", "drop policy tenant on orders",
	} {
		_, err := pool.Exec(t.Context(), sql)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "42501" { // insufficient_privilege
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestOpen_refusesWrongConfiguration(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]postgres.Config{
		"database URL: required": {},
		"pool size -1":           {URL: "postgres://x", MaxConns: -1},
		"lock timeout -1s":       {URL: "postgres://x", LockTimeout: -time.Second},
		"database URL":           {URL: "postgres://x:secret@[::1:5432"},
	} {
		_, err := postgres.Open(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is in %q", err)
		}
	}
}

func TestOpen_timeoutsHold(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	pool, err := postgres.Open(t.Context(), postgres.Config{
		URL: db.URL, MaxConns: 2, StatementTimeout: 2 * time.Second, IdleInTransactionTimeout: 3 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, err = pool.Exec(t.Context(), "select pg_sleep(10)")
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "57014" {
		t.Errorf("a long statement: %v", err)
	}
	var lock, idle string
	if err := pool.QueryRow(t.Context(), "select current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')").Scan(&lock, &idle); err != nil {
		t.Fatal(err)
	}
	if lock != "1s" || idle != "3s" {
		t.Errorf("lock_timeout %s, idle_in_transaction_session_timeout %s", lock, idle)
	}
}

func TestAcquire_fullPoolIsOverloaded(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: db.URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	held, err := postgres.Acquire(t.Context(), pool, pgtest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	ctx, stats := postgres.WithStats(t.Context())
	_, err = postgres.Acquire(ctx, pool, postgres.AcquireTimeout)
	var p *problem.Problem
	if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || p.Name() != problem.Overloaded || p.RetryAfter == 0 {
		t.Errorf("got %v", err)
	}
	if stats.PoolWait() < postgres.AcquireTimeout/2 {
		t.Errorf("pool wait %s was not measured", stats.PoolWait())
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := postgres.Acquire(gone, pool, pgtest.Patience); !errors.Is(err, context.Canceled) || errors.As(err, &p) {
		t.Errorf("a client that went away: %v", err)
	}
}

// The server ends every session, as a restart does: the next request must not
// notice, although no ping is sent.
func TestOpen_connectionsEndedByTheServerAreNotHandedOut(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	pool := pgtest.Open(t, db.URL)
	admin, err := pgx.Connect(t.Context(), db.Superuser)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	for range 5 {
		ctx, stats := postgres.WithStats(t.Context())
		if _, err := pool.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		if stats.Queries() != 1 || stats.RoundTrips() != 1 || stats.Time() == 0 {
			t.Errorf("counted %d statements in %d trips and %s", stats.Queries(), stats.RoundTrips(), stats.Time())
		}
		const end = `select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`
		if _, err := admin.Exec(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAcquire_waitIsASpan(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	ctx, parent := provider.Tracer("test").Start(t.Context(), "parent")
	conn, err := postgres.Acquire(ctx, pool, pgtest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	conn.Release()
	parent.End()
	ended := recorder.Ended()
	if len(ended) != 2 || ended[0].Name() != handoff.SpanPoolWait || ended[0].Parent().SpanID() != parent.SpanContext().SpanID() {
		t.Errorf("spans %v", ended)
	}
}

func ExampleWithStats() {
	handle := func(ctx context.Context, pool *pgxpool.Pool) (*postgres.Stats, error) {
		ctx, stats := postgres.WithStats(ctx)
		_, err := pool.Exec(ctx, "select 1")
		return stats, err // stats.PoolWait(), stats.Time(), stats.Queries() go to the access log
	}
	_ = handle
}
