// Package signedurl opens what is behind signed links: the handler edge_signed,
// and the command that makes such links by hand.
package signedurl

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/handoff/signedurl"
)

// name is how the handler signs what it answers.
const name = "edge_signed"

// defaultMaxAge is how long a browser may keep what a link opened.
const defaultMaxAge = time.Hour

// Signed is the edge_signed handler. It lets a request pass whose address was
// signed, as package handoff/signedurl says, and no other: an address that is not
// signed, was changed, or is for another method, host, path, tenant or network
// is 403 link-refused, with the reason in the log alone; one whose time is over
// is 410 link-expired. A link that is bound to a network is 425 in TLS early data, where
// an address proves nothing.
//
// What holds is redirected to a storage, rewritten, or handed to the next
// handler. The parameters of the signature go no further. A client may keep the
// answer for no longer than the link holds, and nobody else may.
//
// The link is read off the address that the client sent, so that handle_path
// before this handler changes nothing.
type Signed struct {
	// KeyFiles are files of keys, readable by their owner alone: on each line an
	// id, a colon and a secret of at least 32 bytes in base64. All verify; the first
	// key of the first file is the one that the command signs with.
	KeyFiles []string `json:"key_files,omitempty"`

	// KeyEnvs are environment variables that hold such keys. They come before
	// KeyFiles.
	KeyEnvs []string `json:"key_envs,omitempty"`

	// Redirect answers 302 to that address, a storage for example:
	// "https://files.example.com{path}". {path} is the request's path, {uri} path
	// and query, both without the signature. Default: no redirect.
	Redirect string `json:"redirect,omitempty"`

	// Rewrite changes the path for the handlers after this one: "/private{path}".
	// Default: the path stays.
	Rewrite string `json:"rewrite,omitempty"`

	// MaxAge limits how long a client may keep what a link opened. It is never
	// longer than the link holds. Default: 1h.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// Source is where the directive stands, as "Caddyfile:12", for people. The
	// Caddyfile's adapter sets it. Default: unknown.
	Source string `json:"source,omitempty"`

	redirect, rewrite edge.Target
	keys              func() (*signedurl.Keys, error)
	now               func() time.Time
}

// CaddyModule returns the module's information.
func (*Signed) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edge_signed", New: func() caddy.Module { return new(Signed) }}
}

// Provision reads no key: that waits for the start, so that a configuration can
// be validated where there is none.
func (s *Signed) Provision(ctx caddy.Context) error {
	configured, err := ctx.AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("edge_signed needs the global option edge { … }, which says what this POP is")
	}
	if err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return fmt.Errorf("edge_signed: %w", err)
	}
	if s.MaxAge == 0 {
		s.MaxAge = caddy.Duration(defaultMaxAge)
	}
	s.now = time.Now
	s.keys = sync.OnceValues(s.load)
	configured.(*edge.App).OnStart(func() error {
		_, err := s.keys()
		return err
	})
	return nil
}

// check finds every fault that can be known before the handler runs, and reads
// the targets.
func (s *Signed) check() error {
	if len(s.KeyFiles) == 0 && len(s.KeyEnvs) == 0 {
		return errors.New("no keys: give key_file or key_env")
	}
	if s.Redirect != "" && s.Rewrite != "" {
		return errors.New("a link is redirected or rewritten, not both: drop redirect or rewrite")
	}
	if s.MaxAge < 0 {
		return fmt.Errorf("max_age %s is not a positive duration such as 10m", time.Duration(s.MaxAge))
	}
	var err error
	if s.Redirect != "" {
		if s.redirect, err = edge.ParseTarget(s.Redirect); err != nil {
			return fmt.Errorf("redirect %w", err)
		}
	}
	if s.Rewrite != "" {
		if s.rewrite, err = edge.ParseTarget(s.Rewrite); err != nil {
			return fmt.Errorf("rewrite %w", err)
		}
		if s.rewrite.Host != "" {
			return errors.New("rewrite: the target is a path of this site; for another, redirect")
		}
	}
	return nil
}

// load reads the keys.
func (s *Signed) load() (*signedurl.Keys, error) {
	var sets []*signedurl.Keys
	add := func(where, file, env string) error {
		text, err := edge.Secret(file, env)
		if err != nil {
			return fmt.Errorf("edge_signed: %w", err)
		}
		set, err := signedurl.ParseKeys(text)
		if err != nil {
			return fmt.Errorf("edge_signed: %s: %w", where, err)
		}
		sets = append(sets, set)
		return nil
	}
	for _, env := range s.KeyEnvs {
		if err := add("key_env "+env, "", env); err != nil {
			return nil, err
		}
	}
	for _, file := range s.KeyFiles {
		if err := add("key_file "+file, file, ""); err != nil {
			return nil, err
		}
	}
	keys, err := signedurl.Join(sets...)
	if err != nil {
		return nil, fmt.Errorf("edge_signed: %w", err)
	}
	return keys, nil
}

// ServeHTTP passes on what has a link that holds.
func (s *Signed) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	keys, err := s.keys()
	if err != nil {
		return err
	}
	stage := d.Stage(r.Context(), handoff.SpanSigned)
	now := s.now()
	grant, err := keys.Verify(signedurl.Request{
		Method: r.Method, Host: r.Host, Target: d.Target, Tenant: d.Identity.Tenant, Client: edge.Client(r), Now: now,
	})
	d.Link, d.LinkKeyID = linkOf(err), grant.KeyID
	if grant.Bound && edge.InEarlyData(r) {
		d.Link = decision.LinkEarlyData
	}
	stage.End()
	if d.Link != decision.LinkHolds {
		return refuse(w, r, d, err)
	}
	return s.open(w, r, next, d, min(time.Duration(s.MaxAge), grant.Expires.Sub(now)-time.Second))
}

// open does what the link is for. most is how long its holder may keep the answer.
func (s *Signed) open(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, d *decision.Decision, most time.Duration) error {
	most = max(most, 0)
	r.URL.RawQuery = signedurl.Strip(r.URL.RawQuery)
	if s.Redirect != "" {
		d.ShortCircuit = name
		h := w.Header()
		h.Set("Location", s.redirect.Of(r.URL))
		h.Set("Content-Length", "0")
		edge.Private(h, most)
		w.WriteHeader(http.StatusFound)
		return nil
	}
	if s.Rewrite != "" {
		s.rewrite.Rewrite(r.URL)
	}
	r.RequestURI = r.URL.RequestURI()
	d.Rewritten = r.RequestURI
	d.OnAnswer(func(status int, h http.Header) {
		if status >= 400 { // a failure may be over before the link is
			h.Set("Cache-Control", "no-store")
			return
		}
		edge.Private(h, most)
	})
	return next.ServeHTTP(w, r)
}

// refuse answers for d.Link. A client learns that its link has ended, which only
// the holder of a right signature can, and nothing else.
func refuse(w http.ResponseWriter, r *http.Request, d *decision.Decision, cause error) error {
	switch d.Link {
	case decision.LinkEarlyData:
		return d.Refuse(w, r, problem.New(http.StatusTooEarly, problem.TooEarly, ""), name)
	case decision.LinkExpired:
		d.Outcome = decision.OutcomeForbidden
		return d.Refuse(w, r, problem.New(http.StatusGone, problem.LinkExpired, "Ask for a new link where this one came from.").WithCause(cause), name)
	}
	return d.Refuse(w, r, problem.New(http.StatusForbidden, problem.LinkRefused, "Ask for a new link where this one came from.").WithCause(cause), name)
}

// linkOf maps an error of the check to what the decision says.
func linkOf(err error) decision.Link {
	for _, row := range [...]struct {
		err  error
		link decision.Link
	}{
		{nil, decision.LinkHolds},
		{signedurl.ErrMissing, decision.LinkMissing},
		{signedurl.ErrDuplicate, decision.LinkDuplicate},
		{signedurl.ErrVersion, decision.LinkVersion},
		{signedurl.ErrKey, decision.LinkKey},
		{signedurl.ErrSignature, decision.LinkSignature},
		{signedurl.ErrExpired, decision.LinkExpired},
		{signedurl.ErrNotYet, decision.LinkNotYet},
		{signedurl.ErrMethod, decision.LinkMethod},
		{signedurl.ErrHost, decision.LinkHost},
		{signedurl.ErrPath, decision.LinkPath},
		{signedurl.ErrTenant, decision.LinkTenant},
		{signedurl.ErrNetwork, decision.LinkNetwork},
	} {
		if errors.Is(err, row.err) {
			return row.link
		}
	}
	return decision.LinkMalformed
}

var ( // interface guards
	_ caddy.Provisioner           = (*Signed)(nil)
	_ caddyhttp.MiddlewareHandler = (*Signed)(nil)
	_ caddyfile.Unmarshaler       = (*Signed)(nil)
)
