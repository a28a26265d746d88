// Package ofrep lets the official OpenFeature client evaluate flags at the edge.
package ofrep

import (
	"encoding/json"
	"slices"
	"testing"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/test/node"
)

// seen is what client.mjs prints.
type seen struct {
	Statuses []int
	Dark     details
	Form     struct{ Fields int }
	Limit    int
	Greeting string
	Hidden   details
	Kind     details `json:"wrongKind"`
}

type details struct {
	Value                      any
	Reason, Variant, ErrorCode string
}

func TestOFREP_officialClient(t *testing.T) {
	dir := node.Install(t, "the official OFREP client was NOT run against edge_flags", "client.mjs")
	key := edgetest.Key(t, "EdDSA")
	address := edgetest.Run(t, `{
	`+edgetest.Globals+`
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
		}
		assertion {
			key_file `+edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA")))+`
		}
		issuer https://eu.example {
			key_file `+edgetest.KeyFile(t, jwks.Key{ID: "k1", Material: edgetest.Public(key)})+`
			audience gatehouse
		}
	}
}
http://:0 {
	bind 127.0.0.1
	edge_guard
	@session header Authorization *
	edge_session @session
	edge_flags {
		flag dark {
			public
			rule on {
				tenants acme
			}
		}
		flag checkout.form {
			public
			variant short `+"`"+`{"fields": 3}`+"`"+`
			default short
		}
		flag limit {
			public
			variant low 10
			default low
		}
		flag greeting {
			public
			variant hello `+"`"+`"hello"`+"`"+`
			default hello
		}
		flag maintenance
	}
}
`)
	token := edgetest.Token(t, "EdDSA", key, edgetest.Claims("https://eu.example", "gatehouse", nil), map[string]any{"kid": "k1"})

	signedIn := evaluate(t, dir, "http://"+address, token)
	if d := signedIn.Dark; d.Value != true || d.Reason != "TARGETING_MATCH" || d.Variant != "on" {
		t.Errorf("dark, signed in: %+v", d)
	}
	if signedIn.Form.Fields != 3 || signedIn.Limit != 10 || signedIn.Greeting != "hello" {
		t.Errorf("values: %+v", signedIn)
	}
	if d := signedIn.Hidden; d.Value != true || d.ErrorCode != "FLAG_NOT_FOUND" {
		t.Errorf("a private flag: %+v", d)
	}
	if d := signedIn.Kind; d.Value != "default" || d.ErrorCode != "TYPE_MISMATCH" {
		t.Errorf("a flag asked for as another kind: %+v", d)
	}
	if !slices.Equal(signedIn.Statuses, []int{200, 304}) {
		t.Errorf("statuses %v, want 200 and then 304", signedIn.Statuses)
	}
	if d := evaluate(t, dir, "http://"+address).Dark; d.Value != false || d.Reason != "DEFAULT" || d.Variant != "off" {
		t.Errorf("dark, not signed in: %+v", d)
	}
}

func evaluate(t *testing.T, dir string, arguments ...string) seen {
	t.Helper()
	out := node.Run(t, dir, "node", append([]string{"client.mjs"}, arguments...)...)
	var s seen
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}
