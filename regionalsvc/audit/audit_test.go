package audit_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/audit"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t *testing.T) *tenancy.DB {
	t.Helper()
	db := tenancy.New(pgtest.New(t)).Waiting(pgtest.Patience)
	if err := db.Enroll(t.Context(), tenancy.Tenant{ID: "acme", Name: "Acme", Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestRecord_keepsWhoDidWhat(t *testing.T) {
	t.Parallel()
	db := open(t)
	who := handoff.Identity{Tenant: "acme", Subject: "ada", SubjectIssuer: "https://issuer.example"}
	err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue(audit.Record(who, "thing.done", "thing-1", map[string]any{"b": 1, "a": "ä"}))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("select actor_issuer || ' ' || actor, action, subject, detail::text from audit_entries").Row(func(row pgx.Row) error {
			var actor, action, subject, detail string
			if err := row.Scan(&actor, &action, &subject, &detail); err != nil {
				return err
			}
			if actor != "https://issuer.example ada" || action != "thing.done" || subject != "thing-1" || detail != `{"a":"ä","b":1}` {
				t.Errorf("%q %q %q %q", actor, action, subject, detail)
			}
			return nil
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRecord_entriesCannotBeChanged(t *testing.T) {
	t.Parallel()
	db := open(t)
	for _, sql := range []string{"update audit_entries set actor = 'x'", "delete from audit_entries", "truncate audit_entries"} {
		err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error { tx.Queue(sql); return nil })
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestRecord_whatCannotBeWrittenUndoesTheDeed(t *testing.T) {
	t.Parallel()
	db := open(t)
	err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("insert into customers (id, name) values ($1, 'Ada')", tenancy.NewID())
		tx.Queue(audit.Record(handoff.Identity{}, "thing.done", "x", func() {}))
		return nil
	})
	var p *problem.Problem
	if err == nil || errors.As(err, &p) { // nothing left this process, so nothing about it is unknown
		t.Fatalf("got %v", err)
	}
	err = db.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("select count(*) from customers").Row(func(row pgx.Row) error {
			var n int
			if err := row.Scan(&n); err != nil || n != 0 {
				t.Errorf("%d customers, %v", n, err)
			}
			return nil
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
