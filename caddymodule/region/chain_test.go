package region_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

const proxy = `reverse_proxy {
	dynamic edge_region
	transport edge
}`

func TestRegion_choosesInOrderAndSaysWhy(t *testing.T) {
	p := newPOP(t, `edge_guard
test_session
handle /pinned {
	edge_region {
		to us
	}
	`+proxy+`
}
handle {
	edge_region {
		country {header.Test-Country}
	}
	`+proxy+`
}`)
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/teach" {
			sendsTo("us")(w, r)
		}
	})
	p.ask(t, "GET", "/teach", nil, "Test-Tenant: moved", "Test-Home: eu")

	rows := []struct {
		name, path string
		fields     []string
		home       string
		why        decision.Reason
	}{
		{"pin comes first", "/pinned", []string{"Test-Tenant: moved", "Test-Home: eu", "Test-Country: DE"}, "us", decision.ReasonPin},
		{"then what was learnt", "/", []string{"Test-Tenant: moved", "Test-Home: eu", "Test-Country: DE"}, "us", decision.ReasonLearnt},
		{"then the claim", "/", []string{"Test-Tenant: acme", "Test-Home: us", "Test-Country: DE"}, "us", decision.ReasonClaim},
		{"an unknown claim is passed over", "/", []string{"Test-Tenant: acme", "Test-Home: mars", "Test-Country: US"}, "us", decision.ReasonCountry},
		{"a public name is no name", "/", []string{"Test-Tenant: acme", "Test-Home: america"}, "eu", decision.ReasonPOP},
		{"then the country", "/", []string{"Test-Country: us"}, "us", decision.ReasonCountry},
		{"a country of no region", "/", []string{"Test-Country: JP"}, "eu", decision.ReasonPOP},
		{"no country", "/", []string{"Test-Country: U"}, "eu", decision.ReasonPOP},
		{"then the POP", "/", nil, "eu", decision.ReasonPOP},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			res, _ := p.ask(t, "GET", row.path, nil, row.fields...)
			d := decided(t, res)
			if res.StatusCode != 200 || d.Home != row.home || d.Reason != row.why {
				t.Errorf("%d, %s because of %s; want 200, %s because of %s", res.StatusCode, d.Home, d.Reason, row.home, row.why)
			}
		})
	}
}

func TestRegion_rewritesToTheHomeRegionsPath(t *testing.T) {
	p := newPOP(t, site("edge_region {\nrewrite /{edge.region}{uri}\n}", ""))
	for _, row := range []struct{ home, asked, want, rewritten string }{
		{"eu", "/app", "/eu/app", "/eu/app"},
		{"eu", "/eu/app", "/eu/app", ""},
		{"eu", "/america/app", "/eu/app", "/eu/app"},
		{"us", "/eu/app?a=b", "/america/app?a=b", "/america/app?a=b"},
		{"us", "/us/app", "/america/us/app", "/america/us/app"}, // the public name stands in paths, not the name
		{"eu", "/europe/app", "/eu/europe/app", "/eu/europe/app"},
		{"eu", "/america", "/eu", "/eu"},
		{"eu", "/", "/eu/", "/eu/"},
		{"eu", "/a%7Eb%20c%c3%a9/x", "/eu/a%7Eb%20c%c3%a9/x", "/eu/a%7Eb%20c%c3%a9/x"},
		{"eu", "/app?x={y}&&a=&a&b==%2F+;%7b", "/eu/app?x={y}&&a=&a&b==%2F+;%7b", "/eu/app?x={y}&&a=&a&b==%2F+;%7b"},
		{"eu", "/app?", "/eu/app?", "/eu/app?"},
	} {
		region := p.eu
		if row.home == "us" {
			region = p.us
		}
		before := len(region.requests())
		res, _ := p.ask(t, "POST", row.asked, nil, "Test-Tenant: t"+row.home, "Test-Home: "+row.home)
		d := decided(t, res)
		all := region.requests()
		if res.StatusCode != 200 || len(all) != before+1 {
			t.Fatalf("%s of %s: %d, %d requests", row.asked, row.home, res.StatusCode, len(all)-before)
		}
		got := all[before]
		if got.target != row.want || d.Rewritten != row.rewritten || got.refused != nil {
			t.Errorf("%s of %s became %s (noted %q, region says %v), want %s (noted %q)", row.asked, row.home, got.target, d.Rewritten, got.refused, row.want, row.rewritten)
		}
	}
}

func TestTransport_clientSetsNothingThatOnlyTheEdgeMaySet(t *testing.T) {
	p := newPOP(t, site("edge_region", "")+"")
	answer := p.raw(t, strings.Join([]string{
		"POST /api/orders?x=1 HTTP/1.1",
		"Host: shop.example",
		"Connection: close, x-tenant-id, X-Request-Id, traceparent, x-edge-assertion, x-home-region",
		"Content-Length: 2",
		"X-Tenant-Id: evil", "x_tenant_id: evil", "X.Tenant.Id: evil",
		"X-Home-Region: us", "X-Request-Id: evil-evil-evil", "X-Edge-Assertion: a.b.c", "X-Edge-Anything: 1",
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=b", "baggage: tenant=evil",
		"Cookie: a=1; session=secret; b=2", "Cookie: session=other",
		"Test-Tenant: acme", "Test-Home: eu",
		"Idempotency-Key: k-1",
		"", "{}",
	}, "\r\n"))
	if !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Fatal(answer)
	}
	s := p.eu.only()
	want := http.Header{"X-Tenant-Id": {"acme"}, "X-Home-Region": {"eu"}, "Cookie": {"a=1; b=2"}, "Idempotency-Key": {"k-1"}}
	for field, lines := range want {
		if !slices.Equal(s.header[field], lines) {
			t.Errorf("%s: %q, want %q", field, s.header[field], lines)
		}
	}
	for _, field := range []string{"X-Request-Id", "X-Edge-Assertion"} {
		if len(s.header[field]) != 1 || strings.Contains(s.header.Get(field), "evil") {
			t.Errorf("%s: %q, want the edge's one", field, s.header[field])
		}
	}
	for field := range s.header {
		switch field {
		case "X_tenant_id", "X.tenant.id", "X-Edge-Anything", "Traceparent", "Tracestate", "Baggage":
			t.Errorf("%s reaches the region: %q", field, s.header[field])
		}
	}
	if c := s.claims; c.Tenant != "acme" || c.Method != "POST" || c.Path != "/api/orders?x=1" || c.RequestID != s.header.Get("X-Request-Id") || c.Replay || c.Subject != "u-acme" || c.SubjectIssuer != "test" {
		t.Errorf("claims: %+v", c)
	}
}

func TestTransport_headerUpSetsNothingOfTheEdgesEither(t *testing.T) {
	p := newPOP(t, `edge_guard
edge_region
reverse_proxy {
	dynamic edge_region
	transport edge
	header_up X-Tenant-Id evil
	header_up +X-Request-Id evil
	header_up X-Edge-Assertion evil
	header_up -X-Home-Region
	header_up X-Other kept
}`)
	p.ask(t, "GET", "/", nil)
	s := p.eu.only()
	if s.header.Get("X-Tenant-Id") != "" || len(s.header["X-Request-Id"]) != 1 || s.header.Get("X-Other") != "kept" {
		t.Errorf("%v", s.header)
	}
}

func TestTransport_anonymousWithoutSession(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	p.ask(t, "DELETE", "/x", nil)
	s := p.eu.only()
	if _, ok := s.header["X-Tenant-Id"]; ok || !s.claims.Identity().Anonymous() || s.claims.Home != "eu" {
		t.Errorf("%+v %v", s.claims, s.header)
	}
}

func TestTransport_sessionCookieTravelsWhereAsked(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	p.ask(t, "GET", "/", nil, "Cookie: session=x", "Test-Forward: 1")
	p.ask(t, "GET", "/", nil, "Cookie: session=x")
	p.ask(t, "GET", "/", nil, "Cookie: Session=x; mysession=y; session2=z")
	all := p.eu.requests()
	if all[0].header.Get("Cookie") != "session=x" || all[1].header.Get("Cookie") != "" || all[2].header.Get("Cookie") != "Session=x; mysession=y; session2=z" {
		t.Errorf("%q %q %q", all[0].header["Cookie"], all[1].header["Cookie"], all[2].header["Cookie"])
	}
}

func TestTransport_assertionIsSharedForReadsAndMadeForEachWrite(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	jti := func(method, tenant string) string {
		t.Helper()
		before := len(p.eu.requests())
		p.ask(t, method, "/", nil, "Test-Tenant: "+tenant)
		s := p.eu.requests()[before]
		if s.refused != nil {
			t.Fatal(s.refused)
		}
		return s.claims.ID
	}
	read := jti("GET", "acme")
	if again := jti("HEAD", "acme"); again != read {
		t.Error("two reads of a session have two assertions")
	}
	if jti("GET", "globex") == read || jti("GET", "") == read {
		t.Error("two sessions share an assertion")
	}
	if a, b := jti("POST", "acme"), jti("POST", "acme"); a == b || a == read {
		t.Error("a write has an assertion that was sent before")
	}
	// A reload keeps what was signed and what was learnt.
	p.eu.answers(sendsTo("us"))
	p.ask(t, "GET", "/", nil, "Test-Tenant: taught")
	p.eu.answers(nil)
	p.load(t, site("edge_region", "response_header_timeout 9s"))
	if again := jti("GET", "acme"); again != read {
		t.Error("a reload forgot the assertion")
	}
	res, _ := p.ask(t, "GET", "/", nil, "Test-Tenant: taught")
	if d := decided(t, res); d.Home != "us" || d.Reason != decision.ReasonLearnt || d.Replayed {
		t.Errorf("a reload forgot what was learnt: %+v", d)
	}
}

func TestRegion_withoutItTheAnswerSaysSo(t *testing.T) {
	p := newPOP(t, "edge_guard\n"+proxy)
	res, body := p.ask(t, "GET", "/", nil)
	if res.StatusCode != 500 || len(p.eu.requests()) != 0 || !strings.Contains(body, "requestId") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
