package caddymodule_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// TestCaddy_limits asks a real Caddy: which request counts for whom, the path that
// the client sent where another handler changed it, and that a reload forgets
// nothing.
func TestCaddy_limits(t *testing.T) {
	key := edgetest.Key(t, "EdDSA")
	file := edgetest.KeyFile(t, jwks.Key{ID: "k1", Material: edgetest.Public(key)})
	s, _ := newSite(t, `edge_guard {
		rate_limit login {
			burst 2
			rate 1/h
		}
		rate_limit api {
			by session
			rate 2/h
			match path /api/*
		}
	}
	handle_path /api/* {
		edge_session
		respond "{edge.session}"
	}
	handle /front {
		edge_session {
			optional
		}
		respond "{edge.session}"
	}
	respond "anybody"`)
	s.issuer = ""
	for _, issuer := range []string{"https://eu.example", "https://us.example"} {
		s.issuer += "\t\tissuer " + issuer + " {\n\t\t\tkey_file " + file + "\n\t\t\taudience gatehouse\n\t\t\tany_tenant\n\t\t}\n"
	}
	address := edgetest.Run(t, s.String())
	header := func(issuer, session string) string {
		claims := edgetest.Claims(issuer, "gatehouse", map[string]any{"sid": session})
		return "Authorization: Bearer " + edgetest.Token(t, "EdDSA", key, claims, map[string]any{"kid": "k1"}) + "\n"
	}
	one, two, foreign := header("https://eu.example", "s-1"), header("https://eu.example", "s-2"), header("https://us.example", "s-1")
	for i, row := range []struct {
		what, request, header string
		want                  int
		limit                 string
	}{
		{"a session's first", "GET /api/x", one, 200, `"api";r=1;t=1800`},
		{"its second, at another path", "POST /api/y", one, 200, `"api";r=0;t=1800`},
		{"its third", "GET /api/x", one, 429, `"api";r=0;t=1800`},
		{"another session", "GET /api/x", two, 200, `"api";r=1;t=1800`},
		{"a session of that name of another issuer", "GET /api/x", foreign, 200, `"api";r=1;t=1800`},
		{"no session", "GET /api/x", "", 401, ""},
		{"a forged session", "GET /api/x", "Authorization: Bearer " + strings.Repeat("x.", 3) + "\n", 401, ""},
		{"where the limit is not", "GET /front", one, 200, ""},
		{"a login", "POST /login", "", 200, `"login";r=1;t=3600`},
		{"a look at the login page", "GET /login", "", 200, ""},
		{"a login, spelt otherwise", "POST /%6Cogin", "", 200, `"login";r=0;t=3600`},
		{"a third login", "POST /login", "", 429, `"login";r=0;t=3600`},
		{"reload", "", "", 0, ""},
		{"its fourth", "GET /api/x", one, 429, `"api";r=0;t=1800`},
		{"a fourth login", "POST /login", "", 429, `"login";r=0;t=3600`},
	} {
		if row.what == "reload" {
			if err := edgetest.Load(strings.Replace(s.String(), "anybody", "anybody at all", 1)); err != nil {
				t.Fatal(err)
			}
			address = edgetest.Address(t)
			continue
		}
		a := edgetest.Raw(t, address, fmt.Sprintf("%s HTTP/1.1\nHost: pop.example\nContent-Length: 0\n%s\n", row.request, row.header))
		if a.StatusCode != row.want || a.Header.Get("RateLimit") != row.limit {
			t.Errorf("%d, %s: %d %q, want %d %q", i, row.what, a.StatusCode, a.Header.Get("RateLimit"), row.want, row.limit)
		}
		if row.want == 429 && (a.Header.Get("Retry-After") == "" || !strings.Contains(a.Body, `"violated-policies":[`)) {
			t.Errorf("%d, %s: %v %s", i, row.what, a.Header, a.Body)
		}
	}
}
