// Package e2e tests Gatehouse as its users meet it: real Caddy, the real service
// and a real PostgreSQL, in the topology of the demo, on free ports.
//
// All tests share one topology. A test that disturbs it (stops a region, reloads
// a POP) is not parallel, and puts everything back: Go runs those first, one after
// the other, and then the parallel ones.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

// The topology, and what receives its traces. They are package variables because
// Go gives test binaries no other place between TestMain and the tests.
var (
	topology *demo.Demo
	traces   *receiver
	root     string // of the checkout
	stateDir string
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "end to end:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if root, err = filepath.Abs(filepath.Join("..", "..")); err != nil {
		return 1, err
	}
	if err := build(ctx); err != nil {
		return 1, err
	}
	if stateDir, err = os.MkdirTemp("", "gatehouse-e2e-"); err != nil {
		return 1, err
	}
	// PostgreSQL runs as another user under root, and must reach its directory.
	if err := os.Chmod(stateDir, 0o711); err != nil {
		return 1, err
	}
	defer func() {
		if code == 0 && err == nil {
			err = os.RemoveAll(stateDir)
			return
		}
		fmt.Fprintf(os.Stderr, "logs: %s\n", filepath.Join(stateDir, "log"))
		err = errors.Join(err, os.RemoveAll(filepath.Join(stateDir, "postgresql")))
	}()

	// The tests log in hundreds of times from one address, and other tests keep the
	// machine busy; the POPs and the regions inherit these.
	for name, value := range map[string]string{
		"EDGE_LOGIN_RATE": "100000/1m", "EDGE_LOGIN_BURST": "10000", "GATEHOUSE_ACQUIRE_TIMEOUT": "5s",
	} {
		if err := os.Setenv(name, value); err != nil {
			return 1, err
		}
	}
	traces = newReceiver()
	defer traces.close()
	ports, err := demo.FreePorts()
	if err != nil {
		return 1, err
	}
	var said []string
	topology, err = demo.Start(ctx, demo.Options{
		Dir: stateDir, Ports: ports, Throwaway: true,
		Caddy: filepath.Join(root, "bin", "caddy"), Regionalsvc: filepath.Join(root, "bin", "regionalsvc"),
		Caddyfile: filepath.Join(root, "Caddyfile.example"),
		Env:       traces.env(),
		Log:       func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) },
		Died: func(p *demo.Process) {
			fmt.Fprintf(os.Stderr, "%s ended on its own\n%s\n", p.Name, p.Tail())
		},
	})
	if err != nil {
		return 1, fmt.Errorf("%q: %w", said, err)
	}
	defer func() { err = errors.Join(err, topology.Stop()) }()
	return m.Run(), nil
}

// build makes the programs as everybody makes them. Unchanged, it takes seconds.
func build(ctx context.Context) error {
	if err := watchSources(); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"./xcaddy.sh"},
		{"go", "build", "-o", filepath.Join("bin", "regionalsvc"), "./regionalsvc"},
	} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return nil
}

// watchSources looks at every source file: the go command runs a cached test
// again when a file that the test has looked at is another, and it cannot know
// that these go into the programs.
func watchSources() error {
	for _, dir := range []string{"caddymodule", "handoff", "regionalsvc", "go.mod", "Caddyfile.example", "README.md"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func fra() *demo.POP   { return topology.POPs[0] }
func iad() *demo.POP   { return topology.POPs[1] }
func eu() *demo.Region { return topology.Regions[0] }
func us() *demo.Region { return topology.Regions[1] }

// await waits until holds, and fails when it never does.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
