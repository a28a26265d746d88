package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// AcquireTimeout is how long a request waits by default for a free connection
// before it is told that the service is at its limit. A wait beyond it helps
// nobody: the pool turns over hundreds of times meanwhile.
const AcquireTimeout = 500 * time.Millisecond

// Config of a pool. The zero value but for URL is what a region serves with.
type Config struct {
	// URL is the connection string of the service's login role. Required.
	URL string
	// MaxConns bounds the pool. Default: 16.
	MaxConns int
	// StatementTimeout bounds one statement, waits for locks included. It is
	// shorter than the request's own limit: the server ends the statement and the
	// connection lives on, while a client that gives up costs the connection.
	// Default: 2s.
	StatementTimeout time.Duration
	// LockTimeout bounds the wait for one lock. Default: 1s.
	LockTimeout time.Duration
	// IdleInTransactionTimeout bounds how long a transaction may sit between two
	// statements before the server ends its session. Default: 5s.
	IdleInTransactionTimeout time.Duration
	// Name is the application_name that the server shows. Default: "gatehouse".
	Name string
	// Trace makes a span of every statement that belongs to a sampled trace.
	Trace bool
}

func (c *Config) setDefaults() {
	if c.MaxConns == 0 {
		c.MaxConns = 16
	}
	if c.StatementTimeout == 0 {
		c.StatementTimeout = 2 * time.Second
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = time.Second
	}
	if c.IdleInTransactionTimeout == 0 {
		c.IdleInTransactionTimeout = 5 * time.Second
	}
	if c.Name == "" {
		c.Name = "gatehouse"
	}
}

// validate refuses with the field and what would be right.
func (c *Config) validate() error {
	switch {
	case c.URL == "":
		return errors.New("database URL: required, for example postgres://gatehouse:…@localhost:5432/region_eu")
	case c.MaxConns < 1 || c.MaxConns > 10_000:
		return fmt.Errorf("pool size %d: must be between 1 and 10000", c.MaxConns)
	}
	for _, row := range []struct {
		name  string
		value time.Duration
	}{
		{"statement timeout", c.StatementTimeout},
		{"lock timeout", c.LockTimeout},
		{"idle-in-transaction timeout", c.IdleInTransactionTimeout},
	} {
		if row.value < time.Millisecond {
			return fmt.Errorf("%s %s: must be 1ms or more", row.name, row.value)
		}
	}
	return nil
}

// PoolConfig is what [Open] gives to pgx, for those who must change a part of it:
// a test that counts bytes on the wire, for example.
func PoolConfig(cfg Config) (*pgxpool.Config, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err) // pgx keeps the password out of it
	}
	pc.MaxConns = int32(cfg.MaxConns)
	pc.MinIdleConns = int32(min(2, cfg.MaxConns)) // a quiet service answers its next request without a handshake
	pc.MaxConnLifetime = time.Hour
	pc.MaxConnLifetimeJitter = 10 * time.Minute
	pc.ShouldPing = shouldPing
	pc.PingTimeout = time.Second
	pc.ConnConfig.ConnectTimeout = 3 * time.Second
	params := pc.ConnConfig.RuntimeParams
	params["application_name"] = cfg.Name
	params["timezone"] = "UTC"
	params["statement_timeout"] = milliseconds(cfg.StatementTimeout)
	params["lock_timeout"] = milliseconds(cfg.LockTimeout)
	params["idle_in_transaction_session_timeout"] = milliseconds(cfg.IdleInTransactionTimeout)
	tracers := []pgx.QueryTracer{meter{}}
	if cfg.Trace {
		// The wait for a connection is the meter's own span, db.pool.wait.
		tracers = append(tracers, otelpgx.NewTracer(otelpgx.WithDisableAcquireTracer()))
	}
	pc.ConnConfig.Tracer = multitracer.New(tracers...)
	return pc, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Open opens the pool and checks by which role: see [CheckRole]. The caller
// closes it.
func Open(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	pc, err := PoolConfig(cfg)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	if err := CheckRole(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// roleFaults lists what lets the current role past row-level security: attributes
// of its own and of roles that it can become (SET ROLE), and tables of tenants that
// it owns or can become the owner of.
const roleFaults = `
select current_user::text,
       r.rolsuper,
       coalesce((select string_agg(m.rolname, ', ' order by m.rolname)
          from pg_roles m
         where (m.rolbypassrls or m.rolsuper) and pg_has_role(current_user, m.oid, 'MEMBER')), ''),
       coalesce((select string_agg(c.relname, ', ' order by c.relname)
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
          join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
         where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
           and pg_has_role(current_user, c.relowner, 'MEMBER')), '')
  from pg_roles r where r.rolname = current_user`

// CheckRole refuses a role that row-level security does not bind: a superuser,
// one with BYPASSRLS, the owner of a table with tenants' rows, or a member of one
// of these.
func CheckRole(ctx context.Context, pool *pgxpool.Pool) error {
	var role, unbound, owned string
	var super bool
	if err := pool.QueryRow(ctx, roleFaults).Scan(&role, &super, &unbound, &owned); err != nil {
		return fmt.Errorf("ask the database for our role: %w", err)
	}
	var faults []string
	switch { // a superuser is a member of everything
	case super:
		faults = append(faults, "is a superuser")
	case unbound == role:
		faults = append(faults, "has BYPASSRLS")
	case unbound != "":
		faults = append(faults, "is or can become "+unbound+", which has BYPASSRLS or is a superuser")
	}
	if owned != "" && !super {
		faults = append(faults, "is or can become the owner of "+owned)
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("database role %q %s: row-level security would not bind it; "+
		"serve with a login role that is only a member of the application's group role (see migrate --app-role)",
		role, strings.Join(faults, " and "))
}

// Acquire takes a connection, waiting at most as long as patience. A pool with no
// connection to give in that time, and a database that cannot be reached, are a
// 503 problem: nothing was done. An error of ctx itself is returned as it is.
func Acquire(ctx context.Context, pool *pgxpool.Pool, patience time.Duration) (*pgxpool.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pool.Acquire(waiting)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("acquire a database connection: %w", ctx.Err())
	}
	return nil, Overloaded(fmt.Errorf("acquire a database connection: %w", err))
}

// Overloaded is the 503 for a request that the database had no time for.
func Overloaded(cause error) *problem.Problem {
	return problem.New(503, problem.Overloaded, "").WithRetryAfter(time.Second).WithCause(cause)
}
