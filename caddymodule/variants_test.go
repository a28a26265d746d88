package caddymodule_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// TestCaddy_experiment asks a real Caddy: the matcher, the placeholder, the
// visitor's cookie beside a region's own, the log and a change of the file.
func TestCaddy_experiment(t *testing.T) {
	o := newOrigin(t)
	dir := t.TempDir()
	definitions, log := filepath.Join(dir, "experiments.json"), filepath.Join(dir, "access.log")
	put(t, definitions, `{"experiments":[{"name":"search","by":"anonymous","variants":[{"name":"v1","weight":1},{"name":"v2"}]}]}`)
	s, _ := newSite(t, `log {
		output file `+log+`
	}
	edge_guard
	edge_experiment {
		experiment banner {
			variant off 0%
			variant on 100%
			by anonymous
		}
		file `+definitions+`
	}
	@on edge_variant banner on
	@off edge_variant banner off
	@any edge_variant unknown
	route {
		header @on X-Banner "{edge.variant.banner} {edge.variant.search} [{edge.variant.unknown}]"
		header @off X-Banner wrong
		header @any X-Banner wrong
		reverse_proxy `+o.address()+`
	}`)
	s.issuer += "\n\t\tcookie_secret_file " + edgetest.Write(t, "cookie.secret", []byte(edgetest.CookieSecret))
	address := edgetest.Run(t, s.String())

	first := edgetest.Raw(t, address, "GET / HTTP/1.1\nHost: pop.example\n\n")
	set, err := http.ParseSetCookie(first.Header.Get("Set-Cookie"))
	if err != nil || first.Header.Get("X-Banner") != "on v1 []" || first.Header.Get("Cache-Control") != "private, no-cache" {
		t.Fatalf("%v: %v", err, first.Header)
	}
	ask := func() edgetest.Answer {
		return edgetest.Raw(t, address, "GET / HTTP/1.1\nHost: pop.example\nCookie: "+set.Name+"="+set.Value+"\n\n")
	}
	if again := ask(); again.Header.Get("X-Banner") != "on v1 []" || again.Header.Get("Set-Cookie") != "" {
		t.Errorf("again: %v", again.Header)
	}
	lines := waitFor(t, log, 2)
	id, _, _ := strings.Cut(set.Value, ".")
	for i, want := range []string{`"exposures":"banner=on,search=v1"`, `"variants":"banner=on,search=v1"`} {
		if !strings.Contains(lines[i], want) || !strings.Contains(lines[i], `"anonymous_id":"`+id+`"`) || strings.Contains(lines[1], `"exposures"`) {
			t.Errorf("line %d: %s", i, lines[i])
		}
	}
	put(t, definitions, `{"experiments":[{"name":"search","by":"anonymous","variants":[{"name":"v1","weight":0},{"name":"v2","weight":1}]}]}`)
	for deadline := time.Now().Add(20 * time.Second); ask().Header.Get("X-Banner") != "on v2 []"; {
		if time.Now().After(deadline) {
			t.Fatal("the file's change was not taken")
		}
	}
}

// TestCaddy_flags asks a real Caddy: the endpoint with and without a session,
// and a private flag in Caddy's own directives.
func TestCaddy_flags(t *testing.T) {
	s, token := newSite(t, `edge_guard
	@session header Authorization *
	edge_session @session
	edge_flags {
		flag dark {
			public
			rule on {
				tenants acme
			}
		}
		flag maintenance
	}
	@maintenance expression {edge.flag.maintenance} == "true"
	respond @maintenance 503
	respond "dark is {edge.flag.dark}"`)
	address := edgetest.Run(t, s.String())
	ask := func(path, authorization string) edgetest.Answer {
		return edgetest.Raw(t, address, "POST "+path+" HTTP/1.1\nHost: pop.example\nContent-Type: application/json\nContent-Length: 2\n"+authorization+"\n{}")
	}
	bearer := "Authorization: Bearer " + token + "\n"
	for _, row := range []struct{ path, authorization, want string }{
		{"/ofrep/v1/evaluate/flags", "", `{"flags":[{"key":"dark","value":false,"reason":"DEFAULT","variant":"off"}]}`},
		{"/ofrep/v1/evaluate/flags", bearer, `{"flags":[{"key":"dark","value":true,"reason":"TARGETING_MATCH","variant":"on"}]}`},
		{"/ofrep/v1/evaluate/flags/dark", bearer, `{"key":"dark","value":true,"reason":"TARGETING_MATCH","variant":"on"}`},
		{"/ofrep/v1/evaluate/flags/maintenance", bearer, `{"key":"maintenance","errorCode":"FLAG_NOT_FOUND","errorDetails":"There is no such flag."}`},
		{"/", bearer, "dark is true"}, {"/", "", "dark is false"},
	} {
		if a := ask(row.path, row.authorization); a.Body != row.want {
			t.Errorf("%s: %d %s, want %s", row.path, a.StatusCode, a.Body, row.want)
		}
	}
}

// put replaces a file at once.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}
