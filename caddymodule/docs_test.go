package caddymodule_test

import (
	"os"
	"strings"
	"testing"
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
