-- The rule that every table with a tenant_id follows, and a test holds it to:
--
--   tenant_id defaults to the transaction's tenant, and its key leads every index;
--   row-level security is on and FORCEd, so that it binds the owner too;
--   one policy, named tenant, with this text for USING and WITH CHECK;
--   foreign keys carry tenant_id: row-level security does not look at them.
--
-- Without a tenant current_setting raises; left over from an earlier transaction
-- it is the empty string, which equals no tenant's id (check below).

-- +goose Up
-- +goose StatementBegin
create function make_tenant_table(name regclass) returns void language plpgsql as $$
begin
    execute format('alter table %s enable row level security', name);
    execute format('alter table %s force row level security', name);
    execute format('create policy tenant on %s
        using (tenant_id = (select current_setting(''gatehouse.tenant'')))
        with check (tenant_id = (select current_setting(''gatehouse.tenant'')))', name);
end $$;
-- +goose StatementEnd
revoke execute on function make_tenant_table(regclass) from public;

create table tenants (
    tenant_id  text primary key default current_setting('gatehouse.tenant') check (tenant_id ~ '^[a-z0-9-]{1,63}$'),
    name       text not null,
    currency   text not null check (currency ~ '^[A-Z]{3}$'), -- ISO 4217
    created_at timestamptz not null default now()
);
select make_tenant_table('tenants');

-- Who may sign in. email is normalised by whoever writes it.
create table users (
    tenant_id     text not null default current_setting('gatehouse.tenant') references tenants,
    id            uuid not null,
    email         text not null,
    password_hash text not null,
    roles         text[] not null default '{}',
    created_at    timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, email)
);
select make_tenant_table('users');

-- Append-only: the application's role has INSERT and SELECT. detail is json, not
-- jsonb: it keeps the bytes as they were written, so that they can be hashed.
create table audit_entries (
    tenant_id  text not null default current_setting('gatehouse.tenant') references tenants,
    id         uuid not null,
    at         timestamptz not null default now(),
    actor_issuer text not null, -- who vouches for actor; both empty: the service itself
    actor        text not null,
    action     text not null,
    subject    text not null,
    request_id text not null default '',
    detail     json not null,
    primary key (tenant_id, id)
);
create index audit_entries_by_subject on audit_entries (tenant_id, subject, id);
select make_tenant_table('audit_entries');
