package guard

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// Defaults of the sizes of a request.
const (
	DefaultMaxURL         = 8 << 10
	DefaultMaxHeaders     = 128
	DefaultMaxHeaderBytes = 32 << 10
)

// Allowed says what a route takes. What is not listed is refused before anything
// else is done.
type Allowed struct {
	// Paths are patterns of Caddy's path matcher, for example "/api/*". At least one.
	Paths []string `json:"paths,omitempty"`

	// Methods are those that the paths take; HEAD comes with GET. Others get 405 and
	// Allow (RFC 9110, section 15.5.6). Default: all.
	Methods []string `json:"methods,omitempty"`

	// ContentTypes are the media types that a body may have there, without parameters,
	// for example "application/json". Others, and none, get 415 and Accept (RFC 9110,
	// section 15.5.16). Default: all.
	ContentTypes []string `json:"content_types,omitempty"`

	paths  caddyhttp.MatchPath
	allow  string
	accept string
}

func (a *Allowed) check() error {
	if a == nil || len(a.Paths) == 0 {
		return errors.New("allow needs a path, for example: allow /api/* { methods GET POST }")
	}
	for _, p := range a.Paths {
		if !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "*") {
			return fmt.Errorf("allow %q: it is a path such as /api/*", p)
		}
	}
	for _, m := range a.Methods {
		if !isToken(m) || m != strings.ToUpper(m) {
			return fmt.Errorf("allow: method %q is not one such as GET", m)
		}
	}
	for _, c := range a.ContentTypes {
		kind, sub, _ := strings.Cut(c, "/")
		if !isToken(kind) || !isToken(sub) {
			return fmt.Errorf("allow: content type %q is not one such as application/json, without parameters", c)
		}
	}
	return nil
}

func (a *Allowed) provision(ctx caddy.Context) error {
	a.paths = append(caddyhttp.MatchPath(nil), a.Paths...)
	if err := a.paths.Provision(ctx); err != nil {
		return err
	}
	methods := make([]string, 0, len(a.Methods)+1)
	for _, m := range a.Methods {
		methods = append(methods, m)
		if m == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	a.allow, a.accept = strings.Join(methods, ", "), strings.Join(a.ContentTypes, ", ")
	return nil
}

// refuse gives the problem of a request that the route does not take.
func (a *Allowed) refuse(r *http.Request) *problem.Problem {
	if len(a.Methods) > 0 && !a.takes(r.Method) {
		return problem.New(http.StatusMethodNotAllowed, problem.MethodNotAllowed, "").WithHeader("Allow", a.allow)
	}
	if len(a.ContentTypes) > 0 && hasBody(r) && !a.reads(r.Header["Content-Type"]) {
		return problem.New(http.StatusUnsupportedMediaType, problem.UnsupportedMediaType, "A body is "+a.accept+" here.").WithHeader("Accept", a.accept)
	}
	return nil
}

// hasBody reports whether a body comes, or is to be expected: over HTTP/3 nobody knows
// before it ends.
func hasBody(r *http.Request) bool {
	switch {
	case r.ContentLength == 0 || r.Method == http.MethodConnect: // a WebSocket's
		return false
	case r.ContentLength > 0 || len(r.Header["Content-Type"]) > 0:
		return true
	}
	return r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
}

// takes reports whether the method is listed. The CONNECT of a WebSocket, the only one
// that comes here, is the GET of another version of HTTP.
func (a *Allowed) takes(method string) bool {
	if method == http.MethodHead || method == http.MethodConnect {
		method = http.MethodGet
	}
	for _, m := range a.Methods {
		if m == method || m == http.MethodHead && method == http.MethodGet {
			return true
		}
	}
	return false
}

// reads reports whether the one Content-Type is among those that are read. Of two
// lines nobody knows which one counts.
func (a *Allowed) reads(lines []string) bool {
	if len(lines) != 1 {
		return false
	}
	kind, _, _ := strings.Cut(lines[0], ";")
	kind = strings.Trim(kind, " \t")
	for _, c := range a.ContentTypes {
		if strings.EqualFold(c, kind) {
			return true
		}
	}
	return false
}

// size is how much of a header came.
type size struct{ lines, bytes int }

func (s *size) add(name string, values []string) {
	s.lines += len(values)
	for _, v := range values {
		s.bytes += len(name) + len(v) + 4 // as on the wire of HTTP/1.1
	}
}

// refuseSize gives the problem of a request that is too large, with the header that came.
func (g *Guard) refuseSize(r *http.Request, target string, came size) *problem.Problem {
	if limit := orDefault(g.MaxURL, DefaultMaxURL); int64(len(target)) > limit {
		return problem.Newf(http.StatusRequestURITooLong, problem.MalformedRequest, "The request target is over %d bytes.", limit)
	}
	if limit := orDefault(int64(g.MaxHeaders), DefaultMaxHeaders); int64(came.lines) > limit {
		return problem.Newf(http.StatusRequestHeaderFieldsTooLarge, problem.HeaderTooLarge, "There are more than %d header fields.", limit)
	}
	if limit := orDefault(g.MaxHeaderBytes, DefaultMaxHeaderBytes); int64(came.bytes) > limit {
		return problem.Newf(http.StatusRequestHeaderFieldsTooLarge, problem.HeaderTooLarge, "The header fields are over %d bytes.", limit)
	}
	if g.MaxBody > 0 && r.ContentLength > g.MaxBody {
		return problem.Newf(http.StatusRequestEntityTooLarge, problem.BodyTooLarge, "The body is over %d bytes.", g.MaxBody)
	}
	return nil
}

func orDefault(n, otherwise int64) int64 {
	if n == 0 {
		return otherwise
	}
	return n
}

// refuseRoute gives the problem of a request that its route does not take. The first
// rule whose paths match decides.
func (g *Guard) refuseRoute(r *http.Request) (*problem.Problem, error) {
	if r.URL.Path == handoff.JWKSPath { // the guard's own
		return nil, nil
	}
	for _, a := range g.Allow {
		is, err := a.paths.MatchWithError(r)
		if err != nil {
			return nil, err
		}
		if is {
			return a.refuse(r), nil
		}
	}
	return nil, nil
}

// checkJunk finds what is wrong with the options of this file.
func (g *Guard) checkJunk() error {
	for _, a := range g.Allow {
		if err := a.check(); err != nil {
			return err
		}
	}
	for _, n := range g.KeepHeaders {
		if !isToken(n) {
			return fmt.Errorf("keep_header %q is not a header's name", n)
		}
	}
	switch {
	case g.MaxURL < 0 || g.MaxHeaders < 0 || g.MaxHeaderBytes < 0 || g.MaxBody < 0 || g.MinBodyRate < 0 || g.BodyGrace < 0:
		return errors.New("max_url, max_headers, max_header_bytes, max_body and min_body_rate are positive")
	case g.BodyGrace != 0 && g.MinBodyRate == 0:
		return errors.New("body_grace says how long min_body_rate waits; there is none")
	}
	return nil
}
