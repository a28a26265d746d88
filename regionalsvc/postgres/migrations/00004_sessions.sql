-- +goose Up
-- Sessions as they were opened. The token itself is nowhere: whoever reads this
-- table can end a session and not take one over.
create table sessions (
    tenant_id  text not null default current_setting('gatehouse.tenant') references tenants,
    id         uuid not null, -- the token's sid
    user_id    uuid not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index sessions_by_user on sessions (tenant_id, user_id);
create index sessions_by_expiry on sessions (tenant_id, expires_at);
select make_tenant_table('sessions');
