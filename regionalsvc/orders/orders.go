// Package orders places orders and answers for them.
package orders

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/audit"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/idempotency"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/jobs"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/keyset"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// MaxTotalCents is the largest total of an order.
const MaxTotalCents = 1_000_000_000_000

// Placed is the status of an order that was taken.
const Placed = "placed"

// Order is an order, as the API shows it.
type Order struct {
	ID         string `json:"id"`
	CustomerID string `json:"customerId"`
	// TotalCents is the total in the currency's minor unit.
	TotalCents int64 `json:"totalCents"`
	// Currency is the tenant's, ISO 4217.
	Currency  string    `json:"currency"`
	Status    string    `json:"status"`
	CreatedAt time.Time `json:"createdAt"`
}

// PlaceInput is the body of POST /api/orders.
type PlaceInput struct {
	CustomerID string `json:"customerId"`
	// TotalCents is between 1 and [MaxTotalCents].
	TotalCents int64 `json:"totalCents"`
}

// Validate implements [api.Validator].
func (in PlaceInput) Validate() (faults []problem.FieldError) {
	if !tenancy.ValidID(in.CustomerID) {
		faults = append(faults, problem.FieldError{Field: "/customerId", Message: "must be a customer's id"})
	}
	if in.TotalCents < 1 || in.TotalCents > MaxTotalCents {
		faults = append(faults, problem.FieldError{Field: "/totalCents", Message: fmt.Sprintf("must be a whole number between 1 and %d", int64(MaxTotalCents))})
	}
	return faults
}

// Service places orders and finds them. It is safe for concurrent use.
type Service struct {
	db   *tenancy.DB
	jobs *jobs.Client
}

// New makes the capability.
func New(db *tenancy.DB, jobs *jobs.Client) *Service { return &Service{db: db, jobs: jobs} }

// Place writes an order, its audit entry and its invoice job in one transaction:
// all of them or none. An unknown customer is a 422 problem with the field. once,
// which may be nil, makes one effect of a request that is sent again.
//
// It takes three round trips to the database (the rows, the job, the commit), and
// a fourth when River wakes its workers.
func (s *Service) Place(ctx context.Context, who handoff.Identity, in PlaceInput, once *idempotency.Once) (Order, error) {
	order := Order{ID: tenancy.NewID(), CustomerID: in.CustomerID, TotalCents: in.TotalCents, Status: Placed}
	err := s.db.Write(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		once.Begin(tx)
		tx.Queue(insertOrder, order.ID, order.CustomerID, order.TotalCents, order.Status).Row(order.scanMade)
		tx.Queue(audit.Record(who, "order.placed", order.ID, in))
		if err := flush(ctx, tx); err != nil {
			return err
		}
		if err := s.jobs.Enqueue(ctx, tx, invoiceOf(who.Tenant, order)); err != nil {
			return err
		}
		return once.Finish(tx, http.StatusCreated, location(order.ID), order)
	})
	if err != nil {
		return Order{}, err
	}
	return order, nil
}

// flush sends the rows of an order, as one span.
func flush(ctx context.Context, tx *tenancy.Tx) error {
	ctx, span := tracer(ctx).Start(ctx, handoff.SpanInsertOrder)
	defer span.End()
	err := tx.Flush(ctx)
	if err != nil {
		span.SetStatus(codes.Error, "not inserted")
	}
	return err
}

// scanMade reads what the database adds to a new order.
func (o *Order) scanMade(row pgx.Row) error {
	err := row.Scan(&o.Currency, &o.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return problem.New(http.StatusUnprocessableEntity, problem.InvalidBody, "").
			WithField("/customerId", "must be the id of a customer: there is none with this one")
	}
	o.CreatedAt = o.CreatedAt.UTC()
	return err
}

// Find gives one order. An unknown one, and another tenant's, is a 404 problem.
func (s *Service) Find(ctx context.Context, who handoff.Identity, id string) (Order, error) {
	var order Order
	notFound := problem.New(http.StatusNotFound, problem.NotFound, "there is no such order")
	if !tenancy.ValidID(id) {
		return order, notFound
	}
	err := s.db.Read(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(findOrder, id).Rows(func(rows pgx.Rows) (err error) {
			order, err = pgx.CollectExactlyOneRow(rows, scanOrder)
			return err
		})
		return nil
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return order, notFound
	}
	return order, err
}

// List gives a page of orders, the newest first.
func (s *Service) List(ctx context.Context, who handoff.Identity, w keyset.Window) (api.Page[Order], error) {
	var found []Order
	err := s.db.Read(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(listOrders, w.Start(keyset.Last), w.Fetch()).Rows(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, scanOrder)
			return err
		})
		return nil
	})
	return keyset.Page(w, found, func(o Order) string { return o.ID }), err
}

func scanOrder(row pgx.CollectableRow) (Order, error) {
	var o Order
	err := row.Scan(&o.ID, &o.CustomerID, &o.TotalCents, &o.Currency, &o.Status, &o.CreatedAt)
	o.CreatedAt = o.CreatedAt.UTC()
	return o, err
}

// tracer is of whoever traces the request: nobody, when it is not sampled.
func tracer(ctx context.Context) trace.Tracer {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer("gatehouse/orders")
}
