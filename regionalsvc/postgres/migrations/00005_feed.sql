-- +goose Up
-- What POPs must be told, written by the transaction that decided it and published
-- after it. It belongs to no tenant: it is drained for all of them at once, and
-- holds no secret and no content, only names of sessions that have ended. A row
-- stays until it can matter to nobody, so that a broker that lost what it had is
-- told again.
create table feed_outbox (
    id           bigint generated always as identity primary key,
    subject      text not null,
    message      text not null,
    expires_at   timestamptz not null,
    published_at timestamptz
);
create index feed_outbox_due on feed_outbox (id) where published_at is null;
create index feed_outbox_by_expiry on feed_outbox (expires_at);

-- The stream that the rows were published to: one row.
create table feed_stream (
    one     boolean primary key default true check (one),
    created text not null
);
