// Package cluster runs a private PostgreSQL server as a child of this process:
// for the demo, which keeps its data, and for tests, which do not.
//
// Production never uses it. There, PostgreSQL is somebody's job.
package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Times of a server's life.
const (
	startTimeout = 60 * time.Second // recovery after a kill may take a while
	stopTimeout  = 15 * time.Second
	pollInterval = 20 * time.Millisecond
)

// Superuser is the name of the cluster's superuser. Its password is made at
// initialisation and kept in the file "superuser-password", mode 0600.
const Superuser = "gatehouse_superuser"

// Options of [Open].
type Options struct {
	// Dir holds everything: the data, the server's log, its port and the
	// superuser's password. It is made when absent. Required.
	Dir string
	// Durable says that the data must survive a crash of the machine. False,
	// for tests, turns fsync off.
	Durable bool
	// Bin is the directory of PostgreSQL's programs. Empty: see [FindBinaries].
	Bin string
	// MaxConnections is the server's limit. Default: 200.
	MaxConnections int
	// Log, when set, is told what takes a moment. The format is fmt's.
	Log func(format string, args ...any)
}

// Cluster is a running server. It listens on a loopback port, asks everybody
// for a password (scram-sha-256), and ends when this process does.
type Cluster struct {
	opts     Options
	account  account
	port     int
	password string
	unlock   func() error

	process *os.Process
	exited  chan struct{} // closed once the server is gone
}

// Open initialises the cluster of opts.Dir if need be, starts it and waits until
// it answers. The caller must [Cluster.Stop] it. One process at a time may open a
// directory; ctx bounds the start and not the life of the server.
//
// PostgreSQL refuses to run as root. A root caller's server therefore runs as the
// user postgres, else nobody, and Dir is given to that user.
func Open(ctx context.Context, opts Options) (_ *Cluster, err error) {
	if opts.Log == nil {
		opts.Log = func(string, ...any) {}
	}
	if opts.MaxConnections == 0 {
		opts.MaxConnections = 200
	}
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, err
	}
	if opts.Bin == "" {
		if opts.Bin, err = FindBinaries(); err != nil {
			return nil, err
		}
	}
	c := &Cluster{opts: opts}
	if c.account, err = serverAccount(); err != nil {
		return nil, err
	}
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	if c.unlock, err = lockFile(filepath.Join(opts.Dir, "lock")); err != nil {
		return nil, fmt.Errorf("PostgreSQL in %s is run by another process: %w", opts.Dir, err)
	}
	defer func() {
		if err != nil {
			_ = c.unlock()
		}
	}()
	if err := c.initialise(ctx); err != nil {
		return nil, err
	}
	if err := c.awaitPredecessor(ctx); err != nil {
		return nil, err
	}
	return c, c.start(ctx)
}

// URL is a connection string for user, with an empty password for the
// [Superuser] meaning its own.
func (c *Cluster) URL(user, password, database string) string {
	if user == Superuser && password == "" {
		password = c.password
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port is the TCP port on 127.0.0.1.
func (c *Cluster) Port() int { return c.port }

// PID is the server's process id.
func (c *Cluster) PID() int { return c.process.Pid }

// Exited is closed when the server is gone, whoever ended it.
func (c *Cluster) Exited() <-chan struct{} { return c.exited }

// CreateRole makes a login role with this password, or gives the one there is
// this password, and makes it a member of groups. An empty password makes a role
// that cannot log in: a group. No role made here is a superuser, may bypass row
// security or may create roles.
func (c *Cluster) CreateRole(ctx context.Context, name, password string, groups ...string) error {
	return c.superuser(ctx, func(conn *pgx.Conn) error { return CreateRole(ctx, conn, name, password, groups...) })
}

// CreateDatabase makes a database that owner owns, unless it is there.
func (c *Cluster) CreateDatabase(ctx context.Context, name, owner string) error {
	return c.superuser(ctx, func(conn *pgx.Conn) error { return CreateDatabase(ctx, conn, name, owner, "") })
}

func (c *Cluster) superuser(ctx context.Context, fn func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, c.URL(Superuser, "", "postgres"))
	if err != nil {
		return fmt.Errorf("connect as superuser: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}

// Stop ends the server in PostgreSQL's fast mode: open transactions are rolled
// back, the data is consistent and on disk. It may be called twice.
func (c *Cluster) Stop() error {
	defer c.unlock()
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = c.process.Signal(signal) // an error means that it is gone
		select {
		case <-c.exited:
			return nil
		case <-time.After(stopTimeout):
			c.opts.Log("PostgreSQL (pid %d) does not end on %s", c.process.Pid, signal)
		}
	}
	return fmt.Errorf("PostgreSQL (pid %d) could not be ended", c.process.Pid)
}

func (c *Cluster) dataDir() string { return filepath.Join(c.opts.Dir, "data") }
func (c *Cluster) logPath() string { return filepath.Join(c.opts.Dir, "postgresql.log") }

// makeDir makes Dir and gives it to the server's user.
func (c *Cluster) makeDir() error {
	if err := os.MkdirAll(c.opts.Dir, 0o700); err != nil {
		return err
	}
	return c.account.own(c.opts.Dir)
}

// initialise runs initdb once. An interrupted one leaves no trace: the cluster is
// made beside its place and renamed.
func (c *Cluster) initialise(ctx context.Context) error {
	passwordFile := filepath.Join(c.opts.Dir, "superuser-password")
	if _, err := os.Stat(filepath.Join(c.dataDir(), "PG_VERSION")); err == nil {
		password, err := os.ReadFile(passwordFile)
		c.password = strings.TrimSpace(string(password))
		return err
	}
	c.opts.Log("making a PostgreSQL cluster in %s with %s", c.opts.Dir, c.opts.Bin)
	c.password = rand.Text()
	if err := os.WriteFile(passwordFile, []byte(c.password+"\n"), 0o600); err != nil {
		return err
	}
	if err := c.account.own(passwordFile); err != nil {
		return err
	}
	fresh := c.dataDir() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	args := []string{
		"-D", fresh, "--locale=" + locale(), "--encoding=UTF8", "--username=" + Superuser,
		"--pwfile=" + passwordFile, "--auth=scram-sha-256", "--no-instructions",
	}
	if !c.opts.Durable {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.opts.Bin, "initdb"), args...)
	if err := c.runAs(cmd); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb in %s: %w\n%s", c.opts.Dir, err, out)
	}
	return os.Rename(fresh, c.dataDir())
}

// locale is one with Unicode's character classes and the order of bytes.
func locale() string {
	if runtime.GOOS == "linux" {
		return "C.UTF-8"
	}
	return "C"
}

// start runs the server on the port of the last time, or on a free one.
func (c *Cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	port := c.lastPort()
	for {
		if !free(port) {
			port = freePort()
		}
		err := c.startOn(ctx, port)
		if !errors.Is(err, errPortTaken) {
			return err
		}
		port = 0 // somebody was quicker
	}
}

var errPortTaken = errors.New("the port is taken")

func (c *Cluster) startOn(ctx context.Context, port int) error {
	c.port = port
	log, err := os.OpenFile(c.logPath(), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	begin, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(c.opts.Bin, "postgres"), c.settings()...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := c.runAs(cmd); err != nil {
		return err
	}
	if err := c.spawn(cmd); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	if err := c.awaitReady(ctx); err != nil {
		_ = c.process.Kill()
		<-c.exited
		said, _ := os.ReadFile(c.logPath())
		said = said[min(int(begin), len(said)):]
		if strings.Contains(string(said), "Address already in use") {
			return errPortTaken
		}
		return fmt.Errorf("PostgreSQL in %s did not come up: %w\n%s", c.opts.Dir, err, said)
	}
	return os.WriteFile(c.portPath(), []byte(strconv.Itoa(port)+"\n"), 0o600)
}

// settings of the server. There is no unix socket: its path would be bounded to
// 107 bytes and a second thing to protect.
func (c *Cluster) settings() []string {
	settings := []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", fmt.Sprintf("port=%d", c.port),
		fmt.Sprintf("max_connections=%d", c.opts.MaxConnections), "shared_buffers=64MB",
		"log_min_messages=warning", "log_statement=none", "log_timezone=UTC", "timezone=UTC",
	}
	if !c.opts.Durable {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")
	}
	args := []string{"-D", c.dataDir()}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return args
}

// spawn starts cmd from a thread that lives as long as the child: the kernel
// sends the child its death signal when the *thread* that forked it ends, not
// the process (prctl(2), PR_SET_PDEATHSIG).
func (c *Cluster) spawn(cmd *exec.Cmd) error {
	started := make(chan error)
	exited := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	c.process, c.exited = cmd.Process, exited
	return nil
}

// awaitReady waits until the server lets the superuser in.
func (c *Cluster) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := c.superuser(ctx, func(conn *pgx.Conn) error { return conn.Ping(ctx) })
		if err == nil {
			return nil
		}
		select {
		case <-c.exited:
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// awaitPredecessor waits for a server that still runs in the data directory,
// whose parent was killed, and removes a pid file that nobody stands behind:
// PostgreSQL would not start if the number meanwhile belongs to somebody else.
func (c *Cluster) awaitPredecessor(ctx context.Context) error {
	path := filepath.Join(c.dataDir(), "postmaster.pid")
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(string(content), "\n")
		pid, _ := strconv.Atoi(strings.TrimSpace(line))
		if !runsIn(pid, c.dataDir()) {
			return os.Remove(path)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another PostgreSQL (pid %d) runs in %s and does not end", pid, c.dataDir())
		case <-tick.C:
		}
	}
}

func (c *Cluster) portPath() string { return filepath.Join(c.opts.Dir, "port") }

// lastPort is the port of the last time, 0 the first time.
func (c *Cluster) lastPort() int {
	content, _ := os.ReadFile(c.portPath())
	port, _ := strconv.Atoi(strings.TrimSpace(string(content)))
	return port
}

func free(port int) bool {
	if port <= 0 {
		return false
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// freePort asks the kernel for a port. It may be gone a moment later.
func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
