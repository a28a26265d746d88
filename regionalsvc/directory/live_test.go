package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/broker"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// place is a region with its database.
type place struct {
	*Live
	pool *pgxpool.Pool
	end  func()
}

func newBroker(t *testing.T) *broker.Broker {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Regions: []string{"eu", "us"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// open opens region's directory on pool, without a feed where b is nil.
func open(t *testing.T, pool *pgxpool.Pool, b *broker.Broker, region string, of File) *place {
	t.Helper()
	d, err := New(of, key)
	if err != nil {
		t.Fatal(err)
	}
	var outbox *feed.Outbox
	if b != nil {
		outbox = feed.NewOutbox(region, time.Hour)
	}
	live, err := Open(t.Context(), d, region, pool, outbox, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	p := &place{live, pool, func() {}}
	if b == nil {
		return p
	}
	publisher, err := feed.NewPublisher(outbox, pool, link.Server{URL: b.URL(region)}, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { publisher.Run(ctx) })
	running.Go(func() { live.Follow(ctx, link.Server{URL: b.URL(region)}) })
	p.end = sync.OnceFunc(func() { cancel(); running.Wait(); publisher.Close() })
	t.Cleanup(p.end)
	return p
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(30 * time.Second); !holds(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (p *place) knows(tenant, home string, epoch int64) func() bool {
	return func() bool {
		got, _ := p.Tenant(tenant)
		return got.Home == home && got.Epoch == epoch
	}
}

func (p *place) move(t *testing.T, tenant, to string) handfeed.Tenant {
	t.Helper()
	moved, err := p.Move(t.Context(), tenant, to)
	if err != nil {
		t.Fatal(err)
	}
	return moved
}

func TestMove_isFollowedByEveryRegion(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	eu, us := open(t, pgtest.New(t), b, "eu", file()), open(t, pgtest.New(t), b, "us", file())
	if moved := eu.move(t, "acme", "us"); moved.Epoch != 2 || moved.Home != "us" {
		t.Errorf("moved: %+v", moved)
	}
	if !eu.knows("acme", "us", 2)() {
		t.Error("the region that moved it does not know at once")
	}
	await(t, "the move at us", us.knows("acme", "us", 2))
	if home, tenant, ok := us.Login("ada@acme.example"); home != "us" || tenant != "acme" || !ok {
		t.Errorf("ada signs in at %q, %q, %v: her tenant has moved", home, tenant, ok)
	}
	us.move(t, "acme", "eu")
	await(t, "the way back at eu", eu.knows("acme", "eu", 3))
	if home, _ := us.Home("globex"); home != "us" {
		t.Errorf("globex is at %q", home)
	}

	if err := us.Add(t.Context(), "initech"); err != nil {
		t.Fatal(err)
	}
	await(t, "a new tenant", eu.knows("initech", "us", 1))
	if err := eu.Add(t.Context(), "initech"); !errors.Is(err, ErrKnown) {
		t.Errorf("a tenant that is known was added: %v", err)
	}

	// What was moved while a region was away, and while the broker was.
	us.end()
	eu.move(t, "acme", "us")
	b.Stop()
	us = open(t, us.pool, b, "us", file())
	if !us.knows("acme", "eu", 3)() {
		t.Error("the file has taken back what the database knew")
	}
	if err := b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the move that was missed", us.knows("acme", "us", 4))

	// A region that begins with nothing, and one that was put back to an earlier
	// state, hear from the tenant's home, whatever they had published themselves.
	eu.end()
	behind := open(t, pgtest.New(t), b, "eu", file())
	await(t, "what the new home says", behind.knows("acme", "us", 4))
}

// Sign-in names are known where they are not at home, and gone where they are gone.
func TestEnter_isFollowedByEveryRegion(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	eu, us := open(t, pgtest.New(t), b, "eu", file()), open(t, pgtest.New(t), b, "us", File{Tenants: file().Tenants})
	signs := func(p *place, email, home string) func() bool {
		return func() bool { got, _, _ := p.Login(email); return got == home }
	}
	await(t, "what eu's file says", signs(us, "ada@acme.example", "eu"))
	if err := eu.Enter(t.Context(), " New@acme.example", "acme"); err != nil {
		t.Fatal(err)
	}
	await(t, "a new name", signs(us, "new@acme.example", "eu"))
	if err := eu.Leave(t.Context(), "ada@acme.example"); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of a name", signs(us, "ada@acme.example", ""))
	us.end()
	again := open(t, us.pool, nil, "us", file())
	if !signs(again, "ada@acme.example", "")() || !signs(again, "new@acme.example", "eu")() {
		t.Error("the file has taken back what the database knew")
	}
	if err := eu.Enter(t.Context(), "nobody", "acme"); err == nil {
		t.Error("what is no address was entered")
	}
}

func TestMove_isItsHomesToSay(t *testing.T) {
	t.Parallel()
	eu := open(t, pgtest.New(t), nil, "eu", file())
	for name, row := range map[string]struct{ tenant, to string }{
		"another's":       {"globex", "eu"},
		"nobody's":        {"initech", "us"},
		"to where it is":  {"acme", "eu"},
		"no tenant":       {"A", "us"},
		"to no region":    {"acme", ""},
		"another's again": {"globex", "us"},
	} {
		if moved, err := eu.Move(t.Context(), row.tenant, row.to); err == nil {
			t.Errorf("%s: %+v", name, moved)
		}
	}
	if !eu.knows("acme", "eu", 1)() || !eu.knows("globex", "us", 1)() {
		t.Error("a move that was refused has changed something")
	}
}

func write(t *testing.T, db *tenancy.DB, name string) error {
	t.Helper()
	return db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("update tenants set name = $1", name).Tag(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() != 1 {
				return errors.New("acme is not enrolled")
			}
			return nil
		})
		return nil
	})
}

// Ownership is fenced in the database: a process that has not heard of the move
// writes nothing after it, and one that was writing is waited for.
func TestMove_noWriteIsCommittedAfterIt(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	eu, db := open(t, pool, nil, "eu", file()), tenancy.New(pool).Waiting(pgtest.Patience)
	if err := db.Enroll(t.Context(), tenancy.Tenant{ID: "acme", Name: "acme", Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	writing, finish, wrote := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		wrote <- db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
			tx.Queue("update tenants set name = 'the last'")
			if err := tx.Flush(t.Context()); err != nil {
				return err
			}
			close(writing)
			<-finish
			return nil
		})
	}()
	<-writing
	moved := make(chan error, 1)
	go func() {
		_, err := eu.Move(t.Context(), "acme", "us")
		moved <- err
	}()
	// The move waits for its lock; PostgreSQL says so.
	await(t, "the move to wait", func() bool {
		var waiting bool
		if err := pool.QueryRow(t.Context(), "select exists (select from pg_locks where locktype = 'advisory' and not granted)").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		return waiting
	})
	select {
	case err := <-moved:
		t.Fatalf("the move did not wait for who was writing: %v", err)
	default:
	}
	close(finish)
	if err := <-wrote; err != nil {
		t.Errorf("who was writing before the move: %v", err)
	}
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	var away *tenancy.Elsewhere
	if err := write(t, db, "too late"); !errors.As(err, &away) || away.Home != "us" || away.Epoch != 2 || away.State != handfeed.Active || away.Tenant.Tenant != "acme" {
		t.Errorf("a write after the move: %v", err)
	}
}

// However many write while a tenant moves away and back: each write is committed
// while the tenant was here, or refused.
func TestMove_underLoadLosesNoWrite(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	eu, db := open(t, pool, nil, "eu", file()), tenancy.New(pool).Waiting(pgtest.Patience)
	if err := db.Enroll(t.Context(), tenancy.Tenant{ID: "acme", Name: "0", Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	var committed, refused atomic.Int64
	var writers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
					tx.Queue("update tenants set name = (name::int + 1)::text")
					return nil
				})
				var away *tenancy.Elsewhere
				switch {
				case err == nil:
					committed.Add(1)
				case errors.As(err, &away):
					refused.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	name := func() (n int64) {
		if err := pool.QueryRow(t.Context(), "with t as (select set_config('gatehouse.tenant', 'acme', false)) select name::int from t, tenants").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for range 5 {
		before := committed.Load()
		await(t, "writes", func() bool { return committed.Load() > before+5 })
		if _, err := eu.Hold(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		held := name()
		seen := refused.Load()
		await(t, "refusals", func() bool { return refused.Load() > seen+5 })
		if now := name(); now != held {
			t.Errorf("%d writes were committed while the tenant was held", now-held)
		}
		if _, err := eu.Release(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	writers.Wait()
	if now := name(); now != committed.Load() {
		t.Errorf("%d writes were acknowledged, %d are there", committed.Load(), now)
	}
}

// A directory of many, as at a first start.
func TestOpen_takesALargeFile(t *testing.T) {
	t.Parallel()
	of := file()
	for i := range 20_000 {
		tenant := fmt.Sprint("t", i)
		of.Tenants[tenant] = Tenant{Home: "eu"}
		of.Logins[LoginHash(key, fmt.Sprintf("u%d@example.com", i))] = Login{Home: "eu", Tenant: tenant}
	}
	pool := pgtest.New(t)
	d, err := New(of, key)
	if err != nil {
		t.Fatal(err)
	}
	outbox := feed.NewOutbox("eu", time.Hour)
	for range 2 { // the second finds all there
		if _, err := Open(t.Context(), d, "eu", pool, outbox, zap.NewNop()); err != nil {
			t.Fatal(err)
		}
		var states, changed int
		if err := pool.QueryRow(t.Context(), "select count(*), count(*) filter (where message not like '{%') from feed_state").Scan(&states, &changed); err != nil || states != 40_000+2 {
			t.Errorf("%d states, %v", states, err)
		}
	}
}
