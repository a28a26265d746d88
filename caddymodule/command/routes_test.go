package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/command"
)

// boundary is a site with a route of every kind.
const boundary = `{
	admin ADMIN
	persist_config off
	auto_https off
	grace_period 1s
	log {
		output discard
	}
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
			health off
		}
		assertion {
			key_file KEY
		}
		issuer gatehouse:eu {
			secret_file SECRET
			audience shop
		}
	}
}
(home) {
	reverse_proxy {
		dynamic edge_region
		transport edge
	}
}
http://shop.example:0 {
	bind 127.0.0.1
	edge_guard
	handle /products/* {
		edge_cache {
			policy public
		}
		edge_region {
			to eu
		}
		import home
	}
	handle /admin/* {
		edge_session {
			require role admin
			require fresh 5m
		}
		edge_region
		@export path /admin/export
		respond @export "not here" 410
		import home
	}
	@legacy {
		method GET POST
		path /old/*
		not header X-New *
	}
	handle @legacy {
		edge_session {
			optional
		}
		reverse_proxy 127.0.0.1:9999
	}
	handle {
		error 404
	}
}
`

const table = `ROUTE                                           ANSWERED BY              SESSION                           CACHE  BY                                      WHERE
host shop.example                               goes on                  -                                 -      edge_guard                              Caddyfile:33
  path /products/*                              region eu                -                                 public edge_cache edge_region reverse_proxy    Caddyfile:35
  path /admin/*                                 home region              required: role admin, fresh 5m0s  -      edge_session edge_region reverse_proxy  Caddyfile:44
    path /admin/export                          edge                     required: role admin, fresh 5m0s  -      respond                                 …
  method GET POST, path /old/*, not (header X-New=*)  upstream 127.0.0.1:9999  optional                          -      edge_session reverse_proxy              Caddyfile:59
  any other request                             edge                     -                                 -      error                                   …
`

func writeBoundary(t *testing.T, p *pop) string {
	t.Helper()
	dir := t.TempDir()
	secret, key := filepath.Join(dir, "secret"), filepath.Join(dir, "key.pem")
	for file, data := range map[string]string{secret: string(p.secret), key: p.pem} {
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.NewReplacer("ADMIN", p.admin, "KEY", key, "SECRET", secret).Replace(boundary)
}

// shows holds what was printed against what is wanted, in which "…" stands for
// anything, and white space is as wide as it is.
func shows(t *testing.T, got, want string) {
	t.Helper()
	if !alike(strings.Fields(got), strings.Fields(want)) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func alike(got, want []string) bool {
	for i, word := range want {
		if word == "…" {
			for skip := range len(got) + 1 {
				if alike(got[skip:], want[i+1:]) {
					return true
				}
			}
			return false
		}
		if len(got) == 0 {
			return false
		}
		start, end, open := strings.Cut(word, "…")
		if open && (!strings.HasPrefix(got[0], start) || !strings.HasSuffix(got[0], end)) || !open && got[0] != word {
			return false
		}
		got = got[1:]
	}
	return len(got) == 0
}

// The table is the same of a file and of what runs.
func TestRoutes_areTheBoundary(t *testing.T) {
	p := newPOP(t, false)
	p.config = writeBoundary(t, p)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(p.config), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(t)
	ofWhatRuns, err := typed(t, command.Routes, "--address", p.admin)
	if err != nil {
		t.Fatal(err)
	}
	shows(t, ofWhatRuns, table)
	ofFile, err := typed(t, command.Routes, "--config", file, "--adapter", "caddyfile")
	if err != nil || ofFile != ofWhatRuns {
		t.Errorf("of the file: %v\n%s", err, ofFile)
	}
	asJSON, err := typed(t, command.Routes, "--address", p.admin, "--json")
	if err != nil || !strings.Contains(asJSON, `"answeredBy": "region"`) || !strings.Contains(asJSON, `"where": "Caddyfile:35"`) || !strings.Contains(asJSON, `"/config/apps/http/servers/srv0/`) {
		t.Errorf("%v\n%s", err, asJSON)
	}
}

func TestCommands_ofAFileRefuseWhatTheyCannotRead(t *testing.T) {
	p := newPOP(t, false)
	dir := t.TempDir()
	for name, row := range map[string]struct{ file, says string }{
		"no file":      {"", "no such file"},
		"a fault":      {strings.Replace(writeBoundary(t, p), "to eu", "to mars", 1), "Caddyfile:39"},
		"without edge": {"{\n\tadmin off\n}\nhttp://:0 {\n\trespond hello\n}\n", "has no edge { … }"},
	} {
		file := filepath.Join(dir, "Caddyfile")
		if row.file != "" {
			if err := os.WriteFile(file, []byte(row.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, asked := range []struct {
			command func() *cobra.Command
			args    []string
		}{{command.Routes, nil}, {command.Explain, []string{"GET", "/app"}}} {
			out, err := typed(t, asked.command, append(asked.args, "--config", file, "--adapter", "caddyfile")...)
			if err == nil || out != "" || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%s: %q %v", name, out, err)
			}
		}
		os.Remove(file)
	}
}
