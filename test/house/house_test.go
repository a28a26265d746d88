// Package house holds the tree to the import rules of docs/ARCHITECTURE.md.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gatehouse-edge/gatehouse"

// The rooms of the house. A new directive or capability is one more name here.
var (
	// directives decide about a request. They never import each other.
	directives = []string{"guard", "bot", "session", "experiment", "region", "geo", "flags", "signedurl", "cache"}
	// capabilities are what the business does. They never import each other.
	capabilities = []string{"accounts", "customers", "orders", "products", "invoices", "documents", "webhooks", "crm", "permissions", "portal", "purges"}
)

type pkg struct {
	ImportPath string
	Name       string
	Imports    []string
}

func TestHouse_nobodyImportsAcrossTheBoundary(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			from, to := strings.TrimPrefix(p.ImportPath, module+"/"), strings.TrimPrefix(imported, module+"/")
			if to == imported { // not ours
				if p.below("caddymodule/cache/rfc9111") && strings.Contains(strings.Split(imported, "/")[0], ".") {
					t.Errorf("%s imports %s: the rules of the cache use the standard library alone", from, imported)
				}
				continue
			}
			switch {
			case p.below("handoff") && !below(to, "handoff"):
				t.Errorf("%s imports %s: the hand-off imports neither side", from, to)
			case p.below("regionalsvc") && below(to, "caddymodule"):
				t.Errorf("%s imports %s: the region knows nothing of Caddy", from, to)
			case p.below("caddymodule") && below(to, "regionalsvc"):
				t.Errorf("%s imports %s: the edge knows nothing of the region but the hand-off", from, to)
			}
		}
	}
}

func TestHouse_directivesImportNoOtherDirective(t *testing.T) {
	t.Parallel()
	apart(t, "caddymodule/", directives)
}

func TestHouse_capabilitiesImportNoOtherCapability(t *testing.T) {
	t.Parallel()
	apart(t, "regionalsvc/", capabilities)
}

// apart fails when a package below one of the parts imports another part.
func apart(t *testing.T, prefix string, parts []string) {
	t.Helper()
	for _, p := range packages(t) {
		mine := part(p.ImportPath, prefix, parts)
		if mine == "" {
			continue
		}
		for _, imported := range p.Imports {
			if theirs := part(imported, prefix, parts); theirs != "" && theirs != mine {
				t.Errorf("%s imports %s: %s and %s are rooms of their own", p.ImportPath, imported, mine, theirs)
			}
		}
	}
}

func part(path, prefix string, parts []string) string {
	rest, ok := strings.CutPrefix(path, module+"/"+prefix)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	if slices.Contains(parts, name) {
		return name
	}
	return ""
}

func (p pkg) below(dir string) bool { return below(strings.TrimPrefix(p.ImportPath, module+"/"), dir) }

func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// packages lists the module's packages with what their code, not their tests,
// imports.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Imports", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found %d packages: the rules were not checked", len(all))
	}
	return all
}
