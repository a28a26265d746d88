package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// withoutTenant are the tables that belong to no tenant. A new name here needs a
// reason that a reviewer believes.
var withoutTenant = []string{
	"goose_db_version", "river_migration", // versions of the schema
	"directory_tenants", "directory_logins", "directory_region", // where each tenant is, and hashes of sign-in names under a key: asked before a tenant is known
	"feed_state",                 // likewise what is published of states; values of a bucket are those that POPs may show
	"feed_outbox", "feed_stream", // what POPs are told, drained for all tenants at once; names of ended sessions, no content
	"river_job", "river_leader", "river_notification", "river_queue", // workers take the tenant from a job's arguments
}

// policy is the one text a policy may have, as PostgreSQL prints it.
const policy = "(tenant_id = ( SELECT current_setting('gatehouse.tenant'::text) AS current_setting))"

// gate names everything in the schema that row-level security does not cover.
// It looks at the catalogue and knows no table but those of withoutTenant.
const gate = `
with tables as (
    select c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity,
           (select a.attnum from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped) as tenant
      from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'f')
)
select relname || ': has no tenant_id and is not on the list of tables without one' from tables
 where tenant is null and relname <> all ($1::text[])
union all
select relname || ': row level security is not enabled' from tables where tenant is not null and not relrowsecurity
union all
select relname || ': row level security is not forced, its owner sees everything' from tables where tenant is not null and not relforcerowsecurity
union all
select relname || ': tenant_id may be null' from tables t join pg_attribute a on a.attrelid = t.oid and a.attnum = t.tenant where not a.attnotnull
union all
select relname || ': must have one policy, has ' || (select count(*) from pg_policy p where p.polrelid = t.oid) from tables t
 where tenant is not null and (select count(*) from pg_policy p where p.polrelid = t.oid) <> 1
union all
select relname || ': policy ' || polname || ' is not the rule' from tables t join pg_policy p on p.polrelid = t.oid
 where tenant is not null and not (p.polcmd = '*' and p.polpermissive and p.polroles = '{0}'
   and coalesce(pg_get_expr(p.polqual, p.polrelid), '') = $2 and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') = $2)
union all
select t.relname || ': index ' || i.indexrelid::regclass || ' does not begin with tenant_id' from tables t join pg_index i on i.indrelid = t.oid
 where tenant is not null and i.indkey[0] <> t.tenant
union all
select t.relname || ': foreign key ' || k.conname || ' does not carry tenant_id' from tables t
  join pg_constraint k on k.conrelid = t.oid and k.contype = 'f' join tables f on f.oid = k.confrelid
 where t.tenant is not null and f.tenant is not null
   and array_position(k.conkey, t.tenant) is distinct from array_position(k.confkey, f.tenant)
    or t.tenant is not null and f.tenant is not null and array_position(k.conkey, t.tenant) is null
union all
select c.relname || ': a view without security_invoker runs as its owner' from pg_class c
 where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' and not coalesce('security_invoker=true' = any (c.reloptions), false)
union all
select c.relname || ': a materialised view holds rows of all tenants' from pg_class c
 where c.relnamespace = 'public'::regnamespace and c.relkind = 'm'
union all
select p.proname || ': a SECURITY DEFINER function runs as its owner' from pg_proc p
 where p.pronamespace = 'public'::regnamespace and p.prosecdef
union all
select t.relname || ': the application may ' || g.privilege_type || ', which row level security does not look at'
  from tables t join information_schema.role_table_grants g on g.table_schema = 'public' and g.table_name = t.relname
 where g.grantee = 'gatehouse_app' and g.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER')
order by 1`

func faults(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), gate, withoutTenant, policy)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func mustExec(t *testing.T, conn *pgx.Conn, sql string, arguments ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, arguments...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestIsolation_everyTableFollowsTheRule(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewDatabase(t).Superuser)
	for _, fault := range faults(t, conn) {
		t.Error(fault)
	}
}

// The gate is worth something only if it closes.
func TestIsolation_whatForgetsTheRuleIsFound(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewDatabase(t).Owner)
	const table = "create table forgetful (tenant_id text not null, id uuid, primary key (tenant_id, id)); "
	for name, row := range map[string]struct{ sql, want string }{
		"no policy":        {table, "forgetful: row level security is not enabled"},
		"not forced":       {table + "select make_tenant_table('forgetful'); alter table forgetful no force row level security", "forgetful: row level security is not forced"},
		"no tenant":        {"create table forgetful (id uuid primary key)", "forgetful: has no tenant_id"},
		"a wide policy":    {table + "alter table forgetful enable row level security; alter table forgetful force row level security; create policy p on forgetful using (true)", "forgetful: policy p is not the rule"},
		"only reads":       {table + "alter table forgetful enable row level security; alter table forgetful force row level security; create policy p on forgetful using (tenant_id = (select current_setting('gatehouse.tenant')))", "forgetful: policy p is not the rule"},
		"a second policy":  {table + "select make_tenant_table('forgetful'); create policy also on forgetful for select using (true)", "forgetful: must have one policy, has 2"},
		"a global key":     {table + "select make_tenant_table('forgetful'); create unique index by_id on forgetful (id)", "forgetful: index by_id does not begin with tenant_id"},
		"a bare reference": {"create table forgetful (tenant_id text not null, id uuid, parent uuid, primary key (tenant_id, id)); select make_tenant_table('forgetful'); alter table customers add constraint tmp unique (id); alter table forgetful add foreign key (parent) references customers (id) not valid", "forgetful: foreign key forgetful_parent_fkey does not carry tenant_id"},
		"a nullable one":   {"create table forgetful (tenant_id text); select make_tenant_table('forgetful')", "forgetful: tenant_id may be null"},
		"a view":           {"create view forgetful as select * from orders", "forgetful: a view without security_invoker"},
		"a definer":        {"create function forgetful() returns bigint language sql security definer as 'select count(*) from orders'", "forgetful: a SECURITY DEFINER function"},
		"truncate":         {"grant truncate on orders to gatehouse_app", "orders: the application may TRUNCATE"},
	} {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), row.sql); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found := faults(t, conn)
		if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, row.want) }) {
			t.Errorf("%s: found %q, want %q", name, found, row.want)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// column is one that a generated row must fill.
type column struct{ Name, Type string }

const (
	tenantTables = `
select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') order by 1`
	columnsOf = `
select a.attname as name, format_type(a.atttypid, null) as type from pg_attribute a
 where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped and a.attname <> 'tenant_id' and a.attnotnull`
	constraints = `
select format('alter table %s drop constraint %I', conrelid::regclass, conname) from pg_constraint
 where connamespace = 'public'::regnamespace and contype in ('c', 'f') and conrelid::regclass::text not like 'river%'`
)

// value is some value of a PostgreSQL type.
func value(t *testing.T, typ string) string {
	t.Helper()
	switch typ {
	case "uuid":
		return "gen_random_uuid()"
	case "text", "character varying", "citext":
		return "gen_random_uuid()::text"
	case "bigint", "integer", "smallint", "numeric":
		return "1"
	case "timestamp with time zone":
		return "now()"
	case "date":
		return "current_date"
	case "bytea":
		return `'\x00'`
	case "json", "jsonb":
		return "'{}'"
	case "boolean":
		return "true"
	case "text[]":
		return "'{}'"
	}
	t.Fatalf("no value for a column of type %s: add one here", typ)
	return ""
}

// insertSQL makes a row of tenant in table out of the catalogue alone.
func insertSQL(t *testing.T, conn *pgx.Conn, table, tenant string) string {
	t.Helper()
	rows, err := conn.Query(t.Context(), columnsOf, table)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByName[column])
	if err != nil {
		t.Fatal(err)
	}
	names, values := []string{"tenant_id"}, []string{"'" + tenant + "'"}
	for _, c := range columns {
		names = append(names, pgx.Identifier{c.Name}.Sanitize())
		values = append(values, value(t, c.Type))
	}
	return fmt.Sprintf("insert into %s (%s) values (%s)", table, strings.Join(names, ", "), strings.Join(values, ", "))
}

func code(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

const insufficientPrivilege = "42501"

// Rows of two tenants are put into every table that has a tenant_id, by a
// superuser and without checks or foreign keys, so that a table of next year needs
// no line here. Then the service's role, which is what runs, and the owner's,
// which has every privilege and is bound by FORCE alone, try to cross.
func TestIsolation_anotherTenantSeesAndChangesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	admin := connect(t, db.Superuser)
	statements, err := pgx.CollectRows(must(admin.Query(t.Context(), constraints)), pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		mustExec(t, admin, sql)
	}
	tables, err := pgx.CollectRows(must(admin.Query(t.Context(), tenantTables)), pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(tables) < 8 {
		t.Fatalf("only %d tables with tenants' rows: %s", len(tables), tables)
	}
	for _, table := range tables {
		for _, tenant := range []string{"a", "b"} {
			mustExec(t, admin, insertSQL(t, admin, table, tenant))
		}
	}
	owner, err := pgxpool.New(t.Context(), db.Owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	for role, pool := range map[string]*pgxpool.Pool{"service": pgtest.Open(t, db.URL), "owner": owner} {
		for _, table := range tables {
			t.Run(role+"/"+table, func(t *testing.T) { cross(t, pool, table, insertSQL(t, admin, table, "a")) })
		}
	}
}

// cross tries, as tenant b, to get at tenant a's row of table.
func cross(t *testing.T, pool *pgxpool.Pool, table, insertAsA string) {
	db, ctx := tenancy.New(pool).Waiting(pgtest.Patience), t.Context()
	for _, tenant := range []string{"a", "b"} {
		err := db.Read(ctx, tenant, func(tx *tenancy.Tx) error {
			tx.Queue("select array_agg(tenant_id) from " + table).Row(func(row pgx.Row) error {
				var seen []string
				if err := row.Scan(&seen); err != nil {
					return err
				}
				if !slices.Equal(seen, []string{tenant}) {
					t.Errorf("tenant %s sees rows of %q", tenant, seen)
				}
				return nil
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{
		"update " + table + " set tenant_id = tenant_id where tenant_id = 'a'",
		"update " + table + " set tenant_id = 'b' where tenant_id = 'a'",
		"delete from " + table + " where tenant_id = 'a'",
	} {
		err := db.Write(ctx, "b", func(tx *tenancy.Tx) error {
			tx.Queue(sql).Tag(func(tag pgconn.CommandTag) error {
				if tag.RowsAffected() != 0 {
					t.Errorf("%s: changed %d rows", sql, tag.RowsAffected())
				}
				return nil
			})
			return nil
		})
		if err != nil && code(err) != insufficientPrivilege {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for tenant, sql := range map[string]string{
		"b": insertAsA,                                  // a row for somebody else
		"a": "update " + table + " set tenant_id = 'b'", // a row given away
	} {
		err := db.Write(ctx, tenant, func(tx *tenancy.Tx) error {
			tx.Queue(sql)
			return nil
		})
		if code(err) != insufficientPrivilege {
			t.Errorf("tenant %s, %s: %v, want SQLSTATE %s", tenant, sql, err, insufficientPrivilege)
		}
	}
	withoutATenant(t, pool, table)
}

// withoutATenant reads on a session that never had one, and on one that had: the
// first raises, the second sees nothing.
func withoutATenant(t *testing.T, pool *pgxpool.Pool, table string) {
	t.Helper()
	fresh, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close(context.Background())
	var seen int
	if err := fresh.QueryRow(t.Context(), "select count(*) from "+table).Scan(&seen); code(err) != "42704" {
		t.Errorf("no tenant was ever set: %d rows, %v", seen, err)
	}
	if _, err := fresh.Exec(t.Context(), "begin; select set_config('gatehouse.tenant', 'a', true); commit"); err != nil {
		t.Fatal(err)
	}
	if err := fresh.QueryRow(t.Context(), "select count(*) from "+table).Scan(&seen); err != nil || seen != 0 {
		t.Errorf("the tenant outlived its transaction: %d rows, %v", seen, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
