// Package customers knows whom a tenant sells to.
package customers

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/audit"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/keyset"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Customer is a customer, as the API shows it.
type Customer struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"createdAt"`
}

// Every statement of this package.
const (
	insertCustomer = `insert into customers (id, name) values ($1, $2) returning created_at`
	listCustomers  = `select id, name, created_at from customers where id > $1 order by id limit $2`
)

// Service lists customers and adds them. It is safe for concurrent use.
type Service struct{ db *tenancy.DB }

// New makes the capability.
func New(db *tenancy.DB) *Service { return &Service{db: db} }

// Add makes a customer of who's tenant. No endpoint does, yet: the seed does.
func (s *Service) Add(ctx context.Context, who handoff.Identity, name string) (Customer, error) {
	c := Customer{ID: tenancy.NewID(), Name: name}
	err := s.db.Write(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(insertCustomer, c.ID, c.Name).Row(func(row pgx.Row) error { return row.Scan(&c.CreatedAt) })
		tx.Queue(audit.Record(who, "customer.added", c.ID, map[string]string{"name": name}))
		return nil
	})
	c.CreatedAt = c.CreatedAt.UTC()
	return c, err
}

// List gives a page of customers, in the order in which they came.
func (s *Service) List(ctx context.Context, who handoff.Identity, w keyset.Window) (api.Page[Customer], error) {
	var found []Customer
	err := s.db.Read(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(listCustomers, w.Start(keyset.First), w.Fetch()).Rows(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, scanCustomer)
			return err
		})
		return nil
	})
	return keyset.Page(w, found, func(c Customer) string { return c.ID }), err
}

func scanCustomer(row pgx.CollectableRow) (Customer, error) {
	var c Customer
	err := row.Scan(&c.ID, &c.Name, &c.CreatedAt)
	c.CreatedAt = c.CreatedAt.UTC()
	return c, err
}

// Routes are the endpoints of this capability.
func (s *Service) Routes() []api.Route {
	return []api.Route{{Pattern: "GET /api/customers", Handle: s.list}}
}

func (s *Service) list(w http.ResponseWriter, r *http.Request) error {
	window, err := keyset.From(r)
	if err != nil {
		return err
	}
	page, err := s.List(r.Context(), api.Who(r), window)
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, page)
}
