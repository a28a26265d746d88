package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/accounts"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/customers"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/keyset"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/products"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Password is that of every user of the demo.
const Password = "correct horse battery staple"

// The public page: a product of a tenant whose products are public.
const (
	storefrontTenant = "acme"
	storefrontHome   = "eu"
	storefrontPage   = "/products/coffee"
)

// tenant is what a region is seeded with.
type tenant struct {
	id, name, home, currency string
	users                    []user
	customers                []string
	products                 []product
}

type user struct {
	email string
	roles []string
}

type product struct {
	slug, name string
	priceCents int64
}

// tenants of the demo. Who has the role approver may approve, and change a product.
var tenants = []tenant{
	{
		id: "acme", name: "Acme Coffee", home: "eu", currency: "EUR",
		users: []user{
			{"ada@acme.example", []string{"member", "approver"}},
			{"alan@acme.example", []string{"member"}},
		},
		customers: []string{"Café Morgenrot", "Hotel Adler", "Bistro Chez Nous", "Kantine Nordbahnhof"},
		products:  []product{{"coffee", "House Coffee, 250 g", 450}},
	},
	{
		id: "globex", name: "Globex Supply", home: "us", currency: "USD",
		users: []user{
			{"grace@globex.example", []string{"member", "approver"}},
		},
		customers: []string{"Springfield Diner", "Union Station Deli", "Harbor Market"},
	},
}

// migrateAndSeed brings a region's database to what its service expects, and
// puts the tenants into it that are at home there. What is there already stays
// as its users have left it.
func (d *Demo) migrateAndSeed(ctx context.Context, i int) error {
	r := d.Regions[i]
	steps := 0
	count := func(string, ...any) { steps++ }
	if err := postgres.Migrate(ctx, r.Owner, postgres.DefaultAppRole, count); err != nil {
		return fmt.Errorf("region %s: %w", r.Region, err)
	}
	// Through the service's own role and code: what they may not do, a demo does
	// not show.
	pool, err := postgres.Open(ctx, postgres.Config{URL: r.Database, Name: "gatehouse demo"})
	if err != nil {
		return fmt.Errorf("region %s: %w", r.Region, err)
	}
	defer pool.Close()
	db, found := tenancy.New(pool), ""
	for _, t := range tenants {
		if t.home != r.Region {
			continue
		}
		if err := t.seed(ctx, db); err != nil {
			return fmt.Errorf("region %s: %w", r.Region, err)
		}
		found += t.id
	}
	if err := publish(ctx, pool, db, r.Region); err != nil {
		return fmt.Errorf("region %s: %w", r.Region, err)
	}
	d.opts.Log("database region_%s: %d migrations done; tenant %s seeded", r.Region, steps, found)
	return nil
}

// seed goes through the capabilities' own code.
func (t tenant) seed(ctx context.Context, db *tenancy.DB) error {
	if err := db.Enroll(ctx, tenancy.Tenant{ID: t.id, Name: t.name, Currency: t.currency}); err != nil {
		return err
	}
	for _, u := range t.users {
		_, err := accounts.Create(ctx, db, accounts.NewUser{Tenant: t.id, Email: u.email, Password: Password, Roles: u.roles})
		if err != nil && !errors.Is(err, accounts.ErrExists) {
			return err
		}
	}
	shop := products.New(db, t.id, nil)
	for _, p := range t.products {
		if err := shop.Add(ctx, p.slug, p.name, p.priceCents); err != nil {
			return fmt.Errorf("product %s: %w", p.slug, err)
		}
	}
	who := handoff.Identity{Tenant: t.id}
	known := customers.New(db)
	there, err := known.List(ctx, who, keyset.Window{Limit: len(t.customers)})
	if err != nil {
		return err
	}
	for _, name := range t.customers[min(len(there.Items), len(t.customers)):] {
		if _, err := known.Add(ctx, who, name); err != nil {
			return fmt.Errorf("customer %s: %w", name, err)
		}
	}
	return nil
}

// bucket is that of the values that /hello of Caddyfile.example shows.
const bucket = "greetings"

// publish has the region tell POPs what /hello shows, unless it has told them
// something already: for everybody from the home of the public page, for a
// tenant from its own.
func publish(ctx context.Context, pool *pgxpool.Pool, db *tenancy.DB, region string) error {
	var told bool
	if err := pool.QueryRow(ctx, "select exists (select from feed_state)").Scan(&told); err != nil || told {
		return err
	}
	outbox := feed.NewOutbox(region, accounts.DefaultSessionLife)
	for _, t := range tenants {
		if t.home != region {
			continue
		}
		err := db.Write(ctx, t.id, func(tx *tenancy.Tx) error {
			return outbox.Put(tx, bucket, "hello", "Welcome back to "+t.name)
		})
		if err != nil {
			return err
		}
	}
	if region != storefrontHome {
		return nil
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return outbox.Publish(ctx, tx,
			handfeed.KV{Bucket: bucket, Key: "hello", Value: "Hello"},
			handfeed.KV{Bucket: bucket, Key: "news", Value: "Fresh beans have come in."},
			handfeed.Definition{Kind: handfeed.Flags, Name: "web", Body: jsontext.Value(`{"flags":[` +
				`{"key":"news","public":true,"rules":[{"variant":"on","tenants":["acme"]}]},` +
				`{"key":"checkout.form","public":true,"variants":[{"name":"short","value":{"fields":3}},{"name":"long","value":{"fields":12}}],"default":"long"},` +
				`{"key":"audit-everything","default":"on"}]}`)})
	})
}
