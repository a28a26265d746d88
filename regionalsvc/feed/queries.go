package feed

const (
	insertMessage = `insert into feed_outbox (subject, message, expires_at) values ($1, $2, $3)`

	// The sequence is given under the row's lock, so that the order of the sequences
	// is that of the commits.
	putState = `
insert into feed_state (subject, message, sequenced, seq, expires_at)
values ($1, $2, $3, (extract(epoch from clock_timestamp()) * 1e6)::bigint, coalesce($4, 'infinity'::timestamptz))
on conflict (subject) do update set message = excluded.message, expires_at = excluded.expires_at,
    seq = greatest(feed_state.seq + 1, (extract(epoch from clock_timestamp()) * 1e6)::bigint)
 where $5 or feed_state.message <> excluded.message`

	// What is due, and the time as of which that is so. There is always a row: one
	// without a subject says that nothing is due. Of those of one transaction the
	// states come last: whoever reads that a tenant has moved has read what ended.
	selectDue = `
select t.at, o.id, o.subject, o.message, o.expires_at, o.sequenced, o.seq, o.stored
  from (select statement_timestamp() as at) t
  left join lateral (
    (select id, subject, message, expires_at, false as sequenced, 0 as seq, 0 as stored from feed_outbox
      where published_at is null and expires_at > statement_timestamp() order by id limit $1)
    union all
    (select null, subject, message, expires_at, sequenced, seq, stored from feed_state
      where seq > published_seq and expires_at > statement_timestamp() order by seq limit $1)) o on true`

	markPublished = `update feed_outbox set published_at = now() where id = any ($1)`

	// Not where the state has changed since it was read.
	markState = `
update feed_state s set published_seq = d.seq, stored = d.stored
  from unnest($1::text[], $2::bigint[], $3::bigint[]) as d (subject, seq, stored)
 where s.subject = d.subject and s.published_seq < d.seq`

	// Another message is the last of the subject than was remembered.
	rememberStored = `update feed_state set stored = $2 where subject = $1`

	deleteExpiredStates = `
delete from feed_state where subject in (
    select subject from feed_state where expires_at <= now() order by expires_at limit 1000 for update skip locked)`

	deleteExpired = `
delete from feed_outbox where id in (
    select id from feed_outbox where expires_at <= now() order by expires_at limit 1000 for update skip locked)`

	// A row comes back where the stream is another than the one published to.
	rememberStream = `
insert into feed_stream (created) values ($1)
on conflict (one) do update set created = excluded.created where feed_stream.created <> excluded.created
returning created`

	publishAgain = `update feed_outbox set published_at = null where published_at is not null`

	publishStatesAgain = `update feed_state set published_seq = 0, stored = 0 where published_seq > 0 or stored > 0`
)
