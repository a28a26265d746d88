package orders_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/customers"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/jobs"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/orders"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/regiontest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	acme   = apitest.User("acme")
	globex = apitest.User("globex")
)

// shop is a region that takes orders, with one customer of acme.
type shop struct {
	*regiontest.Region
	customer string
}

func open(t testing.TB) *shop {
	t.Helper()
	return with(t, regiontest.New(t))
}

func with(t testing.TB, region *regiontest.Region) *shop {
	t.Helper()
	queue, err := jobs.New(jobs.Config{Pool: region.Pool})
	if err != nil {
		t.Fatal(err)
	}
	region.Serve(t, orders.New(region.DB, queue).Routes()...)
	customer, err := customers.New(region.DB).Add(t.Context(), acme, "Ada")
	if err != nil {
		t.Fatal(err)
	}
	return &shop{region, customer.ID}
}

func (s *shop) body(cents int64) string {
	return fmt.Sprintf(`{"customerId":%q,"totalCents":%d}`, s.customer, cents)
}

// rows counts what acme's orders have left: orders, audit entries, jobs, keys.
func (s *shop) rows(t testing.TB) (n struct{ Orders, Entries, Jobs, Keys int }) {
	t.Helper()
	err := s.DB.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		const sql = `select (select count(*) from orders), (select count(*) from audit_entries where action = 'order.placed'),
			(select count(*) from river_job where kind = 'invoice'), (select count(*) from idempotency_keys)`
		tx.Queue(sql).Row(func(row pgx.Row) error { return row.Scan(&n.Orders, &n.Entries, &n.Jobs, &n.Keys) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPlace_orderEntryAndJobAreOne(t *testing.T) {
	t.Parallel()
	s := open(t)
	w := s.Ask(t, "POST", "/api/orders", s.body(1299), acme)
	order := regiontest.Decode[orders.Order](t, w)
	if w.Code != http.StatusCreated || w.Header().Get("Location") != "/api/orders/"+order.ID {
		t.Fatalf("%d, Location %q, %s", w.Code, w.Header().Get("Location"), w.Body)
	}
	if !tenancy.ValidID(order.ID) || order.CustomerID != s.customer || order.TotalCents != 1299 ||
		order.Currency != "EUR" || order.Status != "placed" || order.CreatedAt.IsZero() || order.CreatedAt.Location().String() != "UTC" {
		t.Errorf("%+v", order)
	}
	if n := s.rows(t); n.Orders != 1 || n.Entries != 1 || n.Jobs != 1 || n.Keys != 0 {
		t.Errorf("left %+v", n)
	}
	read := s.Ask(t, "GET", "/api/orders/"+order.ID, "", acme)
	if got := regiontest.Decode[orders.Order](t, read); read.Code != 200 || got != order {
		t.Errorf("read back %d %s", read.Code, read.Body)
	}
	if got := read.Header().Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("Cache-Control %q", got)
	}
	if other := s.Ask(t, "GET", "/api/orders/"+order.ID, "", globex); other.Code != 404 {
		t.Errorf("another tenant's: %d %s", other.Code, other.Body)
	}
}

func TestPlace_unknownCustomerLeavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	for name, key := range map[string]string{"without a key": "", "with a key": "k"} {
		body := fmt.Sprintf(`{"customerId":%q,"totalCents":1}`, tenancy.NewID())
		var headers []string
		if key != "" {
			headers = []string{"Idempotency-Key", key}
		}
		w := s.Ask(t, "POST", "/api/orders", body, acme, headers...)
		p := regiontest.Decode[problem.Problem](t, w)
		if w.Code != 422 || len(p.Errors) != 1 || p.Errors[0].Field != "/customerId" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	// Another tenant's customer is as unknown as one that does not exist.
	if w := s.Ask(t, "POST", "/api/orders", s.body(1), globex); w.Code != 422 {
		t.Errorf("another tenant's customer: %d %s", w.Code, w.Body)
	}
	if n := s.rows(t); n.Orders+n.Entries+n.Jobs+n.Keys != 0 {
		t.Errorf("left %+v", n)
	}
	// What was refused is not kept: the key is free for the corrected request.
	if w := s.Ask(t, "POST", "/api/orders", s.body(1), acme, "Idempotency-Key", "k"); w.Code != 201 {
		t.Errorf("corrected: %d %s", w.Code, w.Body)
	}
}

func TestPlace_hostileBodies(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := s.customer
	for name, row := range map[string]struct{ body, field string }{
		"empty":            {" ", ""},
		"not JSON":         {"customerId=1", ""},
		"array":            {"[]", ""},
		"unknown field":    {`{"customerId":"` + id + `","totalCents":1,"tenant_id":"globex"}`, "/tenant_id"},
		"duplicate field":  {`{"customerId":"` + id + `","totalCents":1,"totalCents":2}`, "/totalCents"},
		"wrong case":       {`{"customerID":"` + id + `","totalCents":1}`, "/customerID"},
		"trailing data":    {s.body(1) + `{}`, ""},
		"no customer":      {`{"totalCents":1}`, "/customerId"},
		"null customer":    {`{"customerId":null,"totalCents":1}`, "/customerId"},
		"customer number":  {`{"customerId":1,"totalCents":1}`, "/customerId"},
		"customer in caps": {`{"customerId":"` + strings.ToUpper(id) + `","totalCents":1}`, "/customerId"},
		"customer as URN":  {`{"customerId":"urn:uuid:` + id + `","totalCents":1}`, "/customerId"},
		"SQL":              {`{"customerId":"' or true --","totalCents":1}`, "/customerId"},
		"no total":         {`{"customerId":"` + id + `"}`, "/totalCents"},
		"zero":             {s.body(0), "/totalCents"},
		"negative":         {s.body(-1), "/totalCents"},
		"too much":         {s.body(orders.MaxTotalCents + 1), "/totalCents"},
		"overflow":         {`{"customerId":"` + id + `","totalCents":9223372036854775808}`, "/totalCents"},
		"fraction":         {`{"customerId":"` + id + `","totalCents":1.5}`, "/totalCents"},
		"float":            {`{"customerId":"` + id + `","totalCents":1.0}`, "/totalCents"},
		"exponent":         {`{"customerId":"` + id + `","totalCents":1e2}`, "/totalCents"},
		"string":           {`{"customerId":"` + id + `","totalCents":"1"}`, "/totalCents"},
		"invalid UTF-8":    {`{"customerId":"` + "\xff" + `","totalCents":1}`, "/customerId"},
	} {
		w := s.Ask(t, "POST", "/api/orders", row.body, acme)
		p := regiontest.Decode[problem.Problem](t, w)
		if w.Code != 400 || len(p.Errors) == 0 || p.Errors[0].Field != row.field {
			t.Errorf("%s: %d %s, want a 400 that names %q", name, w.Code, w.Body, row.field)
		}
	}
	if n := s.rows(t); n.Orders != 0 {
		t.Errorf("left %+v", n)
	}
}

func TestPlace_largestTotalIsExact(t *testing.T) {
	t.Parallel()
	s := open(t)
	w := s.Ask(t, "POST", "/api/orders", s.body(orders.MaxTotalCents), acme)
	if got := regiontest.Decode[orders.Order](t, w); w.Code != 201 || got.TotalCents != orders.MaxTotalCents {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestFind_whatIsNoIDIsNotFound(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, id := range []string{"x", "00000000-0000-0000-0000-000000000000", tenancy.NewID(), "{" + tenancy.NewID() + "}", strings.ToUpper(tenancy.NewID()), "'"} {
		if w := s.Ask(t, "GET", "/api/orders/"+id, "", acme); w.Code != 404 {
			t.Errorf("%q: %d %s", id, w.Code, w.Body)
		}
	}
}

func TestList_pagesNewestFirst(t *testing.T) {
	t.Parallel()
	s := open(t)
	var placed []string
	for i := range 7 {
		w := s.Ask(t, "POST", "/api/orders", s.body(int64(i+1)), acme)
		placed = append(placed, regiontest.Decode[orders.Order](t, w).ID)
	}
	var listed []string
	next, pages := "/api/orders?limit=3", 0
	for next != "" {
		w := s.Ask(t, "GET", next, "", acme)
		page := regiontest.Decode[api.Page[orders.Order]](t, w)
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for _, o := range page.Items {
			listed = append(listed, o.ID)
		}
		if pages++; page.Next == nil {
			break
		}
		next = "/api/orders?limit=3&cursor=" + *page.Next
		// An order that comes meanwhile moves nothing.
		s.Ask(t, "POST", "/api/orders", s.body(99), acme)
	}
	if pages != 3 || len(listed) != 7 {
		t.Fatalf("%d pages with %d orders", pages, len(listed))
	}
	for i, id := range listed {
		if id != placed[len(placed)-1-i] {
			t.Errorf("place %d: %s", i, id)
		}
	}
	if w := s.Ask(t, "GET", "/api/orders", "", globex); strings.TrimSpace(w.Body.String()) != `{"items":[],"next":null}` {
		t.Errorf("another tenant's list: %s", w.Body)
	}
}

func TestIdempotency_sameAnswerForTheSameRequest(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := s.Ask(t, "POST", "/api/orders", s.body(5), acme, "Idempotency-Key", "k")
	again := s.Ask(t, "POST", "/api/orders", s.body(5), acme, "Idempotency-Key", `"k"`)
	if first.Code != 201 || again.Code != 201 || first.Body.String() != again.Body.String() ||
		first.Header().Get("Location") != again.Header().Get("Location") {
		t.Errorf("first %d %s, again %d %s", first.Code, first.Body, again.Code, again.Body)
	}
	if first.Header().Get("Idempotent-Replayed") != "" || again.Header().Get("Idempotent-Replayed") != "true" {
		t.Error("the replay is not marked, or the first is")
	}
	other := s.Ask(t, "POST", "/api/orders", s.body(6), acme, "Idempotency-Key", "k")
	if p := regiontest.Decode[problem.Problem](t, other); other.Code != 422 || p.Name() != problem.IdempotencyMismatch {
		t.Errorf("other body: %d %s", other.Code, other.Body)
	}
	somebody, namesake := acme, acme
	somebody.Subject = "somebody else"
	namesake.SubjectIssuer = "https://another-issuer.example"
	for _, who := range []handoff.Identity{somebody, namesake} {
		if w := s.Ask(t, "POST", "/api/orders", s.body(5), who, "Idempotency-Key", "k"); w.Code != 422 {
			t.Errorf("user %s of %s: %d %s", who.Subject, who.SubjectIssuer, w.Code, w.Body)
		}
	}
	if n := s.rows(t); n.Orders != 1 || n.Entries != 1 || n.Jobs != 1 || n.Keys != 1 {
		t.Errorf("left %+v", n)
	}
	// Keys are the tenant's own.
	customer, err := customers.New(s.DB).Add(t.Context(), globex, "Grace")
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"customerId":%q,"totalCents":5}`, customer.ID)
	w := s.Ask(t, "POST", "/api/orders", body, globex, "Idempotency-Key", "k")
	if o := regiontest.Decode[orders.Order](t, w); w.Code != 201 || o.Currency != "USD" {
		t.Errorf("another tenant's same key: %d %s", w.Code, w.Body)
	}
	for _, bad := range []string{"", `"`, "a, b", strings.Repeat("k", 256), "\x7f"} {
		if w := s.Ask(t, "POST", "/api/orders", s.body(5), acme, "Idempotency-Key", bad); w.Code != 400 {
			t.Errorf("key %q: %d %s", bad, w.Code, w.Body)
		}
	}
}

func TestIdempotency_parallelDuplicatesAreOneOrder(t *testing.T) {
	t.Parallel()
	s := open(t)
	for round := range 10 {
		const duplicates = 24
		key := fmt.Sprintf("round-%d", round)
		codes, bodies := make([]int, duplicates), make([]string, duplicates)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range duplicates {
			r := s.Request(t, "POST", "/api/orders", s.body(5), acme, "Idempotency-Key", key)
			wg.Go(func() {
				<-start
				w := s.Do(r)
				codes[i], bodies[i] = w.Code, w.Body.String()
			})
		}
		close(start)
		wg.Wait()
		answer := ""
		for i, code := range codes {
			switch code {
			case http.StatusCreated:
				if answer == "" {
					answer = bodies[i]
				}
				if bodies[i] != answer {
					t.Errorf("two answers: %s and %s", answer, bodies[i])
				}
			case http.StatusConflict:
			case http.StatusServiceUnavailable: // a busy machine: nothing was done, and the key is good
			default:
				t.Errorf("%d %s", code, bodies[i])
			}
		}
		if w := s.Ask(t, "POST", "/api/orders", s.body(5), acme, "Idempotency-Key", key); w.Code != 201 || answer != "" && w.Body.String() != answer {
			t.Errorf("afterwards %d %s, was %s", w.Code, w.Body, answer)
		}
	}
	if n := s.rows(t); n.Orders != 10 || n.Entries != 10 || n.Jobs != 10 || n.Keys != 10 {
		t.Errorf("left %+v", n)
	}
}

// The first request's transaction is held open: its duplicate is told so at once.
func TestIdempotency_inFlightIs409(t *testing.T) {
	t.Parallel()
	s := open(t)
	locked, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.DB.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
			tx.Queue("select pg_advisory_xact_lock(hashtextextended('acme orders.place k', 0))")
			if err := tx.Flush(t.Context()); err != nil {
				return err
			}
			close(locked)
			<-release
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-locked
	w := s.Ask(t, "POST", "/api/orders", s.body(5), acme, "Idempotency-Key", "k")
	if p := regiontest.Decode[problem.Problem](t, w); w.Code != 409 || p.Name() != problem.IdempotencyInFlight || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	close(release)
	wg.Wait()
	if w := s.Ask(t, "POST", "/api/orders", s.body(5), acme, "Idempotency-Key", "k"); w.Code != 201 {
		t.Errorf("afterwards %d %s", w.Code, w.Body)
	}
}

func TestIdempotency_expiredKeysAreNewAndGoAway(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := s.Ask(t, "POST", "/api/orders", s.body(5), acme, "Idempotency-Key", "k")
	s.Ask(t, "POST", "/api/orders", s.body(5), acme, "Idempotency-Key", "old")
	admin, err := pgx.Connect(t.Context(), s.Database.Superuser) // the service may not change how old a key is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	if _, err := admin.Exec(t.Context(), "update idempotency_keys set created_at = now() - interval '25 hours'"); err != nil {
		t.Fatal(err)
	}
	again := s.Ask(t, "POST", "/api/orders", s.body(6), acme, "Idempotency-Key", "k")
	if again.Code != 201 || again.Body.String() == first.Body.String() {
		t.Errorf("%d %s", again.Code, again.Body)
	}
	if n := s.rows(t); n.Keys != 1 {
		t.Errorf("%d keys are left", n.Keys)
	}
}

func FuzzOrderBody(f *testing.F) {
	id := tenancy.NewID()
	for _, seed := range []string{
		`{"customerId":"` + id + `","totalCents":1}`, `{"customerId":"` + id + `","totalCents":1e2}`, `{}`, `null`, `[]`, `{"totalCents":9223372036854775807}`,
		`{"customerId":"` + id + `","totalCents":1,"totalCents":2}`, "\xef\xbb\xbf{}", `{"customerId":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := api.Parse[orders.PlaceInput](body)
		if err != nil {
			var zero orders.PlaceInput
			if in != zero {
				t.Errorf("%q was refused and gives %+v", body, in)
			}
			return
		}
		if in.TotalCents < 1 || in.TotalCents > orders.MaxTotalCents || !tenancy.ValidID(in.CustomerID) {
			t.Errorf("%q gives %+v", body, in)
		}
	})
}

func BenchmarkPlace(b *testing.B) {
	s := open(b)
	b.ReportAllocs()
	for b.Loop() {
		if w := s.Ask(b, "POST", "/api/orders", s.body(5), acme); w.Code != 201 {
			b.Fatal(w.Code, w.Body)
		}
	}
}

func connect(t testing.TB, config *pgxpool.Config) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
