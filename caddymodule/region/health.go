package region

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
)

// errLeftAlone is the cause of a request that nothing was sent of, to an upstream
// that is down or left alone.
var errLeftAlone = errors.New("the upstream is down or left alone for a while, see caddy edge regions")

// sendHome sends the request to the upstream that reverse_proxy chose, and, for as
// long as nothing was sent, to the region's others.
func (t *Transport) sendHome(x *exchange, req *http.Request) (*http.Response, *attempt, error) {
	home := x.region()
	res, a, err := t.send(x, req)
	if err == nil || len(t.dials[home]) < 2 || !unsentOnly(err) {
		return res, a, err
	}
	first, _ := reverseproxy.GetDialInfo(req.Context())
	for _, dial := range t.dials[home] {
		if dial.Address == first.Address && dial.Network == first.Network {
			continue
		}
		if res, a, err = t.send(x, t.redirect(req, dial)); err == nil || !unsentOnly(err) {
			return res, a, err
		}
	}
	return nil, nil, err
}

func unsentOnly(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.kind == unsent
}

// errand is a request to an upstream whose health hears how it ends.
type errand struct {
	to     *edge.Upstream // nil: nobody's health
	ticket health.Ticket
}

// errand asks whether the request may be sent. It fails where the upstream is to
// be left alone.
func (t *Transport) errand(x *exchange, req *http.Request) (e errand, err error) {
	dial, ok := reverseproxy.GetDialInfo(req.Context())
	region := t.app.Region(x.region())
	if !ok || region == nil {
		return e, nil
	}
	if e.to = region.At(dial.Network, dial.Address); e.to == nil {
		return e, nil
	}
	if e.ticket, ok = e.to.Begin(); !ok {
		return e, &failure{kind: unsent, cause: errLeftAlone}
	}
	return e, nil
}

// abandon says that nothing was learnt of the upstream.
func (e errand) abandon() {
	if e.to != nil {
		e.to.Abandoned(e.ticket)
	}
}

// answered says that an answer came. One that stands for the upstream not having
// answered is a failure; what the region itself says of one request, in a problem,
// is not: whoever provokes that must not be able to keep others out.
func (e errand) answered(res *http.Response) {
	switch {
	case e.to == nil:
	case res.StatusCode >= http.StatusBadGateway && res.StatusCode <= http.StatusGatewayTimeout && !isProblem(res.Header):
		e.to.Failed(e.ticket, edge.NoGateway)
	default:
		e.to.Answered(e.ticket)
	}
}

func isProblem(h http.Header) bool {
	const media = "application/problem+json"
	lines := h["Content-Type"]
	return len(lines) == 1 && len(lines[0]) >= len(media) && strings.EqualFold(lines[0][:len(media)], media)
}

// failed says that none came. What is the client's doing, or our own, says nothing
// of the upstream. Nor does a connection that ended before the whole request was
// sent: that is also how a body is refused that is too long, which anybody can send.
func (e errand) failed(err error, whole bool) {
	if e.to == nil {
		return
	}
	var f *failure
	switch {
	case !errors.As(err, &f), errors.Is(err, errStrayed):
	case f.kind == broken && whole:
		e.to.Failed(e.ticket, edge.BrokeOff)
		return
	case f.kind == timedOut:
		e.to.Failed(e.ticket, edge.TookTooLong)
		return
	case f.kind == unsent && noConnection(f.cause):
		e.to.Failed(e.ticket, edge.Unreachable)
		return
	}
	e.to.Abandoned(e.ticket)
}

// closedUnasked is net/http's error, which it does not export, for a connection that
// the other side closed before a byte of the request was written: that of a load
// balancer, for one, with nothing behind it.
const closedUnasked = "http: server closed idle connection"

// noConnection reports whether err is the network's: net/http also refuses what it
// cannot write, a field with a line break for one.
func noConnection(err error) bool {
	var dial reverseproxy.DialError
	var network net.Error
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &dial) || errors.As(err, &network) || errors.As(err, &certificate) || errors.As(err, &record) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || err.Error() == closedUnasked
}

// ask sends the edge app's checks over the connections that requests have.
func (t *Transport) ask(r *http.Request, network, address string) (*http.Response, error) {
	ctx := context.WithValue(r.Context(), dialInfoCtxKey, reverseproxy.DialInfo{Network: network, Address: address})
	if t.ProxyProtocolEnabled() {
		self := reverseproxy.ProxyProtocolInfo{AddrPort: netip.AddrPortFrom(netip.IPv4Unspecified(), 0)} // no client's
		ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{proxyProtocolVar: self})
		r.Close = true
	}
	r = r.WithContext(ctx)
	r.URL.Host, r.Host = address, address
	if strings.HasPrefix(network, "unix") {
		r.Host = "localhost"
	}
	return t.next.RoundTrip(r)
}
