// Package invoices writes the invoice of an order.
package invoices

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Invoice is an invoice.
type Invoice struct {
	ID, OrderID, CustomerID string
	TotalCents              int64
	Currency                string
}

// Every statement of this package.
const (
	// insertInvoice does nothing when the order has its invoice: a job may run twice.
	insertInvoice = `
insert into invoices (id, order_id, customer_id, total_cents, currency) values ($1, $2, $3, $4, $5)
on conflict (tenant_id, order_id) do nothing`

	findInvoice = `select id, order_id, customer_id, total_cents, currency from invoices where order_id = $1`
)

// Service writes invoices and finds them.
type Service struct{ db *tenancy.DB }

// New makes the capability.
func New(db *tenancy.DB) *Service { return &Service{db: db} }

// Register makes its worker known.
func (s *Service) Register(workers *river.Workers) error {
	if err := river.AddWorkerSafely(workers, &worker{service: s}); err != nil {
		return fmt.Errorf("register the invoice worker: %w", err)
	}
	return nil
}

// Write writes the invoice of an order of tenant, once however often it is called.
// in's ID is made here.
func (s *Service) Write(ctx context.Context, tenant string, in Invoice) error {
	return s.db.Write(ctx, tenant, func(tx *tenancy.Tx) error {
		tx.Queue(insertInvoice, tenancy.NewID(), in.OrderID, in.CustomerID, in.TotalCents, in.Currency)
		return nil
	})
}

// OfOrder gives the invoice of an order; [pgx.ErrNoRows] while there is none.
func (s *Service) OfOrder(ctx context.Context, who handoff.Identity, order string) (Invoice, error) {
	var invoice Invoice
	err := s.db.Read(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(findInvoice, order).Row(func(row pgx.Row) error {
			return row.Scan(&invoice.ID, &invoice.OrderID, &invoice.CustomerID, &invoice.TotalCents, &invoice.Currency)
		})
		return nil
	})
	return invoice, err
}
