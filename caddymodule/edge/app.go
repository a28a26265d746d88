// Package edge is the app behind the edge directives: this point of presence,
// the regions it knows, the keys it signs with and the issuers it believes.
package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/feed"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
)

// DefaultSessionCookie is the one cookie that is read as a session. Its prefix
// makes browsers refuse it unless it is Secure, host-only and for every path
// (RFC 6265bis, section 4.1.3.2).
const DefaultSessionCookie = "__Host-session"

// App is the edge app. There is one per Caddy: a POP is a process.
type App struct {
	// POP is the name of this point of presence: a-z, 0-9 and '-'. Required. It
	// is the issuer of the assertions that this POP signs.
	POP string `json:"pop,omitempty"`

	// DefaultRegion is the region for a request that nothing else decides,
	// usually the nearest. Required.
	DefaultRegion string `json:"default_region,omitempty"`

	// Regions are the regions that this POP can send a request to. At least one.
	Regions []*Region `json:"regions,omitempty"`

	// Assertion says which keys sign what this POP asserts to a region. Required.
	Assertion *Assertion `json:"assertion,omitempty"`

	// Issuers are those whose sessions are believed. None: no session is.
	Issuers []*Issuer `json:"issuers,omitempty"`

	// SessionCookie is the name of the session's cookie, at the edge and in the
	// regions. Default: "__Host-session".
	SessionCookie string `json:"session_cookie,omitempty"`

	// CookieSecretFiles are files with a secret of at least 32 bytes, readable by
	// their owner alone, that signs the edge's own cookies, such as a visitor's id
	// in an experiment. The first signs; all are believed, so that a secret can be
	// changed. A visitor may come to any POP: give each the same. Default: none, and
	// what needs one is refused.
	CookieSecretFiles []string `json:"cookie_secret_files,omitempty"`

	// CookieSecretEnv is the name of an environment variable that holds such a
	// secret. It comes before CookieSecretFiles.
	CookieSecretEnv string `json:"cookie_secret_env,omitempty"`

	// Feed is where this POP hears which sessions have ended. Default: nowhere; a
	// session is then good until it expires.
	Feed *Feed `json:"feed,omitempty"`

	// Health has the regions' upstreams checked. Default: they are not.
	Health *Health `json:"health,omitempty"`

	// Breaker leaves upstreams alone to which requests fail. Default: as
	// [Breaker] says.
	Breaker *Breaker `json:"breaker,omitempty"`

	// Bots says by what crawlers prove who they are. Default: by nothing.
	Bots *Bots `json:"bots,omitempty"`

	// Cache bounds what edge_cache keeps. Default: as [Cache] says.
	Cache *Cache `json:"cache,omitempty"`

	ctx    caddy.Context
	logger *zap.Logger
	shared sharing

	load     sync.Once
	loadErr  error
	detached bool // see Detach
	starts   []func() error
	keys     *signing
	storage  certmagic.Storage // nil: keep nothing
	keeps    sync.WaitGroup    // what is on its way there
	events   *caddyevents.App  // nil: nobody hears

	cookieSecrets [][]byte

	send       Send // nil: nothing sends requests to regions
	stopChecks context.CancelFunc
	checking   sync.WaitGroup
	herald     herald
	claims     []string // see ReadClaims
}

// Region is a place where the regional service runs beside its database.
type Region struct {
	// Name is what the region is called in claims, headers and the Caddyfile:
	// a-z, 0-9 and '-'. Required, and unique.
	Name string `json:"name"`

	// Upstreams are the addresses to dial, host:port or unix//path. At least one.
	Upstreams []string `json:"upstreams,omitempty"`

	// PublicName stands for the region in paths, as in /eu/app. Default: Name.
	PublicName string `json:"public_name,omitempty"`

	// Countries are those whose visitors belong here while nothing better is
	// known: ISO 3166-1 alpha-2 codes in upper case. Default: none.
	Countries []string `json:"countries,omitempty"`

	// Health and Breaker are this region's. What they leave out is the app's.
	Health  *Health  `json:"health,omitempty"`
	Breaker *Breaker `json:"breaker,omitempty"`

	checks *Health // merged; nil: none
	reach  []*Upstream
	out    *outage
}

// CaddyModule returns the module's information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edge", New: func() caddy.Module { return new(App) }}
}

// Provision sets defaults and refuses what cannot work. It reads no key: a
// configuration can be validated on a machine that has none.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Logger()
	if a.SessionCookie == "" {
		a.SessionCookie = DefaultSessionCookie
	}
	for _, r := range a.Regions {
		if r != nil && r.PublicName == "" {
			r.PublicName = r.Name
		}
	}
	if err := a.check(); err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	for _, i := range a.Issuers {
		if err := i.provision(a); err != nil {
			return fmt.Errorf("edge: issuer %q: %w", i.Name, err)
		}
	}
	if err := a.provisionKeys(ctx); err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	if err := a.provisionHealth(); err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	if err := registerFileMetrics(ctx); err != nil {
		return err
	}
	if err := feed.Register(ctx); err != nil {
		return err
	}
	return decision.Register(ctx)
}

// check finds every fault of the configuration that can be known before it runs.
func (a *App) check() error {
	if err := checkPOP(a.POP); err != nil {
		return err
	}
	if len(a.Regions) == 0 {
		return errors.New("no region: name at least one with its upstreams")
	}
	for i, r := range a.Regions {
		if err := r.check(a.Regions[:i]); err != nil {
			return err
		}
	}
	if a.DefaultRegion == "" {
		return errors.New("no default_region: name the region for requests that nothing else decides")
	}
	if a.Region(a.DefaultRegion) == nil {
		return fmt.Errorf("default_region %q is not one of the regions", a.DefaultRegion)
	}
	if err := checkCookie(a.SessionCookie); err != nil {
		return err
	}
	if a.Assertion == nil {
		return errors.New("no assertion: say which key signs, for example: assertion { key_file PATH }")
	}
	if err := a.Assertion.check(); err != nil {
		return fmt.Errorf("assertion: %w", err)
	}
	if a.Feed != nil {
		if err := a.Feed.check(); err != nil {
			return fmt.Errorf("feed: %w", err)
		}
	}
	if err := a.checkHealth(); err != nil {
		return err
	}
	if err := a.Bots.check(); err != nil {
		return fmt.Errorf("bots: %w", err)
	}
	if err := a.Cache.check(); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return a.checkIssuers()
}

func checkPOP(name string) error {
	if !handoff.ValidRegion(name) {
		return fmt.Errorf("pop %q: a POP's name has 1 to 63 characters of a-z, 0-9 and '-'", name)
	}
	return nil
}

func checkCookie(name string) error {
	if name != "" && (&http.Cookie{Name: name, Value: "v"}).Valid() != nil {
		return fmt.Errorf("session_cookie %q is not a cookie's name: it has letters, digits and !#$%%&'*+-.^_`|~ (RFC 6265, section 4.1.1)", name)
	}
	return nil
}

// check holds the region against its own rules and against the regions before it.
func (r *Region) check(before []*Region) error {
	switch {
	case r == nil:
		return errors.New("a region is null: give it a name and upstreams")
	case !handoff.ValidRegion(r.Name):
		return fmt.Errorf("region %q: a region's name has 1 to 63 characters of a-z, 0-9 and '-'", r.Name)
	case !handoff.ValidRegion(r.PublicName):
		return fmt.Errorf("region %s: public_name %q: it has 1 to 63 characters of a-z, 0-9 and '-'", r.Name, r.PublicName)
	case len(r.Upstreams) == 0:
		return fmt.Errorf("region %s has no upstreams", r.Name)
	}
	for _, u := range r.Upstreams {
		if address, err := caddy.ParseNetworkAddress(u); err != nil || address.PortRangeSize() > 1 || !address.IsUnixNetwork() && address.StartPort == 0 {
			return fmt.Errorf("region %s: upstream %q is not host:port or unix//path", r.Name, u)
		}
	}
	if err := errors.Join(r.Health.check(), r.Breaker.check()); err != nil {
		return fmt.Errorf("region %s: %w", r.Name, err)
	}
	for _, other := range before {
		switch {
		case other.Name == r.Name:
			return fmt.Errorf("region %s stands twice", r.Name)
		case other.PublicName == r.PublicName:
			return fmt.Errorf("region %s: public_name %q is that of region %s too", r.Name, r.PublicName, other.Name)
		}
	}
	for _, c := range r.Countries {
		if !definition.ValidCountry(c) {
			return fmt.Errorf("region %s: country %q is not an ISO 3166-1 alpha-2 code such as DE", r.Name, c)
		}
		for _, other := range before {
			if slices.Contains(other.Countries, c) {
				return fmt.Errorf("region %s: country %s belongs to region %s already", r.Name, c, other.Name)
			}
		}
	}
	return nil
}

// Start reads the keys. Caddy starts apps in no order, so a request can come
// first: whoever comes first reads them, and a failure here undoes the load of
// the configuration. By now every handler is provisioned, so that their order
// can be looked at.
func (a *App) Start() error {
	if err := a.checkOrder(); err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	if err := a.loaded(); err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	for _, f := range a.starts {
		if err := f(); err != nil {
			return err
		}
	}
	if a.Feed != nil {
		a.Feed.wait()
	}
	a.startChecks()
	a.logger.Info("point of presence ready",
		zap.String(handoff.FieldPOP, a.POP),
		zap.Int("regions", len(a.Regions)), zap.Int("issuers", len(a.Issuers)))
	return nil
}

// loaded reads the keys once.
func (a *App) loaded() error {
	a.load.Do(func() {
		if a.keys, a.loadErr = a.Assertion.load(); a.loadErr != nil {
			a.loadErr = fmt.Errorf("assertion: %w", a.loadErr)
			return
		}
		if a.loadErr = a.loadCookieSecrets(); a.loadErr != nil {
			return
		}
		for _, i := range a.Issuers {
			if err := i.load(a); err != nil {
				a.loadErr = fmt.Errorf("issuer %q: %w", i.Name, err)
				return
			}
		}
		if a.Feed != nil {
			a.loadErr = a.Feed.load(a)
		}
	})
	return a.loadErr
}

// OnStart makes the app call f when it starts, for what a handler reads then and
// not when it is provisioned: files that a machine which only validates the
// configuration need not have. An error undoes the load of the configuration.
// Caddy starts apps in no order, so that a request can come before f was called.
// It is for Provision alone.
func (a *App) OnStart(f func() error) { a.starts = append(a.starts, f) }

// Stop ends the checks of upstreams. What outlives the configuration is released in
// Cleanup.
func (a *App) Stop() error {
	a.endChecks()
	return nil
}

// Cleanup releases what the configuration shared with its predecessor.
func (a *App) Cleanup() error {
	a.endChecks() // an app that was started by nobody is stopped by nobody
	for _, i := range a.Issuers {
		if i != nil && i.remote != nil {
			i.remote.detach(a)
		}
	}
	a.keeps.Wait() // whoever stops a POP may take its storage away then
	return a.shared.release()
}

// Region gives the region of that name, nil when there is none.
func (a *App) Region(name string) *Region {
	for _, r := range a.Regions { // a handful: faster than a map
		if r.Name == name {
			return r
		}
	}
	return nil
}

// RegionByPublicName gives the region that stands for itself in paths as name.
func (a *App) RegionByPublicName(name string) *Region {
	for _, r := range a.Regions {
		if r.PublicName == name {
			return r
		}
	}
	return nil
}

// RegionOfCountry gives the region that a country belongs to, nil when none is named.
func (a *App) RegionOfCountry(code string) *Region {
	for _, r := range a.Regions {
		if slices.Contains(r.Countries, code) {
			return r
		}
	}
	return nil
}

var ( // interface guards
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
