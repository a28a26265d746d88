// Package guard stands before everything else at the edge.
package guard

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// name is how this handler signs what it answers.
const name = "edge_guard"

// Guard is the edge_guard handler. It is the first to see a request, and no
// other edge handler works without it:
//
//   - it names the request, or keeps the name that a trusted proxy gave it;
//   - it takes away what only the edge may say: identity, home region, assertion
//     and, from untrusted peers, the trace (see handoff.Protected), in every
//     spelling, in trailers, and in Connection, by which a client could have such
//     a header removed later (RFC 9110, section 7.6.1);
//   - it refuses a path that two programs could read differently with 400, by
//     the rule of handoff.CheckPath, before anything is routed by it; TRACE and
//     CONNECT, but for a WebSocket's, with 405; and an unsafe request or an upgrade
//     in TLS early data, which anyone can send again, with 425 (RFC 8470, section
//     5.2), be it early here or, by "Early-Data: 1", at a proxy before;
//   - it takes away what frameworks believe and no client has a reason to send (see
//     believed.go), unless KeepHeaders lets it through;
//   - it refuses what is too large with 413, 414 or 431, and what a route does not take
//     with 405 or 415, and breaks a body off that is too large or too slow;
//   - it holds requests to rate limits, one of which is there by default: for logins;
//   - it publishes the keys of this POP's assertions at
//     /.well-known/edge-jwks.json.
//
// Who is a trusted proxy is Caddy's to know: the servers option trusted_proxies.
//
// Placeholders for whatever comes after it: {edge.request_id}, {edge.pop},
// {edge.tenant}, {edge.region}, {edge.auth}, {edge.cache}, and {edge.kv.BUCKET.KEY},
// a value that the regions publish in the feed: the session's tenant's own, where
// there is one, else everybody's.
type Guard struct {
	// ServerTiming sends the time that each edge handler took to the client, as
	// Server-Timing. Whoever sees it can tell a cached session from a new one.
	// Default: false.
	ServerTiming bool `json:"server_timing,omitempty"`

	// RateLimits are asked in this order. One named "login" is always there, for
	// unsafe methods on /login, unless it is Off.
	RateLimits []*RateLimit `json:"rate_limits,omitempty"`

	// Allow says which methods and media types a route takes. Default: all.
	Allow []*Allowed `json:"allow,omitempty"`

	// MaxURL bounds the request target in bytes. Default: 8192.
	MaxURL int64 `json:"max_url,omitempty"`

	// MaxHeaders bounds the number of header fields. Default: 128.
	MaxHeaders int `json:"max_headers,omitempty"`

	// MaxHeaderBytes bounds all header fields together. Default: 32768. Caddy's own
	// max_header_size, which is a server's, comes before it.
	MaxHeaderBytes int64 `json:"max_header_bytes,omitempty"`

	// MaxBody bounds the body in bytes. A Content-Length over it is refused at once, a
	// body of unknown length cut off. Default: no bound.
	MaxBody int64 `json:"max_body,omitempty"`

	// MinBodyRate is how many bytes of the body must come in each second, on average
	// since its beginning and after BodyGrace. Default: as few as there are.
	MinBodyRate int64 `json:"min_body_rate,omitempty"`

	// BodyGrace is how long a body may take whatever its rate. Default: 10s.
	BodyGrace caddy.Duration `json:"body_grace,omitempty"`

	// KeepHeaders are names of headers that are let through although frameworks believe
	// them, as X-HTTP-Method-Override. Default: none.
	KeepHeaders []string `json:"keep_headers,omitempty"`

	// Source is where the directive stands, as "Caddyfile:12", for people. The
	// Caddyfile's adapter sets it. Default: unknown.
	Source string `json:"source,omitempty"`

	app         *edge.App
	logger      *zap.Logger
	keep        []string
	bodies      bodies
	early, late []*RateLimit                                    // whose keys are known at once, and with the session
	values      func(bucket, tenant, key string) (string, bool) // the app's
}

// CaddyModule returns the module's information.
func (*Guard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_guard", New: func() caddy.Module { return new(Guard) }}
}

// Provision finds the edge app.
func (g *Guard) Provision(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("edge_guard needs the global option edge { … }, which says what this POP is")
	}
	if err != nil {
		return err
	}
	g.app, g.logger = app.(*edge.App), ctx.Logger()
	g.values = g.app.Value // here, since it allocates
	return g.use(ctx)
}

// use readies what the options ask for.
func (g *Guard) use(ctx caddy.Context) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("edge_guard: %w", err)
	}
	if err := registerMetrics(ctx); err != nil {
		return err
	}
	g.keep = keepNames(g.KeepHeaders)
	for _, a := range g.Allow {
		if err := a.provision(ctx); err != nil {
			return fmt.Errorf("edge_guard: allow: %w", err)
		}
	}
	if err := g.provisionBodies(ctx); err != nil {
		return fmt.Errorf("edge_guard: %w", err)
	}
	return g.provisionLimits(ctx)
}

// check finds every fault that can be known before the handler runs.
func (g *Guard) check() error {
	if err := g.checkJunk(); err != nil {
		return err
	}
	return g.checkLimits()
}

// ServeHTTP names the request, cleans it, refuses it or passes it on.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if decision.Of(r.Context()) != nil { // it stands twice: once is enough
		return next.ServeHTTP(w, r)
	}
	trusted, now := edge.FromTrustedProxy(r), time.Now()
	d, w := decision.Begin(w, r, requestID(r.Header, trusted, now), decision.Options{
		POP: g.app.POP, Began: now, ServerTiming: g.ServerTiming, Logger: g.logger, Values: g.values,
	})
	finished := false
	defer func() {
		if !finished { // a handler panicked
			d.Abort(r)
		}
	}()
	if !trusted {
		d.ClientTraceID = clientTraceID(r.Header)
	}
	if sent := r.Header[handoff.HeaderWrote]; len(sent) == 1 {
		d.SentMarker = sent[0] // sealed: edge_region looks whether a POP made it
	}
	came := g.clean(r, trusted)
	passes, err := g.decide(w, r, d, came)

	switch {
	case !passes:
	case r.URL.Path == handoff.JWKSPath:
		err = g.publish(w, r, d)
	default:
		err = g.bodies.serve(w, r, next)
	}
	err = d.Finish(r, err)
	finished = true
	return err
}

// decide reports whether the request goes on; else it is answered. The cheapest
// questions come first.
func (g *Guard) decide(w http.ResponseWriter, r *http.Request, d *decision.Decision, came size) (bool, error) {
	refusal := g.refuseSize(r, d.Target, came)
	if refusal == nil {
		refusal = refuse(r, d.Target)
	}
	if refusal == nil && len(g.Allow) > 0 {
		var err error
		if refusal, err = g.refuseRoute(r); err != nil {
			return false, err
		}
	}
	if refusal != nil {
		d.GuardDone() // the answer says how long it took
		d.Outcome = decision.OutcomeRefused
		return false, d.Refuse(w, r, refusal, name)
	}
	passes, err := g.limit(w, r, d)
	d.GuardDone()
	return passes, err
}

// refuse gives the problem of a request that goes no further, nil for others.
// target is what the client sent.
func refuse(r *http.Request, target string) *problem.Problem {
	if r.Method == http.MethodTrace || r.Method == http.MethodConnect && !opensWebSocket(r) {
		return problem.New(http.StatusMethodNotAllowed, problem.MethodNotAllowed, "").
			WithHeader("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	if err := handoff.CheckPath(target); err != nil {
		return problem.New(http.StatusBadRequest, problem.AmbiguousPath, err.Error())
	}
	if !agrees(target, r.URL) {
		return problem.New(http.StatusInternalServerError, problem.Internal, "").WithCause(errRewritten)
	}
	if edge.InEarlyData(r) {
		if handoff.Unsafe(r.Method) || len(r.Header["Upgrade"]) > 0 { // what comes after an upgrade nobody sees
			return problem.New(http.StatusTooEarly, problem.TooEarly, "")
		}
		edge.MarkEarlyData(r)
	}
	return nil
}

// opensWebSocket reports whether a CONNECT is the handshake of a WebSocket over
// HTTP/2 (RFC 8441, section 5) or HTTP/3 (RFC 9220), where Caddy's servers leave
// the :protocol in two places. reverse_proxy makes an Upgrade of it, and it goes
// where a GET of its path would: it asks for no host to connect to.
func opensWebSocket(r *http.Request) bool {
	switch r.ProtoMajor {
	case 2:
		return r.Header.Get(":protocol") == "websocket"
	case 3:
		return r.Proto == "websocket"
	}
	return false
}

var errRewritten = errors.New("the path was rewritten before edge_guard saw it: edge_guard must be the first handler, outside handle_path")

// agrees reports whether u, which everything after this is routed by, is what
// the client sent and CheckPath looked at. Only the decoded path counts: net/url
// escapes bytes of its own choice.
func agrees(target string, u *url.URL) bool {
	path, query, _ := strings.Cut(target, "?")
	if query != u.RawQuery {
		return false
	}
	if strings.IndexByte(path, '%') < 0 {
		return path == u.Path
	}
	return decodesTo(path, u.Path)
}

// decodesTo compares without allocating; CheckPath has found the escapes whole.
func decodesTo(escaped, plain string) bool {
	i := 0
	for ; escaped != ""; i++ {
		c := escaped[0]
		size := 1
		if c == '%' {
			c, size = unhex(escaped[1])<<4|unhex(escaped[2]), 3
		}
		if i >= len(plain) || plain[i] != c {
			return false
		}
		escaped = escaped[size:]
	}
	return i == len(plain)
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// publish answers with the key set that regions verify this POP's assertions
// with (RFC 7517, section 8.5.2, for the media type).
func (g *Guard) publish(w http.ResponseWriter, r *http.Request, d *decision.Decision) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return d.Refuse(w, r, problem.New(http.StatusMethodNotAllowed, problem.MethodNotAllowed, "").
			WithHeader("Allow", "GET, HEAD"), name)
	}
	keys, err := g.app.PublishedKeys()
	if err != nil {
		return fmt.Errorf("publish keys: %w", err)
	}
	d.ShortCircuit = name
	sum := sha256.Sum256(keys)
	h := w.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Etag", `"`+base64.RawURLEncoding.EncodeToString(sum[:])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(keys)) // HEAD, If-None-Match
	return nil
}

var ( // interface guards
	_ caddy.Provisioner           = (*Guard)(nil)
	_ caddyhttp.MiddlewareHandler = (*Guard)(nil)
	_ caddyfile.Unmarshaler       = (*Guard)(nil)
)
