-- What the application's group role may do; {role} is its name. Runs after every
-- migration, all of it: what is not listed here is taken away. No TRUNCATE and no
-- REFERENCES, which row-level security does not look at; no DELETE but where
-- something expires.
revoke create on schema public from public;
revoke all on all tables in schema public from {role};
revoke all on all sequences in schema public from {role};
grant usage on schema public to {role};

grant select, insert, update on tenants, users, customers, products to {role};
grant select, insert on audit_entries, orders, invoices to {role};
grant select, insert, update, delete on idempotency_keys to {role};
grant select, insert, update, delete on sessions to {role};
grant select, insert, update, delete on feed_outbox to {role};
grant select, insert, update on feed_stream to {role};
grant execute on function idempotency_begin(text, text, bytea, interval) to {role};

-- Jobs belong to no tenant: workers take the tenant from the job's arguments.
grant select, insert, update, delete on
    river_job, river_leader, river_queue, river_notification to {role};
grant usage, select on all sequences in schema public to {role};

-- To know whether the schema is the one this program was built for.
grant select on goose_db_version, river_migration to {role};
