-- +goose Up
-- What POPs and other regions must know of things that have one state at a time:
-- where a tenant is at home, a set of flags, a value, a purge, a sign-in name. A row
-- is the latest; it is published when seq is greater than published_seq, and again
-- to a stream that was made anew. It belongs to no tenant, as feed_outbox.
create table feed_state (
    subject       text primary key,
    -- What is published, without its sequence where sequenced.
    message       text not null,
    sequenced     boolean not null,
    -- Grows by each change; microseconds since 1970, so that a database that was put
    -- back to an earlier state does not fall behind what it has published.
    seq           bigint not null,
    published_seq bigint not null default 0,
    -- Where the stream stores it: the next message of the subject is published only
    -- in that one's place.
    stored        bigint not null default 0,
    expires_at    timestamptz not null default 'infinity'
);
create index feed_state_due on feed_state (seq) where seq > published_seq;
create index feed_state_by_expiry on feed_state (expires_at) where expires_at < 'infinity';

-- Where tenants and sign-in names are: what every region knows of all, and the only
-- data that is readable without a tenant. The larger epoch or sequence stands.
create table directory_tenants (
    tenant text primary key check (tenant ~ '^[a-z0-9-]{1,63}$'),
    home   text not null check (home ~ '^[a-z0-9-]{1,63}$'),
    state  text not null check (state in ('active', 'moving', 'closed')),
    epoch  bigint not null check (epoch > 0)
);
create table directory_logins (
    hash   text primary key check (hash ~ '^[0-9a-f]{64}$'),
    tenant text not null check (tenant ~ '^[a-z0-9-]{0,63}$'), -- empty: nobody has it any more
    seq    bigint not null
);
