package accounts

const (
	insertUser = `
insert into users (id, email, password_hash, roles) values ($1, $2, $3, $4)
on conflict (tenant_id, email) do nothing`

	selectUser = `select id::text, email, password_hash, roles from users where email = $1`

	selectEmail = `select email from users where id = $1`

	// Compare and swap: of two logins at once, or of one and a change of the
	// password, the hash that is there first stays.
	updateHash = `update users set password_hash = $3 where id = $1 and password_hash = $2`

	insertSession = `insert into sessions (id, user_id, expires_at) values ($1, $2, $3)`

	// Each login takes some of what is over with it, so that nothing has to sweep.
	deleteExpired = `
delete from sessions where id in (
    select id from sessions where expires_at < now() order by expires_at limit 10 for update skip locked)`

	revokeSession = `update sessions set revoked_at = now() where id = $1 and revoked_at is null`

	revokeSessionsOf = `update sessions set revoked_at = now() where user_id = $1 and id::text <> $2 and revoked_at is null`

	revokeAllSessions = `update sessions set revoked_at = now() where revoked_at is null`
)
