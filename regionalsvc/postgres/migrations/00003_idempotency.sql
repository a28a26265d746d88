-- +goose Up
create table idempotency_keys (
    tenant_id   text not null default current_setting('gatehouse.tenant') references tenants,
    endpoint    text not null,
    key         text not null,
    fingerprint bytea not null,
    status      int,   -- the answer; written before the commit that makes the row visible
    location    text,
    body        bytea,
    created_at  timestamptz not null default now(),
    primary key (tenant_id, endpoint, key)
);
create index idempotency_keys_by_age on idempotency_keys (tenant_id, created_at);
select make_tenant_table('idempotency_keys');

-- Claims a key for the running transaction and says how it stands: 'new',
-- 'in-flight' (another transaction has it now: answered at once, nobody waits
-- with a connection in hand), 'mismatch' (used for another request) or 'replay',
-- with the answer. plpgsql, VOLATILE: each statement sees what was committed
-- before it, so that whoever gets the lock also sees what its last holder did.
--
-- A new key takes up to ten expired ones of its tenant away, so that no sweep over
-- all tenants is needed, which row-level security would not let see anything.
-- +goose StatementBegin
create function idempotency_begin(p_endpoint text, p_key text, p_fingerprint bytea, p_retention interval,
    out verdict text, out status int, out location text, out body bytea) language plpgsql as $$
declare
    found_row idempotency_keys;
begin
    if not pg_try_advisory_xact_lock(hashtextextended(
        current_setting('gatehouse.tenant') || ' ' || p_endpoint || ' ' || p_key, 0)) then
        verdict := 'in-flight';
        return;
    end if;
    delete from idempotency_keys k
     where k.endpoint = p_endpoint and k.key = p_key and k.created_at < now() - p_retention;
    insert into idempotency_keys (endpoint, key, fingerprint)
    values (p_endpoint, p_key, p_fingerprint) on conflict do nothing;
    if found then
        verdict := 'new';
        delete from idempotency_keys k
         where (k.tenant_id, k.endpoint, k.key) in (
            select o.tenant_id, o.endpoint, o.key from idempotency_keys o
             where o.created_at < now() - p_retention
             order by o.created_at limit 10 for update skip locked);
        return;
    end if;
    select k.* into found_row from idempotency_keys k where k.endpoint = p_endpoint and k.key = p_key;
    if found_row.fingerprint <> p_fingerprint then
        verdict := 'mismatch';
        return;
    end if;
    verdict := 'replay';
    status := found_row.status;
    location := found_row.location;
    body := found_row.body;
end $$;
-- +goose StatementEnd
revoke execute on function idempotency_begin(text, text, bytea, interval) from public;
