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

	// Only for the password that was checked: a change that was committed meanwhile
	// has ended what was opened with the old one, and this session would outlive it.
	// The lock makes a change that comes now wait for this commit, and end it too.
	insertSession = `
insert into sessions (id, user_id, created_at, expires_at)
select $1, id, $3, $4 from users where id = $2 and password_hash = $5 for no key update`

	selectSession = `
select u.email, u.roles, s.created_at from sessions s join users u on u.id = s.user_id
where s.id = $1 and s.user_id = $2 and s.revoked_at is null and s.expires_at > $3`

	selectHash = `select email, password_hash from users where id = $1`

	// Each login takes some of what is over with it, so that nothing has to sweep.
	deleteExpired = `
delete from sessions where id in (
    select id from sessions where expires_at < now() order by expires_at limit 10 for update skip locked)`

	revokeSession = `update sessions set revoked_at = now() where id = $1 and revoked_at is null`

	revokeSessionsOf = `
with ended as (update sessions set revoked_at = now() where user_id = $1 and id::text <> $2 and revoked_at is null returning created_at)
select max(created_at) from ended`

	revokeAllSessions = `
with ended as (update sessions set revoked_at = now() where revoked_at is null returning created_at)
select max(created_at) from ended`
)
