package cache

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Results, as the log, the trace and the metrics name them.
const (
	resultHit         = "hit"
	resultStale       = "stale"       // while it is validated in the background
	resultStandIn     = "stale_error" // in place of an origin that failed
	resultMiss        = "miss"
	resultRevalidated = "revalidated"
	resultCollapsed   = "collapsed" // by the fetch that another caused
	resultPass        = "pass"
	resultError       = "error"
)

// whyHead is why a HEAD passes that nothing fresh is stored for.
const whyHead = "head"

// The collectors outlive a config, as decision's do. No label holds anything that a
// client can choose.
var (
	requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricCacheRequests,
		Help: "Requests that came to a cache, by where the directive stands, policy, and what the cache did.",
	}, []string{"cache", "policy", "result"})
	served = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: handoff.MetricCacheBytes,
		Help: "Bytes of bodies that were answered from memory.",
	}, []string{"cache", "policy"})
	ages = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    handoff.MetricCacheAge,
		Help:    "Age of stored answers when they were used.",
		Buckets: []float64{1, 5, 15, 60, 300, 900, 3600, 14400, 86400},
	})
)

func registerMetrics(ctx caddy.Context, s *shared) error {
	for _, c := range []prometheus.Collector{requests, served, ages, holding{s}} {
		var already prometheus.AlreadyRegisteredError
		if err := ctx.GetMetricsRegistry().Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// counters are those of one directive and policy, looked up once: by name that takes
// longer than to find the answer.
type counters struct {
	results map[string]prometheus.Counter
	bytes   prometheus.Counter
}

func (c *Cache) provisionCounters() {
	c.counters = map[string]*counters{}
	for _, policy := range [...]string{PolicyPublic, PolicyTenant, PolicyUser, PolicyNever} {
		own := &counters{results: map[string]prometheus.Counter{}, bytes: served.WithLabelValues(c.Source, policy)}
		for _, what := range [...]string{resultHit, resultStale, resultStandIn, resultMiss, resultRevalidated, resultCollapsed, resultPass, resultError} {
			own.results[what] = requests.WithLabelValues(c.Source, policy, what)
		}
		c.counters[policy] = own
	}
}

// result says what the cache did, once, in Cache-Status and in the decision.
func (q *question) result(what, status string) {
	q.d.Cache, q.d.CacheStatus = what, member+"; "+status
	q.tally(what)
}

// uses counts that a stored answer is used.
func (q *question) uses(o *store.Object) {
	if !q.d.DryRun {
		o.Hits.Add(1)
	}
}

// tally counts what the cache did.
func (q *question) tally(what string) {
	if !q.d.DryRun {
		q.c.counters[q.policy].results[what].Inc()
	}
}

// count adds a body that is answered from memory.
func (q *question) count(bytes int64, age time.Duration) {
	if q.d.DryRun {
		return
	}
	if bytes > 0 {
		q.c.counters[q.policy].bytes.Add(float64(bytes))
	}
	ages.Observe(age.Seconds())
}

// seconds writes a ttl away from zero: what is fresh is never 0, nor what is stale.
func seconds(d time.Duration) string {
	switch part := d % time.Second; {
	case part > 0:
		d += time.Second
	case part < 0:
		d -= time.Second
	}
	return strconv.FormatInt(int64(d/time.Second), 10)
}

// hit says that a fresh answer is used, or one that is stale on purpose: its ttl is
// then below zero (RFC 9211, section 2.5).
func (q *question) hit(left time.Duration) {
	what := resultHit
	if left <= 0 {
		what = resultStale
	}
	detail := ""
	if q.c.shared.deaf(q.c.app, q.now) {
		detail = `; detail="feed-stale"`
	}
	q.d.Cache, q.d.CacheStatus = what, member+"; hit; ttl="+seconds(left)+detail
	q.tally(what)
}

// missed says why nothing stored was used (RFC 9211, section 2.2).
func (q *question) missed() string {
	switch f := &q.found; {
	case f.object != nil && q.request.NoCache:
		return "request"
	case f.object != nil:
		return "stale"
	case f.vary:
		return "vary-miss"
	case len(f.parts) > 0:
		return "partial"
	}
	return "uri-miss"
}

// forwarded says that the origin was asked, and what of it.
func (q *question) forwarded(f *fill, why string, status int) {
	text := "fwd=" + why + "; fwd-status=" + strconv.Itoa(status)
	what := resultMiss
	switch {
	case f.renewed != nil:
		what = resultRevalidated
		text += "; ttl=" + seconds(f.renewed.Timing.Left(f.renewed.Timing.At))
	case f.storable:
		text += "; stored; ttl=" + seconds(f.timing.Left(f.timing.At))
	default:
		q.d.CacheWhy = f.why
		text += `; detail="` + f.why + `"`
	}
	q.result(what, text)
}

// collapsed says that another had asked already (RFC 9211, section 2.6).
func (q *question) collapsed(f *fill) {
	status := f.status
	if f.renewed != nil {
		status = http.StatusNotModified
	}
	q.result(resultCollapsed, "fwd="+q.missed()+"; fwd-status="+strconv.Itoa(status)+"; collapsed")
}

// stoodIn says that a stale answer is used since the origin failed.
func (q *question) stoodIn(f *fill) {
	_, left := q.found.object.Directives.Decide(&q.found.object.Timing, &rfc9111.Request{}, time.Now())
	text := "hit; ttl=" + seconds(left) + `; detail="origin-failed"`
	if f.status != 0 {
		text = "hit; ttl=" + seconds(left) + `; detail="origin-` + strconv.Itoa(f.status) + `"`
	}
	q.result(resultStandIn, text)
}

// passed says that the request is none of the cache's.
func (q *question) passed(why string) {
	q.d.CacheWhy = why
	switch why {
	case whyMethod:
		q.result(resultPass, "fwd=method")
	case whyHead:
		q.result(resultPass, "fwd="+q.missed())
	default:
		q.result(resultPass, `fwd=bypass; detail="`+why+`"`)
	}
}

// answer answers from what was chosen, or has the origin asked.
func (q *question) answer(w http.ResponseWriter, next caddyhttp.Handler) error {
	f := &q.found
	if f.object != nil {
		switch f.use {
		case rfc9111.Fresh, rfc9111.Stale:
			q.hit(f.left)
			return q.serve(w, f.object)
		case rfc9111.StaleWhileRevalidate:
			if !edge.InEarlyData(q.r) {
				q.refresh(next)
			}
			q.hit(f.left)
			return q.serve(w, f.object)
		case rfc9111.MustValidate:
		}
	}
	switch {
	case q.servePart(w):
		return nil
	case q.request.OnlyIfCached: // RFC 9111, section 5.2.1.7
		q.result(resultMiss, "fwd="+q.missed()+`; detail="only-if-cached"`)
		w.WriteHeader(http.StatusGatewayTimeout)
		return nil
	case q.isHEAD():
		return q.head(w, next)
	}
	return q.fetch(w, next)
}
