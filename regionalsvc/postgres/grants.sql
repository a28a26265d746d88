-- What the application's group role may do; {role} is its name. Runs after every
-- migration, all of it: what is not listed here is taken away. No TRUNCATE and no
-- REFERENCES, which row-level security does not look at; no DELETE but where
-- something expires.
revoke create on schema public from public;
revoke all on all tables in schema public from {role};
revoke all on all sequences in schema public from {role};
grant usage on schema public to {role};

-- UPDATE is of single columns: who could write users.roles could approve, and who
-- could write a session's user_id would be somebody else.
grant select, insert on tenants, users, customers, products, audit_entries, orders, invoices to {role};
grant update (name) on tenants to {role};
grant update (password_hash) on users to {role};
grant update (name, price_cents, updated_at) on products to {role};
grant select, insert, delete, update (status, location, body) on idempotency_keys to {role};
grant select, insert, delete, update (revoked_at) on sessions to {role};
grant select, insert, delete, update (published_at) on feed_outbox to {role};
grant select, insert, update on feed_stream to {role};
grant select, insert, update, delete on feed_state to {role};
grant select, insert, update on directory_tenants, directory_logins, directory_region to {role};
grant execute on function tenant_write(text), tenant_move(text) to {role};
grant execute on function idempotency_begin(text, text, bytea, interval) to {role};

-- Jobs belong to no tenant: workers take the tenant from the job's arguments.
grant select, insert, update, delete on
    river_job, river_leader, river_queue, river_notification to {role};
grant usage on sequence river_job_id_seq to {role};

-- To know whether the schema is the one this program was built for.
grant select on goose_db_version, river_migration to {role};
