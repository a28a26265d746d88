package region

import (
	"errors"
	"net/http"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// A read may be answered by another region where the configuration says so
// (fallback) and the home region cannot be asked:
//
//	        none of its upstreams can be asked          divert, before anything is sent
//	home ──────────────────────────────────────► fallback
//	   └─── sent nowhere, or broken off ────────►        fallBack, after that
//
// Each fallback is asked once, in the order given, and home not again after. A
// write never gets here: it has no fallbacks, whatever the configuration says.

// divert has the first fallback asked that can be, where none of the home region's
// upstreams can.
func (x *exchange) divert(app *edge.App, method string) {
	if len(x.fallbacks) == 0 || x.writes(method) || x.instead != "" || app.Available(x.d.Home) {
		return
	}
	x.instead = x.next(app)
}

// next takes the first fallback that can be asked. Empty: there is none.
func (x *exchange) next(app *edge.App) string {
	for len(x.fallbacks) > 0 {
		region := x.fallbacks[0]
		x.fallbacks = x.fallbacks[1:]
		if region != x.d.Home && app.Available(region) {
			return region
		}
	}
	return ""
}

// mayFallBack reports whether another region may be asked for what failed with err.
// A region that takes too long is not followed by another: the client has waited.
func (x *exchange) mayFallBack(req *http.Request, err error) bool {
	if len(x.fallbacks) == 0 || x.writes(req.Method) || x.d.Replayed {
		return false
	}
	var f *failure
	return errors.As(err, &f) && (f.kind == unsent || f.kind == broken)
}

// fallBack asks the fallbacks in turn. err is the home region's failure, and is
// what is left when none of them answers.
func (t *Transport) fallBack(x *exchange, req *http.Request, err error) (*http.Response, *attempt, error) {
	for {
		if x.instead = x.next(t.app); x.instead == "" {
			return nil, nil, err
		}
		for _, dial := range t.dials[x.instead] {
			res, a, again := t.send(x, t.redirect(req, dial))
			if again == nil {
				return res, a, nil
			}
			if !unsentOnly(again) {
				x.instead = ""
				return nil, nil, again
			}
		}
	}
}
