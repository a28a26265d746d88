package feed

const (
	insertMessage = `insert into feed_outbox (subject, message, expires_at) values ($1, $2, $3)`

	// What is due, and the time as of which that is so. There is always a row: one
	// without an id says that nothing is due.
	selectDue = `
select t.at, o.id, o.subject, o.message, o.expires_at
  from (select statement_timestamp() as at) t
  left join lateral (
    select id, subject, message, expires_at from feed_outbox
     where published_at is null and expires_at > statement_timestamp() order by id limit $1) o on true
 order by o.id`

	markPublished = `update feed_outbox set published_at = now() where id = any ($1)`

	deleteExpired = `
delete from feed_outbox where id in (
    select id from feed_outbox where expires_at <= now() order by expires_at limit 1000 for update skip locked)`

	// A row comes back where the stream is another than the one published to.
	rememberStream = `
insert into feed_stream (created) values ($1)
on conflict (one) do update set created = excluded.created where feed_stream.created <> excluded.created
returning created`

	publishAgain = `update feed_outbox set published_at = null where published_at is not null`
)
