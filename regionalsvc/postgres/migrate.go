package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

//go:embed grants.sql
var grants string

// riverVersion is the version of River's tables that this program works with.
// Raise it in the release before the one that needs it.
const riverVersion = 8

// DefaultAppRole is the group role that gets the grants unless another is named.
const DefaultAppRole = "gatehouse_app"

// lockPeriod and lockAttempts bound the wait for another process's migration.
const (
	lockPeriod   = 1 // seconds
	lockAttempts = 300
)

// Migrate brings the schema forward to this program's version, River's tables
// first, and gives appRole its grants. url is of the role that is to own the
// tables, on a direct connection (no pooler in transaction mode: the lock is the
// session's). Any number of processes may do this at once: one works, the others
// wait up to five minutes and then find nothing to do. log is told each step.
//
// There is no way back: a schema is repaired by the next migration.
func Migrate(ctx context.Context, url, appRole string, log func(format string, args ...any)) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	config.RuntimeParams["application_name"] = "gatehouse migrate"
	config.RuntimeParams["timezone"] = "UTC"
	// Queueing for a lock behind a long statement makes everybody queue behind us.
	config.RuntimeParams["lock_timeout"] = milliseconds(3 * time.Second)
	db := stdlib.OpenDB(*config)
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()

	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockPeriod, lockAttempts))
	if err != nil {
		return err
	}
	if err := locker.SessionLock(ctx, conn); err != nil {
		return fmt.Errorf("wait for another process's migration: %w", err)
	}
	defer func() { _ = locker.SessionUnlock(context.WithoutCancel(ctx), conn) }() // and with the session at the latest

	if err := migrateRiver(ctx, url, log); err != nil {
		return err
	}
	if err := migrateOurs(ctx, db, log); err != nil {
		return err
	}
	return grant(ctx, db, appRole)
}

func migrateRiver(ctx context.Context, url string, log func(string, ...any)) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	result, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{TargetVersion: riverVersion})
	if err != nil {
		return fmt.Errorf("migrate River's tables: %w", err)
	}
	for _, version := range result.Versions {
		log("River's tables: version %d, %s", version.Version, version.Name)
	}
	return nil
}

func migrateOurs(ctx context.Context, db *sql.DB, log func(string, ...any)) error {
	provider, err := provider(db)
	if err != nil {
		return err
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for _, result := range results {
		log("%s in %s", result.Source.Path, result.Duration.Round(time.Millisecond))
	}
	return nil
}

func provider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
}

// grant runs grants.sql in one transaction.
func grant(ctx context.Context, db *sql.DB, appRole string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	statements := strings.ReplaceAll(grants, "{role}", pgx.Identifier{appRole}.Sanitize())
	if _, err := tx.ExecContext(ctx, statements); err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "42704" && strings.Contains(pgErr.Message, "role") {
			return fmt.Errorf("application role %q does not exist: let an administrator run `create role %s nologin` "+
				"and make the service's login role a member of it", appRole, pgx.Identifier{appRole}.Sanitize())
		}
		return fmt.Errorf("grant to %s: %w", appRole, err)
	}
	return tx.Commit()
}

// SchemaVersion is the newest migration that this program knows.
var SchemaVersion = sync.OnceValue(func() int64 {
	entries, err := migrationFiles.ReadDir("migrations")
	if err != nil || len(entries) == 0 {
		panic(fmt.Sprintf("embedded migrations: %v", err)) // a fault of the build
	}
	version, err := goose.NumericComponent(entries[len(entries)-1].Name())
	if err != nil {
		panic(fmt.Sprintf("embedded migrations: %v", err))
	}
	return version
})

const versions = `
select (select coalesce(max(version_id), 0) from goose_db_version where is_applied),
       (select coalesce(max(version), 0) from river_migration where line = 'main')`

// CurrentVersion is the newest migration of ours and of River's that the database
// has seen.
func CurrentVersion(ctx context.Context, pool *pgxpool.Pool) (ours, rivers int64, err error) {
	err = pool.QueryRow(ctx, versions).Scan(&ours, &rivers)
	return ours, rivers, err
}

// Check says whether the database answers and has the schema this program needs,
// or a newer one: an old program must go on while the next is rolled out. It is
// one round trip; readiness asks it and keeps the answer for a second.
func Check(ctx context.Context, pool *pgxpool.Pool) error {
	ours, rivers, err := CurrentVersion(ctx, pool)
	switch {
	case err != nil:
		return fmt.Errorf("ask the database for its version: %w", err)
	case ours < SchemaVersion():
		return fmt.Errorf("the database is at migration %d, this program needs %d: run migrate", ours, SchemaVersion())
	case rivers < riverVersion:
		return fmt.Errorf("the job tables are at version %d, this program needs %d: run migrate", rivers, riverVersion)
	}
	return nil
}
