package region

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// What a 421 that cannot be followed says to the client.
const (
	detailNoName  = "The region sent the request elsewhere and did not say where."
	detailUnknown = "The region sent the request to a region that this POP does not know."
	detailSame    = "The region sent the request to itself."
	detailTwice   = "Two regions in turn sent the request elsewhere: its tenant may be moving."
	detailBody    = "The region sent the request elsewhere, and its body is over the limit that can be sent again."
	detailInstead = "The home region cannot be asked, and the one in its place does not answer for it."
	detailPath    = "The region sent the request elsewhere, and its path there is not known."
)

// correct follows a 421 of the region that was asked: nothing was done there, so
// that any method may be sent to the region it names. What it teaches about a
// tenant is remembered, even where this request can go no further: the next one
// goes right at once. Not so from a region that a route pins, or that was asked in
// place of another: it was asked for the route's sake, and has no say in where every
// visitor's tenant is at home.
func (t *Transport) correct(x *exchange, req *http.Request, a *attempt, res *http.Response) (*http.Response, error) {
	asked := x.region()
	home, named := correction(res.Header)
	epoch, numbered := epochIn(res.Header)
	discard(res, a)
	switch {
	case x.d.Replayed:
		return t.giveUp(x)
	case !named:
		return nil, &failure{kind: misdirected, detail: detailNoName}
	case home == asked:
		return nil, &failure{kind: misdirected, detail: detailSame}
	case t.app.Region(home) == nil:
		return nil, &failure{kind: misdirected, detail: detailUnknown}
	case x.instead != "" && home == x.d.Home:
		return nil, &failure{kind: misdirected, detail: detailInstead}
	}
	if tenant := x.d.Identity.Tenant; tenant != "" && numbered && x.d.Reason != decision.ReasonPin && x.instead == "" {
		t.learn(tenant, asked, home, epoch)
	}
	switch {
	case x.d.Retarget != nil && x.d.Retarget(x.d.Home) != req.URL.RequestURI():
		// Something below edge_region rewrote the path.
		return nil, &failure{kind: misdirected, detail: detailPath}
	case x.body != nil && (req.ContentLength > t.ReplayLimit || !x.body.settle()):
		return nil, &failure{kind: misdirected, detail: detailBody}
	}
	return t.replay(x, req, home)
}

// learn keeps where asked sent a request of tenant. epoch is 0 where it named none.
func (t *Transport) learn(tenant, asked, home string, epoch int64) {
	told := lesson{home: home, epoch: epoch}
	if epoch == 0 {
		_, heard, _ := t.table(tenant)
		told.epoch, told.bare = heard, true
	}
	t.learnt.remember(tenant, asked, told)
}

// correction reads where a 421 sends the request.
func correction(h http.Header) (home string, ok bool) {
	lines := h[handoff.HeaderHomeRegion]
	if len(lines) != 1 || !handoff.ValidRegion(lines[0]) {
		return "", false
	}
	return lines[0], true
}

// drainTime and drainBytes bound what is read of a 421's body to keep its
// connection.
const (
	drainTime  = 100 * time.Millisecond
	drainBytes = 64 << 10
)

// discard ends the attempt that had res.
func discard(res *http.Response, a *attempt) {
	timer := time.AfterFunc(drainTime, func() { a.cancel(nil) })
	_, _ = io.CopyN(io.Discard, res.Body, drainBytes)
	_ = res.Body.Close()
	timer.Stop()
	a.cancel(nil)
}

// giveUp answers a second 421. What was learnt that names this region is no better
// than what the session says.
func (t *Transport) giveUp(x *exchange) (*http.Response, error) {
	if tenant := x.d.Identity.Tenant; tenant != "" {
		t.learnt.forget(tenant, x.d.Home)
	}
	return nil, &failure{kind: misdirected, detail: detailTwice}
}

// replay sends the request to home. Its upstreams are tried in turn for as long
// as nothing was sent: reverse_proxy has chosen among those of another region.
func (t *Transport) replay(x *exchange, req *http.Request, home string) (*http.Response, error) {
	d := x.d
	d.Region(home, decision.ReasonLearnt)
	d.Replayed, x.instead = true, ""
	if d.Retarget != nil {
		d.Rewritten = d.Retarget(home)
	}
	dials := t.dials[home]
	for i, dial := range dials {
		res, a, err := t.send(x, t.redirect(req, dial))
		var f *failure
		if errors.As(err, &f) && f.kind == unsent && i < len(dials)-1 {
			continue
		}
		if err == nil && res.StatusCode == http.StatusMisdirectedRequest {
			discard(res, a)
			return t.giveUp(x)
		}
		return res, err
	}
	return nil, &failure{kind: unsent, detail: detailUnknown} // not reachable: a region has upstreams
}

// dialInfoCtxKey is where Caddy's http transport looks for the address.
const dialInfoCtxKey caddy.CtxKey = "reverse_proxy.dial_info"

// proxyProtocolVar is where it looks for what a connection tells of its client.
const proxyProtocolVar = "reverse_proxy.proxy_protocol_info"

// redirect points a request to another upstream, as reverse_proxy had pointed it
// to the first.
func (t *Transport) redirect(req *http.Request, dial reverseproxy.DialInfo) *http.Request {
	first, _ := reverseproxy.GetDialInfo(req.Context())
	out := req.WithContext(context.WithValue(req.Context(), dialInfoCtxKey, dial))
	u := *req.URL
	u.Host = dial.Address
	if u.Scheme == "http" && dial.Port == "80" || u.Scheme == "https" && dial.Port == "443" {
		u.Host = dial.Host
	}
	if info, ok := caddyhttp.GetVar(req.Context(), proxyProtocolVar).(reverseproxy.ProxyProtocolInfo); ok && t.ProxyProtocolEnabled() {
		// A connection tells its client's address once: no other client's request
		// may find it in the pool (as in reverse_proxy's directRequest).
		u.Host = url.QueryEscape(info.AddrPort.String() + "->" + u.Host)
	}
	out.URL = &u
	if out.Host == first.Address { // over TLS, Caddy asks an upstream by its own name
		out.Host = dial.Address
	}
	if repl, ok := req.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("http.reverse_proxy.upstream.address", dial.String())
		repl.Set("http.reverse_proxy.upstream.hostport", dial.Address)
		repl.Set("http.reverse_proxy.upstream.host", dial.Host)
		repl.Set("http.reverse_proxy.upstream.port", dial.Port)
	}
	return out
}
