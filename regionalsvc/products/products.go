// Package products shows what a tenant sells, to everybody, and lets its
// approvers change it.
package products

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/audit"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// RoleApprover is the role that may change a product.
const RoleApprover = "approver"

// Limits of a product.
const (
	MaxName       = 200 // characters
	MaxPriceCents = 1_000_000_000_000
)

// Product is a product, as the API shows it.
type Product struct {
	// Slug names it in addresses: 1 to 63 of a-z, 0-9 and hyphen.
	Slug string `json:"slug"`
	Name string `json:"name"`
	// PriceCents is the price in the currency's minor unit.
	PriceCents int64 `json:"priceCents"`
	// Currency is the tenant's, ISO 4217.
	Currency  string    `json:"currency"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Input is the body of PUT /api/products/{slug}.
type Input struct {
	Name       string `json:"name"`
	PriceCents *int64 `json:"priceCents"` // a pointer: 0 is a price, absent is none
}

// Validate implements [api.Validator].
func (in Input) Validate() (faults []problem.FieldError) {
	if strings.TrimSpace(in.Name) == "" || utf8.RuneCountInString(in.Name) > MaxName || strings.ContainsRune(in.Name, 0) {
		faults = append(faults, problem.FieldError{Field: "/name", Message: fmt.Sprintf("must be 1 to %d characters", MaxName)})
	}
	if in.PriceCents == nil || *in.PriceCents < 0 || *in.PriceCents > MaxPriceCents {
		faults = append(faults, problem.FieldError{Field: "/priceCents", Message: fmt.Sprintf("must be a whole number between 0 and %d", int64(MaxPriceCents))})
	}
	return faults
}

// Every statement of this package.
const (
	findProduct = `select slug, name, price_cents, currency, updated_at from products where slug = $1`

	changeProduct = `
update products set name = $2, price_cents = $3, updated_at = now() where slug = $1
returning slug, name, price_cents, currency, updated_at`

	addProduct = `
insert into products (slug, name, price_cents, currency)
select $1, $2, $3, currency from tenants
on conflict (tenant_id, slug) do nothing`
)

// Service shows and changes the products of one tenant, the storefront's. It is
// safe for concurrent use.
type Service struct {
	db         *tenancy.DB
	storefront string
	outbox     *feed.Outbox
}

// New makes the capability. storefront is the tenant whose products are public in
// this region; empty: there are none here. outbox tells POPs what has changed; nil:
// nobody is told.
func New(db *tenancy.DB, storefront string, outbox *feed.Outbox) *Service {
	return &Service{db: db, storefront: storefront, outbox: outbox}
}

var slugs = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func notFound() *problem.Problem {
	return problem.New(http.StatusNotFound, problem.NotFound, "there is no such product")
}

// Find gives a product of the storefront. An unknown one is a 404 problem.
func (s *Service) Find(ctx context.Context, slug string) (Product, error) {
	var p Product
	if s.storefront == "" || !slugs.MatchString(slug) {
		return p, notFound()
	}
	err := s.db.Read(ctx, s.storefront, func(tx *tenancy.Tx) error {
		tx.Queue(findProduct, slug).Row(p.scan)
		return nil
	})
	return p, err
}

// Change changes a product, writes down who did, and has every POP drop its page, in
// one commit. It is the storefront's
// approvers' alone: without the role it is a 403, for another tenant, as for an
// unknown product, a 404 problem.
func (s *Service) Change(ctx context.Context, who handoff.Identity, slug string, in Input) (Product, error) {
	var p Product
	if !who.Has(RoleApprover) {
		return p, problem.New(http.StatusForbidden, problem.Forbidden, "the role "+RoleApprover+" is needed")
	}
	if s.storefront == "" || who.Tenant != s.storefront || !slugs.MatchString(slug) {
		return p, notFound()
	}
	err := s.db.Write(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(changeProduct, slug, in.Name, *in.PriceCents).Row(p.scan)
		tx.Queue(audit.Record(who, "product.changed", slug, in))
		return s.outbox.PurgePublic(tx, group(slug))
	})
	if err == nil {
		s.outbox.Wake()
	}
	return p, err
}

// Add adds a product to the storefront, unless it is there. No endpoint does,
// yet: the seed does.
func (s *Service) Add(ctx context.Context, slug, name string, priceCents int64) error {
	if !slugs.MatchString(slug) {
		return fmt.Errorf("add product %q: a slug is 1 to 63 of a-z, 0-9 and hyphen", slug)
	}
	return s.db.Write(ctx, s.storefront, func(tx *tenancy.Tx) error {
		tx.Queue(addProduct, slug, name, priceCents)
		return nil
	})
}

func (p *Product) scan(row pgx.Row) error {
	err := row.Scan(&p.Slug, &p.Name, &p.PriceCents, &p.Currency, &p.UpdatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound()
	}
	p.UpdatedAt = p.UpdatedAt.UTC()
	return err
}
