package guard

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/requestbody"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/timeouts"
)

// defaultGrace is how long a body may take whatever its rate.
const defaultGrace = 10 * time.Second

// bodies are Caddy's own handlers for bodies that are too large or too slow. Both
// make a read of the body fail: whoever passes it on then breaks off, so that no
// region takes a part for the whole.
type bodies struct {
	size *requestbody.RequestBody
	rate *timeouts.Timeouts
}

func (g *Guard) provisionBodies(ctx caddy.Context) error {
	if g.MaxBody > 0 {
		g.bodies.size = &requestbody.RequestBody{MaxSize: g.MaxBody}
	}
	if g.MinBodyRate > 0 {
		grace := time.Duration(g.BodyGrace)
		if grace == 0 {
			grace = defaultGrace
		}
		g.bodies.rate = &timeouts.Timeouts{ReadTimeout: grace, ReadMinRate: g.MinBodyRate}
		return g.bodies.rate.Provision(ctx)
	}
	return nil
}

// serve calls next, with a body that is held to the limits.
func (b *bodies) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if b.size == nil && b.rate == nil || r.Body == nil || r.Body == http.NoBody {
		return next.ServeHTTP(w, r)
	}
	if b.size != nil {
		inner := next
		next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return b.size.ServeHTTP(w, r, inner) })
	}
	if b.rate != nil {
		return b.rate.ServeHTTP(w, r, next)
	}
	return next.ServeHTTP(w, r)
}
