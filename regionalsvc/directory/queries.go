package directory

// Every statement of this package. A row takes a larger epoch or sequence and no
// other.
const (
	setRegion = `
insert into directory_region (region) values ($1)
on conflict (one) do update set region = excluded.region where directory_region.region <> excluded.region`

	seedTenants = `
insert into directory_tenants (tenant, home, state, epoch)
select tenant, home, 'active', epoch from unnest($1::text[], $2::text[], $3::bigint[]) as t (tenant, home, epoch)
on conflict (tenant) do update set home = excluded.home, state = excluded.state, epoch = excluded.epoch
 where directory_tenants.epoch < excluded.epoch`

	addTenant = `
insert into directory_tenants (tenant, home, state, epoch) values ($1, $2, 'active', 1)
on conflict (tenant) do nothing`

	seedLogins = `
insert into directory_logins (hash, tenant, seq)
select hash, tenant, 1 from unnest($1::text[], $2::text[]) as t (hash, tenant)
on conflict (hash) do nothing`

	selectTenants = `select tenant, home, state, epoch from directory_tenants`
	selectLogins  = `select hash, tenant, seq from directory_logins`

	patience   = `select set_config('lock_timeout', $1, true), set_config('statement_timeout', $1, true)`
	lockTenant = `select tenant_move($1)`

	// Only its home may say where a tenant goes.
	changeTenant = `
update directory_tenants set home = $2, state = $3, epoch = epoch + 1
 where tenant = $1 and home = $4 and state <> 'closed' and (home <> $2 or state <> $3)
returning epoch`

	putTenant = `
insert into directory_tenants (tenant, home, state, epoch) values ($1, $2, $3, $4)
on conflict (tenant) do update set home = excluded.home, state = excluded.state, epoch = excluded.epoch
 where directory_tenants.epoch < excluded.epoch`

	putLogin = `
insert into directory_logins (hash, tenant, seq) values ($1, $2, (extract(epoch from clock_timestamp()) * 1e6)::bigint)
on conflict (hash) do update set tenant = excluded.tenant, seq = greatest(directory_logins.seq + 1, excluded.seq)
returning seq`

	takeLogin = `
insert into directory_logins (hash, tenant, seq) values ($1, $2, $3)
on conflict (hash) do update set tenant = excluded.tenant, seq = excluded.seq where directory_logins.seq < excluded.seq`
)
