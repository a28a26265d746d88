package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// capDACOverride lets a process pass closed directories (capabilities(7)).
const capDACOverride = 1

// account is whom the server runs as; the zero value is ourselves.
type account struct {
	name string
	id   *syscall.Credential
}

// serverAccount is ourselves, or for root the user postgres, else nobody.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return account{}, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return account{}, err
		}
		return account{name: name, id: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, fmt.Errorf("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody to run it as")
}

// own gives path to the account.
func (a account) own(path string) error {
	if a.id == nil {
		return nil
	}
	return os.Lchown(path, int(a.id.Uid), int(a.id.Gid))
}

// firstClosed is the first directory on the way to path, path's own excluded,
// that the account may not enter. Empty: none.
func (a account) firstClosed(path string) string {
	var ancestors []string
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		ancestors = append(ancestors, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for i := len(ancestors) - 1; i >= 0; i-- {
		info, err := os.Stat(ancestors[i])
		if err != nil {
			return ancestors[i]
		}
		stat := info.Sys().(*syscall.Stat_t)
		execute := os.FileMode(0o001)
		switch {
		case stat.Uid == a.id.Uid:
			execute = 0o100
		case stat.Gid == a.id.Gid:
			execute = 0o010
		}
		if info.Mode()&execute == 0 {
			return ancestors[i]
		}
	}
	return ""
}

// runAs lets cmd run as the server's account and end with us. The signal is
// PostgreSQL's fast shutdown; a server without durable data just dies.
func (c *Cluster) runAs(cmd *exec.Cmd) error {
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL="+locale(), "PGDATA=")
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if !c.opts.Durable {
		attr.Pdeathsig = syscall.SIGQUIT
	}
	if c.account.id != nil {
		attr.Credential = c.account.id
		if dir := c.account.firstClosed(cmd.Path); dir != "" {
			return fmt.Errorf("PostgreSQL's programs in %s cannot be run by user %s, who may not enter %s", c.opts.Bin, c.account.name, dir)
		}
		// A checkout under /root, for example: the data is the account's own,
		// only the way to it is closed. The capability opens it to this child.
		if c.account.firstClosed(c.opts.Dir) != "" {
			attr.AmbientCaps = []uintptr{capDACOverride}
		}
	}
	cmd.SysProcAttr = attr
	return nil
}

// runsIn reports whether pid is a process at work in dir, where a postmaster goes.
func runsIn(pid int, dir string) bool {
	if pid <= 0 {
		return false
	}
	at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	real, err := filepath.EvalSymlinks(dir)
	return err == nil && at == real
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
