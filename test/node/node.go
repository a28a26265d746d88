// Package node gives tests what npm installs.
package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Install copies files and directories of the test's own directory to one that is
// removed with the test, and installs there what package-lock.json, one of them, pins;
// no script of a package is run. Where node or npm is missing the test fails in CI and
// is skipped elsewhere; lost says what was not tested then.
func Install(t *testing.T, lost string, names ...string) (dir string) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		_, err := exec.LookPath(program)
		switch {
		case err != nil && os.Getenv("CI") != "":
			t.Fatalf("%s is not installed", program)
		case err != nil:
			t.Skipf("%s is not installed: %s (apt-get install nodejs npm)", program, lost)
		}
	}
	dir = t.TempDir()
	for _, name := range append(names, "package.json", "package-lock.json") {
		copyTo(t, filepath.Join(dir, name), name)
	}
	Run(t, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	return dir
}

func copyTo(t *testing.T, to, from string) {
	t.Helper()
	info, err := os.Stat(from)
	if err == nil && info.IsDir() {
		err = os.CopyFS(to, os.DirFS(from))
	} else if err == nil {
		var data []byte
		if data, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Run runs a program in dir and gives what it prints. The test fails where it does.
func Run(t *testing.T, dir, program string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, arguments...)
	command.Dir = dir
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}
