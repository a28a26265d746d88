package command

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// maxQuestion bounds the body of a request to the API.
const maxQuestion = 64 << 10

// Admin is the module admin.api.edge: what the commands ask, under /edge/ of Caddy's
// admin endpoint. Who may ask is Caddy's to say (the admin option's origins, or a
// unix socket); whoever may can replace the whole configuration, too. Answers hold
// no secret all the same, since they get copied into tickets.
//
//	GET  /edge/cache        how much is stored, and what was purged
//	POST /edge/cache        what is stored
//	POST /edge/cache/purge  purges at this POP
//	POST /edge/cache/show   what is stored for one URL, or why nothing is
//	POST /edge/explain      what would become of a request
//	GET  /edge/keys         the issuers' key sets and this POP's own key ids
//	GET  /edge/regions      the regions and how their upstreams are
//	GET  /edge/routes       the boundary, route by route
//	GET  /edge/revocations  how much is revoked here, and how stale that is
//	POST /edge/revocations  ends sessions at this POP
//
// A body is one JSON object in application/json, of 64 KiB at most; members that
// are not known, and names that stand twice, are refused. What is wrong is
// {"error": "…"}, as Caddy's own.
type Admin struct{}

// CaddyModule returns the module's information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.edge", New: func() caddy.Module { return new(Admin) }}
}

// Routes are the API's.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		route("cache", answers{http.MethodGet: stocked, http.MethodPost: listed}),
		route("cache/purge", answers{http.MethodPost: purge}),
		route("cache/show", answers{http.MethodPost: shownOf}),
		route("explain", answers{http.MethodPost: explained}),
		route("keys", answers{http.MethodGet: keySets}),
		route("regions", answers{http.MethodGet: regions}),
		route("routes", answers{http.MethodGet: routes}),
		route("revocations", answers{http.MethodGet: revocations, http.MethodPost: revoke}),
	}
}

// answer gives what a request is answered with, as JSON.
type answer func(app *edge.App, r *http.Request) (any, error)

// answers are those of one path, by method.
type answers map[string]answer

// route is /edge/NAME and nothing below it.
func route(name string, by answers) caddy.AdminRoute {
	return caddy.AdminRoute{Pattern: "/edge/" + name, Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return by.serve(w, r)
	})}
}

func (by answers) serve(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	find, known := by[r.Method]
	if !known {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if by[method] != nil {
				allowed = append(allowed, method)
			}
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return refused(http.StatusMethodNotAllowed, "method %s is not for %s: use %s", r.Method, r.URL.Path, strings.Join(allowed, " or "))
	}
	if r.URL.RawQuery != "" {
		return refused(http.StatusBadRequest, "%s takes no query", r.URL.Path)
	}
	app, err := running()
	if err != nil {
		return err
	}
	found, err := find(app, r)
	if err != nil {
		return err
	}
	body, err := json.Marshal(found, json.Deterministic(true))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(body, '\n'))
	return err
}

// running is the edge app of the configuration that runs now. The module itself is
// made before the apps are, and may belong to a configuration that failed later.
func running() (*edge.App, error) {
	app, err := caddy.ActiveContext().AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, refused(http.StatusNotFound, "the configuration that runs has no edge { … }")
	}
	if err != nil {
		return nil, err
	}
	return app.(*edge.App), nil
}

// read reads the body of a request strictly.
func read(r *http.Request, into any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		// A page of another site cannot send this type without asking first.
		return refused(http.StatusUnsupportedMediaType, "the body is sent as application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxQuestion+1))
	switch {
	case err != nil:
		return refused(http.StatusBadRequest, "the body broke off")
	case len(body) > maxQuestion:
		return refused(http.StatusRequestEntityTooLarge, "the body has %d bytes at most", maxQuestion)
	}
	return decode(body, into)
}

func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into, json.RejectUnknownMembers(true)); err != nil {
		return refused(http.StatusBadRequest, "the body is no JSON object of this form: %s", said(err))
	}
	return nil
}

// said is what the JSON library says, without its own name. It quotes no value.
func said(err error) string {
	text := strings.TrimPrefix(err.Error(), "json: ")
	return strings.TrimPrefix(text, "jsontext: ")
}

// refused is an error of the API, for whoever asks.
func refused(status int, format string, args ...any) error {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

var _ caddy.AdminRouter = Admin{} // interface guard
