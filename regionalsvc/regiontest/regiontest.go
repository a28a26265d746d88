// Package regiontest is a region for the tests of its capabilities: the real chain
// in front, a real database behind, a POP that signs, and two tenants at home,
// "acme" (EUR) and "globex" (USD).
package regiontest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/telemetry"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Region is a region of one test.
type Region struct {
	Database pgtest.Database
	Pool     *pgxpool.Pool
	DB       *tenancy.DB
	POP      *apitest.POP
	api      *api.API
}

// New makes a region with a database of its own.
func New(t testing.TB) *Region {
	t.Helper()
	database := pgtest.NewDatabase(t)
	return On(t, database, pgtest.Open(t, database.URL))
}

// On makes a region on database, through pool.
func On(t testing.TB, database pgtest.Database, pool *pgxpool.Pool) *Region {
	t.Helper()
	region := &Region{Database: database, Pool: pool, DB: tenancy.New(pool).Waiting(pgtest.Patience), POP: apitest.NewPOP(t, "fra", "eu")}
	for id, currency := range map[string]string{"acme": "EUR", "globex": "USD"} {
		if err := region.DB.Enroll(t.Context(), tenancy.Tenant{ID: id, Name: id, Currency: currency}); err != nil {
			t.Fatal(err)
		}
	}
	return region
}

// Serve puts routes behind the region's chain.
func (g *Region) Serve(t testing.TB, routes ...api.Route) {
	t.Helper()
	known, err := directory.New(directory.File{Tenants: map[string]directory.Tenant{"acme": {Home: "eu"}, "globex": {Home: "eu"}}}, make([]byte, directory.MinKey))
	if err != nil {
		t.Fatal(err)
	}
	g.api, err = api.New(api.Config{
		Region: "eu", Directory: known, Keys: g.POP.Keys(t), Metrics: telemetry.NewMetrics(prometheus.NewRegistry()),
	}, routes...)
	if err != nil {
		t.Fatal(err)
	}
}

// Request makes who's request as the POP sends it; body is JSON unless empty.
// headers come in pairs.
func (g *Region) Request(t testing.TB, method, target, body string, who handoff.Identity, headers ...string) *http.Request {
	t.Helper()
	r := g.POP.Request(t, method, target, strings.NewReader(body), who)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// Do sends r through the chain.
func (g *Region) Do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	g.api.ServeHTTP(w, r)
	return w
}

// Ask is [Region.Do] of [Region.Request].
func (g *Region) Ask(t testing.TB, method, target, body string, who handoff.Identity, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return g.Do(g.Request(t, method, target, body, who, headers...))
}

// Decode reads the JSON of an answer.
func Decode[T any](t testing.TB, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return v
}
