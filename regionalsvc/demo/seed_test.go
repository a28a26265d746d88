package demo

import (
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/customers"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/keyset"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/products"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestSeed_secondStartAddsNothingAndChangesNothing(t *testing.T) {
	t.Parallel()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	acme := tenants[0]
	who := handoff.Identity{Tenant: acme.id, Roles: []string{products.RoleApprover}}
	shop := products.New(db, acme.id, nil)

	if err := acme.seed(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	price := int64(1)
	if _, err := shop.Change(t.Context(), who, "coffee", products.Input{Name: "Renamed", PriceCents: &price}); err != nil {
		t.Fatal(err)
	}
	if err := acme.seed(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	list, err := customers.New(db).List(t.Context(), who, keyset.Window{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != len(acme.customers) {
		t.Errorf("%d customers, want %d", len(list.Items), len(acme.customers))
	}
	coffee, err := shop.Find(t.Context(), "coffee")
	if err != nil {
		t.Fatal(err)
	}
	if coffee.Name != "Renamed" || coffee.PriceCents != price {
		t.Errorf("what was changed was undone: %+v", coffee)
	}
}
