package geo_test

import (
	"fmt"
	"testing"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// TestCaddy_countryChoosesTheRegion asks a whole POP, through a proxy that it
// trusts, before and after a reload.
func TestCaddy_countryChoosesTheRegion(t *testing.T) {
	config := fmt.Sprintf(`{
	%s
	servers {
		trusted_proxies static 127.0.0.0/8
	}
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
		}
		region us {
			upstreams 127.0.0.1:9
			countries US CA
		}
		assertion {
			key_file %s
		}
	}
}
http://:0 {
	bind 127.0.0.1
	edge_guard
	edge_geo {
		database testdata/countries.mmdb
		redirect DE /de{uri}
	}
	map {edge.geo.country} {currency} {
		US USD
		default EUR
	}
	edge_region {
		country {edge.geo.country}
	}
	respond "{edge.geo.country} {edge.geo.continent} {currency} {edge.region}"
}
`, edgetest.Globals, edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))))
	address := edgetest.Run(t, config)
	for range 2 {
		for from, want := range map[string]string{
			"192.0.2.7": "DE EU EUR eu", "198.51.100.7": "US NA USD us", "203.0.113.7": "FR EU EUR eu", "10.0.0.1": "  EUR eu", "2001:db8:1::1": "US NA USD us",
		} {
			a := edgetest.Raw(t, address, "GET / HTTP/1.1\nHost: pop.example\nX-Forwarded-For: "+from+"\n\n")
			if a.StatusCode != 200 || a.Body != want {
				t.Errorf("%s: %d %q, want %q", from, a.StatusCode, a.Body, want)
			}
		}
		a := edgetest.Raw(t, address, "GET /a?b HTTP/1.1\nHost: pop.example\nX-Forwarded-For: 192.0.2.7\nSec-Fetch-Mode: navigate\n\n")
		if a.StatusCode != 302 || a.Header.Get("Location") != "/de/a?b" || len(a.Header["X-Request-Id"]) != 1 {
			t.Errorf("%d %v", a.StatusCode, a.Header)
		}
		if err := edgetest.Load(config); err != nil {
			t.Fatal(err)
		}
		address = edgetest.Address(t)
	}
}
