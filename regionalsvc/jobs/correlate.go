package jobs

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// correlate puts a job's work into the trace of the request that wanted it, and
// its log line beside the request's.
type correlate struct {
	river.MiddlewareDefaults
	log *zap.Logger
}

// Work implements [rivertype.WorkerMiddleware].
func (c *correlate) Work(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) error {
	var meta metadata
	if err := json.Unmarshal(job.Metadata, &meta); err != nil {
		meta = metadata{} // the work matters more than where it is written down
	}
	if meta.Traceparent != "" {
		ctx = w3c.Extract(ctx, propagation.MapCarrier{traceparent: meta.Traceparent})
	}
	ctx, span := otel.Tracer("gatehouse/jobs").Start(ctx, "queue.work_"+job.Kind+"_job", trace.WithSpanKind(trace.SpanKindConsumer))
	defer span.End()
	start := time.Now()
	err := work(ctx)
	fields := []zap.Field{
		zap.String(handoff.FieldJob, job.Kind), zap.String(handoff.FieldTenant, meta.Tenant),
		zap.String(handoff.FieldRequestID, meta.RequestID), zap.Duration(handoff.FieldDuration, time.Since(start)),
		zap.Int("attempt", job.Attempt),
	}
	if id := span.SpanContext().TraceID(); id.IsValid() {
		fields = append(fields, zap.String(handoff.FieldTraceID, id.String()))
	}
	switch {
	case err == nil:
		c.log.Debug("job done", fields...)
	case job.Attempt >= job.MaxAttempts:
		span.SetStatus(codes.Error, "failed for good")
		c.log.Error("job failed for good", append(fields, zap.Error(err))...)
	default:
		span.SetStatus(codes.Error, "failed")
		c.log.Warn("job failed, it will be tried again", append(fields, zap.Error(err))...)
	}
	return err
}

var _ rivertype.WorkerMiddleware = (*correlate)(nil) // interface guard
