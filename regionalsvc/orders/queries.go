package orders

// Every statement of this package. None names the tenant: row-level security does.
const (
	// insertOrder finds the customer and the tenant's currency as it inserts.
	// No row comes back for an unknown customer.
	insertOrder = `
insert into orders (id, customer_id, total_cents, currency, status)
select $1, c.id, $3, t.currency, $4
  from customers c join tenants t using (tenant_id)
 where c.id = $2
returning currency, created_at`

	findOrder = `
select id, customer_id, total_cents, currency, status, created_at
  from orders where id = $1`

	listOrders = `
select id, customer_id, total_cents, currency, status, created_at
  from orders where id < $1 order by id desc limit $2`
)
