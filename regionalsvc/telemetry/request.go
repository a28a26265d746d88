package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Request is what one request came to: one log line, one observation.
type Request struct {
	ID      string
	TraceID string // empty: there was no trace
	Sampled bool   // the trace will be found under its id
	Tenant  string
	User    string
	POP     string
	Method  string
	Path    string // as it was asked for, without the query
	Route   string // the pattern that answered, without its method; empty: none did
	Status  int    // 499: the client went away and nothing was sent
	Bytes   int64  // of the body
	// Duration is from the first byte of the handler to its last.
	Duration time.Duration
	Replayed bool // the edge asked another region before
	// Problem is the name of the problem that was answered. Empty: none.
	Problem string
	// Err is what the client was not told.
	Err error
	// Database holds what the request asked of PostgreSQL.
	Database []zap.Field
	// Notes are what the handler had to add.
	Notes []zap.Field
	// Quiet is for requests that come all the time and mean nothing when they go well.
	Quiet bool
}

// maxPath bounds what a hostile path takes in a log line.
const maxPath = 256

// Log writes the request's line: Info, Debug for a quiet one, Warn for a status of 500
// and above, Error for a fault of ours.
func (q *Request) Log(log *zap.Logger) {
	level := zapcore.InfoLevel
	switch {
	case q.Status == http.StatusInternalServerError:
		level = zapcore.ErrorLevel
	case q.Status >= http.StatusInternalServerError:
		level = zapcore.WarnLevel
	case q.Quiet:
		level = zapcore.DebugLevel
	}
	entry := log.Check(level, "request")
	if entry == nil {
		return
	}
	path := q.Path
	if len(path) > maxPath {
		path = path[:maxPath]
	}
	fields := make([]zap.Field, 0, 20)
	fields = append(fields,
		zap.String(handoff.FieldRequestID, q.ID),
		zap.String(handoff.FieldMethod, q.Method),
		zap.String(handoff.FieldPath, path),
		zap.String(handoff.FieldRoute, q.Route),
		zap.Int(handoff.FieldStatus, q.Status),
		zap.Int64(handoff.FieldBytes, q.Bytes),
		zap.Duration(handoff.FieldDuration, q.Duration),
	)
	for _, optional := range [...]struct{ name, value string }{
		{handoff.FieldTraceID, q.TraceID},
		{handoff.FieldTenant, q.Tenant},
		{handoff.FieldUser, q.User},
		{handoff.FieldPOP, q.POP},
		{handoff.FieldProblem, q.Problem},
	} {
		if optional.value != "" {
			fields = append(fields, zap.String(optional.name, optional.value))
		}
	}
	if q.Replayed {
		fields = append(fields, zap.Bool(handoff.FieldReplayed, true))
	}
	fields = append(fields, q.Database...)
	fields = append(fields, q.Notes...)
	if q.Err != nil {
		fields = append(fields, zap.Error(q.Err))
	}
	entry.Write(fields...)
}

// Metrics are the region's own metrics.
type Metrics struct {
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	problems *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    handoff.MetricsRegion + "request_duration_seconds",
			Help:    "Time to answer a request, by route pattern, method and class of status.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 4, 8},
		}, []string{"route", "method", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: handoff.MetricsRegion + "requests_in_flight",
			Help: "Requests that are being answered.",
		}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: handoff.MetricsRegion + "problems_total",
			Help: "Problems answered, by the last part of their type.",
		}, []string{"problem"}),
	}
	reg.MustRegister(m.duration, m.inFlight, m.problems)
	return m
}

// Begin counts a request in flight until done is called.
func (m *Metrics) Begin() (done func()) {
	m.inFlight.Inc()
	return m.inFlight.Dec
}

// Observe counts a request that was answered.
func (m *Metrics) Observe(q *Request) {
	observer := m.duration.WithLabelValues(routeLabel(q.Route), methodLabel(q.Method), strconv.Itoa(q.Status/100)+"xx")
	if exemplar, ok := observer.(prometheus.ExemplarObserver); ok && q.Sampled {
		exemplar.ObserveWithExemplar(q.Duration.Seconds(), prometheus.Labels{"trace_id": q.TraceID})
	} else {
		observer.Observe(q.Duration.Seconds())
	}
	if q.Problem != "" {
		m.problems.WithLabelValues(q.Problem).Inc()
	}
}

// routeLabel and methodLabel keep a client from making up labels.
func routeLabel(route string) string {
	if route == "" {
		return "none"
	}
	return route
}

func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
