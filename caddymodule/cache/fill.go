package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// fill is one fetch, apart from the client that caused it. Whoever waits for it reads
// what is set before ready is closed, and the stream.
//
//	waiting ──► streaming ──► stored      everybody reads, as it arrives
//	   │  │         └───────► cut         everybody's answer breaks off
//	   │  ├──► renewed                    a 304: everybody gets the stored answer
//	   │  ├──► passing                    not to be stored: the one who caused it reads,
//	   │  │                               the others go each alone, and so do those who
//	   │  │                               come in the next minutes; but an error of the
//	   │  │                               origin that is nobody's own is for all who wait
//	   │  └──► failed                     everybody gets what is stale, or an error
//	   └─────► (nobody is left waiting: a fetch for one ends)
type fill struct {
	c      *Cache
	key    string
	flight string // the name under which others find it
	tags   tags
	policy string
	sent   http.Header // as the origin gets it, without conditions
	leader *question   // who caused it, to be told from others; nil: the edge itself
	alone  bool        // nobody else may wait for it

	ticket *store.Ticket
	stream *store.Stream
	next   caddyhttp.Handler
	base   *http.Request // what each attempt is made of
	fork   *decision.Decision
	groups [2]map[string]struct{} // of routes that were taken: at first, and by now
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   *time.Timer

	object *store.Object   // what is validated; nil: nothing is
	others []*store.Object // the other variants
	wrote  bool            // the client has written lately: no fallback may answer

	mu      sync.Mutex
	interim []interim
	news    chan struct{}

	ready    chan struct{}
	decided  bool // ready is closed; the fill's own
	again    bool // the 304 taught nothing
	strayed  bool // another's end met the first attempt, see decision.Strayed
	status   int
	header   http.Header
	lines    *lines
	length   int64 // of the body, by Content-Length; -1: not said
	stored   rfc9111.Stored
	timing   rfc9111.Timing
	storable bool
	forAll   bool // those who wait may have it: it is storable, or an error of nobody's own
	why      string
	vary     []string
	selects  string
	part     *rfc9111.ContentRange
	renewed  *store.Object
	own      bool // what renewed is the leader's alone
	err      error
	route    decision.Route

	last    http.Header // of the writer that the handlers had
	trailer http.Header // set before the stream is done
}

// interim is an informational answer (RFC 9110, section 15.2).
type interim struct {
	status int
	header http.Header
}

var (
	errIdle    = fmt.Errorf("%w: the origin sent nothing for too long", decision.ErrGivenUp)
	errLeft    = fmt.Errorf("%w: nobody waits for the answer", decision.ErrGivenUp)
	errShort   = errors.New("the body is not as long as Content-Length says")
	errStrayed = errors.New("another request was ended, and the connection was closed that was this one's by then")
)

// newFill makes the fetch for a question ready. It comes in the client's goroutine:
// nothing that belongs to the client's request is read after it.
func (q *question) newFill(next caddyhttp.Handler) *fill {
	c := q.c
	f := &fill{
		c: c, key: q.key, tags: q.tags, policy: q.policy, sent: q.sent(), leader: q, next: next,
		ticket: c.shared.store.Begin(), stream: c.shared.store.Stream(),
		object: q.found.object, others: q.found.others, wrote: !q.wrote.IsZero() || q.d.RecentWrite,
		ready: make(chan struct{}), news: make(chan struct{}), length: -1,
	}
	r := q.r
	f.ctx, f.cancel = context.WithCancelCause(caddyhttp.ContextWithIdleTimeouts(context.WithoutCancel(r.Context()), nil, nil))
	u := *r.URL
	u.RawQuery = q.query
	f.base = &http.Request{
		Method: http.MethodGet, URL: &u, Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
		Header: f.sent, Body: http.NoBody, Host: f.tags.host, RemoteAddr: r.RemoteAddr, RequestURI: f.tags.uri, TLS: r.TLS,
	}
	f.prepare(q)
	return f
}

// prepare makes the request of an attempt that shares nothing that can change with the
// client's: its own placeholders, variables and groups, as they are now.
func (f *fill) prepare(q *question) {
	r := q.r
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	groups, _ := r.Context().Value(caddy.CtxKey("route_group")).(map[string]struct{})
	f.groups[0], f.groups[1] = maps.Clone(groups), maps.Clone(groups)

	out := f.base.WithContext(f.ctx)
	repl := caddy.NewReplacer()
	out = caddyhttp.PrepareRequest(out, repl, &writer{f: f, header: http.Header{}}, server)
	own := out.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	for name, value := range vars {
		switch name {
		case "uuid", "extended_connect_websocket_body": // the client's alone
		default:
			own[name] = value
		}
	}
	ctx := context.WithValue(out.Context(), caddyhttp.OriginalRequestCtxKey, q.original())
	if groups != nil {
		ctx = context.WithValue(ctx, caddy.CtxKey("route_group"), f.groups[1])
	}
	*out = *out.WithContext(ctx) // the same pointer: the placeholders know it
	f.base = out

	session := [sha256.Size]byte{}
	switch q.policy {
	case PolicyTenant:
		session = sha256.Sum256([]byte("tenant " + q.who.Tenant))
	case PolicyUser:
		session = sha256.Sum256(fmt.Appendf(nil, "user %q", q.who))
	}
	f.fork = q.d.Fork(out, q.who, session)
	f.fork.RecentWrite = f.wrote
}

// original is the request as it was before rewrites, without what is in no key: the
// placeholders {http.request.orig_*} say no more than that.
func (q *question) original() http.Request {
	o, _ := q.r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	o.Header, o.Body = q.sent(), http.NoBody
	if o.URL == nil {
		return o
	}
	u := *o.URL
	if u.RawQuery == q.r.URL.RawQuery {
		u.RawQuery = q.query
	} else { // a rewrite stands before, which has put another query into the key
		u.RawQuery, u.ForceQuery = "", false
	}
	o.URL, o.RequestURI, o.Host = &u, u.RequestURI(), q.tags.host
	return o
}

// attempt is the request of one attempt: conditional, where something can be
// validated.
func (f *fill) attempt() *http.Request {
	r := f.base
	r.Header = maps.Clone(f.sent)
	if f.object != nil {
		all := make([]*rfc9111.Stored, 0, 1+len(f.others))
		all = append(all, &f.object.Stored)
		for _, o := range f.others {
			all = append(all, &o.Stored)
		}
		if !rfc9111.Conditional(r.Header, all...) {
			f.object, f.others = nil, nil
		}
	}
	return r
}

// run fetches. It is the fill's goroutine.
func (f *fill) run() {
	f.c.shared.began(f)
	defer f.c.shared.ended(f)
	defer f.finish()
	f.idle = time.AfterFunc(f.c.limits.idle, func() { f.cancel(errIdle) })
	defer f.idle.Stop()
	target, path := *f.base.URL, f.base.RequestURI
	err := f.once()
	for tries := 0; tries < 2 && (f.again && err == nil || errors.Is(err, errStrayed)); tries++ {
		if f.again {
			f.object, f.others, f.again = nil, nil, false
		}
		f.base.URL, f.base.RequestURI = new(url.URL), path
		*f.base.URL = target
		clear(f.groups[1]) // or the routes that were taken would be passed by
		maps.Copy(f.groups[1], f.groups[0])
		err = f.once()
	}
	switch {
	case f.decided:
		f.end(err)
	case err == nil: // nobody wrote anything: net/http would answer 200
		w := &writer{f: f, header: http.Header{}}
		w.WriteHeader(http.StatusOK)
		f.end(nil)
	default:
		f.fail(err)
	}
}

// once asks the handlers behind the cache. A handler that breaks off panics
// (http.ErrAbortHandler), as reverse_proxy does in the midst of a body.
func (f *fill) once() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = store.ErrCut
			if p != http.ErrAbortHandler {
				err = fmt.Errorf("%w: %v", store.ErrCut, p)
			}
		}
	}()
	f.stored.Requested = time.Now()
	f.last = http.Header{}
	w := &writer{f: f, header: f.last}
	err = f.next.ServeHTTP(w, f.attempt())
	switch cause := context.Cause(f.ctx); {
	case cause != nil && err == nil:
		err = cause // reverse_proxy answers 499 then, which is nobody's answer
	case cause == nil && !f.decided && (w.strayed || err != nil && decision.Strayed(f.ctx, err)):
		f.strayed, err = true, caddyhttp.Error(http.StatusBadGateway, errStrayed)
	}
	return err
}

// fail ends a fill that has no answer.
func (f *fill) fail(err error) {
	if cause := context.Cause(f.ctx); cause != nil {
		err = caddyhttp.Error(http.StatusGatewayTimeout, cause)
	} else if errors.Is(err, store.ErrCut) {
		err = caddyhttp.Error(http.StatusBadGateway, err)
	}
	f.err = err
	f.c.shared.land(f)
	f.decide()
	f.stream.Done(err)
}

// decide has those who wait see what is set.
func (f *fill) decide() {
	f.route = f.fork.Route()
	f.decided = true
	close(f.ready)
}

// discard ends a fill that was never run. Whoever has met it meanwhile looks again.
func (f *fill) discard() {
	f.err = errLeft
	f.decide()
	f.stream.Done(errLeft)
	f.ticket.End()
	f.cancel(nil)
}

// finish is the end of every fill, whatever happened.
func (f *fill) finish() {
	if p := recover(); p != nil { // not reachable: once recovers
		f.err = fmt.Errorf("edge_cache: %v", p)
	}
	if !f.decided {
		if f.err == nil {
			f.err = store.ErrCut
		}
		f.decide()
	}
	f.stream.Done(store.ErrCut) // does nothing after another
	f.c.shared.land(f)
	f.stream.Free()
	f.ticket.End()
	f.cancel(nil)
}

// end ends the body: it is stored where all of it came, and may be.
func (f *fill) end(err error) {
	if f.renewed != nil {
		f.stream.Done(nil)
		return
	}
	if err == nil && f.length >= 0 && hasBody(f.status) && f.stream.Size() != f.length {
		err = errShort
	}
	whole := err == nil && f.storable
	large := whole && f.isLarge()
	if whole && !large {
		f.keep()
	}
	if !large { // whoever asks once he has all of it finds what is stored, and no fetch
		f.c.shared.land(f)
	}
	f.trailer = trailerOf(f.last)
	f.stream.Done(err)
	if large { // a disk takes its time: whoever asks meanwhile reads the stream
		f.keep()
	}
}

// trailerOf gives the fields that came after the body: those that were announced, and
// those that net/http lets a handler add (http.TrailerPrefix).
func trailerOf(h http.Header) http.Header {
	var t http.Header
	add := func(field string, values []string) {
		if t == nil {
			t = http.Header{}
		}
		t[field] = values
	}
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values, ok := h[name]; ok {
				add(name, values)
			}
		}
	}
	for field, values := range h {
		if strings.HasPrefix(field, http.TrailerPrefix) {
			add(field, values)
		}
	}
	return t
}

// keep stores what came.
func (f *fill) keep() {
	body, ok := f.stream.Body()
	if !ok || body.Size > f.c.limits.maxObject {
		f.c.shared.pass(f.key, whySize)
		return
	}
	if f.length < 0 && f.viaOld() {
		f.c.shared.forget(f.key, whyLength)
		return
	}
	if f.isLarge() {
		body = f.toDisk(body)
	}
	o := f.c.object(&f.stored, f.timing, body)
	o.Vary, o.Select, o.Part, o.Ticket = f.vary, f.selects, f.part, f.ticket
	o.Tags = store.Tags{Tenant: f.tags.tenant, Host: f.tags.host, URI: f.tags.uri, Groups: rfc9111.Groups(f.stored.Header, "Cache-Groups")}
	if f.part != nil {
		o = f.c.combined(f.key, o)
	}
	if !f.c.shared.store.Put(f.key, o) {
		f.c.shared.forget(f.key, whyRoom)
		return
	}
	f.c.shared.stored(f.key)
}

// viaOld reports whether the origin speaks HTTP/1.0, where the end of a body without a
// length cannot be told from a connection that broke.
func (f *fill) viaOld() bool {
	via := f.header["Via"]
	return len(via) > 0 && strings.HasPrefix(via[len(via)-1], "1.0 ")
}

// object makes what is stored of an answer.
func (c *Cache) object(s *rfc9111.Stored, t rfc9111.Timing, body store.Body) *store.Object {
	o := &store.Object{Stored: *s, Timing: t, Body: body}
	l := linesOf(o.Header)
	o.Lines, o.Extra = l, int64(len(l.values)*16+len(l.names)*24)
	return o
}

// reused reports whether the answer is used for another than who caused it.
func (f *fill) reused(q *question) bool { return f.leader != q }

// unkeep has a fetch go on for as long as somebody reads it, and no longer.
func (f *fill) unkeep() {
	f.stream.Pass()
	if f.stream.Unread() {
		f.cancel(errLeft)
	}
}
