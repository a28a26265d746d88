package region

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Defaults of the transport. See handoff.EdgeResponseTimeout for the fourth.
const (
	// DefaultReplayLimit is how much of a body is kept.
	DefaultReplayLimit = 1 << 20
	// DefaultDialTimeout bounds a connection's beginning.
	DefaultDialTimeout = time.Second
	// DefaultHandshakeTimeout bounds its TLS handshake, where there is one.
	DefaultHandshakeTimeout = 3 * time.Second
)

// maxReplayLimit keeps a slip of the pen from filling the memory: every upload
// under way may keep that much.
const maxReplayLimit = 64 << 20

// Transport is the transport edge of reverse_proxy: Caddy's http transport, with
// the hand-off around it. It needs dynamic edge_region beside it.
//
// Last of all, after reverse_proxy has taken out what a client named in
// Connection and after header_up, it sets the request id, the tenant, the home
// region, the assertion and, where the request is traced, the trace of its own
// client span; it deletes whatever else only the edge may set, and the session's
// cookie and bearer token. So a region sees each of them once, and only from here.
// Out of the answer it takes the same names: they are the region's word to the
// edge, or nobody's.
//
// A 421 that names another region is replayed there, once, whatever the method:
// nothing was done. No 421 reaches a client.
//
// A request that a region may have seen is never sent twice, unless its method is
// safe: not by net/http, and not by lb_retries.
//
// All options of the http transport are options here too. Other defaults:
// dial_timeout 1s, response_header_timeout 10s (handoff.EdgeResponseTimeout),
// tls_timeout 3s, network_proxy none. versions 3 is refused: HTTP/3 in Caddy
// knows no response_header_timeout.
type Transport struct {
	reverseproxy.HTTPTransport

	// ReplayLimit is how many bytes of a request's body are kept while it is
	// sent, for a replay. A longer one is sent all the same, and a 421 for it is
	// answered with 503. Default: 1 MiB.
	ReplayLimit int64 `json:"replay_limit,omitempty"`

	app        *edge.App
	table      table
	learnt     *learnt
	assertions *assertions
	signer     func() (string, error) // names the POP and the key that signs
	dials      map[string][]reverseproxy.DialInfo
	next       http.RoundTripper
}

// CaddyModule returns the module's information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.edge", New: func() caddy.Module { return new(Transport) }}
}

// Provision sets the defaults and makes the http transport.
func (t *Transport) Provision(ctx caddy.Context) error {
	var err error
	if t.app, err = edgeApp(ctx, "transport edge"); err != nil {
		return err
	}
	if err := t.check(); err != nil {
		return fmt.Errorf("transport edge: %w", err)
	}
	if proxy := proxyOf(ctx); proxy != nil && sourceOf(proxy.DynamicUpstreamsRaw) != "edge_region" {
		return errors.New("transport edge: reverse_proxy needs dynamic edge_region too: an assertion is for a region and for nobody else")
	}
	t.table = t.app.TenantHome
	if t.learnt, err = sharedLearnt(t.app); err != nil {
		return err
	}
	if t.assertions, err = sharedAssertions(t.app); err != nil {
		return err
	}
	t.signer = sync.OnceValues(func() (string, error) { // keys are read when the app starts
		key, err := t.app.SigningKey()
		return t.app.POP + " " + key, err
	})
	if err := t.findDials(); err != nil {
		return err
	}
	t.defaults()
	t.next = &t.HTTPTransport
	t.app.CheckThrough(t.ask)
	return t.HTTPTransport.Provision(ctx)
}

// check refuses what cannot work.
func (t *Transport) check() error {
	for _, v := range t.Versions {
		if v == "3" {
			return errors.New("versions 3: HTTP/3 has no response_header_timeout, so that a region that hangs would hold requests for ever; use 1.1, 2 or h2c")
		}
	}
	switch {
	case t.ReplayLimit < 0 || t.ReplayLimit > maxReplayLimit:
		return fmt.Errorf("replay_limit %d: from 1 byte to %d MiB can be kept", t.ReplayLimit, maxReplayLimit>>20)
	case t.DialTimeout < 0:
		return fmt.Errorf("dial_timeout %s: a positive duration is needed, such as 1s", time.Duration(t.DialTimeout))
	case t.ResponseHeaderTimeout < 0:
		return fmt.Errorf("response_header_timeout %s: a positive duration is needed, such as 10s", time.Duration(t.ResponseHeaderTimeout))
	}
	return nil
}

func (t *Transport) defaults() {
	if t.ReplayLimit == 0 {
		t.ReplayLimit = DefaultReplayLimit
	}
	if t.DialTimeout == 0 {
		t.DialTimeout = caddy.Duration(DefaultDialTimeout)
	}
	if t.ResponseHeaderTimeout == 0 {
		t.ResponseHeaderTimeout = caddy.Duration(handoff.EdgeResponseTimeout)
	}
	if t.TLS != nil && t.TLS.HandshakeTimeout == 0 {
		t.TLS.HandshakeTimeout = caddy.Duration(DefaultHandshakeTimeout)
	}
	if t.NetworkProxyRaw == nil && t.ForwardProxyURL == "" {
		t.NetworkProxyRaw = json.RawMessage(`{"from":"none"}`)
	}
}

// sourceOf names the upstream source that raw configures.
func sourceOf(raw json.RawMessage) string {
	var module struct {
		Source string `json:"source"`
	}
	if json.Unmarshal(raw, &module) != nil {
		return ""
	}
	return module.Source
}

// findDials reads the regions' addresses, for replays: reverse_proxy has read
// those of the region that was asked first.
func (t *Transport) findDials() error {
	t.dials = map[string][]reverseproxy.DialInfo{}
	for _, r := range t.app.Regions {
		for _, upstream := range r.Upstreams {
			address, err := caddy.ParseNetworkAddress(upstream)
			if err != nil {
				return fmt.Errorf("region %s: upstream %q: %w", r.Name, upstream, err)
			}
			t.dials[r.Name] = append(t.dials[r.Name], reverseproxy.DialInfo{
				Network: address.Network,
				Address: address.JoinHostPort(0),
				Host:    address.Host,
				Port:    fmt.Sprint(address.StartPort),
			})
		}
	}
	return nil
}

var (
	errNoRegion = errors.New("edge_region has not seen this request: it must stand before reverse_proxy with transport edge")
	errAgain    = errors.New("not sent again: the attempt before may have been carried out")
	errAnswered = errors.New("the region answered, and lb_retry_match put the answer aside")
	errStrayed  = errors.New("another client left, and the connection was closed that was this request's by then")

	// answered bars the way to an unsafe attempt after one that had an answer.
	answered = &failure{kind: broken, cause: errAnswered}
)

// RoundTrip sends the request to the home region, and once more to another if
// that one says that it is at home there.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchangeOf(req.Context())
	if x == nil {
		return nil, caddyhttp.Error(http.StatusInternalServerError, errNoRegion)
	}
	x.begin(req, int(t.ReplayLimit))
	if x.failed != nil && x.failed.sent() && x.writes(req.Method) {
		return nil, &failure{kind: x.failed.kind, cause: fmt.Errorf("%w: %w", errAgain, x.failed.cause)}
	}
	res, a, err := t.sendHome(x, req)
	if err != nil && x.mayFallBack(req, err) {
		res, a, err = t.fallBack(x, req, err)
	}
	if err == nil && res.StatusCode == http.StatusMisdirectedRequest {
		res, err = t.correct(x, req, a, res)
	}
	if err != nil {
		return nil, err
	}
	x.failed = answered // should reverse_proxy not like the answer and come again
	x.sign(res.Header)
	keepSession(res.Header, t.app.SessionCookie)
	return res, nil
}

// sign puts the edge's word in place of the region's into an answer's header.
func (x *exchange) sign(h http.Header) {
	wrote := h[handoff.HeaderWrote]
	dropProtected(h)
	if x.d.ServedBy = x.instead; x.instead != "" {
		h[handoff.HeaderServedBy] = []string{x.instead}
		return // whatever it wrote is not in the home region's log
	}
	if len(wrote) == 1 && handoff.ValidPosition(wrote[0]) {
		x.marks.Keep(x.d, x.tls, h, wrote[0])
	}
}

// begin makes ready for an attempt of reverse_proxy, the first or a retry.
func (x *exchange) begin(req *http.Request, limit int) {
	x.selecting = false
	if x.url == req.URL {
		return
	}
	x.url, x.failed, x.body = req.URL, nil, nil
	if req.Body != nil && req.Body != http.NoBody {
		x.body = newBody(req.Body, limit)
	}
}

// attempt is one request on the wire, and its context.
type attempt struct {
	context.Context // ends with the attempt
	cancel          context.CancelCauseFunc

	wrote  atomic.Bool // the header has left net/http
	watch  *watch
	span   *span
	hooks  httptrace.ClientTrace
	hooked context.Context // has the hooks, and nothing else
}

// Value finds the attempt's own hooks before those of the request, which they
// call: httptrace.WithClientTrace would put the two together by reflection.
func (a *attempt) Value(key any) any {
	if v := a.hooked.Value(key); v != nil {
		return v
	}
	return a.Context.Value(key)
}

// send makes one attempt at the region that the exchange names.
func (t *Transport) send(x *exchange, req *http.Request) (*http.Response, *attempt, error) {
	e, err := t.errand(x, req)
	if err != nil {
		return nil, nil, err
	}
	a := new(attempt)
	a.Context, a.cancel = context.WithCancelCause(req.Context())
	a.Context, a.span = startSpan(a.Context, x, req)
	a.listen(httptrace.ContextClientTrace(req.Context()), x.body != nil)
	out := req.WithContext(a)
	if err := t.fill(out, x, a); err != nil {
		e.abandon()
		a.span.fail(err)
		a.cancel(nil)
		return nil, nil, err
	}

	res, err := t.next.RoundTrip(out)
	if err != nil && decision.Strayed(a, err) {
		if x.body == nil && !x.writes(req.Method) {
			res, err = t.next.RoundTrip(out)
		}
		if err != nil && decision.Strayed(a, err) {
			err = errStrayed // or the client would be told that it is the one who left
		}
	}

	if a.watch != nil {
		a.watch.stop()
	}
	if err != nil {
		err = x.fail(req, a, context.Cause(a.Context), err)
		e.failed(err, x.body == nil || x.body.whole())
		a.span.fail(err)
		a.cancel(nil)
		return nil, nil, err
	}
	e.answered(res)
	a.span.answered(res)
	return res, a, nil
}

// fill makes out what the region receives.
func (t *Transport) fill(out *http.Request, x *exchange, a *attempt) error {
	if x.d.Replayed && x.d.Retarget != nil {
		if err := retarget(out, x.d.Retarget(x.d.Home)); err != nil {
			return err
		}
	}
	if x.body != nil {
		a.watch = &watch{limit: time.Duration(t.ResponseHeaderTimeout), expire: a.cancel}
		body, err := x.body.open(a.watch)
		if err != nil {
			return &failure{kind: broken, cause: err}
		}
		out.Body = body
		out.GetBody = func() (io.ReadCloser, error) { return x.body.open(a.watch) }
	}
	if x.body == nil && x.writes(out.Method) && !handoff.Unsafe(out.Method) && len(out.Header["Upgrade"]) == 0 {
		out.Body = io.NopCloser(strings.NewReader("")) // net/http sends no GET again that has a body
	}
	assertion, err := t.assertion(x, out.Method, out.URL.RequestURI())
	if err != nil {
		return err
	}
	_, x.keyed = out.Header[handoff.HeaderIdempotencyKey]
	out.Header = stamped(a.Context, out, x, assertion, t.app.SessionCookie)
	return nil
}

// retarget makes out ask for target. The URL is the whole request's, so that it
// takes another.
func retarget(out *http.Request, target string) error {
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return fmt.Errorf("ask the region for another path: %w", err)
	}
	u := *out.URL
	u.Path, u.RawPath, u.RawQuery, u.ForceQuery = parsed.Path, parsed.RawPath, parsed.RawQuery, parsed.ForceQuery
	out.URL = &u
	return nil
}

// listen hears how far net/http gets, and tells others, which is reverse_proxy's
// own trace. Nil: there is none.
func (a *attempt) listen(others *httptrace.ClientTrace, hasBody bool) {
	if others != nil {
		a.hooks = *others
	}
	a.hooks.WroteHeaders = a.wroteHeaders(a.hooks.WroteHeaders)
	if hasBody {
		a.hooks.WroteRequest = a.wroteRequest(a.hooks.WroteRequest)
	}
	if tell := a.hooks.Got1xxResponse; tell != nil {
		a.hooks.Got1xxResponse = func(status int, header textproto.MIMEHeader) error {
			dropProtected(http.Header(header)) // before reverse_proxy passes it on
			return tell(status, header)
		}
	}
	a.hooked = httptrace.WithClientTrace(context.Background(), &a.hooks)
}

func (a *attempt) wroteHeaders(tell func()) func() {
	return func() {
		a.wrote.Store(true)
		if tell != nil {
			tell()
		}
	}
}

func (a *attempt) wroteRequest(tell func(httptrace.WroteRequestInfo)) func(httptrace.WroteRequestInfo) {
	return func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			a.watch.stop()
		}
		if tell != nil {
			tell(info)
		}
	}
}

// fail says what became of an attempt that had no answer. cause is why its
// context ended, if it did.
func (x *exchange) fail(req *http.Request, a *attempt, cause, err error) error {
	if x.body != nil { // asked first: net/http ends a request whose body came too slowly
		if req.Context().Err() != nil {
			x.body.await()
		}
		if fault := x.body.failed(); fault != nil {
			return clientFault(fault)
		}
	}
	if req.Context().Err() != nil && errors.Is(req.Context().Err(), context.Canceled) {
		return gone(err)
	}
	var dial reverseproxy.DialError
	isDial := errors.As(err, &dial)
	sent := a.wrote.Load()
	if isDial && !handoff.Unsafe(req.Method) && !x.write {
		sent = false // net/http found a closed connection first, and then none at all
	}
	f := &failure{kind: broken, cause: err}
	var timeout net.Error
	switch {
	case !sent:
		f.kind = unsent
	case errors.Is(cause, errStalled):
		f.kind, f.cause = timedOut, errStalled
	case errors.As(err, &timeout) && timeout.Timeout():
		f.kind = timedOut
	}
	x.failed = f
	return f
}

// As lets reverse_proxy try another upstream of the region for what was not
// sent, as it does when it could not dial.
func (f *failure) As(target any) bool {
	dial, ok := target.(*reverseproxy.DialError)
	if !ok || f.kind != unsent || f.cause == nil {
		return false
	}
	*dial = reverseproxy.NewDialError(f.cause)
	return true
}

// gone is the error for a client that left: reverse_proxy makes it 499, and
// holds it against no upstream.
func gone(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", context.Canceled, err)
}

// clientFault is the error for a body that could not be read from the client.
func clientFault(err error) error {
	var handled caddyhttp.HandlerError
	var tooLarge *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &handled): // request_body's limit, for example
		return err
	case errors.As(err, &tooLarge):
		return caddyhttp.Error(http.StatusRequestEntityTooLarge, err)
	case errors.As(err, &network) && network.Timeout():
		return caddyhttp.Error(http.StatusRequestTimeout, err)
	case errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF):
		return gone(err)
	}
	return caddyhttp.Error(http.StatusBadRequest, err)
}

var ( // interface guards
	_ caddy.Provisioner                                = (*Transport)(nil)
	_ caddy.CleanerUpper                               = (*Transport)(nil)
	_ caddyfile.Unmarshaler                            = (*Transport)(nil)
	_ http.RoundTripper                                = (*Transport)(nil)
	_ reverseproxy.TLSTransport                        = (*Transport)(nil)
	_ reverseproxy.H2CTransport                        = (*Transport)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*Transport)(nil)
	_ reverseproxy.RequestHeaderOpsTransport           = (*Transport)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*Transport)(nil)
)
