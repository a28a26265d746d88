package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// EnvBin names the directory of PostgreSQL's programs, before all others.
const EnvBin = "GATEHOUSE_PG_BIN"

// ErrNoPostgres is the error of [FindBinaries] on a machine without PostgreSQL.
var ErrNoPostgres = errors.New("no PostgreSQL server on this machine: install one (Debian: apt-get install postgresql) or set " +
	EnvBin + " to the directory of initdb and postgres")

// FindBinaries looks for a directory with initdb and postgres: in the
// environment ([EnvBin]), on the PATH, and, newest first, where Debian and Red Hat
// keep them apart from the PATH.
func FindBinaries() (string, error) {
	if dir := os.Getenv(EnvBin); dir != "" {
		if !complete(dir) {
			return "", fmt.Errorf("%s=%s: that directory has not both initdb and postgres", EnvBin, dir)
		}
		return filepath.Abs(dir)
	}
	for _, name := range []string{"postgres", "pg_ctl"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if path, err = filepath.EvalSymlinks(path); err == nil && complete(filepath.Dir(path)) {
			return filepath.Dir(path), nil
		}
	}
	newest, best := "", -1
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		found, _ := filepath.Glob(pattern)
		for _, dir := range found {
			version := versionOf(dir)
			if version > best && complete(dir) {
				newest, best = dir, version
			}
		}
	}
	if newest == "" {
		return "", ErrNoPostgres
	}
	return newest, nil
}

// versionOf reads the major version out of /usr/lib/postgresql/15/bin.
func versionOf(dir string) int {
	base := filepath.Base(filepath.Dir(dir))
	if len(base) > 6 && base[:6] == "pgsql-" {
		base = base[6:]
	}
	version, err := strconv.Atoi(base)
	if err != nil {
		return 0
	}
	return version
}

func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}
