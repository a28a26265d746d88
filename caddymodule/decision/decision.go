// Package decision keeps what the edge decided about one request.
//
// There is one [Decision] per request. edge_guard begins it, every edge handler
// writes what it decided into it, and it is read at two places only: when the
// answer's header is written and when the request ends. No handler logs, traces
// or counts a decision on its own.
package decision

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Auth is what became of the session check.
type Auth string

// Outcomes of the session check. The refusals are also the values of the metric
// gatehouse_edge_auth_total.
const (
	AuthNone      Auth = "" // no handler asked
	AuthSession   Auth = "session"
	AuthBearer    Auth = "bearer"
	AuthMissing   Auth = "missing"
	AuthDuplicate Auth = "duplicate_cookie"
	AuthMalformed Auth = "malformed"
	AuthTooLarge  Auth = "too_large"
	AuthAlgorithm Auth = "algorithm"
	AuthType      Auth = "type"
	AuthCritical  Auth = "critical_header"
	AuthIssuer    Auth = "issuer"
	AuthKey       Auth = "unknown_key"
	AuthNoKeys    Auth = "keys_unavailable"
	AuthSignature Auth = "signature"
	AuthExpired   Auth = "expired"
	AuthNotYet    Auth = "not_yet_valid"
	AuthAudience  Auth = "audience"
	AuthClaims    Auth = "claims"
	AuthTenant    Auth = "tenant"
	AuthCSRF      Auth = "cross_origin"
	AuthPreflight Auth = "preflight" // a CORS preflight, which never has a session
	AuthRevoked   Auth = "revoked"
	AuthStale     Auth = "feed_stale" // it may be revoked, and this POP would not know
)

// Link is what became of the check of a signed link. The values are also those
// of the metric gatehouse_edge_signed_links_total.
type Link string

// Outcomes of the check of a signed link.
const (
	LinkNone      Link = "" // no handler asked
	LinkHolds     Link = "holds"
	LinkMissing   Link = "missing"
	LinkMalformed Link = "malformed"
	LinkDuplicate Link = "duplicate_parameter"
	LinkVersion   Link = "version"
	LinkKey       Link = "unknown_key"
	LinkSignature Link = "signature"
	LinkExpired   Link = "expired"
	LinkNotYet    Link = "not_yet_valid"
	LinkMethod    Link = "method"
	LinkHost      Link = "host"
	LinkPath      Link = "path"
	LinkTenant    Link = "tenant"
	LinkNetwork   Link = "network"
	LinkEarlyData Link = "early_data"
)

// Reason says why a region was chosen.
type Reason string

// Reasons, in the order in which they are asked.
const (
	ReasonPin     Reason = "pin"     // the route names the region
	ReasonTable   Reason = "table"   // the feed names the tenant's
	ReasonLearnt  Reason = "learnt"  // a region corrected this POP with a 421
	ReasonClaim   Reason = "claim"   // the session names it
	ReasonCountry Reason = "country" // the client's country is the region's
	ReasonPOP     Reason = "pop"     // it is the region nearest to this POP
)

// Outcome says how a request ended, for metrics and logs.
type Outcome string

// Outcomes. They are a small fixed set, since they label metrics.
const (
	OutcomeAnswered        Outcome = "answered"
	OutcomeRefused         Outcome = "refused"            // junk, by edge_guard
	OutcomeLimited         Outcome = "rate_limited"       // 429, by a limit of edge_guard
	OutcomeUnauthenticated Outcome = "unauthenticated"    // 401, or 302 to the login
	OutcomeForbidden       Outcome = "forbidden"          // 403
	OutcomeUnavailable     Outcome = "region_unavailable" // nothing was sent
	OutcomeFailed          Outcome = "region_failed"      // sent, the answer never came
	OutcomeTimeout         Outcome = "region_timeout"     // sent, no answer in time
	OutcomeClientGone      Outcome = "client_gone"
	OutcomeError           Outcome = "error"
)

// Decision is what was decided about one request. Handlers run one after the
// other, so it needs no lock; whoever works beside them must copy what it needs.
type Decision struct {
	// RequestID names the request on both sides.
	RequestID string
	// POP is this point of presence.
	POP string
	// Target is the path and query that the client sent, byte for byte: handlers
	// may have rewritten the request's own since.
	Target string
	// ClientTraceID is the trace id that an untrusted client sent, for the log
	// only: it never becomes ours.
	ClientTraceID string

	// DryRun is set where somebody asks what would become of a request ("caddy edge
	// explain"): nothing is sent, counted, remembered or taken off a limit.
	DryRun bool
	// SupposedCountry is the country that a dry run supposes its client in. Empty:
	// that of the address.
	SupposedCountry string
	// Says is what handlers have to say of a dry run beside what they decide, in
	// sentences that hold no secret.
	Says []string

	// Auth, and whom the session speaks for. Identity is the zero value unless
	// the session held.
	Auth     Auth
	Identity handoff.Identity
	// AuthTime is when the user proved who they are. Zero: the session does not say.
	AuthTime time.Time
	// Claims are the values of the token's claims that the configuration asks for
	// by name (edge.App.ReadClaims). A claim that the token has not is absent.
	Claims map[string][]string
	// SessionKey tells two sessions apart: it is made of the verified token and of
	// the rules by which Identity was read from it. It is zero without one.
	SessionKey [sha256.Size]byte
	// ClaimedHome is the region that the session's claims name. Empty: none.
	ClaimedHome string
	// ForwardSession lets the session's token travel to the region.
	ForwardSession bool

	// Link is what became of the signed link, and LinkKeyID the id of the key that
	// signed it. Empty: no handler asked, or it did not hold.
	Link      Link
	LinkKeyID string

	// Country and Continent are where the client's address is: an ISO 3166-1
	// alpha-2 code, and one of AF AN AS EU NA OC SA. Empty: unknown, or nobody asked.
	Country, Continent string

	// Bot is what the client is taken for. The zero value: no handler asked.
	Bot Bot

	// Home is the region chosen, for Reason. Empty: no handler asked.
	Home   string
	Reason Reason
	// ServedBy is the region that answered a read in place of Home. Empty: none did.
	ServedBy string
	// RecentWrite is set for a read whose client wrote a moment ago: it is to see
	// what it wrote.
	RecentWrite bool
	// SentMarker is the recent-write marker that the client sent in X-Edge-Wrote, as
	// it came. edge_region reads it for a bearer token's session alone.
	SentMarker string
	// Rewritten is the path and query that the region is asked for, where it is
	// another than the client's.
	Rewritten string
	// Retarget gives the path and query for another region, so that a replay asks
	// for the right one. Nil: the path is the same everywhere.
	Retarget func(region string) string

	// Variants are those of the experiments that the request is in, sorted by
	// experiment. [Decision.Assign] adds one.
	Variants []Variant
	// AnonymousID is the id of a visitor in an experiment. Empty: none was needed.
	AnonymousID string

	// Limit is the rate limit that refused the request. Empty: none did.
	Limit string
	// LimitDryRun are those that would have refused it, were they not to be tried first.
	LimitDryRun []string
	// RateLimit and RateLimitPolicy are the fields of that name, which tell the
	// client what is left (draft-ietf-httpapi-ratelimit-headers-11). Empty: no limit
	// is for the request.
	RateLimit, RateLimitPolicy string

	// ShortCircuit names what answered in place of the region, if anything did.
	ShortCircuit string
	// Outcome is set by whoever knows; empty means that it is read off the status.
	Outcome Outcome
	// Problem is the name of the problem that was answered.
	Problem string
	// Replayed is set when a 421 was replayed.
	Replayed bool
	// CacheStatus is our member of Cache-Status (RFC 9211). Empty: no cache asked.
	CacheStatus string
	// Cache is what the cache did, CachePolicy whom its answers are for, and CacheWhy
	// why nothing was stored, or used. Empty: no cache asked.
	Cache, CachePolicy, CacheWhy string

	// TraceID is set where the request is traced.
	TraceID string

	// Exchange is what the home region's handlers have to tell each other: edge_region,
	// its upstreams and its transport. Nil: edge_region has not seen the request.
	Exchange any

	forked       bool // see Fork
	w            *writer
	gates        []Gate
	idLine       []string // RequestID as a header's value
	onAnswer     []func(status int, h http.Header)
	status       int
	err          error // what went wrong, for the log
	logger       *zap.Logger
	serverTiming bool
	stages       [8]stage
	nstages      int
	began        time.Time
	guardDone    time.Time
	exposures    []Variant
	flag         func(key string) (string, bool)
	values       func(bucket, tenant, key string) (string, bool)
	cookies      []string
}

type stage struct {
	name     string
	duration time.Duration
}

// varKey keeps the decision among the request's variables: a look-up there
// costs less than another context, and needs no copy of the request.
const varKey = "edge.decision"

// Of gives the request's decision, nil when edge_guard has not seen the request.
func Of(ctx context.Context) *Decision {
	d, _ := caddyhttp.GetVar(ctx, varKey).(*Decision)
	return d
}

// From is [Of] for handlers, which cannot work without: it fails with a message
// that says what to put into the configuration.
func From(r *http.Request) (*Decision, error) {
	if d := Of(r.Context()); d != nil {
		return d, nil
	}
	return nil, caddyhttp.Error(http.StatusInternalServerError, errNoGuard)
}

// OnAnswer has f look at the final header before it is written, whoever writes
// it, and change it. It is for a handler whose decision limits how the answer may
// be cached, and comes after every cache below that handler.
func (d *Decision) OnAnswer(f func(status int, h http.Header)) { d.onAnswer = append(d.onAnswer, f) }

// Region records the home region and why it was chosen.
func (d *Decision) Region(home string, why Reason) { d.Home, d.Reason = home, why }

// Stage is one step of the edge's own work, with its span where the request is
// traced. Begin it with [Decision.Stage].
type Stage struct {
	d     *Decision
	name  string
	began time.Time
	span  spanEnder
}

// Stage begins the step that name, a span name of package handoff, stands for.
// Call End before the next handler is called: a stage is the edge's own time.
func (d *Decision) Stage(ctx context.Context, name string) Stage {
	return Stage{d: d, name: name, began: time.Now(), span: startSpan(ctx, name)}
}

// Began is when the stage began.
func (s Stage) Began() time.Time { return s.began }

// End closes the stage and its span.
func (s Stage) End() {
	s.d.Stamp(s.name, time.Since(s.began))
	if s.span != nil {
		s.span.End()
	}
}

// Stamp records a step whose duration somebody else measured.
func (d *Decision) Stamp(name string, took time.Duration) {
	if d.nstages < len(d.stages) {
		d.stages[d.nstages] = stage{name, took}
		d.nstages++
	}
}

// GuardDone marks the end of edge_guard's own work.
func (d *Decision) GuardDone() {
	d.guardDone = time.Now()
	d.Stamp(handoff.SpanGuard, d.guardDone.Sub(d.began))
}

// placeholder answers for {edge.…} and, where a session held, for Caddy's own
// {http.auth.user.id}.
func (d *Decision) placeholder(key string) (any, bool) {
	switch key {
	case "edge.request_id":
		return d.RequestID, true
	case "edge.tenant":
		return d.Identity.Tenant, true
	case "edge.user":
		return d.vouched(d.Identity.Subject), true
	case "edge.session":
		return d.vouched(d.Identity.Session), true
	case "edge.region":
		return d.Home, true
	case "edge.pop":
		return d.POP, true
	case "edge.auth":
		return string(d.Auth), true
	case "edge.geo.country":
		return d.Country, true
	case "edge.geo.continent":
		return d.Continent, true
	case "edge.bot.class":
		return string(d.Bot.Class), true
	case "edge.bot.name":
		return d.Bot.Name, true
	case "edge.bot.score":
		return d.Bot.Score, true
	case "edge.bot.reason":
		return d.Bot.Reason, true
	case "edge.bot.verified":
		return d.Bot.Verified, true
	case "edge.cache":
		return d.CacheStatus, true
	case "http.auth.user.id": // what Caddy's access log calls user_id
		return d.Identity.Subject, d.Identity.Subject != ""
	}
	return d.assigned(key)
}

// vouched names a user or a session together with its issuer, since two issuers
// may name two alike. An issuer's name holds no space.
func (d *Decision) vouched(name string) string {
	if name == "" {
		return ""
	}
	return d.Identity.SubjectIssuer + " " + name
}

// replacer gives the request's placeholders.
func replacer(r *http.Request) *caddy.Replacer {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return repl
}
