-- +goose Up
-- The region that this database is of: one row, written by the service. Without it,
-- and for a tenant that the directory does not know, nothing is refused.
create table directory_region (
    one    boolean primary key default true check (one),
    region text not null check (region ~ '^[a-z0-9-]{1,63}$')
);

-- Begins a transaction that writes a tenant's rows: it is the tenant's, and the
-- tenant is at home here until it ends. Who moves a tenant takes the same lock
-- exclusively (tenant_move): it waits for those who write, and whoever comes after
-- finds the tenant gone. So no write is committed here after the move was,
-- whatever an older directory in some process's memory says. A statement of a
-- volatile function sees what was committed before it, and so the move.
-- +goose StatementBegin
create function tenant_write(p_tenant text) returns void language plpgsql volatile as $$
declare
    known directory_tenants;
begin
    perform set_config('gatehouse.tenant', p_tenant, true),
            pg_advisory_xact_lock_shared(hashtextextended('gatehouse.tenant ' || p_tenant, 0));
    select t.* into known from directory_tenants t, directory_region r
     where t.tenant = p_tenant and (t.home <> r.region or t.state <> 'active');
    if known.tenant is not null then
        raise exception 'tenant % is not at work here', p_tenant
            using errcode = 'GH001', detail = known.home || ' ' || known.state || ' ' || known.epoch;
    end if;
end $$;

create function tenant_move(p_tenant text) returns void language sql volatile as $$
    select pg_advisory_xact_lock(hashtextextended('gatehouse.tenant ' || p_tenant, 0))
$$;
-- +goose StatementEnd
revoke execute on function tenant_write(text), tenant_move(text) from public;
