package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/telemetry"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Defaults of [Config].
const (
	// DefaultMaxInFlight requests are handled at once.
	DefaultMaxInFlight = 128
	// slotWait is how long one more waits for its turn.
	slotWait = 100 * time.Millisecond
	// anyoneShare and largeShare are the parts of MaxInFlight, one in so many, for
	// whoever need not be signed in and for large bodies.
	anyoneShare = 4
	largeShare  = 4
)

// Config is what an [API] is made of.
type Config struct {
	// Region is this region's name. Required.
	Region string
	// Directory says where tenants are at home. Required.
	Directory *directory.Directory
	// Keys are the keys of the POPs whose assertions are believed. Required.
	Keys handoff.KeySource
	// SessionKeys answers [handoff.SessionJWKSPath], the one path that needs no
	// assertion. Nil: the path is like any other.
	SessionKeys http.Handler
	// Ready answers [handoff.ReadyPath]: nil where POPs should send requests here.
	// Nil: the path is like any other.
	Ready func(context.Context) error
	// RequestTimeout bounds a handler. Default: [handoff.RegionRequestTimeout].
	RequestTimeout time.Duration
	// MaxInFlight bounds the handlers at work; one more waits a moment for its
	// turn and is then answered 503. Routes for [Anyone] get a quarter of them at
	// most, so that whoever is not signed in cannot keep out those who are.
	// Default: [DefaultMaxInFlight].
	MaxInFlight int
	// Log has a line for each request. Default: none.
	Log *zap.Logger
	// Metrics count each request. Required.
	Metrics *telemetry.Metrics
}

// API is the region's handler for what POPs send.
type API struct {
	Config
	mux      *http.ServeMux
	verified http.Handler
	slots    *Slots // of all handlers
	anyone   *Slots // of those for Anyone
	large    *Slots // of large bodies
	draining atomic.Bool
}

// New puts routes behind the chain. It refuses a pattern without a method and
// two that overlap with neither being the more specific.
func New(c Config, routes ...Route) (*API, error) {
	if c.Region == "" || c.Directory == nil || c.Keys == nil || c.Metrics == nil {
		return nil, errors.New("region, directory, keys and metrics are required")
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = handoff.RegionRequestTimeout
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	a := &API{
		Config: c, mux: http.NewServeMux(),
		slots:  NewSlots(c.MaxInFlight, slotWait),
		anyone: NewSlots(max(1, c.MaxInFlight/anyoneShare), slotWait),
		large:  NewSlots(max(1, c.MaxInFlight/largeShare), slotWait),
	}
	for _, route := range routes {
		if err := a.register(route); err != nil {
			return nil, err
		}
	}
	verifier := &handoff.Verifier{Region: c.Region, Keys: c.Keys, Refused: refused}
	a.verified = verifier.Middleware(http.HandlerFunc(a.dispatch))
	return a, nil
}

func (a *API) register(route Route) (err error) {
	defer func() {
		if v := recover(); v != nil { // ServeMux has no other way to refuse
			err = fmt.Errorf("route %q: %v", route.Pattern, v)
		}
	}()
	if method, path, ok := strings.Cut(route.Pattern, " "); !ok || method == "" || !strings.HasPrefix(path, "/") {
		return fmt.Errorf("route %q: a pattern is a method, a space and a path", route.Pattern)
	}
	a.mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
		err := a.answer(w, r, route)
		if moved := (*tenancy.Elsewhere)(nil); errors.As(err, &moved) {
			err = NotAtWork(r, a.Region, moved.Tenant)
		}
		if err != nil {
			a.fail(w, r, err)
		}
	})
	return nil
}

// Drain makes each answer from now on close its connection, so that POPs turn
// elsewhere before the listener is closed under them.
func (a *API) Drain() { a.draining.Store(true) }

// ServeHTTP is the outermost link: whatever happens inside, there is one answer,
// one log line and one observation.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, r := begin(w, r)
	done := a.Metrics.Begin()
	defer done()
	defer a.finish(out, r)
	if a.draining.Load() {
		out.Header().Set("Connection", "close")
	}
	if path, _, _ := strings.Cut(r.RequestURI, "?"); path == handoff.SessionJWKSPath && a.SessionKeys != nil {
		a.publish(out, r)
		return
	}
	a.verified.ServeHTTP(out, r)
}

// publish answers what is public by nature. Nothing of r is believed.
func (a *API) publish(w http.ResponseWriter, r *http.Request) {
	current(r).route = handoff.SessionJWKSPath
	if id := RequestID(r); !handoff.ValidRequestID(id) || len(r.Header[handoff.HeaderRequestID]) != 1 {
		r.Header.Set(handoff.HeaderRequestID, newRequestID())
	}
	w.Header().Set(handoff.HeaderRequestID, RequestID(r))
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		a.fail(w, r, methodNotAllowed("GET, HEAD"))
		return
	}
	a.SessionKeys.ServeHTTP(w, r)
}

// dispatch is the first link that knows that a POP is asking.
func (a *API) dispatch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(handoff.HeaderRequestID, RequestID(r))
	if r.URL.Path == handoff.ReadyPath && a.Ready != nil {
		a.ready(w, r)
		return
	}
	unrouted, pattern := a.mux.Handler(r)
	r = current(r).trust(r, pattern)
	if pattern == "" {
		a.fail(w, r, noRoute(unrouted, r))
		return
	}
	a.mux.ServeHTTP(w, r)
}

// ready tells a POP whether to send requests here. It takes nobody's turn, so that
// a flood of requests does not make a region look dead, and it has no span: POPs ask
// all the time.
func (a *API) ready(w http.ResponseWriter, r *http.Request) {
	q := current(r)
	q.claims, q.route, q.quiet = handoff.FromContext(r.Context()), handoff.ReadyPath, true
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		a.fail(w, r, methodNotAllowed("GET, HEAD"))
		return
	}
	status, text := http.StatusOK, "ready"
	if q.err = a.Ready(r.Context()); q.err != nil {
		status, text = http.StatusServiceUnavailable, "not ready"
	}
	if a.draining.Load() {
		status, text = http.StatusServiceUnavailable, handoff.Draining
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// answer runs a route's handler within its limits.
func (a *API) answer(w http.ResponseWriter, r *http.Request, route Route) error {
	if route.Access == Tenant {
		if err := a.admit(r); err != nil {
			return err
		}
	}
	done, err := a.receive(r, route.Access)
	if err != nil {
		return err
	}
	defer done()
	if route.Access == Anyone {
		release, err := a.anyone.Acquire(r.Context())
		if err != nil {
			return err
		}
		defer release()
	}
	release, err := a.slots.Acquire(r.Context())
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), a.RequestTimeout)
	defer cancel()
	return route.Handle(w, r.WithContext(ctx))
}

// admit lets a tenant pass that is at home here. It asks no database.
func (a *API) admit(r *http.Request) error {
	who := Who(r)
	if who.Tenant == "" {
		return problem.New(http.StatusUnauthorized, problem.Unauthenticated, "").
			WithHeader("WWW-Authenticate", `Bearer realm="gatehouse"`)
	}
	t, known := a.Directory.Tenant(who.Tenant)
	if !known {
		return problem.New(http.StatusForbidden, problem.Forbidden, "the session's tenant is in no region")
	}
	if t.Home != a.Region || t.State != feed.Active {
		return NotAtWork(r, a.Region, t)
	}
	return nil
}

// NotAtWork says of a request whose tenant is not at work in the region here what
// that comes to: it belongs elsewhere, or nowhere, or for the moment nowhere.
// Nothing was done.
func NotAtWork(r *http.Request, here string, t feed.Tenant) error {
	switch {
	case t.State == feed.Closed:
		return problem.New(http.StatusForbidden, problem.Forbidden, "the session's tenant is closed")
	case t.Home != here:
		return Misdirected(r, t.Home, t.Epoch)
	}
	return problem.New(http.StatusServiceUnavailable, problem.RegionUnavailable,
		"the tenant is moving; nothing was done").WithRetryAfter(time.Second)
}

// Misdirected says that r belongs to the region home, by the decision epoch of its
// tenant's (0: of no tenant's), and that nothing was done here: 421, which the edge
// replays there once. A replay is answered 503, for two regions that each point at
// the other must not keep the edge busy.
func Misdirected(r *http.Request, home string, epoch int64) error {
	if claims := handoff.FromContext(r.Context()); claims != nil && claims.Replay {
		return problem.New(http.StatusServiceUnavailable, problem.RegionUnavailable,
			"the regions do not agree where this belongs; nothing was done").WithRetryAfter(time.Second)
	}
	p := problem.New(http.StatusMisdirectedRequest, problem.Misdirected, "").WithHeader(handoff.HeaderHomeRegion, home)
	if epoch > 0 {
		p.WithHeader(handoff.HeaderHomeEpoch, strconv.FormatInt(epoch, 10))
	}
	return p
}

// refused hears why the verifier let r not pass; the client is not told.
func refused(r *http.Request, err error) {
	q := current(r)
	q.err = err
	switch {
	case errors.Is(err, strictjwt.ErrKeysAbsent):
		q.problem = problem.Overloaded
	case handoff.CheckPath(r.RequestURI) != nil:
		q.problem = problem.AmbiguousPath
	default:
		q.problem = problem.UntrustedHop
	}
}
