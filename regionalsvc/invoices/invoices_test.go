package invoices_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/customers"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/invoices"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/jobs"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/orders"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/regiontest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var acme = apitest.User("acme")

// await waits until the order has its invoice.
func await(t *testing.T, service *invoices.Service, order string) invoices.Invoice {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		invoice, err := service.OfOrder(ctx, acme, order)
		if err == nil {
			return invoice
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestWorker_invoicesEachOrderOnce(t *testing.T) {
	t.Parallel()
	region := regiontest.New(t)
	service := invoices.New(region.DB)
	workers := river.NewWorkers()
	if err := service.Register(workers); err != nil {
		t.Fatal(err)
	}
	core, log := observer.New(zapcore.DebugLevel)
	queue, err := jobs.New(jobs.Config{Pool: pgtest.Open(t, region.Database.URL), Workers: workers, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	customer, err := customers.New(region.DB).Add(t.Context(), acme, "Ada")
	if err != nil {
		t.Fatal(err)
	}
	order, err := orders.New(region.DB, queue).Place(t.Context(), acme, orders.PlaceInput{CustomerID: customer.ID, TotalCents: 1299}, nil)
	if err != nil {
		t.Fatal(err)
	}
	invoice := await(t, service, order.ID)
	if invoice.CustomerID != customer.ID || invoice.TotalCents != 1299 || invoice.Currency != "EUR" {
		t.Errorf("%+v", invoice)
	}
	// A job may run twice: the second time changes nothing.
	if err := service.Write(t.Context(), "acme", invoices.Invoice{OrderID: order.ID, CustomerID: customer.ID, TotalCents: 1, Currency: "XXX"}); err != nil {
		t.Fatal(err)
	}
	if again := await(t, service, order.ID); again != invoice {
		t.Errorf("written again: %+v", again)
	}
	if _, err := service.OfOrder(t.Context(), apitest.User("globex"), order.ID); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("another tenant's invoice: %v", err)
	}
	stopping, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := queue.Stop(stopping); err != nil {
		t.Error(err)
	}
	done := log.FilterMessage("job done").All()
	if len(done) != 1 {
		t.Fatalf("log %v", log.All())
	}
	if fields := done[0].ContextMap(); fields[handoff.FieldTenant] != "acme" || fields[handoff.FieldJob] != "invoice" {
		t.Errorf("fields %v", fields)
	}
	if worse := log.Filter(func(e observer.LoggedEntry) bool { return e.Level > zapcore.InfoLevel }).All(); len(worse) > 0 {
		t.Errorf("log %v", worse)
	}
}
