package explain

import (
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// walk takes one request through the routes, as caddyhttp.RouteList does, and
// writes down what happens. Routes are compiled here and not there, since a compiled
// route counts its requests, and sends them.
type walk struct {
	config  *server // nil: a server that Caddy added
	app     *edge.App
	named   map[string]*caddyhttp.Route
	groups  map[string]bool // that are satisfied
	path    string          // of the server
	answer  *Answer
	by      string // the last handler that could answer
	stopped string // how it ends, where that is not ours to run
	depth   int
}

func (w *walk) note(format string, args ...any) {
	w.answer.Notes = append(w.answer.Notes, fmt.Sprintf(format, args...))
}

// step writes the next step down and gives its place.
func (w *walk) step(s Step) int {
	w.answer.Steps = append(w.answer.Steps, s)
	return len(w.answer.Steps) - 1
}

// routes are those of a list, found in the configuration at path.
func (w *walk) routes(list caddyhttp.RouteList, path string, next caddyhttp.Handler) caddyhttp.Handler {
	for i := len(list) - 1; i >= 0; i-- {
		next = w.route(&list[i], below(path, "routes", i), next)
	}
	return next
}

// route is caddyhttp's wrapRoute, told aloud.
func (w *walk) route(r *caddyhttp.Route, path string, next caddyhttp.Handler) caddyhttp.Handler {
	return caddyhttp.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) error {
		then := next
		if r.Group != "" && w.groups[r.Group] {
			return then.ServeHTTP(rw, req)
		}
		matches, err := r.MatcherSets.AnyMatchWithError(req)
		given := w.find(path)
		if len(r.MatcherSets) > 0 || r.Group != "" {
			w.step(Step{Rule: "route", Where: whereOf(given, path), Route: given.label(), Matches: matches, Did: didMatch(matches, err)})
		}
		if err != nil {
			return err
		}
		if !matches {
			return then.ServeHTTP(rw, req)
		}
		if r.Group != "" {
			w.groups[r.Group] = true
		}
		if r.Terminal {
			then = end
		}
		for i := len(r.Handlers) - 1; i >= 0; i-- {
			then = w.handler(r.Handlers[i], below(path, "handle", i), then)
		}
		return then.ServeHTTP(rw, req)
	})
}

func didMatch(matches bool, err error) string {
	switch {
	case err != nil:
		return "cannot say whether it matches"
	case matches:
		return "matches"
	}
	return "does not match"
}

// changes are Caddy's handlers that change a request, or answer it, and do nothing
// else: they are run. passing are those that do something with the answer alone:
// they are passed by. Any other might send the request somewhere.
var (
	changes = map[string]bool{"rewrite": true, "vars": true, "map": true, "headers": true, "request_body": true, "static_response": true, "error": true}
	passing = map[string]bool{"encode": true, "templates": true, "tracing": true, "log_append": true, "intercept": true, "push": true}
)

// handler is one handler of a route.
func (w *walk) handler(h caddyhttp.MiddlewareHandler, path string, next caddyhttp.Handler) caddyhttp.Handler {
	name := caddy.GetModuleName(h)
	return caddyhttp.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) error {
		switch at := h.(type) {
		case *caddyhttp.Subroute:
			return w.subroute(at, path, next, rw, req)
		case *caddyhttp.Invoke:
			return w.invoke(at, next, rw, req)
		case *reverseproxy.Handler:
			return w.proxy(at, path, req)
		}
		switch {
		case strings.HasPrefix(name, "edge_"):
			return w.ours(h, name, path, next, rw, req)
		case changes[name]:
			return w.change(h, name, path, next, rw, req)
		case passing[name]:
			return next.ServeHTTP(rw, req)
		}
		w.step(Step{Rule: name, Where: w.where(path), Did: "is not run here"})
		w.stop("What becomes of it is " + name + "'s to say, which is not asked in a dry run.")
		return nil
	})
}

func (w *walk) stop(sentence string) {
	if w.stopped == "" {
		w.stopped = sentence
	}
}

func (w *walk) subroute(s *caddyhttp.Subroute, path string, next caddyhttp.Handler, rw http.ResponseWriter, req *http.Request) error {
	err := w.routes(s.Routes, path, next).ServeHTTP(rw, req)
	if err != nil && s.Errors != nil {
		w.note("handle_errors at %s could answer otherwise; it is not run here", path)
	}
	return err
}

// maxInvoked ends a configuration that invokes itself.
const maxInvoked = 64

func (w *walk) invoke(i *caddyhttp.Invoke, next caddyhttp.Handler, rw http.ResponseWriter, req *http.Request) error {
	named, ok := w.named[i.Name]
	if w.depth++; !ok || w.depth > maxInvoked {
		return fmt.Errorf("invoke: route %q not found", i.Name)
	}
	return w.route(named, w.path+"/named_routes/"+i.Name, next).ServeHTTP(rw, req)
}

// ours runs a handler of the edge, which heeds the dry run, and writes down what it
// decided until it passed the request on.
func (w *walk) ours(h caddyhttp.MiddlewareHandler, name, path string, next caddyhttp.Handler, rw http.ResponseWriter, req *http.Request) error {
	at := w.step(Step{Rule: name, Where: w.where(path)})
	before, said, passed, failed := w.decided(req), w.says(req), false, false
	told := func(did string) {
		s := &w.answer.Steps[at]
		s.Decided, s.Did = news(before, w.decided(req)), did
		if all := w.says(req); len(all) > len(said) {
			s.Says = all[len(said):]
		}
	}
	err := h.ServeHTTP(rw, req, caddyhttp.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) error {
		passed = true
		told("passes it on")
		err := next.ServeHTTP(rw, req)
		failed = err != nil
		return err
	}))
	switch {
	case !passed:
		told("answers")
		w.by = name
	case failed && err == nil: // a cache, with what is stale
		w.answer.Steps[at].Did += ", and answers since that fails"
		w.by = name
	}
	return err
}

func (w *walk) says(req *http.Request) []string {
	if d := decision.Of(req.Context()); d != nil {
		return d.Says
	}
	return nil
}

func (w *walk) decided(req *http.Request) map[string]any {
	if d := decision.Of(req.Context()); d != nil {
		return d.Fields()
	}
	return nil
}

// silent are fields that say nothing of a step: they are the request's own, or are
// decided at its end.
var silent = map[string]bool{handoff.FieldRequestID: true, handoff.FieldPOP: true, handoff.FieldOutcome: true, handoff.FieldShortCircuit: true}

// news is what is in after and was not before.
func news(before, after map[string]any) map[string]any {
	found := maps.Clone(after)
	maps.DeleteFunc(found, func(field string, value any) bool {
		old, was := before[field]
		return silent[field] || was && fmt.Sprint(old) == fmt.Sprint(value)
	})
	return found
}

// change runs a handler of Caddy's that changes the request.
func (w *walk) change(h caddyhttp.MiddlewareHandler, name, path string, next caddyhttp.Handler, rw http.ResponseWriter, req *http.Request) error {
	at, passed, before := w.step(Step{Rule: called(name), Where: w.where(path)}), false, req.Method+" "+req.URL.RequestURI()
	err := h.ServeHTTP(rw, req, caddyhttp.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) error {
		passed = true
		w.answer.Steps[at].Did = "passes it on"
		if after := req.Method + " " + req.URL.RequestURI(); after != before {
			w.answer.Steps[at].Did = "passes it on as " + after
		}
		return next.ServeHTTP(rw, req)
	}))
	if !passed {
		w.answer.Steps[at].Did = "answers"
		w.by = called(name)
	}
	return err
}

// proxy says where a request would be sent, and sends it nowhere.
func (w *walk) proxy(p *reverseproxy.Handler, path string, req *http.Request) error {
	target := req.URL.RequestURI()
	d := decision.Of(req.Context())
	at := w.step(Step{Rule: "reverse_proxy", Where: w.where(path)})
	source := ""
	if p.DynamicUpstreams != nil {
		source = caddy.GetModuleName(p.DynamicUpstreams)
	}
	sent := &Sent{Method: req.Method, Target: target, Upstreams: []string{}}
	switch {
	case source == "edge_region":
		return w.toRegion(p, d, sent, at, req)
	case source != "":
		w.note("reverse_proxy asks %s for its upstreams, which is not done here", source)
	}
	for _, u := range p.Upstreams {
		sent.Upstreams = append(sent.Upstreams, u.Dial)
	}
	w.answer.Sent = sent
	w.answer.Steps[at].Did = strings.TrimSpace("would send it to " + strings.Join(sent.Upstreams, ", "))
	w.stop(fmt.Sprintf("It would be sent as %s %s to an upstream that is no region, without an assertion.", req.Method, target))
	return nil
}

func (w *walk) toRegion(p *reverseproxy.Handler, d *decision.Decision, sent *Sent, at int, req *http.Request) error {
	if d == nil || d.Home == "" {
		w.answer.Steps[at].Did = "cannot send it: edge_region has not seen it"
		w.stop("Caddy answers with 500: edge_region must stand before reverse_proxy with transport edge.")
		return nil
	}
	upstreams, err := p.DynamicUpstreams.GetUpstreams(req)
	if err != nil {
		return err
	}
	if len(upstreams) == 0 {
		w.answer.Steps[at].Did = "sends it nowhere: no upstream of region " + d.Home + " can be asked"
		w.answer.Status = http.StatusServiceUnavailable
		w.stop("edge_region answers with 503: no upstream of region " + d.Home + " can be asked, see caddy edge regions.")
		return nil
	}
	for _, u := range upstreams {
		sent.Upstreams = append(sent.Upstreams, u.Dial)
	}
	sent.Region, sent.Asserts = d.Home, asserts(w.app.POP, d, sent)
	w.answer.Sent = sent
	w.answer.Steps[at].Did = fmt.Sprintf("would send it to region %s at %s", d.Home, strings.Join(sent.Upstreams, ", "))
	w.stop(fmt.Sprintf("It would be sent as %s %s to region %s, which decides the rest.", sent.Method, sent.Target, d.Home))
	return nil
}

// asserts are the claims that the region would read.
func asserts(pop string, d *decision.Decision, sent *Sent) map[string]any {
	claims := map[string]any{"iss": pop, "aud": d.Home, "home": d.Home}
	for name, value := range map[string]string{
		"tenant_id": d.Identity.Tenant, "sub": d.Identity.Subject, "sub_iss": d.Identity.SubjectIssuer, "sid": d.Identity.Session,
	} {
		if value != "" {
			claims[name] = value
		}
	}
	if len(d.Identity.Roles) > 0 {
		claims["roles"] = d.Identity.Roles
	}
	if handoff.Unsafe(sent.Method) {
		claims["mth"], claims["pth"] = sent.Method, sent.Target
	}
	return claims
}

// find gives the route of the configuration at path, an empty one where Caddy
// added it by itself.
func (w *walk) find(path string) *route {
	r, _ := w.at(path)
	if r == nil {
		return new(route)
	}
	return r
}

// where says where the handler at path stands.
func (w *walk) where(path string) string {
	_, h := w.at(path)
	return h.where(path)
}

// whereOf says where a route stands: where the first of its handlers that knows.
func whereOf(r *route, path string) string {
	if source := r.source(0); source != "" {
		return source
	}
	return path
}

func (r *route) source(depth int) string {
	if depth > maxDepth {
		return ""
	}
	for i := range r.Handle {
		if r.Handle[i].Source != "" {
			return r.Handle[i].Source
		}
		for k := range r.Handle[i].Routes {
			if source := r.Handle[i].Routes[k].source(depth + 1); source != "" {
				return source
			}
		}
	}
	return ""
}

// at finds what the configuration has at path, which is below the server's: a
// route or a handler.
func (w *walk) at(path string) (r *route, h *handler) {
	if w.config == nil {
		return nil, nil
	}
	words := strings.Split(strings.TrimPrefix(path, w.path+"/"), "/")
	list := w.config.Routes
	for len(words) >= 2 {
		index := -1
		_, _ = fmt.Sscan(words[1], &index)
		switch {
		case words[0] == "named_routes":
			r, h = w.config.NamedRoutes[words[1]], nil
		case words[0] == "routes" && index >= 0 && index < len(list):
			r, h = &list[index], nil
		case words[0] == "handle" && r != nil && index >= 0 && index < len(r.Handle):
			h = &r.Handle[index]
			list = h.Routes
			words = words[2:]
			continue
		default:
			return nil, nil
		}
		if r == nil {
			return nil, nil
		}
		words = words[2:]
	}
	if h != nil {
		return nil, h
	}
	return r, nil
}
