// Package telemetry sets up what a region says about itself: traces by the
// usual OTEL_* variables, logs as JSON, metrics for Prometheus.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// ServiceName is service.name unless OTEL_SERVICE_NAME or
// OTEL_RESOURCE_ATTRIBUTES says otherwise.
const ServiceName = "gatehouse-region"

// enabling are the variables of which one must be set for anything to be exported.
var enabling = []string{
	"OTEL_TRACES_EXPORTER",
	"OTEL_EXPORTER_OTLP_ENDPOINT",
	"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
}

// Enabled reports whether the environment asks for traces.
func Enabled() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	for _, name := range enabling {
		if os.Getenv(name) != "" {
			return os.Getenv("OTEL_TRACES_EXPORTER") != "none"
		}
	}
	return false
}

// Start makes traces of region go where the OTEL_* variables say, for the whole
// process, and gives what flushes the last of them. Where [Enabled] says no, it
// starts nothing: spans cost nothing then, and the edge's trace id is still
// read for the log.
func Start(ctx context.Context, region string) (stop func(context.Context) error, err error) {
	otel.SetTextMapPropagator(propagation.TraceContext{})
	if !Enabled() {
		otel.SetTracerProvider(noop.NewTracerProvider())
		return func(context.Context) error { return nil }, nil
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("set up the traces' exporter, OTEL_TRACES_EXPORTER=%q: %w", os.Getenv("OTEL_TRACES_EXPORTER"), err)
	}
	about, err := describe(ctx, region)
	if err != nil {
		return nil, errors.Join(err, exporter.Shutdown(ctx))
	}
	// The sampler is the SDK's, by OTEL_TRACES_SAMPLER: parentbased_always_on
	// unless it is set, so that the edge decides.
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(autoprop.NewTextMapPropagator())
	return provider.Shutdown, nil
}

// describe is the resource of every span. Later detectors win: the environment
// over our defaults.
func describe(ctx context.Context, region string) (*resource.Resource, error) {
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName(ServiceName), attribute.String(handoff.AttrRegion, region)),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return about, nil
}

// NewLogger writes JSON lines of level and above to w, in the form of Caddy's
// own logs: ts in seconds, durations in seconds. Every line says the region.
func NewLogger(w io.Writer, level zapcore.Level, region string) *zap.Logger {
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(w)), level)
	return zap.New(core).With(zap.String(handoff.FieldRegion, region))
}
