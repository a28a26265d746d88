// Package cache answers from memory: the handler edge_cache.
//
// One request, from the top down:
//
//	cache.go     what is asked: may it be looked up, for whom, under which key
//	choose.go    which stored response, and may it be used
//	serve.go     the answer made of it
//	fill.go      otherwise one fetch, apart from the client, for all who wait
//	judge.go     what of it is stored
//	pass.go      what does not concern the cache, or makes stored things invalid
//	rehearse.go  what all of them would do, for whoever asks before
//	stock.go     what is stored, for its operator
//
// The rules are those of package rfc9111, the memory is that of package store.
package cache

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/marker"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// name is how the handler signs what it answers.
const name = "edge_cache"

// member is our member of Cache-Status (RFC 9211).
const member = "gatehouse"

// Policies: whom a stored answer is for.
const (
	PolicyPublic = "public" // everybody: fetched in nobody's name
	PolicyTenant = "tenant" // the sessions of one tenant: fetched in the tenant's name
	PolicyUser   = "user"   // one user, with the roles of the session
	PolicyNever  = "never"  // nobody: nothing is stored
)

// ProfileRFC9111 follows the letter of RFC 9111. The default profile is safer, see
// [Cache.Profile].
const ProfileRFC9111 = "rfc9111"

// Defaults.
const (
	DefaultMaxObject = 32 << 20
	DefaultWait      = 5 * time.Second
	DefaultIdle      = time.Minute
	// heuristicLimit bounds the freshness that the profile rfc9111 makes up.
	heuristicLimit = 24 * time.Hour
	// staleOnError is how long that profile uses what is stale while the origin fails,
	// where the answer does not say.
	staleOnError = 24 * time.Hour
)

// Cache is the edge_cache handler: a shared HTTP cache (RFC 9111) for the handlers
// behind it.
//
// What is stored is stored for somebody, by Policy, and everything that an answer
// could depend on is in its key or is not sent to the origin. A miss is fetched apart
// from the client that caused it: all who ask for the same meanwhile read from the one
// fetch as it arrives, and a client that leaves ends it for nobody.
//
// Placeholder: {edge.cache}, our member of Cache-Status, once it is decided.
type Cache struct {
	// Profile is "rfc9111" for the letter of the RFC. Default: the same, but
	//
	//   - clients cannot choose: Cache-Control of a request is ignored;
	//   - freshness is what the answer says, not made up of Last-Modified, unless
	//     Heuristic is set;
	//   - an answer with Set-Cookie is not stored, unless StoreSetCookie says so, nor
	//     one that varies by Cookie, unless Cookies or BypassCookies name those that count;
	//   - of errors only 404 and 410 are stored, for a minute at most;
	//   - an answer to POST is not stored;
	//   - request fields that are not named do not reach the origin, and a request with
	//     Authorization, or with cookies where no policy is named, is not looked up;
	//   - an origin that fails is stood in for only where the answer has
	//     stale-if-error.
	Profile string `json:"profile,omitempty"`

	// Policy says whom a stored answer is for: public, tenant, user, never. Without a
	// verified session tenant and user pass. Default: public for a request without a
	// session, never for one with.
	Policy string `json:"policy,omitempty"`

	// Host is the host under which answers are stored, and for which the origin is asked,
	// whatever clients send: for a site that is reached by many names and is the same
	// under each. Default: the one that was asked.
	Host string `json:"host,omitempty"`

	// Headers are request fields that reach the origin, beside Accept,
	// Accept-Encoding and Accept-Language; an answer may vary by them. "*" is all. In
	// the profile rfc9111 it is always all.
	Headers []string `json:"headers,omitempty"`

	// Languages are those that the site has, as language tags. The origin gets one of
	// them as Accept-Language: the one that the client likes best (RFC 4647, section
	// 3.4), or the first. Default: Accept-Language as it came.
	Languages []string `json:"languages,omitempty"`

	// Cookies are cookies that reach the origin and are in the key. Default: none.
	Cookies []string `json:"cookies,omitempty"`

	// BypassCookies are cookies with which a request passes. Default: none.
	BypassCookies []string `json:"bypass_cookies,omitempty"`

	// Query are the query's parameters that reach the origin and are in the key; a
	// name may end in "*". Default: the whole query, byte for byte.
	Query []string `json:"query,omitempty"`

	// IgnoreQuery are parameters that are neither sent nor in the key. Default: none.
	IgnoreQuery []string `json:"ignore_query,omitempty"`

	// SortQuery puts the parameters in order, for the key and the origin. Default: they
	// stay as they came.
	SortQuery bool `json:"sort_query,omitempty"`

	// Vary adds to the key what the edge knows: "variant", the request's sides of its
	// experiments; "country"; "bot", the class of its client. Default: nothing.
	Vary []string `json:"vary,omitempty"`

	// Targets are the fields of targeted cache control, the most specific first (RFC
	// 9213). Default: CDN-Cache-Control.
	Targets []string `json:"targets,omitempty"`

	// TTL is how long an answer is fresh that does not say. Default: none is made up.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// MaxTTL bounds freshness, whatever the answer says. Default: no bound.
	MaxTTL caddy.Duration `json:"max_ttl,omitempty"`

	// Heuristic bounds the freshness that is made up of Last-Modified (RFC 9111,
	// section 4.2.2). Default: none is; 24h in the profile rfc9111.
	Heuristic caddy.Duration `json:"heuristic,omitempty"`

	// StoreSetCookie stores answers with Set-Cookie, and gives the cookie to whoever
	// gets them. Default: they are not stored.
	StoreSetCookie bool `json:"store_set_cookie,omitempty"`

	// MaxObject bounds the body of what is stored, in bytes. Default: 32 MiB.
	MaxObject int64 `json:"max_object,omitempty"`

	// Wait is how long a request waits for the header of an answer that another caused,
	// before it goes alone. Default: 5s.
	Wait caddy.Duration `json:"wait,omitempty"`

	// Idle is how long a fetch may bring nothing. Default: 1m.
	Idle caddy.Duration `json:"idle,omitempty"`

	// Source is where the directive stands, as "Caddyfile:12", for people. The
	// Caddyfile's adapter sets it. Default: unknown.
	Source string `json:"source,omitempty"`

	app     *edge.App
	logger  *zap.Logger
	shared  *shared
	disk    *disk // nil: there is none
	zone    string
	letter  bool // of the RFC
	limits  limits
	marks   *marker.Marks
	allowed map[string]bool
	purges  *edge.Source

	counters map[string]*counters
}

// limits are options with their defaults.
type limits struct {
	maxObject                     int64
	wait, idle                    time.Duration
	heuristic, ttl, maxTTL, onErr time.Duration
}

// CaddyModule returns the module's information.
func (*Cache) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_cache", New: func() caddy.Module { return new(Cache) }}
}

// Provision finds the edge app and what is stored.
func (c *Cache) Provision(ctx caddy.Context) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("edge_cache: %w", err)
	}
	app, err := ctx.AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("edge_cache needs the global option edge { … }, which says what this POP is")
	}
	if err != nil {
		return err
	}
	c.logger = ctx.Logger()
	if err := c.use(app.(*edge.App)); err != nil {
		return err
	}
	return registerMetrics(ctx, c.shared)
}

// use readies what the options ask for.
func (c *Cache) use(app *edge.App) (err error) {
	c.app = app
	c.prepare()
	c.provisionCounters()
	if c.shared, err = sharedBy(c.app); err != nil {
		return err
	}
	if c.disk, err = c.shared.diskBy(c.app); err != nil {
		return err
	}
	c.marks = marker.New(c.app, 0)
	c.purges = c.app.OnPurge(c.shared.hear)
	return nil
}

// Cleanup ends what the handler hears from the feed.
func (c *Cache) Cleanup() error { return c.purges.Close() }

// prepare computes what the options stand for.
func (c *Cache) prepare() {
	c.letter = c.Profile == ProfileRFC9111
	c.limits = limits{
		maxObject: c.MaxObject, wait: time.Duration(c.Wait), idle: time.Duration(c.Idle),
		heuristic: time.Duration(c.Heuristic), ttl: time.Duration(c.TTL), maxTTL: time.Duration(c.MaxTTL),
	}
	for _, d := range []struct {
		value    *time.Duration
		default_ time.Duration
	}{{&c.limits.wait, DefaultWait}, {&c.limits.idle, DefaultIdle}} {
		if *d.value == 0 {
			*d.value = d.default_
		}
	}
	if c.limits.maxObject == 0 {
		c.limits.maxObject = DefaultMaxObject
	}
	if c.letter {
		c.limits.onErr = staleOnError
		if c.limits.heuristic == 0 {
			c.limits.heuristic = heuristicLimit
		}
	}
	if len(c.Targets) == 0 {
		c.Targets = []string{"CDN-Cache-Control"}
	}
	targets := make([]string, len(c.Targets))
	for i, t := range c.Targets {
		targets[i] = http.CanonicalHeaderKey(t)
	}
	c.Targets = targets
	c.allowed = map[string]bool{"Accept": true, "Accept-Encoding": true, "Accept-Language": true}
	for _, h := range c.Headers {
		c.allowed[http.CanonicalHeaderKey(h)] = true
	}
	c.zone = c.fingerprint()
}

// check finds every fault that can be known before the handler runs.
func (c *Cache) check() error {
	switch c.Profile {
	case "", ProfileRFC9111:
	default:
		return fmt.Errorf("profile %q: there is %s, and the default without a name", c.Profile, ProfileRFC9111)
	}
	switch c.Policy {
	case "", PolicyPublic, PolicyTenant, PolicyUser, PolicyNever:
	default:
		return fmt.Errorf("policy %q: it is public, tenant, user or never", c.Policy)
	}
	if c.Host != "" {
		if u, err := url.Parse("http://" + c.Host + "/"); err != nil || u.Host != c.Host || u.Hostname() == "" || u.Host != strings.ToLower(u.Host) || u.User != nil {
			return fmt.Errorf("host %q is no host such as shop.example, in lower case, or shop.example:8080", c.Host)
		}
	}
	for _, v := range c.Vary {
		if v != "variant" && v != "country" && v != "bot" {
			return fmt.Errorf("vary %q: it is variant, country or bot; what an answer's Vary names is in the key by itself", v)
		}
	}
	if len(c.Languages) > 0 && c.Profile == ProfileRFC9111 {
		return errors.New("language: the profile rfc9111 changes no field of a request")
	}
	for _, tag := range c.Languages {
		if !isLanguage(tag) {
			return fmt.Errorf("language %q is no language tag such as en or de-AT", tag)
		}
	}
	if len(c.Query) > 0 && len(c.IgnoreQuery) > 0 {
		return errors.New("query and ignore_query: the one names what counts, the other what does not; write one of them")
	}
	for _, list := range [...]struct {
		option string
		names  []string
	}{{"header", c.Headers}, {"cookie", c.Cookies}, {"bypass_cookie", c.BypassCookies}, {"target", c.Targets}} {
		for _, n := range list.names {
			if !isToken(n) && !(list.option == "header" && n == "*") {
				return fmt.Errorf("%s %q is no name", list.option, n)
			}
		}
	}
	for _, h := range c.Headers {
		switch k := http.CanonicalHeaderKey(h); {
		case k == "Cookie":
			return errors.New("header Cookie: name the cookies that count, with cookie")
		case k == "Authorization":
			return errors.New("header Authorization: what is asked for with it is not for others; policy tenant or user keys by the session")
		case handoff.Protected(k), k == "Range", strings.HasPrefix(k, "If-"), strings.HasPrefix(k, "X-Forwarded-"), k == "Forwarded":
			return fmt.Errorf("header %s is the edge's own to send", k)
		}
	}
	switch {
	case c.MaxObject < 0 || c.TTL < 0 || c.MaxTTL < 0 || c.Heuristic < 0 || c.Wait < 0 || c.Idle < 0:
		return errors.New("max_object, ttl, max_ttl, heuristic, wait and idle are positive")
	case c.MaxTTL > 0 && c.TTL > c.MaxTTL:
		return errors.New("ttl is over max_ttl")
	}
	return nil
}

// Validate refuses what only the whole configuration shows.
func (c *Cache) Validate() error { return c.checkSession(c.app.SessionCookie) }

// checkSession refuses to key what is for several by what is one's.
func (c *Cache) checkSession(cookie string) error {
	if c.Policy != PolicyUser && c.Policy != PolicyNever && slices.Contains(c.Cookies, cookie) {
		return fmt.Errorf("edge_cache: cookie %s is the session's, and what is stored is for more than one: policy user keys by the session", cookie)
	}
	return nil
}

// ServeHTTP answers from what is stored, or from one fetch for all who wait.
func (c *Cache) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	stage := d.Stage(r.Context(), handoff.SpanCache)
	q, why := c.ask(r, d, stage.Began())
	if d.DryRun {
		stage.End()
		return q.rehearse(w, next, why)
	}
	if why != "" {
		stage.End()
		return c.pass(w, r, next, d, q, why)
	}
	q.choose()
	stage.End()
	return q.answer(w, next)
}

var ( // interface guards
	_ caddy.Provisioner           = (*Cache)(nil)
	_ caddy.Validator             = (*Cache)(nil)
	_ caddy.CleanerUpper          = (*Cache)(nil)
	_ caddyhttp.MiddlewareHandler = (*Cache)(nil)
	_ caddyfile.Unmarshaler       = (*Cache)(nil)
)
