package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	readyTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	pollInterval = 25 * time.Millisecond
	tailLines    = 15
)

// Process is one program of the topology. Its methods may be called from one
// goroutine at a time; PID and Exited from any.
type Process struct {
	// Name is what its log is called by: region-eu, pop-fra.
	Name string
	// Log is the file that its output goes to.
	Log string

	argv  []string
	env   []string // beside the demo's own environment
	ready func(context.Context) error
	died  func(*Process) // hears of an end that nobody asked for

	mu     sync.Mutex
	run    *run
	wanted bool // it is meant to be running
}

// run is one life of the program.
type run struct {
	process *os.Process
	began   int64 // where the log stood
	exited  chan struct{}
	state   *os.ProcessState // once exited is closed
}

// Start starts the program and waits until it answers. When it does not, the
// error holds the end of its log, and nothing is left running.
func (p *Process) Start(ctx context.Context) error {
	if err := p.spawn(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	if err := p.awaitReady(ctx); err != nil {
		_ = p.Kill()
		return fmt.Errorf("%s did not come up: %w", p.Name, err)
	}
	return nil
}

func (p *Process) spawn() error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	began, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes()

	// The death signal is sent when the thread that forked ends, not the process
	// (prctl(2), PR_SET_PDEATHSIG): the thread must live as long as the child.
	r := &run{began: began, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := cmd.Start()
		if err == nil {
			r.process = cmd.Process
			p.mu.Lock()
			p.run, p.wanted = r, true
			p.mu.Unlock()
		}
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // what it returns is in the state
		r.state = cmd.ProcessState
		close(r.exited)
		p.mu.Lock()
		unasked := p.wanted && p.run == r
		p.mu.Unlock()
		if unasked {
			p.died(p)
		}
	}()
	return <-started
}

func (p *Process) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready after %s", readyTimeout))
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	r := p.current()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-r.exited:
			return fmt.Errorf("it ended with %s\n%s", r.state, p.Tail())
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w\n%s", context.Cause(ctx), err, p.Tail())
		case <-tick.C:
		}
	}
}

// Stop asks the program to finish what it is doing (SIGTERM), and kills it when
// it has not ended after half a minute, which is an error.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM, stopTimeout) }

// Kill ends the program at once (SIGKILL).
func (p *Process) Kill() error { return p.end(syscall.SIGKILL, stopTimeout) }

func (p *Process) end(signal syscall.Signal, patience time.Duration) error {
	p.mu.Lock()
	p.wanted = false
	r := p.run
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	if err := r.process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	select {
	case <-r.exited:
		return nil
	case <-time.After(patience):
	}
	if signal == syscall.SIGKILL {
		return fmt.Errorf("%s (pid %d) does not end", p.Name, r.process.Pid)
	}
	if err := p.Kill(); err != nil {
		return err
	}
	return fmt.Errorf("%s did not end on %s within %s and was killed", p.Name, signal, patience)
}

// PID is the process id of the program, 0 before it was started.
func (p *Process) PID() int {
	if r := p.current(); r != nil {
		return r.process.Pid
	}
	return 0
}

// Exited is closed once the program, as it was last started, has ended.
func (p *Process) Exited() <-chan struct{} { return p.current().exited }

func (p *Process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// Tail is the end of what the program said since it was last started.
func (p *Process) Tail() string {
	r := p.current()
	if r == nil {
		return ""
	}
	said, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	said = bytes.TrimSpace(said[min(r.began, int64(len(said))):])
	lines := strings.Split(string(said), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return fmt.Sprintf("the end of %s:\n  %s", p.Log, strings.Join(lines, "\n  "))
}

// ExitCode is what the program, as it was last started, ended with; -1 while it
// runs and when a signal ended it.
func (p *Process) ExitCode() int {
	r := p.current()
	select {
	case <-r.exited:
		return r.state.ExitCode()
	default:
		return -1
	}
}
