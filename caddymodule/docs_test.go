package caddymodule_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// around is what a fragment of docs/CADDYFILE.md stands in.
const around = `{
	admin off
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9101
		}
		region us {
			upstreams 127.0.0.1:9102
		}
		assertion {
			key_file /etc/gatehouse/pop.pem
		}
		issuer https://eu.example {
			jwks_url https://eu.example/.well-known/jwks.json
			audience gatehouse
		}
		feed {
			url nats://127.0.0.1:4222
		}
	}
}
http://:8080 {
	edge_guard
	# here
}
`

// TestDocs_everyCaddyfileAdapts runs every block of docs/CADDYFILE.md that is
// marked "caddy". One that begins with a brace is a whole file; others stand in
// a site that has edge_guard.
func TestDocs_everyCaddyfileAdapts(t *testing.T) {
	data, err := os.ReadFile("../docs/CADDYFILE.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(data), "\n```caddy\n")
	if len(parts) < 2 {
		t.Fatal("no block was found")
	}
	for _, part := range parts[1:] {
		block, _, closed := strings.Cut(part, "\n```")
		if !closed {
			t.Fatalf("a block does not end:\n%s", part)
		}
		caddyfile := block + "\n"
		if !strings.HasPrefix(block, "{") {
			caddyfile = strings.Replace(around, "# here", strings.ReplaceAll(block, "\n", "\n\t"), 1)
		}
		if got := adapt(t, caddyfile); !strings.HasPrefix(got, "{") {
			t.Errorf("%s\n%s", got, block)
		}
	}
}

// TestDocs_everyModuleHasASection asks that whatever can be written in a Caddyfile
// can be looked up.
func TestDocs_everyModuleHasASection(t *testing.T) {
	data, err := os.ReadFile("../docs/CADDYFILE.md")
	if err != nil {
		t.Fatal(err)
	}
	var headings []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			headings = append(headings, strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("# ,:\n", r) })...)
		}
	}
	found := 0
	for _, module := range caddy.Modules() {
		name := module[strings.LastIndex(module, ".")+1:]
		if name != "edge" && !strings.HasPrefix(name, "edge_") {
			continue
		}
		found++
		if !slices.Contains(headings, name) {
			t.Errorf("%s has no heading in docs/CADDYFILE.md", module)
		}
	}
	if found < 12 {
		t.Errorf("only %d modules were found", found)
	}
}

// TestDocs_everyAttributeIsNamed asks that whatever edge_trace may write on a span is
// in its section.
func TestDocs_everyAttributeIsNamed(t *testing.T) {
	data, err := os.ReadFile("../docs/CADDYFILE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(data), "\n## edge_trace\n")
	section, _, _ = strings.Cut(section, "\n## ")
	source, err := os.ReadFile("../handoff/telemetry.go")
	if err != nil {
		t.Fatal(err)
	}
	attributes := regexp.MustCompile(`Attr\w+ += "([^"]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(attributes) < 20 {
		t.Fatalf("only %d attributes were found", len(attributes))
	}
	for _, match := range attributes {
		if !strings.Contains(section, "`"+match[1]+"`") {
			t.Errorf("%s is not in the section of edge_trace", match[1])
		}
	}
}
