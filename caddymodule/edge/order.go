package edge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// guardID and edgePrefix tell our handlers from others.
const (
	guardID    = "http.handlers.edge_guard"
	edgePrefix = "http.handlers.edge_"
)

// checkOrder refuses a configuration in which an edge directive can have no
// edge_guard before it: every request to it would fail.
//
// A guard behind a matcher counts: whether two matchers agree is known only when
// a request comes, and then the directive says so itself (see decision.From).
func (a *App) checkOrder() error {
	configured, err := a.ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return err
	}
	app, ok := configured.(*caddyhttp.App)
	if !ok {
		return fmt.Errorf("app http is a %T", configured)
	}
	a.warnOfCookie(app)
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		w := walk{named: app.Servers[name].NamedRoutes}
		if _, err := w.routes(app.Servers[name].Routes, "apps.http.servers."+name+".routes", false); err != nil {
			return err
		}
	}
	return nil
}

// warnOfCookie says where another host of the same domain could plant a session:
// over TLS only the prefix __Host- keeps it from that (RFC 6265bis, section
// 4.1.3.2). Without TLS no browser would keep such a cookie.
func (a *App) warnOfCookie(app *caddyhttp.App) {
	if len(a.Issuers) == 0 || strings.HasPrefix(a.SessionCookie, "__Host-") {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		if len(app.Servers[name].TLSConnPolicies) > 0 {
			a.logger.Warn("session_cookie has no __Host- prefix although there is TLS: any host of the domain can set one",
				zap.String("server", name), zap.String("session_cookie", a.SessionCookie))
			return
		}
	}
}

// walk goes through routes in the order in which a request does.
type walk struct {
	named  map[string]*caddyhttp.Route
	within []string // the named routes on the way, which may invoke each other
}

// routes reports whether a guard may stand before what follows the list.
func (w *walk) routes(list caddyhttp.RouteList, path string, guarded bool) (bool, error) {
	for i, route := range list {
		after, err := w.route(route, fmt.Sprintf("%s[%d]", path, i), guarded)
		if err != nil {
			return false, err
		}
		// What stands in a terminal route, as a site does, or in one of a group,
		// as handle does, is not on the way to the next.
		if !route.Terminal && route.Group == "" {
			guarded = after
		}
	}
	return guarded, nil
}

func (w *walk) route(route caddyhttp.Route, path string, guarded bool) (bool, error) {
	for i, handler := range route.Handlers {
		here := fmt.Sprintf("%s.handle[%d]", path, i)
		var err error
		switch h := handler.(type) {
		case *caddyhttp.Subroute:
			guarded, err = w.routes(h.Routes, here+".routes", guarded)
		case *caddyhttp.Invoke:
			guarded, err = w.invoke(h.Name, guarded)
		default:
			guarded, err = step(handler, here, guarded)
		}
		if err != nil {
			return false, err
		}
	}
	return guarded, nil
}

func (w *walk) invoke(name string, guarded bool) (bool, error) {
	route := w.named[name]
	if route == nil || slices.Contains(w.within, name) {
		return guarded, nil
	}
	w.within = append(w.within, name)
	defer func() { w.within = w.within[:len(w.within)-1] }()
	return w.route(*route, "named route "+name, guarded)
}

func step(handler caddyhttp.MiddlewareHandler, path string, guarded bool) (bool, error) {
	module, ok := handler.(caddy.Module)
	if !ok {
		return guarded, nil
	}
	id := string(module.CaddyModule().ID)
	if id == guardID {
		return true, nil
	}
	if strings.HasPrefix(id, edgePrefix) && !guarded {
		return false, fmt.Errorf("%s at %s has no edge_guard before it: put edge_guard into that site, first of all edge directives",
			strings.TrimPrefix(id, "http.handlers."), path)
	}
	return guarded, nil
}
