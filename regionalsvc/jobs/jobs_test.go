package jobs_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/jobs"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/regiontest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// chore is a job that does what the test says.
type chore struct {
	Tenant string `json:"tenant"`
}

func (chore) Kind() string { return "chore" }

type chorer struct {
	river.WorkerDefaults[chore]
	do func(context.Context) error
}

func (c *chorer) Work(ctx context.Context, _ *river.Job[chore]) error { return c.do(ctx) }

func open(t *testing.T, do func(context.Context) error) (*regiontest.Region, *jobs.Client, *observer.ObservedLogs) {
	t.Helper()
	region := regiontest.New(t)
	workers := river.NewWorkers()
	river.AddWorker(workers, &chorer{do: do})
	core, log := observer.New(zapcore.DebugLevel)
	queue, err := jobs.New(jobs.Config{Pool: pgtest.Open(t, region.Database.URL), Workers: workers, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := queue.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return region, queue, log
}

func count(t *testing.T, db *tenancy.DB, where string) (n int) {
	t.Helper()
	err := db.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("select count(*) from river_job where " + where).Row(func(row pgx.Row) error { return row.Scan(&n) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEnqueue_isPartOfTheTransaction(t *testing.T) {
	t.Parallel()
	var done atomic.Int64
	worked := make(chan struct{}, 10)
	region, queue, _ := open(t, func(context.Context) error { done.Add(1); worked <- struct{}{}; return nil })
	refused := errors.New("refused")
	for _, want := range []error{refused, nil} {
		err := region.DB.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
			if err := queue.Enqueue(t.Context(), tx, chore{Tenant: "acme"}); err != nil {
				return err
			}
			return want
		})
		if !errors.Is(err, want) {
			t.Fatal(err)
		}
	}
	<-worked
	if n := count(t, region.DB, "true"); n != 1 || done.Load() != 1 {
		t.Errorf("%d jobs, %d done", n, done.Load())
	}
}

func TestStop_waitsForTheJobAtWork(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	region, queue, _ := open(t, func(context.Context) error { close(started); <-release; return nil })
	if err := region.DB.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		return queue.Enqueue(t.Context(), tx, chore{Tenant: "acme"})
	}); err != nil {
		t.Fatal(err)
	}
	<-started
	stopped := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		stopped <- queue.Stop(ctx)
	}()
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a job at work: %v", err)
	default:
		close(release)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := count(t, region.DB, "state = 'completed'"); n != 1 {
		t.Errorf("%d jobs are completed", n)
	}
}

// A job that does not end in time is cancelled and kept: another process does it.
func TestStop_jobThatTakesTooLongIsKept(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	region, queue, log := open(t, func(ctx context.Context) error { close(started); <-ctx.Done(); return ctx.Err() })
	if err := region.DB.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		return queue.Enqueue(t.Context(), tx, chore{Tenant: "acme"})
	}); err != nil {
		t.Fatal(err)
	}
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := queue.Stop(ctx); err != nil {
		t.Error(err)
	}
	if n := count(t, region.DB, "state in ('retryable', 'available')"); n != 1 {
		t.Errorf("%d jobs wait to be tried again", n)
	}
	failed := log.FilterMessage("job failed, it will be tried again").All()
	if len(failed) != 1 || failed[0].ContextMap()[handoff.FieldTenant] != "acme" {
		t.Errorf("log %v", log.All())
	}
}

func TestStart_withoutWorkersIsRefused(t *testing.T) {
	t.Parallel()
	queue, err := jobs.New(jobs.Config{Pool: pgtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.Start(t.Context()); err == nil {
		t.Error("no error")
	}
	if err := queue.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
