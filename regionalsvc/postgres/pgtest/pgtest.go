// Package pgtest gives tests a real database: one server for the test binary, one
// template that is migrated once, and a copy of it for each test.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/cluster"
)

// EnvServer names a running server for all test binaries: the connection string of
// a superuser. Without it each binary starts its own.
const EnvServer = "GATEHOUSE_TEST_POSTGRES"

// Roles of every test database. The service's is a member of
// [postgres.DefaultAppRole] and nothing else.
const (
	ownerRole   = "gatehouse_test_owner"
	serviceRole = "gatehouse_test_service"
	password    = "for tests on loopback"
)

// server is the test binary's server. It is a package variable because Go gives
// test binaries no other place between TestMain and the tests.
var server struct {
	sync.Mutex
	cluster  *cluster.Cluster
	dir      string
	url      *url.URL // the superuser's, to the maintenance database
	template string
}

// Patience is how long tests wait for a connection or a lock: other tests keep the
// machine busy, and a 503 would say nothing of what is tested.
const Patience = 30 * time.Second

// Main runs the tests and then ends the server. Call it from TestMain:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// A test binary that dies before takes the server with it all the same.
func Main(m *testing.M) {
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "end the test server:", err)
		code = 1
	}
	os.Exit(code)
}

// Database is one test's own database.
type Database struct {
	// URL is the service's, Owner the owner's and Superuser the superuser's
	// connection string.
	URL, Owner, Superuser string
}

// New makes a migrated database for t and opens it as the service would, but with
// longer limits: see [Patience]. Pool and database go with the test.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return Open(t, NewDatabase(t).URL)
}

// Open is [New] for a database that is there.
func Open(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{
		URL: url, MaxConns: 8, StatementTimeout: Patience, LockTimeout: Patience, IdleInTransactionTimeout: 2 * Patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// NewDatabase makes a migrated database for t, for those who open it themselves
// or in another process.
func NewDatabase(t testing.TB) Database {
	t.Helper()
	return create(t, template(t))
}

// NewEmpty makes a database without tables.
func NewEmpty(t testing.TB) Database {
	t.Helper()
	start(t)
	return create(t, "")
}

func create(t testing.TB, template string) Database {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	admin(t, func(ctx context.Context, conn *pgx.Conn) error {
		return cluster.CreateDatabase(ctx, conn, name, ownerRole, template)
	})
	t.Cleanup(func() {
		admin(t, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "drop database "+name+" with (force)")
			return err
		})
	})
	return Database{URL: urlOf(serviceRole, name), Owner: urlOf(ownerRole, name), Superuser: superuserURL(name)}
}

// template gives the name of the migrated template and makes it the first time.
func template(t testing.TB) string {
	t.Helper()
	start(t)
	server.Lock()
	defer server.Unlock()
	if server.template != "" {
		return server.template
	}
	name := "template_" + strings.ToLower(rand.Text())
	admin(t, func(ctx context.Context, conn *pgx.Conn) error {
		if err := cluster.CreateDatabase(ctx, conn, name, ownerRole, ""); err != nil {
			return err
		}
		return postgres.Migrate(ctx, urlOf(ownerRole, name), postgres.DefaultAppRole, func(string, ...any) {})
	})
	server.template = name
	return name
}

// start finds or starts the server and makes the roles.
func start(t testing.TB) {
	t.Helper()
	server.Lock()
	defer server.Unlock()
	if server.url != nil {
		return
	}
	given := os.Getenv(EnvServer)
	if given == "" {
		given = startCluster(t)
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme == "" {
		t.Fatalf("%s: must be the URL of a server, postgres://…", EnvServer)
	}
	server.url = u
	admin(t, func(ctx context.Context, conn *pgx.Conn) error {
		if err := cluster.CreateRole(ctx, conn, postgres.DefaultAppRole, ""); err != nil {
			return err
		}
		if err := cluster.CreateRole(ctx, conn, ownerRole, password); err != nil {
			return err
		}
		return cluster.CreateRole(ctx, conn, serviceRole, password, postgres.DefaultAppRole)
	})
}

func startCluster(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gatehouse-pg-")
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Open(t.Context(), cluster.Options{Dir: filepath.Join(dir, "pg")})
	if err != nil {
		_ = os.RemoveAll(dir)
		t.Fatal(err)
	}
	server.cluster, server.dir = c, dir
	return c.URL(cluster.Superuser, "", "postgres")
}

func stop() error {
	server.Lock()
	defer server.Unlock()
	if server.cluster != nil {
		if err := server.cluster.Stop(); err != nil {
			return err
		}
		return os.RemoveAll(server.dir)
	}
	if server.template == "" {
		return nil
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server.url.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "drop database "+server.template+" with (force)")
	return err
}

// admin runs fn as superuser. It does not use t's context: cleanups come after
// its end.
func admin(t testing.TB, fn func(context.Context, *pgx.Conn) error) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server.url.String())
	if err != nil {
		t.Fatalf("connect to the test server: %v", err)
	}
	defer conn.Close(ctx)
	if err := fn(ctx, conn); err != nil {
		t.Fatal(err)
	}
}

func urlOf(role, database string) string {
	u := *server.url
	u.User, u.Path = url.UserPassword(role, password), "/"+database
	return u.String()
}

func superuserURL(database string) string {
	u := *server.url
	u.Path = "/" + database
	return u.String()
}
