package postgres

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Stats is what one request spent on the database. It is safe for concurrent
// use.
type Stats struct {
	poolWait, time      atomic.Int64
	queries, roundTrips atomic.Int64
	wrote               atomic.Pointer[string]
}

// PoolWait is the time spent waiting for a free connection.
func (s *Stats) PoolWait() time.Duration { return time.Duration(s.poolWait.Load()) }

// Time is the time between a statement's, or batch's, departure and its last
// answer, summed up.
func (s *Stats) Time() time.Duration { return time.Duration(s.time.Load()) }

// Queries is the number of statements, begin and commit included.
func (s *Stats) Queries() int { return int(s.queries.Load()) }

// RoundTrips is how often the database was waited for.
func (s *Stats) RoundTrips() int { return int(s.roundTrips.Load()) }

// Wrote is where in PostgreSQL's log (its LSN) the last transaction that wrote ends,
// or a little after. Empty: none was committed.
func (s *Stats) Wrote() string {
	if at := s.wrote.Load(); at != nil {
		return *at
	}
	return ""
}

// Committed notes where a transaction that wrote ends.
func (s *Stats) Committed(at string) { s.wrote.Store(&at) }

// StatsOf are those that ctx counts in, nil when it does not.
func StatsOf(ctx context.Context) *Stats { return statsOf(ctx) }

type (
	statsKey   struct{}
	startKey   struct{}
	acquireKey struct{}
)

// WithStats counts what is done with the returned context.
func WithStats(ctx context.Context) (context.Context, *Stats) {
	s := new(Stats)
	return context.WithValue(ctx, statsKey{}, s), s
}

func statsOf(ctx context.Context) *Stats {
	s, _ := ctx.Value(statsKey{}).(*Stats)
	return s
}

// meter is pgx's tracer that fills Stats and makes the span db.pool.wait.
type meter struct{}

func begin(ctx context.Context) context.Context {
	if statsOf(ctx) == nil {
		return ctx
	}
	return context.WithValue(ctx, startKey{}, time.Now())
}

func end(ctx context.Context) {
	s := statsOf(ctx)
	start, ok := ctx.Value(startKey{}).(time.Time)
	if s == nil || !ok {
		return
	}
	s.time.Add(int64(time.Since(start)))
	s.roundTrips.Add(1)
}

func count(ctx context.Context, queries int) {
	if s := statsOf(ctx); s != nil {
		s.queries.Add(int64(queries))
	}
}

func (meter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	count(ctx, 1)
	return begin(ctx)
}

func (meter) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) { end(ctx) }

func (meter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	count(ctx, data.Batch.Len())
	return begin(ctx)
}

func (meter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (meter) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) { end(ctx) }

type acquisition struct {
	start time.Time
	span  trace.Span
}

func (meter) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	parent := trace.SpanFromContext(ctx)
	if statsOf(ctx) == nil && !parent.IsRecording() {
		return ctx
	}
	a := acquisition{start: time.Now()}
	if parent.IsRecording() {
		ctx, a.span = parent.TracerProvider().Tracer("gatehouse/postgres").Start(ctx, handoff.SpanPoolWait)
	}
	return context.WithValue(ctx, acquireKey{}, a)
}

func (meter) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	a, ok := ctx.Value(acquireKey{}).(acquisition)
	if !ok {
		return
	}
	if s := statsOf(ctx); s != nil {
		s.poolWait.Add(int64(time.Since(a.start)))
	}
	if a.span != nil {
		if data.Err != nil {
			a.span.SetStatus(codes.Error, "no connection")
		}
		a.span.End()
	}
}

var ( // interface guards
	_ pgx.QueryTracer       = meter{}
	_ pgx.BatchTracer       = meter{}
	_ pgxpool.AcquireTracer = meter{}
)
