package orders_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/regiontest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// wire counts round trips as the network sees them: something sent, then
// something received. It also counts the round trips that held a NOTIFY.
type wire struct {
	mu              sync.Mutex
	trips, notifies int
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &wireConn{Conn: conn, wire: w}, err
}

func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trips, w.notifies = 0, 0
}

func (w *wire) counts() (trips, notifies int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trips, w.notifies
}

type wireConn struct {
	net.Conn
	wire    *wire
	waiting bool
}

func (c *wireConn) Write(b []byte) (int, error) {
	c.wire.mu.Lock()
	c.waiting = true
	if bytes.Contains(b, []byte("river_insert")) { // the topic, in the NOTIFY's arguments
		c.wire.notifies++
	}
	c.wire.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	if n > 0 && c.waiting {
		c.waiting = false
		c.wire.trips++
	}
	return n, err
}

// counted is a shop with one connection to the database, whose wire is watched.
func counted(t *testing.T) (*shop, *wire) {
	t.Helper()
	database := pgtest.NewDatabase(t)
	config, err := postgres.PoolConfig(postgres.Config{URL: database.URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := new(wire)
	config.ConnConfig.DialFunc = w.dial
	return with(t, regiontest.On(t, database, connect(t, config))), w
}

// A hundred orders, at most three round trips each, and one more for each time
// that River wakes its workers, which is at most ten times a second.
func TestPlace_threeRoundTrips(t *testing.T) {
	t.Parallel()
	s, w := counted(t)
	for _, row := range []struct {
		name string
		key  func(i int) []string
	}{
		{"without a key", func(int) []string { return nil }},
		{"with a key", func(i int) []string { return []string{"Idempotency-Key", fmt.Sprint("key-", i)} }},
	} {
		const orders = 100
		place := func(i int) {
			if got := s.Ask(t, "POST", "/api/orders", s.body(1), acme, row.key(i)...); got.Code != 201 {
				t.Fatalf("%d %s", got.Code, got.Body)
			}
		}
		place(-1) // a connection's first order also prepares its statements
		w.reset()
		start := time.Now()
		for i := range orders {
			place(i)
		}
		trips, notifies := w.counts()
		due := int(time.Since(start)/(100*time.Millisecond)) + 1
		t.Logf("%s: %d orders, %d round trips, of which %d woke the workers", row.name, orders, trips, notifies)
		if trips != 3*orders+notifies {
			t.Errorf("%s: %d round trips for %d orders and %d notifications", row.name, trips, orders, notifies)
		}
		if notifies > due {
			t.Errorf("%s: %d notifications, at most %d are due", row.name, notifies, due)
		}
	}
}

// A replay and a refusal are two: the claim or the insert that fails, and the
// rollback. They leave the connection and its statements as they were, so that
// the order after them has its three.
func TestPlace_roundTripsOfReplayAndRefusal(t *testing.T) {
	t.Parallel()
	s, w := counted(t)
	ask := func(body, key string, want int) {
		t.Helper()
		if got := s.Ask(t, "POST", "/api/orders", body, acme, "Idempotency-Key", key); got.Code != want {
			t.Fatalf("%d %s", got.Code, got.Body)
		}
	}
	ask(s.body(1), "k", 201)
	for _, row := range []struct {
		name, body, key string
		status          int
	}{
		{"replay", s.body(1), "k", 201},
		{"mismatch", s.body(2), "k", 422},
		{"unknown customer", fmt.Sprintf(`{"customerId":%q,"totalCents":1}`, tenancy.NewID()), "other", 422},
	} {
		w.reset()
		ask(row.body, row.key, row.status)
		if trips, _ := w.counts(); trips != 2 {
			t.Errorf("%s: %d round trips", row.name, trips)
		}
		w.reset()
		ask(s.body(1), "after "+row.name, 201)
		if trips, notifies := w.counts(); trips != 3+notifies {
			t.Errorf("the order after a %s: %d round trips, %d notifications", row.name, trips, notifies)
		}
	}
}

func TestPlace_spansAndMetadata(t *testing.T) {
	t.Parallel()
	s := open(t)
	recorder := tracetest.NewSpanRecorder()
	// Other tests' spans are recorded too: theirs are of other traces.
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	r := s.Request(t, "POST", "/api/orders", s.body(1), acme)
	r.Header.Set(handoff.HeaderTraceparent, "00-"+traceID+"-b7ad6b7169203331-01")
	if w := s.Do(r); w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	spans := map[string]sdktrace.ReadOnlySpan{}
	for _, span := range recorder.Ended() {
		if span.SpanContext().TraceID().String() == traceID {
			spans[span.Name()] = span
		}
	}
	for name, under := range map[string]string{
		handoff.SpanParseOrder: "", handoff.SpanInsertOrder: "", handoff.SpanEnqueue: "", handoff.SpanPoolWait: handoff.SpanInsertOrder,
	} {
		span, ok := spans[name]
		if !ok {
			t.Errorf("no span %s", name)
			continue
		}
		if under != "" && (spans[under] == nil || span.Parent().SpanID() != spans[under].SpanContext().SpanID()) {
			t.Errorf("%s is not under %s", name, under)
		}
	}
	var requestID, tenant, traceparent string
	err := s.DB.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("select metadata->>'request_id', metadata->>'tenant', metadata->>'traceparent' from river_job").
			Row(func(row pgx.Row) error { return row.Scan(&requestID, &tenant, &traceparent) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("00-%s-%s-01", traceID, spans[handoff.SpanEnqueue].SpanContext().SpanID())
	if requestID != r.Header.Get(handoff.HeaderRequestID) || tenant != "acme" || traceparent != want {
		t.Errorf("metadata %q %q %q, want %q", requestID, tenant, traceparent, want)
	}
}
