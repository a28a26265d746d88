package tenancy

import (
	"context"
	"fmt"
)

// Tenant is what a region keeps of a tenant besides its rows.
type Tenant struct {
	// ID is the tenant's name: see handoff.ValidTenant.
	ID string
	// Name is for people.
	Name string
	// Currency of its orders and prices, ISO 4217: "EUR".
	Currency string
}

// Enroll makes a tenant known to this region, or renames it. The currency of a
// tenant that is known already stays: its orders are in it.
func (db *DB) Enroll(ctx context.Context, t Tenant) error {
	err := db.Write(ctx, t.ID, func(tx *Tx) error {
		tx.Queue(enroll, t.ID, t.Name, t.Currency)
		return nil
	})
	if err != nil {
		return fmt.Errorf("enroll tenant %s: %w", t.ID, err)
	}
	return nil
}

const enroll = `
insert into tenants (tenant_id, name, currency) values ($1, $2, $3)
on conflict (tenant_id) do update set name = excluded.name`
