-- +goose Up
create table customers (
    tenant_id  text not null default current_setting('gatehouse.tenant') references tenants,
    id         uuid not null,
    name       text not null check (name <> ''),
    created_at timestamptz not null default now(),
    primary key (tenant_id, id)
);
select make_tenant_table('customers');

create table orders (
    tenant_id   text not null default current_setting('gatehouse.tenant') references tenants,
    id          uuid not null, -- version 7: the key's order is the order of time
    customer_id uuid not null,
    total_cents bigint not null check (total_cents between 1 and 1000000000000),
    currency    text not null,
    status      text not null check (status in ('placed')),
    created_at  timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, id)
);
create index orders_by_customer on orders (tenant_id, customer_id, id);
select make_tenant_table('orders');

-- One invoice for one order, whatever becomes of the job that writes it.
create table invoices (
    tenant_id   text not null default current_setting('gatehouse.tenant') references tenants,
    id          uuid not null,
    order_id    uuid not null,
    customer_id uuid not null,
    total_cents bigint not null,
    currency    text not null,
    created_at  timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, order_id),
    foreign key (tenant_id, order_id) references orders (tenant_id, id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, id)
);
select make_tenant_table('invoices');

create table products (
    tenant_id   text not null default current_setting('gatehouse.tenant') references tenants,
    slug        text not null check (slug ~ '^[a-z0-9-]{1,63}$'),
    name        text not null check (name <> ''),
    price_cents bigint not null check (price_cents between 0 and 1000000000000),
    currency    text not null,
    updated_at  timestamptz not null default now(),
    primary key (tenant_id, slug)
);
select make_tenant_table('products');
