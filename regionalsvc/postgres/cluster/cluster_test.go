package cluster_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/cluster"
)

func open(t *testing.T, dir string) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Open(t.Context(), cluster.Options{Dir: dir, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var answer string
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// t.TempDir is closed to other users, so that under root this is the case of a
// parent directory that the server's user may not enter, too.
func TestOpen_comesBackWithItsDataAndPort(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pg")
	first := open(t, dir)
	ctx := t.Context()
	for range 2 { // the second time it is there already
		if err := first.CreateRole(ctx, "members", ""); err != nil {
			t.Fatal(err)
		}
		if err := first.CreateRole(ctx, "someone", "it's secret", "members"); err != nil {
			t.Fatal(err)
		}
		if err := first.CreateDatabase(ctx, "things", "someone"); err != nil {
			t.Fatal(err)
		}
	}
	execute(t, first.URL("someone", "it's secret", "things"), "create table t as select 'kept'::text as v")
	port := first.Port()
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}

	second := open(t, dir)
	if second.Port() != port {
		t.Errorf("port %d, was %d", second.Port(), port)
	}
	if got := query(t, second.URL("someone", "it's secret", "things"), "select v from t"); got != "kept" {
		t.Errorf("found %q", got)
	}
	if _, err := pgx.Connect(ctx, second.URL("someone", "wrong", "things")); err == nil {
		t.Error("a wrong password was let in")
	}
	if _, err := cluster.Open(ctx, cluster.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "run by another process") {
		t.Errorf("a second server of one directory: %v", err)
	}
}

func TestOpen_stalePidFileOfSomebodyElse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pg")
	c := open(t, dir)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	stale := fmt.Sprintf("%d\n%s/data\n1\n5432\n\n127.0.0.1\n", os.Getpid(), dir)
	if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

// The child opens a cluster and is killed: no server may be left, and the
// directory opens again at once.
func TestOpen_serverEndsWithAKilledParent(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pg")
	parent := exec.Command(os.Args[0], "-test.run=^TestHelperParent$")
	parent.Env = append(os.Environ(), "CLUSTER_HELPER_DIR="+dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "pid %d\n", &pid); err != nil {
		t.Fatal(err)
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for syscall.Kill(pid, 0) == nil {
		if time.Now().After(deadline) {
			t.Fatalf("PostgreSQL (pid %d) outlived its parent", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
	open(t, dir)
}

// TestHelperParent is not a test but the parent in the test above.
func TestHelperParent(t *testing.T) {
	dir := os.Getenv("CLUSTER_HELPER_DIR")
	if dir == "" {
		return // run by TestOpen_serverEndsWithAKilledParent alone
	}
	c, err := cluster.Open(context.Background(), cluster.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("pid %d\n", c.PID())
	select {}
}

func TestFindBinaries_environmentMustBeRight(t *testing.T) {
	t.Setenv(cluster.EnvBin, t.TempDir())
	if _, err := cluster.FindBinaries(); err == nil || !strings.Contains(err.Error(), cluster.EnvBin) {
		t.Errorf("got %v", err)
	}
}
