package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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

// sources are what directives say of where they stand.
var sources = regexp.MustCompile(`,"source":"[^"]*:[0-9]+"`)

// Every directive of the edge says in its JSON where it stands, an imported one
// where it is written.
func TestAdapt_saysWhereADirectiveStands(t *testing.T) {
	config, err := edgetest.Adapt(strings.Replace(around, "# here", `edge_geo {
		database /var/lib/geo/countries.mmdb
	}
	edge_session
	edge_signed {
		key_file /etc/gatehouse/links.keys
	}
	edge_experiment {
		experiment search {
			by user
			variant v1
			variant v2
		}
	}
	edge_flags {
		flag dark {
			public
		}
	}
	handle /x {
		edge_region
	}`, 1))
	if err != nil {
		t.Fatal(err)
	}
	guard := strings.Count(around[:strings.Index(around, "edge_guard")], "\n") + 1
	for name, line := range map[string]int{"guard": guard, "geo": guard + 1, "session": guard + 4, "signed": guard + 5, "experiment": guard + 8, "flags": guard + 15, "region": guard + 21} {
		handler := regexp.MustCompile(`"handler":"edge_` + name + `".*?"source":"(.*?)"`).FindSubmatch(config)
		if want := "Caddyfile:" + strconv.Itoa(line); handler == nil || string(handler[1]) != want {
			t.Errorf("edge_%s: %q, want %s\n%s", name, handler, want, config)
		}
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
	config = sources.ReplaceAll(config, nil) // TestAdapt_saysWhereADirectiveStands looks at those
	if err := json.Indent(&pretty, config, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return pretty.String()
}
