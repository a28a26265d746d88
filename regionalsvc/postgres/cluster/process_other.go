//go:build !linux

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// account is whom the server runs as: here always ourselves.
type account struct{}

func serverAccount() (account, error) {
	if os.Geteuid() == 0 {
		return account{}, errors.New("PostgreSQL refuses to run as root: run this as an ordinary user")
	}
	return account{}, nil
}

func (account) own(string) error { return nil }

func (c *Cluster) runAs(cmd *exec.Cmd) error {
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL="+locale(), "PGDATA=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return nil
}

// runsIn trusts the process table: signal 0 reaches who is there.
func runsIn(pid int, _ string) bool {
	return pid > 0 && syscall.Kill(pid, 0) == nil
}

// lockFile takes an exclusive lock that ends with this process at the latest.
func lockFile(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f.Close, nil
}
