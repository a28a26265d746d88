package caddymodule_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// TestCaddy_noSpellingPassesTheGate sends a real Caddy every spelling that a framework
// might serve, without a session: none may reach the origin.
func TestCaddy_noSpellingPassesTheGate(t *testing.T) {
	o := newOrigin(t)
	s, token := newSite(t, `edge_guard
	@portal edge_path /app /eu/app
	@api edge_path /api
	handle @portal {
		edge_session
		reverse_proxy `+o.address()+`
	}
	handle @api {
		edge_session
		reverse_proxy `+o.address()+`
	}
	reverse_proxy `+o.address())
	address := edgetest.Run(t, s.String())
	var spellings []string
	for _, page := range []string{"/app", "/app/orders", "/eu/app", "/api/customers"} {
		for _, around := range []string{
			"PAGE", "PAGE/", "PAGE?x=1", "PAGE.rsc", "PAGE.rsc?_rsc=abc", "PAGE.prefetch.rsc", "PAGE.segments/_tree.segment.rsc", "PAGE.segments/a/b.segment.rsc",
			"PAGE.html", "PAGE.json", "PAGE.txt", "PAGE/index", "PAGE/index.rsc", "PAGE%20", "/_next/data/buildPAGE.json", "/_next/data/x-yPAGE", "/_next/image?url=PAGE&w=64",
		} {
			spelt := strings.ReplaceAll(around, "PAGE", page)
			path, query, _ := strings.Cut(spelt, "?")
			spellings = append(spellings, spelt, strings.ToUpper(path)+"?"+query, strings.Replace(path, "/a", "/%61", 1)+"?"+query, strings.ReplaceAll(path, "p", "%70")+"?"+query)
		}
	}
	for _, target := range spellings {
		for _, header := range []string{"", "Rsc: 1\n", "X-Nextjs-Data: 1\n", "X-Middleware-Subrequest: middleware:middleware:middleware\n", "X-Original-Url: /products\n"} {
			a := edgetest.Raw(t, address, "GET "+target+" HTTP/1.1\nHost: pop.example\n"+header+"\n")
			if got := o.take(); len(got) > 0 || a.StatusCode != 401 && a.StatusCode != 400 {
				t.Errorf("GET %s with %q: %d, and %d reached the origin", target, header, a.StatusCode, len(got))
			}
		}
	}
	for _, target := range []string{"/", "/products/app", "/apps", "/application.rsc", "/_next/static/app.js", "/_next/data/build/products.json"} {
		if a := edgetest.Raw(t, address, "GET "+target+" HTTP/1.1\nHost: pop.example\n\n"); a.StatusCode != 200 || len(o.take()) != 1 {
			t.Errorf("GET %s: %d, and nothing reached the origin", target, a.StatusCode)
		}
	}
	if a := edgetest.Raw(t, address, "GET /app.rsc HTTP/1.1\nHost: pop.example\nAuthorization: Bearer "+token+"\n\n"); a.StatusCode != 200 {
		t.Errorf("with a session: %d", a.StatusCode)
	}
}
