// Package session decides whom a request speaks for.
package session

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

// name is how this handler signs what it answers.
const name = "edge_session"

// Defaults of [Session], and the bounds of MaxTokenSize.
const (
	DefaultLogin = "/login"
	DefaultRealm = "gatehouse"

	minTokenSize = 256
	maxTokenSize = 64 << 10
)

// Session is the edge_session handler. What stands after it is reached with a
// valid session only, unless it is optional.
//
// The session is a JWT of one of the edge app's issuers, in the session cookie or
// as "Authorization: Bearer". Where both are sent the bearer token decides: a bad
// one is not rescued by the cookie. Two session cookies are tampering, and so are
// two Authorization headers. Other schemes of Authorization are left alone.
//
// Without a valid session a navigation is sent to the login (302), with
// return_to naming where it wanted to go; everything else gets 401 and
// WWW-Authenticate (RFC 6750, section 3). A navigation is GET or HEAD with
// "Sec-Fetch-Mode: navigate", or with no Sec-Fetch header at all and text/html
// named in Accept. Where the issuer's keys cannot be had the answer is 503.
//
// With a session from a cookie, an unsafe method or an upgrade, as of a
// WebSocket, must come from this site (http.CrossOriginProtection) or from a
// trusted origin, else 403. A bearer token, which no browser sends by itself, may
// come from anywhere.
//
// A session without a role or a claim that is required is 403. One whose user proved too
// long ago who they are is sent to the login again, with max_age, if it is a
// navigation, and gets 401 and error="insufficient_user_authentication"
// (RFC 9470) otherwise.
//
// A CORS preflight, which carries no session ever, goes on as nobody's request.
//
// With a session, {http.auth.user.id} is its subject: Caddy's access log names
// the user. {edge.user} and {edge.session} name its issuer too, and are unique.
type Session struct {
	// Login is the path of the login page on this site. It must not be behind
	// edge_session itself. Default: "/login".
	Login string `json:"login,omitempty"`

	// Realm is the protection space that WWW-Authenticate names (RFC 9110,
	// section 11.5). Default: "gatehouse".
	Realm string `json:"realm,omitempty"`

	// Optional lets a request without a session go on as nobody's. A cookie that
	// does not hold counts as none, and is taken away; a bearer token that does not
	// hold is 401 as ever, and where the issuer's keys cannot be had the answer is
	// 503, since the user might be signed in. Default: false.
	Optional bool `json:"optional,omitempty"`

	// RequireRoles lets only those in who have one of these roles. Default: none
	// is asked for.
	RequireRoles []string `json:"require_roles,omitempty"`

	// RequireFresh is how long ago, at most, the user may have proved who they are:
	// the session's auth_time. Default: no matter.
	RequireFresh caddy.Duration `json:"require_fresh,omitempty"`

	// RequireClaims lets only sessions in whose token has, under each of these
	// names, one of the values: the claim itself or, where that is an array, one of
	// its members. A number and a boolean are compared as the token writes them.
	// The names are the token's own, whatever Issuer.Claims says. Default: none is
	// asked for.
	RequireClaims map[string][]string `json:"require_claims,omitempty"`

	// TrustedOrigins are other sites, scheme://host[:port], that may send what is
	// asked to come from this one. They can do whatever the user can. Default: none.
	TrustedOrigins []string `json:"trusted_origins,omitempty"`

	// CSRFExemptRaw are matchers of requests that any site may have the user's
	// browser send, unsafe methods and upgrades too: what they do must need no
	// protection, or have one of its own. Default: none.
	CSRFExemptRaw caddyhttp.RawMatcherSets `json:"csrf_exempt,omitempty" caddy:"namespace=http.matchers"`

	// ForwardToken lets the session's cookie and bearer token travel to the
	// region, which does not need them. Default: false.
	ForwardToken bool `json:"forward_token,omitempty"`

	// MaxTokenSize bounds a token in bytes, before anything of it is decoded:
	// 256 to 65536. Default: 8192.
	MaxTokenSize int `json:"max_token_size,omitempty"`

	// Source is where the directive stands, as "Caddyfile:12", for people. The
	// Caddyfile's adapter sets it. Default: unknown.
	Source string `json:"source,omitempty"`

	app      *edge.App
	verifier *verifier
	csrf     *http.CrossOriginProtection
	exempt   caddyhttp.MatcherSets
	claims   []claimRule
	ready    sync.Once
	readyErr error

	challenge, challengeInvalid, challengeFresh string // WWW-Authenticate
}

// CaddyModule returns the module's information.
func (*Session) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_session", New: func() caddy.Module { return new(Session) }}
}

// Provision sets the defaults and says which claims are asked for.
func (s *Session) Provision(ctx caddy.Context) error {
	if s.Login == "" {
		s.Login = DefaultLogin
	}
	if s.Realm == "" {
		s.Realm = DefaultRealm
	}
	if s.MaxTokenSize == 0 {
		s.MaxTokenSize = strictjwt.DefaultMaxBytes
	}
	if err := s.check(); err != nil {
		return fmt.Errorf("edge_session: %w", err)
	}
	app, err := ctx.AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("edge_session needs the global option edge { … }, which says what this POP is")
	}
	if err != nil {
		return err
	}
	exempt, err := ctx.LoadModule(s, "CSRFExemptRaw")
	if err != nil {
		return fmt.Errorf("edge_session: csrf_exempt: %w", err)
	}
	if err := s.exempt.FromInterface(exempt); err != nil {
		return fmt.Errorf("edge_session: csrf_exempt: %w", err)
	}
	if err := s.use(app.(*edge.App)); err != nil {
		return err
	}
	s.app.OnStart(s.start)
	return nil
}

// use prepares the handler for the app's issuers.
func (s *Session) use(app *edge.App) error {
	if len(app.Issuers) == 0 {
		return errors.New("edge_session needs an issuer in the global option edge { … }: without one no session can be valid")
	}
	s.app, s.csrf = app, http.NewCrossOriginProtection()
	for _, origin := range s.TrustedOrigins {
		if err := s.csrf.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("edge_session: trusted_origin: %w", err)
		}
	}
	s.challenge = `Bearer realm="` + s.Realm + `"`
	s.challengeInvalid = s.challenge + `, error="invalid_token"`
	s.challengeFresh = s.challenge + `, error="insufficient_user_authentication", ` +
		`error_description="The user must sign in again", max_age="` + strconv.Itoa(s.maxAge()) + `"`
	s.claims = rulesOf(s.RequireClaims)
	for _, rule := range s.claims {
		app.ReadClaims(rule.name)
	}
	return nil
}

// start finds the tokens that were verified before. What is read of a token
// depends on every handler's rules, so that it waits until all are provisioned:
// for the app's start, or for the first request if that is sooner.
func (s *Session) start() error {
	s.ready.Do(func() { s.verifier, s.readyErr = newVerifier(s.app, s.MaxTokenSize) })
	return s.readyErr
}

// check finds every fault that can be known before the handler runs.
func (s *Session) check() error {
	if s.Login != "" && (strings.Contains(s.Login, "?") || handoff.ReturnTo(s.Login, "") == "") {
		return fmt.Errorf("login %q is not a plain path of this site such as %s", s.Login, DefaultLogin)
	}
	for i := range len(s.Realm) {
		if c := s.Realm[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return fmt.Errorf("realm %q: it is sent in quotes, and holds printable ASCII without \" and \\", s.Realm)
		}
	}
	if s.MaxTokenSize != 0 && (s.MaxTokenSize < minTokenSize || s.MaxTokenSize > maxTokenSize) {
		return fmt.Errorf("max_token_size %d: it is %d to %d bytes", s.MaxTokenSize, minTokenSize, maxTokenSize)
	}
	return s.checkRules()
}

// ServeHTTP passes on what may pass and refuses the rest.
func (s *Session) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	if !held(d) { // else another edge_session has read the session, and taken it away
		stage := d.Stage(r.Context(), handoff.SpanAuth)
		bearer, cause := s.admit(r, d)
		stage.End()
		switch {
		case held(d):
		case d.Auth == decision.AuthPreflight:
			return pass(w, r, d, next)
		case s.Optional && !bearer && excused(d.Auth):
			dropCookie(r.Header, s.app.SessionCookie)
			return pass(w, r, d, next)
		default:
			return s.refuse(w, r, d, cause)
		}
	}
	switch {
	case !s.hasRole(d):
		return s.forbid(w, r, d, "The session has no role that may do this.")
	case !s.hasClaims(d):
		return s.forbid(w, r, d, "The session has no claim that allows this.")
	case !s.isFresh(d):
		return s.refuseStale(w, r, d)
	}
	return pass(w, r, d, next)
}

// pass lets the request go on, unless somebody who waited for its session says no.
func pass(w http.ResponseWriter, r *http.Request, d *decision.Decision, next caddyhttp.Handler) error {
	if passes, err := d.SessionSettled(w, r); !passes {
		return err
	}
	return next.ServeHTTP(w, r)
}

func held(d *decision.Decision) bool {
	return d.Auth == decision.AuthSession || d.Auth == decision.AuthBearer
}

// excused reports whether, where a session is optional, a cookie that failed so
// is as good as none. It is not where the session may well hold.
func excused(auth decision.Auth) bool {
	return auth != decision.AuthCSRF && auth != decision.AuthNoKeys && auth != decision.AuthStale
}

// admit reads and verifies the session, writes what it found into d, and takes
// the token away from the request. bearer says that a bearer token decided; the
// error is for the log.
func (s *Session) admit(r *http.Request, d *decision.Decision) (bearer bool, err error) {
	if isPreflight(r) {
		d.Auth = decision.AuthPreflight
		s.dropToken(r.Header)
		return false, nil
	}
	sent := read(r.Header, s.app.SessionCookie)
	if sent.fault != decision.AuthNone {
		d.Auth = sent.fault
		return sent.bearer, nil
	}
	verifier := s.verifier
	if d.DryRun {
		verifier = verifier.rehearsed()
	}
	v, sum, err := verifier.verify(r.Context(), sent.token)
	if err != nil {
		d.Auth = authOf(err)
		return sent.bearer, err
	}
	if d.Auth = s.standing(r, v); d.Auth != decision.AuthNone {
		return sent.bearer, nil
	}
	if !sent.bearer {
		if err := s.sameOrigin(r); err != nil {
			d.Auth = decision.AuthCSRF
			return false, err
		}
	}
	d.Auth = decision.AuthSession
	if sent.bearer {
		d.Auth = decision.AuthBearer
	}
	d.Identity, d.ClaimedHome, d.AuthTime, d.Claims = v.identity, v.home, v.authTime, v.claims
	d.SessionKey = s.verifier.key(sum)
	d.ForwardSession = s.ForwardToken
	if !s.ForwardToken {
		s.dropToken(r.Header)
	}
	return sent.bearer, nil
}

// dropToken takes the session's cookie and a bearer token out of the request.
func (s *Session) dropToken(h http.Header) {
	if _, found := readBearer(h["Authorization"]); found {
		delete(h, "Authorization")
	}
	dropCookie(h, s.app.SessionCookie)
}

// isPreflight reports whether a browser asks if a page of another origin may
// send a request (Fetch, section 4.8, "CORS-preflight fetch"). It does so without
// credentials, always.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// sameOrigin refuses what another site made the user's browser send. The
// handshake of a WebSocket is a GET, to which the same-origin policy does not
// apply (RFC 6455, section 10.2): it is held to the rule of unsafe methods. What
// is exempt is asked only for a request that would be refused.
func (s *Session) sameOrigin(r *http.Request) error {
	checked := r
	if len(r.Header["Upgrade"]) > 0 && !handoff.Unsafe(r.Method) {
		unsafe := *r
		unsafe.Method = http.MethodPost
		checked = &unsafe
	}
	err := s.csrf.Check(checked)
	if err == nil || len(s.exempt) == 0 {
		return err
	}
	exempt, failed := s.exempt.AnyMatchWithError(r)
	if failed != nil {
		return fmt.Errorf("%w; and whether it is exempt is not known: %w", err, failed)
	}
	if exempt {
		return nil
	}
	return err
}

// refuse answers for d.Auth.
func (s *Session) refuse(w http.ResponseWriter, r *http.Request, d *decision.Decision, cause error) error {
	switch d.Auth {
	case decision.AuthCSRF:
		return d.Refuse(w, r, problem.New(http.StatusForbidden, problem.CrossOrigin,
			"A request that changes something must come from this site.").WithCause(cause), name)
	case decision.AuthNoKeys, decision.AuthStale:
		return d.Refuse(w, r, problem.New(http.StatusServiceUnavailable, problem.SessionsUnavailable,
			"The session may be valid. Nothing was done.").
			WithRetryAfter(jwks.DefaultCooldown).WithCause(cause), name)
	}
	d.Outcome = decision.OutcomeUnauthenticated
	if handoff.IsNavigation(r) && !s.isLogin(r, d) {
		s.redirect(w, d, "")
		return nil
	}
	p := problem.New(http.StatusUnauthorized, problem.Unauthenticated, detailOf(d.Auth)).WithCause(cause)
	if d.Auth == decision.AuthMissing {
		p.WithHeader("WWW-Authenticate", s.challenge)
	} else {
		p.WithHeader("WWW-Authenticate", s.challengeInvalid)
	}
	return d.Refuse(w, r, p, name)
}

// redirect sends a browser to the login page, and tells that page where it
// wanted to go unless that is no plain path of this site, and more, which is
// empty or a parameter of the query.
func (s *Session) redirect(w http.ResponseWriter, d *decision.Decision, more string) {
	d.ShortCircuit = name
	location, separator := s.Login, "?"
	if target := handoff.ReturnTo(d.Target, ""); target != "" {
		location, separator = location+"?return_to="+url.QueryEscape(target), "&"
	}
	if more != "" {
		location += separator + more
	}
	h := w.Header()
	h.Set("Location", location)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusFound)
}

// isLogin reports whether the request is for the login page itself: a redirect
// would go in circles. Caddy matches paths without their case.
func (s *Session) isLogin(r *http.Request, d *decision.Decision) bool {
	asked, _, _ := strings.Cut(d.Target, "?")
	return strings.EqualFold(r.URL.Path, s.Login) || strings.EqualFold(asked, s.Login)
}

func detailOf(auth decision.Auth) string {
	switch auth {
	case decision.AuthMissing:
		return "No session was sent."
	case decision.AuthExpired:
		return "The session has expired."
	case decision.AuthRevoked:
		return "The session was ended."
	}
	return "The session that was sent is not valid."
}

var ( // interface guards
	_ caddy.Provisioner           = (*Session)(nil)
	_ caddyhttp.MiddlewareHandler = (*Session)(nil)
	_ caddyfile.Unmarshaler       = (*Session)(nil)
)
