package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

var update = flag.Bool("update", false, "write what was seen into testdata")

const divider = "\n----------\n"

// TestAdapt runs every caddymodule/*/testdata/*.caddyfiletest: a Caddyfile, a
// line of dashes, and then the JSON that it stands for or the message that
// refuses it, at once or when it is provisioned.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("*/testdata/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests found: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			caddyfile, want, _ := strings.Cut(string(data), divider)
			got := adapt(t, caddyfile+"\n")
			if *update {
				if err := os.WriteFile(file, []byte(caddyfile+divider+got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want = strings.TrimSpace(want); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// adapt gives the JSON, or the error of adapting or provisioning it.
func adapt(t *testing.T, caddyfile string) string {
	config, err := edgetest.Adapt(caddyfile)
	if err != nil {
		return err.Error()
	}
	parsed := new(caddy.Config)
	if err := json.Unmarshal(config, parsed); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(parsed); err != nil {
		return err.Error()
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, config, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return pretty.String()
}
