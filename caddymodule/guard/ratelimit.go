package guard

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/limit"
	"github.com/gatehouse-edge/gatehouse/caddymodule/spelling"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// The limit that is there although nobody wrote it, and its values.
const (
	loginLimit = "login"
	loginPath  = "/login"
	loginRate  = "60/1m"
	loginBurst = 30
)

// Defaults and bounds of a [RateLimit].
const (
	defaultKeys = 1 << 17
	maxLimits   = 32
	ipv4Bits    = 32
	ipv6Bits    = 64
)

// RateLimit is one of edge_guard's rate limits. It holds at this POP: another POP
// counts for itself.
type RateLimit struct {
	// Name is what clients, logs and metrics call the limit: 1 to 63 of a-z, 0-9, '-'
	// and '_'. "login" is the one that is there by default.
	Name string `json:"name,omitempty"`

	// Off takes the limit "login" away.
	Off bool `json:"off,omitempty"`

	// By is who is counted: "client", the address as Caddy knows it (the servers
	// option trusted_proxies); "session", "user" or "tenant", which a request has
	// behind edge_session, and without which it is not counted; or "route", all that
	// the limit is for together. Default: "client".
	By string `json:"by,omitempty"`

	// Rate is how many requests may be made in which time, for example "60/1m".
	// Required, but for "login", where it is "60/1m".
	Rate string `json:"rate,omitempty"`

	// Burst is how many may be made at once. Default: as many as Rate says, and 30 for
	// "login".
	Burst int `json:"burst,omitempty"`

	// MatcherSetsRaw say which requests the limit is for; they see the request as the
	// client sent it. Default: all, and for "login" unsafe methods on /login.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// DryRun counts and logs what would be refused, and refuses nothing.
	DryRun bool `json:"dry_run,omitempty"`

	// Keys is how many of those who are counted can be told apart at once: the
	// memory is taken when the limit is made, 32 to 64 bytes for each. Default: 131072.
	Keys int `json:"keys,omitempty"`

	// IPv4Prefix and IPv6Prefix are how many bits of an address make a client.
	// Defaults: 32 and 64.
	IPv4Prefix int `json:"ipv4_prefix,omitempty"`
	IPv6Prefix int `json:"ipv6_prefix,omitempty"`

	rate    limit.Policy
	counts  *counts
	match   caddyhttp.MatcherSets
	isLogin bool   // for unsafe methods on /login
	item    string // the limit's name as a structured field's string
	policy  string // its member of RateLimit-Policy
	detail  string
	shared  prometheus.Counter
}

// counts is what outlives a reload: a table, and the time that its clock began.
type counts struct {
	table *limit.Table
	began time.Time
}

// Whether a key is known before edge_session has looked.
func (l *RateLimit) waits() bool { return l.By == "session" || l.By == "user" || l.By == "tenant" }

// setDefaults fills in what is not written.
func (l *RateLimit) setDefaults() {
	if l.Name == loginLimit {
		if l.Rate == "" {
			l.Rate = loginRate
		}
		if l.Burst == 0 {
			l.Burst = loginBurst
		}
		l.isLogin = len(l.MatcherSetsRaw) == 0
	}
	if l.By == "" {
		l.By = "client"
	}
	if l.Keys == 0 {
		l.Keys = defaultKeys
	}
	if l.IPv4Prefix == 0 {
		l.IPv4Prefix = ipv4Bits
	}
	if l.IPv6Prefix == 0 {
		l.IPv6Prefix = ipv6Bits
	}
}

// check finds every fault that can be known before the limit is at work, and
// reads its rate.
func (l *RateLimit) check() error {
	if !validLimitName(l.Name) {
		return fmt.Errorf("name %q: it has 1 to 63 of a-z, 0-9, '-' and '_'", l.Name)
	}
	switch l.By {
	case "", "client", "session", "user", "tenant", "route":
	default:
		return fmt.Errorf("by %q: it is client, session, user, tenant or route", l.By)
	}
	switch {
	case l.Off && l.Name != loginLimit:
		return errors.New("off: only login is there by itself; leave this one out")
	case l.Off:
		return nil
	case l.Keys < 0 || l.Keys > limit.MaxKeys:
		return fmt.Errorf("keys %d: 1 to %d", l.Keys, limit.MaxKeys)
	case l.IPv4Prefix < 0 || l.IPv4Prefix > 32 || l.IPv6Prefix < 0 || l.IPv6Prefix > 128:
		return fmt.Errorf("prefix %d %d: bits of an IPv4 and of an IPv6 address, 1 to 32 and 1 to 128", l.IPv4Prefix, l.IPv6Prefix)
	case l.Rate == "" && l.Name == loginLimit:
		return nil
	case l.Rate == "":
		return errors.New("no rate: say how many requests in which time, for example: rate 100/1m")
	}
	rate, err := parseRate(l.Rate)
	if err != nil {
		return fmt.Errorf("rate %q: %w", l.Rate, err)
	}
	if l.rate = rate; l.Burst != 0 {
		l.rate.Burst = l.Burst
	}
	return l.rate.Check()
}

func validLimitName(n string) bool {
	for i := range len(n) {
		if c := n[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(n) > 0 && len(n) <= 63
}

// parseRate reads "60/1m", also written "60/m". The burst is as large as the quota.
func parseRate(text string) (limit.Policy, error) {
	count, window, found := strings.Cut(text, "/")
	n, err := strconv.Atoi(count)
	if !found || err != nil || window == "" {
		return limit.Policy{}, errors.New("it is a number of requests, a slash and a time, for example 60/1m")
	}
	if window[0] < '0' || window[0] > '9' {
		window = "1" + window
	}
	d, err := caddy.ParseDuration(window)
	if err != nil {
		return limit.Policy{}, fmt.Errorf("%q is not a time such as 1m", window)
	}
	return limit.Policy{Quota: n, Window: d, Burst: n}, nil
}

// provisionLimits adds the default, and finds the counts that earlier
// configurations with the same limits have made.
func (g *Guard) provisionLimits(ctx caddy.Context) error {
	all := g.RateLimits
	if !g.hasLimit(loginLimit) {
		all = append(all[:len(all):len(all)], &RateLimit{Name: loginLimit})
	}
	for _, l := range all {
		if l.Off {
			continue
		}
		l.setDefaults()
		if err := l.check(); err != nil {
			return fmt.Errorf("edge_guard: rate_limit %s: %w", l.Name, err)
		}
		if err := l.provision(ctx, g.app); err != nil {
			return fmt.Errorf("edge_guard: rate_limit %s: %w", l.Name, err)
		}
		if l.waits() {
			g.late = append(g.late, l)
		} else {
			g.early = append(g.early, l)
		}
	}
	return nil
}

func (g *Guard) hasLimit(name string) bool {
	for _, l := range g.RateLimits {
		if l != nil && l.Name == name {
			return true
		}
	}
	return false
}

// checkLimits finds what is wrong with the list.
func (g *Guard) checkLimits() error {
	if len(g.RateLimits) > maxLimits {
		return fmt.Errorf("%d rate limits: %d at most", len(g.RateLimits), maxLimits)
	}
	names := map[string]bool{}
	for _, l := range g.RateLimits {
		if l == nil {
			return errors.New("a rate limit is null: give it a name and a rate")
		}
		if err := l.check(); err != nil {
			return fmt.Errorf("rate_limit %s: %w", l.Name, err)
		}
		if names[l.Name] {
			return fmt.Errorf("rate_limit %s stands twice", l.Name)
		}
		names[l.Name] = true
	}
	return nil
}

// provision readies the limit. Its counts are shared with the limit of the same
// name and meaning in another site, or in the configuration before this.
func (l *RateLimit) provision(ctx caddy.Context, app *edge.App) error {
	if len(l.MatcherSetsRaw) > 0 {
		loaded, err := ctx.LoadModule(l, "MatcherSetsRaw")
		if err != nil {
			return err
		}
		if err := l.match.FromInterface(loaded); err != nil {
			return err
		}
	}
	key := fmt.Sprintf("edge_guard: rate_limit %s by %s: %d in %s, burst %d, %d keys, prefix %d %d",
		l.Name, l.By, l.rate.Quota, l.rate.Window, l.rate.Burst, l.Keys, l.IPv4Prefix, l.IPv6Prefix)
	var err error
	l.counts, err = edge.Shared(app, key, func() (*counts, error) {
		return &counts{limit.New(l.Keys), time.Now()}, nil
	})
	l.item = `"` + l.Name + `"`
	l.policy = fmt.Sprintf(`%s;q=%d;w=%d;gatehouse-burst=%d`, l.item, l.rate.Quota, int64(l.rate.Window/time.Second), l.rate.Burst)
	l.detail = fmt.Sprintf("The limit %s allows %d requests in %s, and %d at once.", l.item, l.rate.Quota, l.rate.Window, l.rate.Burst)
	l.shared = sharedKeys.WithLabelValues(l.Name)
	return err
}

// sharedKeys tells that a table is too small. The collector outlives a config, as
// decision's do.
var sharedKeys = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: handoff.MetricRateShared,
	Help: "Requests that were counted together with another key's, since the limit's table was full.",
}, []string{"limit"})

func registerMetrics(ctx caddy.Context) error {
	var already prometheus.AlreadyRegisteredError
	if err := ctx.GetMetricsRegistry().Register(sharedKeys); err != nil && !errors.As(err, &already) {
		return err
	}
	return nil
}

// isFor reports whether the limit counts the request.
func (l *RateLimit) isFor(r *http.Request) (bool, error) {
	if l.isLogin {
		return handoff.Unsafe(r.Method) && loginGate.Holds(r.URL), nil
	}
	if len(l.match) == 0 {
		return true, nil
	}
	return l.match.AnyMatchWithError(r)
}

// loginGate holds every spelling of the login.
var loginGate = spelling.Gate{Prefixes: []string{loginPath}}

// key is who is counted. Nobody is where the request has no session.
func (l *RateLimit) key(r *http.Request, d *decision.Decision) (k limit.Key, somebody bool) {
	t, who := l.counts.table, &d.Identity
	switch l.By {
	case "client":
		return t.Address(edge.Client(r), l.IPv4Prefix, l.IPv6Prefix), true
	case "session":
		return t.Pair(who.SubjectIssuer, who.Session), who.Session != ""
	case "user":
		return t.Pair(who.SubjectIssuer, who.Subject), who.Subject != ""
	case "tenant": // a name that all issuers share: the tenant's rows are the same
		return t.Pair("", who.Tenant), who.Tenant != ""
	}
	return t.Pair("", ""), true
}

// limit asks the limits whose keys are known before there is a session, and has the
// others asked later. It reports whether the request may go on; else it is answered.
func (g *Guard) limit(w http.ResponseWriter, r *http.Request, d *decision.Decision) (bool, error) {
	if len(g.late) > 0 {
		if err := g.postpone(r, d); err != nil {
			return false, err
		}
	}
	if len(g.early) == 0 {
		return true, nil
	}
	var matched [maxLimits + 1]*RateLimit
	n := 0
	for _, l := range g.early {
		is, err := l.isFor(r)
		if err != nil {
			return false, err
		}
		if !is {
			continue
		}
		if l.By == "client" && !l.DryRun && edge.InEarlyData(r) {
			// Over QUIC the address may be another's, whose limit this would be.
			return false, d.Refuse(w, r, problem.New(http.StatusTooEarly, problem.TooEarly, ""), name)
		}
		matched[n] = l
		n++
	}
	if n == 0 {
		return true, nil
	}
	return charge(w, r, d, matched[:n])
}

// waiting are the limits for one request that are asked when its session is settled.
// Which they are is decided before anything can have changed the request's path.
type waiting struct{ limits []*RateLimit }

func (g *Guard) postpone(r *http.Request, d *decision.Decision) error {
	var late []*RateLimit
	for _, l := range g.late {
		is, err := l.isFor(r)
		if err != nil {
			return err
		}
		if is {
			late = append(late, l)
		}
	}
	if late != nil {
		d.AfterSession(waiting{late})
	}
	return nil
}

// SessionSettled asks the limits.
func (l waiting) SessionSettled(w http.ResponseWriter, r *http.Request, d *decision.Decision) (bool, error) {
	return charge(w, r, d, l.limits)
}

// charge counts the request in every one of the limits, or in none if one of them
// refuses it: what one limit keeps out must not use up another, as one session
// could else the quota of its tenant.
func charge(w http.ResponseWriter, r *http.Request, d *decision.Decision, limits []*RateLimit) (bool, error) {
	var taken [maxLimits + 1]limit.Key // zero: not taken
	for i, l := range limits {
		k, somebody := l.key(r, d)
		if !somebody {
			continue
		}
		now := int64(time.Since(l.counts.began))
		var res limit.Result
		if d.DryRun {
			res = l.counts.table.Look(k, l.rate, now)
		} else if res = l.counts.table.Take(k, l.rate, now); res.Allowed {
			taken[i] = k
		}
		if res.Shared && !d.DryRun {
			l.shared.Inc()
		}
		if l.DryRun {
			if !res.Allowed {
				d.LimitDryRun = append(d.LimitDryRun, l.Name)
			}
			continue
		}
		l.tell(d, res)
		if res.Allowed {
			continue
		}
		for j, k := range taken[:i] {
			if k != 0 {
				limits[j].counts.table.Return(k, limits[j].rate)
			}
		}
		return false, l.refuse(w, r, d, res)
	}
	return true, nil
}

// tell adds the limit to what the client hears of its quota
// (draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4). t is the time until
// one more than r would be allowed, which is also what Retry-After says.
func (l *RateLimit) tell(d *decision.Decision, res limit.Result) {
	var space [128]byte
	b := space[:0]
	if d.RateLimit != "" {
		b = append(append(b, d.RateLimit...), ", "...)
		d.RateLimitPolicy += ", " + l.policy
	} else {
		d.RateLimitPolicy = l.policy
	}
	b = append(append(b, l.item...), ";r="...)
	b = strconv.AppendInt(b, int64(res.Remaining), 10)
	b = append(b, ";t="...)
	b = strconv.AppendInt(b, int64((res.Wait+time.Second-1)/time.Second), 10)
	d.RateLimit = string(b)
}

func (l *RateLimit) refuse(w http.ResponseWriter, r *http.Request, d *decision.Decision, res limit.Result) error {
	d.Limit, d.Outcome = l.Name, decision.OutcomeLimited
	p := problem.New(http.StatusTooManyRequests, problem.QuotaExceeded, l.detail).WithRetryAfter(res.Wait)
	p.ViolatedPolicies = []string{l.Name}
	return d.Refuse(w, r, p, name)
}
