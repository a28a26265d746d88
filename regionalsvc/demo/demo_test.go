package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
)

func TestPorts_aTakenPortIsNamedWithItsOwner(t *testing.T) {
	t.Parallel()
	ports, err := FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address(ports.Operator[1]))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = ports.check()
	if err == nil {
		t.Fatal("a taken port was let through")
	}
	wanted := []string{strconv.Itoa(ports.Operator[1]), "operator endpoints of region us", EnvPortBase}
	if runtime.GOOS == "linux" {
		wanted = append(wanted, fmt.Sprintf("(pid %d)", os.Getpid()))
	}
	for _, want := range wanted {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestPorts_everyTakenPortIsNamed(t *testing.T) {
	t.Parallel()
	ports, err := FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	ports.POP = [2]int{0, 65536}
	err = ports.check()
	for _, want := range []string{"port 0,", "port 65536,", "POP fra", "POP iad"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestPorts_baseShiftsEveryPort(t *testing.T) {
	t.Parallel()
	base, shifted := DefaultPorts(0), DefaultPorts(1000)
	for i, pair := range base.pairs() {
		for j, port := range pair.ports {
			if got := shifted.pairs()[i].ports[j]; got != port+1000 {
				t.Errorf("%s is on port %d, want %d", pair.names[j], got, port+1000)
			}
		}
	}
}

func TestLock_aSecondDemoIsToldWhoseTheFirstIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("a second demo got %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if err := unlock(); err != nil {
		t.Errorf("unlocking twice: %v", err)
	}
	unlock, err = lock(dir)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	_ = unlock()
}

func TestKeys_areMadeOnceAndForTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	k := keys{filepath.Join(t.TempDir(), "keys")}
	path, err := k.signing("pop-fra")
	if err != nil {
		t.Fatal(err)
	}
	secretPath, secret, err := k.secret("directory.key")
	if err != nil {
		t.Fatal(err)
	}
	if len(secret) != directory.MinKey {
		t.Errorf("the secret has %d bytes, want %d", len(secret), directory.MinKey)
	}
	for _, file := range []string{path, secretPath} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %04o", file, mode)
		}
	}
	first, _ := os.ReadFile(path)
	if _, err := k.signing("pop-fra"); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(path); string(first) != string(second) {
		t.Error("the key was made anew")
	}
	if _, again, _ := k.secret("directory.key"); string(secret) != string(again) {
		t.Error("the secret was made anew")
	}
}

// program is a Process that runs a shell script.
func program(t *testing.T, script string, ready func(context.Context) error) *Process {
	t.Helper()
	return &Process{
		Name: "program", Log: filepath.Join(t.TempDir(), "program.log"),
		argv: []string{"/bin/sh", "-c", script}, ready: ready, died: func(*Process) {},
	}
}

func atOnce(context.Context) error { return nil }

func never(context.Context) error { return errors.New("nobody answers") }

func TestProcess_oneThatEndsWhileStartingShowsItsLog(t *testing.T) {
	t.Parallel()
	p := program(t, "echo the reason is this; exit 3", never)
	err := p.Start(t.Context())
	for _, want := range []string{"program did not come up", "exit status 3", "the reason is this", p.Log} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestProcess_tailIsOfTheLastRun(t *testing.T) {
	t.Parallel()
	p := program(t, "echo of the first run; exec sleep 60", nil)
	p.ready = func(context.Context) error {
		if !strings.Contains(p.Tail(), "run") {
			return errors.New("said nothing yet")
		}
		return nil
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	p.argv[2] = "echo second run; exec sleep 60"
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.Kill() //nolint:errcheck // it ends with the test at the latest
	if tail := p.Tail(); strings.Contains(tail, "first") || !strings.Contains(tail, "second") {
		t.Errorf("tail: %s", tail)
	}
}

func TestProcess_onlyAnUnaskedEndIsADeath(t *testing.T) {
	t.Parallel()
	deaths := make(chan *Process, 2)
	p := program(t, "exec sleep 60", atOnce)
	p.died = func(p *Process) { deaths <- p }
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(deaths) > 0 {
		t.Error("a stop that was asked for counts as a death")
	}
	running, err := os.FindProcess(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := running.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-deaths:
	case <-time.After(10 * time.Second):
		t.Error("nobody heard of the death")
	}
}

func TestProcess_anInterruptedStartLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p := program(t, "exec sleep 60", func(context.Context) error { cancel(); return errors.New("not yet") })
	if err := p.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	select {
	case <-p.Exited():
	default:
		t.Error("the program still runs")
	}
}

// The child must not outlive a demo that was killed.
func TestProcess_endsWithADemoThatIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // no other system tells a child that its parent is gone
	}
	dir := t.TempDir()
	parent := exec.Command(os.Args[0], "-test.run=^TestHelperProcess_startsAChildAndWaits$")
	parent.Env = append(os.Environ(), "DEMO_TEST_CHILD_PID="+filepath.Join(dir, "pid"))
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	await(t, "the child's pid", func() bool {
		text, _ := os.ReadFile(filepath.Join(dir, "pid"))
		child, _ = strconv.Atoi(string(text))
		return child > 0
	})
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	await(t, "the child's end", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		// Nobody may be there to bury an orphan in a container: a zombie is dead.
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// TestHelperProcess_startsAChildAndWaits is no test but the parent in the one
// above, and does nothing on its own.
func TestHelperProcess_startsAChildAndWaits(t *testing.T) {
	path := os.Getenv("DEMO_TEST_CHILD_PID")
	if path == "" {
		return
	}
	p := program(t, "exec sleep 60", atOnce)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(strconv.Itoa(p.PID())), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	<-p.Exited()
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
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

func TestGivenServers_areGivenForBothRegionsOrNone(t *testing.T) {
	for _, row := range []struct{ name, eu, us, want string }{
		{"none", "", "", ""},
		{"both", "postgres://a@h/eu", "postgres://a@h/us", ""},
		{"eu alone", "postgres://a@h/eu", "", "DATABASE_URL_US is not set"},
		{"us alone", "", "postgres://a@h/us", "DATABASE_URL_EU is not set"},
		{"one for both", "postgres://a@h/one", "postgres://a@h/one", "are the same"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("DATABASE_URL_EU", row.eu)
			t.Setenv("DATABASE_URL_US", row.us)
			_, err := givenServers()
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

// Caddyfile.example looks at OTEL_TRACES_EXPORTER alone; the service also at an
// endpoint. Whoever sets only that must not get half a trace.
func TestTracing_anEndpointTurnsItOnAtTheEdgeToo(t *testing.T) {
	for _, row := range []struct{ exporter, endpoint, want string }{
		{"", "", ""},
		{"", "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER=otlp"},
		{"none", "http://127.0.0.1:4318", ""},
		{"otlp", "", ""},
	} {
		t.Setenv("OTEL_TRACES_EXPORTER", row.exporter)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", row.endpoint)
		if got := strings.Join(tracing(), " "); got != row.want {
			t.Errorf("%+v: %q", row, got)
		}
	}
}
