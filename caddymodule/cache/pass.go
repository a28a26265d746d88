package cache

import (
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// pass hands the request on as it is. The answer to one that may change something
// makes what is stored of its target invalid (RFC 9111, section 4.4).
func (c *Cache) pass(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, d *decision.Decision, q *question, why string) error {
	q.passed(why)
	if why == whyMethod {
		d.OnAnswer(func(status int, h http.Header) { q.invalidate(status, h) })
		if r.Method == http.MethodPost && q.speaksForAll() {
			return q.post(w, next)
		}
	}
	return next.ServeHTTP(w, r)
}

// speaksForAll reports whether the request, as it came, is what would be sent for all who
// share its key: with all of its fields, and in nobody else's name. Of another's answer
// nothing is learnt.
func (q *question) speaksForAll() bool {
	switch q.policy {
	case PolicyPublic:
		return q.c.letter && !q.d.SignedIn()
	case PolicyUser:
		return q.c.letter && q.d.SignedIn()
	}
	return false
}

// post stores the answer to a POST that is a representation of the target itself, for
// later GETs (RFC 9110, section 9.3.3). Such answers are rare, and small.
func (q *question) post(w http.ResponseWriter, next caddyhttp.Handler) error {
	q.whose()
	q.key = q.makeKey()
	t := &tee{
		ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, q: q,
		fill: &fill{c: q.c, key: q.key, tags: q.tags, sent: q.sent(), base: q.r, stream: q.c.shared.store.Stream(), stored: rfc9111.Stored{Requested: q.now}},
	}
	defer t.fill.stream.Free()
	err := next.ServeHTTP(t, q.r)
	if f := t.fill; err == nil && f.storable && (f.length < 0 || f.length == f.stream.Size()) {
		f.keep()
	}
	if t.fill.ticket != nil {
		t.fill.ticket.End()
	}
	return err
}

// tee keeps what is written, where it may be stored.
type tee struct {
	*caddyhttp.ResponseWriterWrapper
	q    *question
	fill *fill
	done bool
}

func (t *tee) WriteHeader(status int) {
	if f := t.fill; status >= 200 && !t.done {
		t.done = true
		f.header, f.length = t.Header().Clone(), lengthOf(t.Header())
		f.stored = rfc9111.Stored{Status: status, Header: f.header, Requested: f.stored.Requested, Received: time.Now()}
		if f.why = f.judge(false); f.why == "" && f.part == nil {
			f.storable, f.stored.Header = true, f.storables(f.header, f.stored.Received)
			f.vary = rfc9111.VaryFields(f.header)
			f.selects = rfc9111.Secondary(f.vary, f.sent, f.c.normalForm)
		}
	}
	t.ResponseWriterWrapper.WriteHeader(status)
	if t.fill.storable && t.fill.ticket == nil {
		t.fill.ticket = t.q.c.shared.store.Begin() // after the POST has made invalid what was there
	}
}

func (t *tee) Write(p []byte) (int, error) {
	if !t.done {
		t.WriteHeader(http.StatusOK)
	}
	if f := t.fill; f.storable && (f.stream.Size()+int64(len(p)) > f.c.limits.maxObject || f.stream.Write(t.q.r.Context(), p) != nil) {
		f.storable = false
	}
	return t.ResponseWriterWrapper.Write(p)
}

// ReadFrom copies through Write.
func (t *tee) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{t}, r) }

// invalidate purges what an answer to an unsafe request has made invalid: of everybody,
// and of the tenant whose session asked. What other tenants have stored is not this
// client's to touch.
func (q *question) invalidate(status int, h http.Header) {
	if !rfc9111.Invalidates(q.r.Method, status) {
		return
	}
	tenants := []string{""}
	if tenant := q.d.Identity.Tenant; tenant != "" {
		tenants = append(tenants, tenant)
	}
	targets := append([]string{q.tags.uri}, rfc9111.AlsoInvalid(q.r, h)...)
	groups := rfc9111.Groups(h, "Cache-Group-Invalidation")
	for _, tenant := range tenants {
		for _, uri := range targets {
			q.c.shared.store.Purge(store.Purge{Reach: store.URI, Tenant: tenant, Host: q.tags.host, Value: uri})
		}
		for _, group := range groups { // RFC 9875, section 3: of the same origin
			q.c.shared.store.Purge(store.Purge{Reach: store.Group, Tenant: tenant, Host: q.tags.host, Value: group})
		}
	}
}

// head asks the origin with HEAD, and has what is stored of the same target follow the
// answer (RFC 9111, section 4.3.5), where that speaks for all.
func (q *question) head(w http.ResponseWriter, next caddyhttp.Handler) error {
	q.passed(whyHead)
	if !q.speaksForAll() {
		return next.ServeHTTP(w, q.r)
	}
	ticket, o := q.c.shared.store.Begin(), q.found.object
	q.d.OnAnswer(func(status int, h http.Header) {
		if o == nil || status != http.StatusOK {
			return
		}
		if !rfc9111.SameRepresentation(h, &o.Stored) {
			q.c.shared.store.Remove(q.key, o)
			return
		}
		f := fill{c: q.c, ticket: ticket, stored: rfc9111.Stored{Requested: q.now}}
		newer := f.freshened(o, h, time.Now())
		if q.c.refuses(q.r, q.sent(), &newer.Stored, &newer.Timing, false) == "" {
			q.c.shared.store.Put(q.key, newer)
		}
	})
	defer ticket.End()
	return next.ServeHTTP(w, q.r)
}
