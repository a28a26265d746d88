package decision

import (
	"errors"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// MarshalLogObject writes the decision's fields into the access-log line, which
// so becomes the one wide event about the request.
func (d *Decision) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString(handoff.FieldRequestID, d.RequestID)
	e.AddString(handoff.FieldPOP, d.POP)
	e.AddString(handoff.FieldOutcome, string(d.Outcome))
	for _, row := range []struct{ field, value string }{
		{handoff.FieldTraceID, d.TraceID},
		{handoff.FieldClientTraceID, d.ClientTraceID},
		{handoff.FieldAuth, string(d.Auth)},
		{handoff.FieldTenant, d.Identity.Tenant},
		{handoff.FieldUser, d.Identity.Subject},
		{handoff.FieldIssuer, d.Identity.SubjectIssuer},
		{handoff.FieldLink, string(d.Link)},
		{handoff.FieldLinkKey, d.LinkKeyID},
		{handoff.FieldCountry, d.Country},
		{handoff.FieldBotClass, string(d.Bot.Class)},
		{handoff.FieldBotName, d.Bot.Name},
		{handoff.FieldBotReason, d.Bot.Reason},
		{handoff.FieldBotVerified, d.Bot.Verified},
		{handoff.FieldBotAction, string(d.botAction())},
		{handoff.FieldRegion, d.Home},
		{handoff.FieldRegionReason, string(d.Reason)},
		{handoff.FieldServedBy, d.ServedBy},
		{handoff.FieldRewrite, d.Rewritten},
		{handoff.FieldCache, d.Cache},
		{handoff.FieldCachePolicy, d.CachePolicy},
		{handoff.FieldCacheWhy, d.CacheWhy},
		{handoff.FieldVariants, joined(d.Variants)},
		{handoff.FieldExposures, joined(d.exposures)},
		{handoff.FieldAnonymousID, d.AnonymousID},
		{handoff.FieldRateLimit, d.Limit},
		{handoff.FieldRateLimitDryRun, strings.Join(d.LimitDryRun, ",")},
		{handoff.FieldShortCircuit, d.ShortCircuit},
		{handoff.FieldReason, d.Problem},
	} {
		if row.value != "" {
			e.AddString(row.field, row.value)
		}
	}
	if d.Bot.Class != BotNone {
		e.AddInt(handoff.FieldBotScore, d.Bot.Score)
	}
	if d.err != nil {
		e.AddString(handoff.FieldError, d.err.Error())
	}
	if d.Replayed {
		e.AddBool(handoff.FieldReplayed, true)
	}
	if d.RecentWrite {
		e.AddBool(handoff.FieldRecentWrite, true)
	}
	for _, s := range d.stages[:d.nstages] {
		e.AddDuration(s.name, s.duration)
	}
	return nil
}

// The collectors outlive a config: Caddy makes a new registry at every reload,
// and a counter that starts again at zero is no counter. No label holds anything
// that a client can choose.
var (
	requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    handoff.MetricsEdge + "request_duration_seconds",
		Help:    "Time from the request's arrival at edge_guard to its end, by outcome and home region.",
		Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10},
	}, []string{"outcome", "region"})
	auths = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricsEdge + "auth_total",
		Help: "Session checks by result.",
	}, []string{"result"})
	links = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricsEdge + "signed_links_total",
		Help: "Checks of signed links by result.",
	}, []string{"result"})
	bots = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricBots,
		Help: "Requests by what their client is taken for, the agent it was proven to be, and what a rule did or would do.",
	}, []string{"class", "agent", "action"})
	problems = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricsEdge + "problems_total",
		Help: "Problems answered by the edge, by name.",
	}, []string{"problem"})
	replays = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricsEdge + "replays_total",
		Help: "Requests replayed after a 421, by the region they were replayed to.",
	}, []string{"region"})
	fallbacks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricsEdge + "fallbacks_total",
		Help: "Reads that another region answered in place of the home region, by that region.",
	}, []string{"region"})
	exposures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricsEdge + "exposures_total",
		Help: "Clients that met a variant of an experiment for the first time at this POP.",
	}, []string{"experiment", "variant"})
	limits = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricRateLimited,
		Help: "Requests over a rate limit: refused, or let through where the limit is in dry_run.",
	}, []string{"limit", "dry_run"})
)

// Register puts the metrics into the registry of this config.
func Register(ctx caddy.Context) error {
	for _, c := range []prometheus.Collector{requests, auths, links, bots, problems, replays, fallbacks, exposures, limits} {
		var already prometheus.AlreadyRegisteredError
		if err := ctx.GetMetricsRegistry().Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// count adds the request to the metrics.
func (d *Decision) count(took time.Duration) {
	requests.WithLabelValues(string(d.Outcome), d.Home).Observe(took.Seconds())
	if d.Auth != AuthNone {
		auths.WithLabelValues(string(d.Auth)).Inc()
	}
	if d.Link != LinkNone {
		links.WithLabelValues(string(d.Link)).Inc()
	}
	if d.Bot.Class != BotNone {
		bots.WithLabelValues(string(d.Bot.Class), d.Bot.Verified, string(d.botAction())).Inc()
	}
	if d.Problem != "" {
		problems.WithLabelValues(d.Problem).Inc()
	}
	if d.Replayed {
		replays.WithLabelValues(d.Home).Inc()
	}
	if d.Limit != "" {
		limits.WithLabelValues(d.Limit, "false").Inc()
	}
	for _, name := range d.LimitDryRun {
		limits.WithLabelValues(name, "true").Inc()
	}
	if d.ServedBy != "" {
		fallbacks.WithLabelValues(d.ServedBy).Inc()
	}
	for _, v := range d.exposures {
		exposures.WithLabelValues(v.Experiment, v.Name).Inc()
	}
}
