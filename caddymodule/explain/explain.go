package explain

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Answer is what would become of a request.
type Answer struct {
	POP    string    `json:"pop"`
	At     time.Time `json:"at"`
	Method string    `json:"method"`
	// Target is the path and query, as in the request line.
	Target string `json:"target"`
	Host   string `json:"host"`
	Server string `json:"server"`

	// Steps are what was asked and decided, in that order.
	Steps []Step `json:"steps"`
	// Decision is what the access log would say, by its names, less the times taken.
	// Where the request is sent on, the outcome is another's to decide and absent, and
	// so is what a cache makes of an answer that it has to ask for.
	Decision map[string]any `json:"decision"`
	// End says in a sentence what becomes of it.
	End string `json:"end"`
	// Status is that of the answer, where the POP makes it. 0: it does not.
	Status int `json:"status,omitempty"`
	// Header is what the answer's header would say of it; cookies by name alone.
	Header map[string][]string `json:"header,omitempty"`
	// Sent is where the request would be sent. Nil: nowhere.
	Sent *Sent `json:"sent,omitempty"`
	// Notes are what is not known here and would be there.
	Notes []string `json:"notes,omitempty"`
}

// Sent is where a request would be sent and what the edge would say there.
type Sent struct {
	Region    string   `json:"region,omitempty"`
	Upstreams []string `json:"upstreams"`
	Method    string   `json:"method"`
	Target    string   `json:"target"`
	// Asserts are the claims of the assertion; absent where it is no region.
	Asserts map[string]any `json:"asserts,omitempty"`
}

// Step is a route that was asked, or a handler that ran.
type Step struct {
	// Rule is the handler, or "route".
	Rule string `json:"rule"`
	// Where is file:line, else the path in Caddy's configuration.
	Where string `json:"where"`
	// Route says which requests the route is for.
	Route string `json:"route,omitempty"`
	// Matches reports whether this one is among them.
	Matches bool `json:"matches,omitempty"`
	// Decided are the fields that changed, by the names of the access log.
	Decided map[string]any `json:"decided,omitempty"`
	// Did says what it does with the request.
	Did string `json:"did"`
	// Says is what it has to say besides, in sentences: of edge_cache the key, without
	// what a cookie holds, and what is stored under it.
	Says []string `json:"says,omitempty"`
}

// shown are the header fields of an answer that say what it is.
var shown = []string{"Allow", "Cache-Control", "Location", "Retry-After", "Vary", "Www-Authenticate"}

// Explain runs the request through the handlers of ctx's configuration, which
// config is, as a dry run: nothing is sent, counted, logged or remembered. Caddy's own
// handlers that change a request are run, those that could send it are not, and
// no handler is that is not known here. Matchers are asked as ever.
//
// Errors are those of the question.
func Explain(ctx caddy.Context, config *Config, q *Question) (*Answer, error) {
	a, err := q.read()
	if err != nil {
		return nil, err
	}
	configured, err := ctx.AppIfConfigured("edge")
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	app := configured.(*edge.App)
	configured, err = ctx.AppIfConfigured("http")
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	name, srv, err := choose(configured.(*caddyhttp.App).Servers, a)
	if err != nil {
		return nil, err
	}
	w := &walk{config: config.Apps.HTTP.Servers[name], app: app, groups: map[string]bool{}, answer: &Answer{
		POP: app.POP, At: time.Now().UTC(), Method: a.request.Method, Target: a.target, Host: a.request.Host, Server: name,
		Steps: []Step{}, Decision: map[string]any{},
	}}
	w.named = srv.NamedRoutes
	w.path = serversPath(name)
	w.run(a.request.WithContext(ctx), srv, q.FromCountry)
	return w.answer, nil
}

// choose finds the server that listens where the URL points.
func choose(servers map[string]*caddyhttp.Server, a *asked) (string, *caddyhttp.Server, error) {
	var found, all []string
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		all = append(all, fmt.Sprintf("%s (%s)", name, strings.Join(servers[name].Listen, " ")))
		if a.port == "" || listens(servers[name], a.port) {
			found = append(found, name)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], servers[found[0]], nil
	case len(found) == 0:
		return "", nil, fmt.Errorf("no server listens on port %s: there is %s", a.port, strings.Join(all, ", "))
	}
	return "", nil, fmt.Errorf("there are several servers, so give the whole URL: %s", strings.Join(all, ", "))
}

// listens reports whether a server does, on a port of its configuration or one
// that the system chose for port 0.
func listens(srv *caddyhttp.Server, port string) bool {
	for _, address := range srv.Listen {
		parsed, err := caddy.ParseNetworkAddress(address)
		if err != nil {
			continue
		}
		for p := parsed.StartPort; p <= parsed.EndPort; p++ {
			if fmt.Sprint(p) == port {
				return true
			}
		}
	}
	for _, l := range srv.Listeners() {
		if strings.HasSuffix(l.Addr().String(), ":"+port) {
			return true
		}
	}
	return false
}

// run sends the request through the server's routes.
func (w *walk) run(r *http.Request, srv *caddyhttp.Server, country string) {
	answer := &writer{header: http.Header{}}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), answer, srv)
	decision.Rehearse(r.Context(), country)
	err := w.dare(func() error {
		return w.routes(srv.Routes, w.path, end).ServeHTTP(answer, r)
	})
	d := decision.Of(r.Context())
	if d == nil {
		w.note("edge_guard does not see this request: no handler of the edge can work")
	} else {
		w.answer.Decision = d.Fields()
	}
	w.conclude(d, answer, err)
}

// end is what stands behind the last route: Caddy answers with an empty 200.
var end = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// dare runs f, and makes an error of a panic: reverse_proxy and respond abort so.
func (w *walk) dare(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return f()
}

// conclude says how it ends.
func (w *walk) conclude(d *decision.Decision, answer *writer, err error) {
	a := w.answer
	switch {
	case w.stopped != "":
		a.End = w.stopped
		delete(a.Decision, handoff.FieldOutcome)
		return
	case err != nil:
		a.Status = http.StatusInternalServerError
		var he caddyhttp.HandlerError
		if errors.As(err, &he) && he.StatusCode != 0 {
			a.Status = he.StatusCode
		}
		a.End = fmt.Sprintf("Caddy answers with the error %d.", a.Status)
		return
	}
	a.Status = answer.status
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	by := "Caddy"
	if d != nil && d.ShortCircuit != "" {
		by = d.ShortCircuit
	}
	if w.by != "" {
		by = w.by
	}
	a.End = fmt.Sprintf("%s answers with %d; no region sees the request.", by, a.Status)
	a.Header = map[string][]string{}
	for _, name := range shown {
		if values := answer.header[name]; len(values) > 0 {
			a.Header[name] = values
		}
	}
	for _, cookie := range answer.header["Set-Cookie"] {
		name, _, _ := strings.Cut(cookie, "=")
		a.Header["Set-Cookie"] = append(a.Header["Set-Cookie"], name)
	}
}

// writer keeps what an answer says of itself and throws its content away.
type writer struct {
	header http.Header
	status int
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
		w.header = w.header.Clone() // as it is sent
	}
}

func (w *writer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}
