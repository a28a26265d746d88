package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrite_isTheDatabaseInTheTree: whoever changes the table makes the database
// again.
func TestWrite_isTheDatabaseInTheTree(t *testing.T) {
	t.Parallel()
	made := filepath.Join(t.TempDir(), "countries.mmdb")
	if err := run([]string{"../testdata/countries.txt", made}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../testdata/countries.mmdb")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("testdata/countries.mmdb is not what its table gives (%v): go run ./caddymodule/geo/mkcountries caddymodule/geo/testdata/countries.txt caddymodule/geo/testdata/countries.mmdb", err)
	}
}

func TestWrite_refusals(t *testing.T) {
	t.Parallel()
	for table, want := range map[string]string{
		"192.0.2.0/24 DE":                "line 1: it is a network",
		"# c\n\n192.0.2.0 DE EU":         "line 3: invalid CIDR",
		"192.0.2.0/24 DE EU\nx/24 US NA": "line 2: invalid CIDR",
	} {
		if err := write(new(bytes.Buffer), strings.NewReader(table)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", table, err)
		}
	}
	if err := run(nil); err == nil || !strings.Contains(err.Error(), "usage") {
		t.Error(err)
	}
}
