package decision

import (
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// Refusal is the error by which a handler refuses a forked request: each of those
// who wait for it is refused in its own name, by [Decision.RefuseAs].
type Refusal struct {
	Problem *problem.Problem
	By      string
	Outcome Outcome
}

func (r *Refusal) Error() string { return r.Problem.Error() }

func (r *Refusal) Unwrap() error { return r.Problem }

// Fork makes the decision of a request that the edge sends in a client's stead, as a
// cache does that fetches for several: r, which Caddy's PrepareRequest made ready. It
// speaks for who, which key tells from others (see [Decision.SessionKey]), and has the
// client's id. Nothing of it is logged or counted, and what refuses it returns a
// [Refusal].
func (d *Decision) Fork(r *http.Request, who handoff.Identity, key [sha256.Size]byte) *Decision {
	f := &Decision{
		RequestID: d.RequestID, POP: d.POP, Target: d.Target, TraceID: d.TraceID, DryRun: d.DryRun, SupposedCountry: d.SupposedCountry,
		Identity: who, SessionKey: key, began: time.Now(), forked: true, values: d.values,
	}
	if who.Tenant != "" {
		f.ClaimedHome = d.ClaimedHome
	}
	if who.Subject != "" {
		f.Auth, f.AuthTime, f.Claims = d.Auth, d.AuthTime, d.Claims
	}
	caddyhttp.SetVar(r.Context(), varKey, f)
	if repl := replacer(r); repl != nil {
		repl.Map(f.placeholder)
	}
	return f
}

// Dressed has every handler below that asked for it look at a forked answer's header
// (see [Decision.OnAnswer]), and reports whether the answer is for one client alone:
// the edge has a cookie for it.
func (d *Decision) Dressed(h http.Header, status int) (private bool) {
	d.status = status
	for _, f := range d.onAnswer {
		f(status, h)
	}
	return len(d.cookies) > 0
}

// Route is what was decided about where a request goes.
type Route struct {
	Home      string
	Reason    Reason
	ServedBy  string
	Rewritten string
	Replayed  bool
}

// Route gives what was decided so far.
func (d *Decision) Route() Route {
	return Route{d.Home, d.Reason, d.ServedBy, d.Rewritten, d.Replayed}
}

// Adopt takes over what was decided about a forked request, for the log and the trace
// of a client that is answered by it.
func (d *Decision) Adopt(r Route) {
	d.Home, d.Reason, d.ServedBy, d.Rewritten, d.Replayed = r.Home, r.Reason, r.ServedBy, r.Rewritten, r.Replayed
}

// RefuseAs answers as a forked request was refused.
func (d *Decision) RefuseAs(w http.ResponseWriter, r *http.Request, f *Refusal) error {
	if f.Outcome != "" {
		d.Outcome = f.Outcome
	}
	p := *f.Problem // Write fills in whose it is
	return d.Refuse(w, r, &p, f.By)
}
