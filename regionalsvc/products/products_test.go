package products_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/products"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/regiontest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	nobody   = handoff.Identity{}
	approver = apitest.User("acme", products.RoleApprover)
)

func open(t *testing.T, storefront string) *regiontest.Region {
	t.Helper()
	region := regiontest.New(t)
	if err := products.New(region.DB, "acme", nil).Add(t.Context(), "coffee", "Coffee <b>&", 450); err != nil {
		t.Fatal(err)
	}
	region.Serve(t, products.New(region.DB, storefront, feed.NewOutbox("eu", time.Hour)).Routes()...)
	return region
}

func TestPage_isPublicAndCacheable(t *testing.T) {
	t.Parallel()
	region := open(t, "acme")
	w := region.Ask(t, "GET", "/products/coffee", "", nobody)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "<h1>Coffee &lt;b&gt;&amp;</h1>") || !strings.Contains(w.Body.String(), "4.50 EUR") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for name, want := range map[string]string{
		"Cache-Control": "public, s-maxage=60, stale-while-revalidate=600, stale-if-error=86400",
		"Cache-Groups":  `"product:coffee"`,
		"Content-Type":  "text/html; charset=utf-8",
		"Set-Cookie":    "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	tag := w.Header().Get("Etag")
	again := region.Ask(t, "GET", "/products/coffee", "", apitest.User("globex"), "If-None-Match", tag)
	if tag == "" || again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("with %s: %d %s", tag, again.Code, again.Body)
	}
	if head := region.Ask(t, "HEAD", "/products/coffee", "", nobody); head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("Etag") != tag {
		t.Errorf("HEAD: %d %q", head.Code, head.Body)
	}
	for _, slug := range []string{"tea", "Coffee", "coffee.html", "c'"} {
		if w := region.Ask(t, "GET", "/products/"+slug, "", nobody); w.Code != 404 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", slug, w.Code, w.Header().Get("Cache-Control"))
		}
	}
}

// TestPage_everyErrorIsAProblem: ranges and preconditions too, which net/http would
// answer in words of its own.
func TestPage_everyErrorIsAProblem(t *testing.T) {
	t.Parallel()
	region := open(t, "acme")
	tag := region.Ask(t, "GET", "/products/coffee", "", nobody).Header().Get("Etag")
	for _, row := range []struct {
		name, value string
		status      int
	}{
		{"Range", "bytes=99999-", 200}, {"Range", "bytes=0-1", 200}, {"Range", "nonsense", 200},
		{"If-Match", tag, 200}, {"If-Match", `"x", ` + tag, 200}, {"If-Match", "*", 200},
		{"If-Match", `"x"`, 412}, {"If-Match", "W/" + tag, 412}, {"If-Match", "", 412},
		{"If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT", 200},
	} {
		w := region.Ask(t, "GET", "/products/coffee", "", nobody, row.name, row.value)
		if w.Code != row.status {
			t.Errorf("%s: %s: %d, want %d", row.name, row.value, w.Code, row.status)
		}
		if w.Code != 200 && (w.Header().Get("Content-Type") != problem.ContentType || w.Header().Get("Cache-Control") != "no-store") {
			t.Errorf("%s: %s: %v %s", row.name, row.value, w.Header(), w.Body)
		}
	}
}

func TestPage_noStorefrontHere(t *testing.T) {
	t.Parallel()
	region := open(t, "")
	if w := region.Ask(t, "GET", "/products/coffee", "", nobody); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := region.Ask(t, "PUT", "/api/products/coffee", `{"name":"x","priceCents":1}`, approver); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestChange_isTheStorefrontsApproversAlone(t *testing.T) {
	t.Parallel()
	region := open(t, "acme")
	const body = `{"name":"Ristretto","priceCents":0}`
	for name, row := range map[string]struct {
		who    handoff.Identity
		slug   string
		body   string
		status int
	}{
		"without the role":   {apitest.User("acme", "reader"), "coffee", body, 403},
		"another tenant":     {apitest.User("globex", products.RoleApprover), "coffee", body, 404},
		"nobody":             {nobody, "coffee", body, 401},
		"unknown product":    {approver, "tea", body, 404},
		"no name":            {approver, "coffee", `{"priceCents":1}`, 400},
		"no price":           {approver, "coffee", `{"name":"x"}`, 400},
		"a negative price":   {approver, "coffee", `{"name":"x","priceCents":-1}`, 400},
		"a NUL in the name":  {approver, "coffee", `{"name":"\u0000x","priceCents":1}`, 400},
		"an unknown field":   {approver, "coffee", `{"name":"x","priceCents":1,"currency":"EUR"}`, 400},
		"a name without end": {approver, "coffee", `{"name":"` + strings.Repeat("ä", 201) + `","priceCents":1}`, 400},
	} {
		if w := region.Ask(t, "PUT", "/api/products/"+row.slug, row.body, row.who); w.Code != row.status {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, row.status)
		}
	}
	if n := purges(t, region); n != 0 {
		t.Errorf("refused changes purge %d groups", n)
	}
	before := region.Ask(t, "GET", "/products/coffee", "", nobody)
	if !strings.Contains(before.Body.String(), "Coffee") {
		t.Errorf("a refused change changed it: %s", before.Body)
	}
	w := region.Ask(t, "PUT", "/api/products/coffee", body, approver)
	p := regiontest.Decode[products.Product](t, w)
	if w.Code != 200 || p.Name != "Ristretto" || p.PriceCents != 0 || p.Currency != "EUR" || p.Slug != "coffee" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if n := purges(t, region); n != 1 {
		t.Errorf("%d purges of the page's group, want 1", n)
	}
	after := region.Ask(t, "GET", "/products/coffee", "", nobody)
	if !strings.Contains(after.Body.String(), "Ristretto") || after.Header().Get("Etag") == before.Header().Get("Etag") {
		t.Errorf("the page is still %s", after.Body)
	}
	err := region.DB.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("select count(*) from audit_entries where action = 'product.changed'").Row(func(row pgx.Row) error {
			var n int
			if err := row.Scan(&n); err != nil || n != 1 {
				t.Errorf("%d audit entries, %v", n, err)
			}
			return nil
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// purges counts what POPs are told of the page: for everybody, and no other group.
func purges(t *testing.T, region *regiontest.Region) (n int) {
	t.Helper()
	err := region.Pool.QueryRow(t.Context(), `select count(*) from feed_state
 where message::jsonb->>'group' = 'product:coffee' and message::jsonb->'tenant' is null`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
