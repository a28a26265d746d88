package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// An answer is put together at the POP, of headers, cookies, flags and values, with
// no region asked; a tenant's own are its sessions' alone.
func TestSaid_anAnswerIsPutTogetherAtThePOP(t *testing.T) {
	adas, graces := login(t, fra(), ada), login(t, iad(), grace)
	hello := func(b *browser) string {
		cookies := "name=Kim"
		if b.cookie != "" {
			cookies += "; " + b.cookie
		}
		named := &browser{base: b.base, cookie: cookies, client: b.client}
		a := named.get(t, "/hello", "Accept-Language", "de")
		if a.status != http.StatusOK || !strings.Contains(a.header.Get("Cache-Control"), "private") {
			t.Errorf("%s", a)
		}
		return string(a.body)
	}
	for _, p := range topology.POPs {
		for want, b := range map[string]*browser{
			"Hello Kim (de)": visit(p),
			"Welcome back to Acme Coffee Kim (de). Fresh beans have come in.": adas.at(p),
			"Welcome back to Globex Supply Kim (de)":                          graces.at(p),
		} {
			await(t, want+" at "+p.POP, func() bool { return hello(b) == want })
		}
		a := visit(p).do(t, http.MethodPost, "/ofrep/v1/evaluate/flags", []byte("{}"), "Content-Type", "application/json")
		if body := string(a.body); a.status != http.StatusOK || !strings.Contains(body, "checkout.form") || strings.Contains(body, "audit-everything") {
			t.Errorf("flags at %s: %s", p.POP, a)
		}
		visit(p).get(t, "/ofrep/v1/else").is(t, http.StatusNotFound, "")
	}

	// What a region commits is what both POPs say.
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: topology.Regions[0].Database, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	outbox := feed.NewOutbox("eu", time.Hour)
	put := func(value string) {
		t.Helper()
		err := tenancy.New(pool).Write(t.Context(), "acme", func(tx *tenancy.Tx) error { return outbox.Put(tx, "greetings", "hello", value) })
		if err != nil {
			t.Fatal(err)
		}
	}
	put("Good morning,")
	for _, p := range topology.POPs {
		await(t, "the new greeting at "+p.POP, func() bool { return strings.HasPrefix(hello(adas.at(p)), "Good morning, Kim") })
		if got := hello(graces.at(p)); strings.Contains(got, "morning") {
			t.Errorf("globex is greeted with acme's: %q", got)
		}
	}
	put("Welcome back to Acme Coffee")

	// A set of flags that the edge could not use is refused where it is published.
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return outbox.Publish(t.Context(), tx, handfeed.Definition{Kind: handfeed.Flags, Name: "web", Body: []byte(`{"flags":[{"key":"news","default":"maybe"}]}`)})
	})
	if err == nil {
		t.Error("a set of flags that no POP can use was published")
	}
}
