// Package jobs is work that follows from a transaction: enqueued in it, done
// after it, at least once. River keeps the queue in the same database.
//
// Who enqueues declares the job's arguments; the worker lives with the capability
// that does the work. Arguments name their tenant: a worker's first act is that
// tenant's transaction.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

const (
	// jobTimeout bounds one attempt at a job.
	jobTimeout = 30 * time.Second
	// rescueAfter is when a job of a crashed process is taken up by another. It is
	// well over jobTimeout: a job that is merely slow must not run twice at once.
	rescueAfter = 5 * time.Minute
	// DefaultMaxWorkers is how many jobs a process works on at once.
	DefaultMaxWorkers = 4
)

// Config of a [Client].
type Config struct {
	// Pool is for taking and finishing jobs, apart from the requests' own, so that
	// neither can starve the other. Required. Enqueueing does not use it. Its
	// statement timeout should be a minute or more: River tidies up with it.
	Pool *pgxpool.Pool
	// Workers are those that the capabilities have registered. Nil: this process
	// enqueues and does not work.
	Workers *river.Workers
	// MaxWorkers is how many jobs are worked on at once. Default:
	// [DefaultMaxWorkers].
	MaxWorkers int
	// Log hears of jobs that fail. Default: none.
	Log *zap.Logger
}

// Client enqueues jobs and, started, works on them.
type Client struct {
	river   *river.Client[pgx.Tx]
	log     *zap.Logger
	working bool
}

// New makes a client. It asks the database nothing.
func New(cfg Config) (*Client, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.MaxWorkers == 0 {
		cfg.MaxWorkers = DefaultMaxWorkers
	}
	config := &river.Config{
		JobTimeout:           jobTimeout,
		RescueStuckJobsAfter: rescueAfter,
		ReindexerSchedule:    river.NeverSchedule(), // needs the tables' owner, which the service is not
		Logger:               riverLog(cfg.Log),
		Middleware:           []rivertype.Middleware{&correlate{log: cfg.Log}},
	}
	if cfg.Workers != nil {
		config.Workers = cfg.Workers
		config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: cfg.MaxWorkers}}
	}
	client, err := river.NewClient(riverpgxv5.New(cfg.Pool), config)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	return &Client{river: client, log: cfg.Log, working: cfg.Workers != nil}, nil
}

// riverLog gives River our log for its errors. What it says of single jobs, we say
// with the request they belong to: see correlate.
func riverLog(log *zap.Logger) *slog.Logger {
	core, err := zapcore.NewIncreaseLevelCore(log.Core(), zapcore.ErrorLevel)
	if err != nil { // the log is quieter than that already
		core = log.Core()
	}
	return slog.New(zapslog.NewHandler(core, zapslog.WithName("river")))
}

// Start begins to work on jobs. ctx is for the start alone: [Client.Stop] ends.
func (c *Client) Start(ctx context.Context) error {
	if !c.working {
		return errors.New("start jobs: no workers are registered")
	}
	if err := c.river.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start jobs: %w", err)
	}
	return nil
}

// Stop takes no more jobs and waits for those at work until ctx is done; then it
// cancels them, and they are worked on again elsewhere. Stop it after the last
// request was answered and before the pools are closed.
func (c *Client) Stop(ctx context.Context) error {
	if !c.working {
		return nil
	}
	err := c.river.Stop(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	// A cancelled job still has to be written back as not done.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := c.river.StopAndCancel(grace); err != nil {
		return fmt.Errorf("stop jobs: %w", err)
	}
	return nil
}

// metadata goes with a job, so that its log lines and spans are found with the
// request's.
type metadata struct {
	RequestID   string `json:"request_id,omitempty"`
	Tenant      string `json:"tenant"`
	Traceparent string `json:"traceparent,omitempty"`
}

// Enqueue adds a job to tx: it exists when and only when tx commits. It sends what
// is queued and costs one round trip, and a second at most ten times a second, to
// wake the workers.
func (c *Client) Enqueue(ctx context.Context, tx *tenancy.Tx, args river.JobArgs) error {
	pgxTx, err := tx.Postgres(ctx)
	if err != nil {
		return err
	}
	ctx, span := tracer(ctx).Start(ctx, "queue.enqueue_"+args.Kind()+"_job")
	defer span.End()
	meta, err := json.Marshal(describe(ctx, tx.Tenant()))
	if err != nil {
		return fmt.Errorf("enqueue %s: %w", args.Kind(), err)
	}
	if _, err := c.river.InsertTx(ctx, pgxTx, args, &river.InsertOpts{Metadata: meta}); err != nil {
		span.SetStatus(codes.Error, "not enqueued")
		return fmt.Errorf("enqueue %s: %w", args.Kind(), err)
	}
	return nil
}

// tracer is of whoever traces the request: nobody, when it is not sampled.
func tracer(ctx context.Context) trace.Tracer {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer("gatehouse/jobs")
}

// traceparent is the key under which w3c reads and writes, as it spells it.
const traceparent = "traceparent"

// w3c carries the trace in a job's metadata, whatever OTEL_PROPAGATORS says of
// requests: we are at both ends.
var w3c propagation.TraceContext

func describe(ctx context.Context, tenant string) metadata {
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	m := metadata{Tenant: tenant, Traceparent: carrier.Get(traceparent)}
	if claims := handoff.FromContext(ctx); claims != nil {
		m.RequestID = claims.RequestID
	}
	return m
}
