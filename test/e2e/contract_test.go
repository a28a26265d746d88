package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

// The demo is a contract: people script against it. Both POPs answer alike.

func TestContract_withoutASession(t *testing.T) {
	t.Parallel()
	navigation := []string{"Accept", "text/html", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	for _, pop := range topology.POPs {
		b := visit(pop)
		for _, row := range []struct {
			name, path string
			headers    []string
			location   string // empty: 401
		}{
			{"a navigation", "/app", navigation, "/login?return_to=%2Fapp"},
			{"a navigation of an old browser", "/app", []string{"Accept", "text/html"}, "/login?return_to=%2Fapp"},
			{"a navigation with a query", "/app?a=b&c", navigation, "/login?return_to=%2Fapp%3Fa%3Db%26c"},
			{"a script's request for a page", "/app", []string{"Accept", "*/*"}, ""},
			{"a fetch", "/app", []string{"Accept", "text/html", "Sec-Fetch-Mode", "cors"}, ""},
			{"the API", "/api/orders", []string{"Accept", "application/json"}, ""},
			{"no Accept", "/api/orders", nil, ""},
		} {
			t.Run(pop.POP+" "+row.name, func(t *testing.T) {
				t.Parallel()
				a := b.get(t, row.path, row.headers...)
				if row.location != "" {
					if a.status != http.StatusFound || a.header.Get("Location") != row.location || a.header.Get("Www-Authenticate") != "" {
						t.Errorf("answered %s, want 302 to %s", a, row.location)
					}
					return
				}
				a.is(t, http.StatusUnauthorized, "unauthenticated")
				if a.header.Get("Www-Authenticate") == "" || a.header.Get("Location") != "" {
					t.Errorf("a 401 needs WWW-Authenticate and no Location: %s", a)
				}
			})
		}
	}
}

func TestContract_publicPage(t *testing.T) {
	t.Parallel()
	for _, pop := range topology.POPs {
		a := visit(pop).get(t, "/products/coffee")
		if a.status != http.StatusOK || len(a.header.Values("X-Request-Id")) != 1 {
			t.Errorf("%s: %s", pop.POP, a)
		}
		for header, want := range map[string]string{
			"Cache-Control": "public, s-maxage=60, stale-while-revalidate=600, stale-if-error=86400",
			"Cache-Groups":  `"product:coffee"`,
		} {
			if got := a.header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", pop.POP, header, got, want)
			}
		}
		visit(pop).get(t, "/products/no-such").is(t, http.StatusNotFound, "not-found")
	}
}

func TestContract_login(t *testing.T) {
	t.Parallel()
	form := url.Values{"email": {ada}, "password": {demo.Password}}
	for _, pop := range topology.POPs {
		b := visit(pop)
		b.post(t, "/login", map[string]string{"email": ada, "password": "no"}).is(t, http.StatusUnauthorized, "")
		b.post(t, "/login", map[string]string{"email": "nobody@nowhere.example", "password": "no"}).is(t, http.StatusUnauthorized, "")
		for _, row := range []struct{ returnTo, location string }{
			{"", "/app"}, {"/app/orders", "/app/orders"}, {"https://evil.example/", "/app"}, {"//evil.example", "/app"}, {`/\evil.example`, "/app"},
		} {
			form.Set("return_to", row.returnTo)
			a := b.do(t, http.MethodPost, "/login", []byte(form.Encode()), "Content-Type", "application/x-www-form-urlencoded",
				"Accept", "text/html", "Origin", pop.URL, "Sec-Fetch-Site", "same-origin")
			if a.status != http.StatusSeeOther || a.header.Get("Location") != row.location || a.header.Get("Set-Cookie") == "" {
				t.Errorf("%s, return_to %q: %s, want 303 to %s", pop.POP, row.returnTo, a, row.location)
			}
		}
	}
}

func TestContract_logoutEndsTheCookie(t *testing.T) {
	t.Parallel()
	for _, email := range []string{ada, grace} {
		for _, pop := range topology.POPs {
			b := login(t, pop, email)
			a := b.do(t, http.MethodPost, "/logout", nil, "Origin", pop.URL, "Sec-Fetch-Site", "same-origin")
			if a.status != http.StatusNoContent && a.status != http.StatusSeeOther {
				t.Errorf("%s at %s: %s", email, pop.POP, a)
			}
			cleared := false
			for _, c := range (&http.Response{Header: a.header}).Cookies() {
				cleared = cleared || c.Name == "session" && c.Value == "" && c.MaxAge < 0
			}
			if !cleared {
				t.Errorf("%s at %s: the cookie stays: %s", email, pop.POP, a)
			}
		}
	}
}

// TestContract_logoutClearsACookieThatNoLongerHolds: a session that is over is no
// reason to keep its cookie, and there is nothing to be refused about.
func TestContract_logoutClearsACookieThatNoLongerHolds(t *testing.T) {
	t.Parallel()
	over := login(t, fra(), ada)
	over.cookie = over.cookie[:len(over.cookie)-8] + "AAAAAAAA" // no key signed this
	for _, pop := range topology.POPs {
		for _, b := range []*browser{over.at(pop), visit(pop)} {
			if b.cookie != "" {
				if a := b.get(t, "/api/orders"); a.status != http.StatusUnauthorized {
					t.Fatalf("the session still holds: %s", a)
				}
			}
			a := b.do(t, http.MethodPost, "/logout", nil, "Origin", pop.URL, "Sec-Fetch-Site", "same-origin")
			cleared := false
			for _, c := range (&http.Response{Header: a.header}).Cookies() {
				cleared = cleared || c.Name == "session" && c.Value == "" && c.MaxAge < 0
			}
			if a.status != http.StatusNoContent || !cleared {
				t.Errorf("%s with %q: %s", pop.POP, b.cookie, a)
			}
			if a := b.do(t, http.MethodPost, "/logout", nil, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden {
				t.Errorf("%s, from another site: %s", pop.POP, a)
			}
		}
	}
}

func TestContract_listsHaveOneForm(t *testing.T) {
	t.Parallel()
	for _, email := range []string{ada, grace} {
		b := login(t, iad(), email)
		seen := map[string]bool{}
		cursor, pages := "", 0
		for {
			a := b.get(t, "/api/customers?limit=2"+cursor)
			if a.status != http.StatusOK {
				t.Fatalf("%s", a)
			}
			p := decode[page[customer]](t, a)
			for _, c := range p.Items {
				if c.ID == "" || c.Name == "" || seen[c.ID] {
					t.Errorf("customer %+v", c)
				}
				seen[c.ID] = true
			}
			if pages++; p.Next == nil {
				break
			}
			if len(p.Items) != 2 {
				t.Errorf("a page of two that is not the last has %d", len(p.Items))
			}
			cursor = "&cursor=" + url.QueryEscape(*p.Next)
		}
		if len(seen) < 3 || pages < 2 {
			t.Errorf("%s has %d customers on %d pages, want at least 3", email, len(seen), pages)
		}
	}
}

func TestContract_anOrderSaysWhereItIs(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ email, currency string }{{ada, "EUR"}, {grace, "USD"}} {
		b := login(t, fra(), row.email)
		a := b.post(t, "/api/orders", newOrder{b.customer(t), 1299})
		o := decode[order](t, a)
		if a.status != http.StatusCreated || a.header.Get("Location") != "/api/orders/"+o.ID || o.ID == "" {
			t.Errorf("%s", a)
		}
		if o.TotalCents != 1299 || o.Currency != row.currency || o.Status == "" || o.CreatedAt == "" || o.CustomerID == "" {
			t.Errorf("order %+v", o)
		}
	}
}

func TestContract_aWrongBodyNamesItsField(t *testing.T) {
	t.Parallel()
	b := login(t, iad(), ada)
	for _, row := range []struct{ body, field string }{
		{`{"customerId":"x","totalCents":"1299"}`, "/totalCents"},
		{`{"customerId":"x","totalCents":1299,"tenantId":"globex"}`, "/tenantId"},
	} {
		a := b.do(t, http.MethodPost, "/api/orders", []byte(row.body), "Content-Type", "application/json")
		a.is(t, http.StatusBadRequest, "invalid-body")
		if !strings.Contains(string(a.body), `"`+row.field+`"`) {
			t.Errorf("%s does not name %s", a, row.field)
		}
	}
}

func TestContract_onlyTheShopsApproverChangesAProduct(t *testing.T) {
	t.Parallel()
	body := encode(map[string]any{"name": "Coffee, renamed", "priceCents": 475})
	for _, row := range []struct {
		email string
		want  []int
	}{{alan, []int{http.StatusForbidden}}, {grace, []int{http.StatusForbidden, http.StatusNotFound}}, {ada, []int{http.StatusOK}}} {
		a := login(t, iad(), row.email).do(t, http.MethodPut, "/api/products/coffee", body, "Content-Type", "application/json")
		ok := false
		for _, status := range row.want {
			ok = ok || a.status == status
		}
		if !ok {
			t.Errorf("%s: %s, want %v", row.email, a, row.want)
		}
	}
	for _, pop := range topology.POPs { // purged by the commit
		await(t, "the change at "+pop.POP, func() bool {
			return strings.Contains(string(visit(pop).get(t, "/products/coffee").body), "Coffee, renamed")
		})
	}
}

// A write on a cookie must come from this site.
func TestContract_aCrossSiteWriteIsRefused(t *testing.T) {
	t.Parallel()
	b := login(t, fra(), ada)
	body := encode(newOrder{b.customer(t), 1299})
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
	} {
		a := b.do(t, http.MethodPost, "/api/orders", body, append([]string{"Content-Type", "application/json"}, headers...)...)
		a.is(t, http.StatusForbidden, "")
	}
}

func TestContract_operatorsSeeEachRegion(t *testing.T) {
	t.Parallel()
	for _, region := range topology.Regions {
		operator := &browser{base: region.Operator, client: newClient()}
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			if a := operator.get(t, path); a.status != http.StatusOK {
				t.Errorf("%s%s: %s", region.Operator, path, a)
			}
		}
	}
	for _, pop := range topology.POPs {
		admin := &browser{base: "http://" + pop.Admin, client: newClient()}
		if a := admin.get(t, "/metrics"); a.status != http.StatusOK || !strings.Contains(string(a.body), "gatehouse_edge_") {
			t.Errorf("%s: no metrics of the edge", pop.Admin)
		}
	}
}
