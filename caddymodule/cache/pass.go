package cache

import (
	"io"
	"maps"
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
		if c.letter && r.Method == http.MethodPost && q.namesWhom() {
			return q.post(w, next)
		}
	}
	return next.ServeHTTP(w, r)
}

// namesWhom reports whether the request comes in the name that a fetch for its key would
// have. Of an answer to somebody else nothing is learnt.
func (q *question) namesWhom() bool {
	switch q.policy {
	case PolicyPublic:
		return !q.d.SignedIn()
	case PolicyUser:
		return q.d.SignedIn()
	}
	return false
}

// apart keeps what handlers behind the cache write into the header from what those before
// it have written, which is their client's alone.
type apart struct {
	*caddyhttp.ResponseWriterWrapper
	q      *question
	header http.Header
	answer func(status int, h http.Header) // called once, with a header of its own
	done   bool
}

func (q *question) apart(w http.ResponseWriter, answer func(int, http.Header)) *apart {
	return &apart{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, q: q, header: http.Header{}, answer: answer}
}

func (a *apart) Header() http.Header { return a.header }

func (a *apart) WriteHeader(status int) {
	switch {
	case a.done:
		return
	case status < 200 && status != http.StatusSwitchingProtocols:
		if a.q.r.ProtoAtLeast(1, 1) {
			inform(a.ResponseWriter, interim{status, a.header})
		}
		return
	}
	a.done = true
	a.answer(status, a.header.Clone())
	linesOf(a.header).into(a.ResponseWriter.Header(), nil)
	a.ResponseWriter.WriteHeader(status)
}

func (a *apart) Write(p []byte) (int, error) {
	if !a.done {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(p)
}

// ReadFrom copies through Write.
func (a *apart) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{a}, r) }

// end sets what came after the body.
func (a *apart) end() {
	if a.done {
		maps.Copy(a.ResponseWriter.Header(), trailerOf(a.header))
	}
}

// post stores the answer to a POST that is a representation of the target itself, for
// later GETs (RFC 9110, section 9.3.3). Such answers are rare, and small.
func (q *question) post(w http.ResponseWriter, next caddyhttp.Handler) error {
	q.whose()
	q.key = q.makeKey()
	f := &fill{c: q.c, key: q.key, tags: q.tags, sent: q.sent(), base: q.r, stream: q.c.shared.store.Stream(), stored: rfc9111.Stored{Requested: q.now}}
	t := &tee{fill: f, apart: q.apart(w, func(status int, h http.Header) {
		f.header, f.length = h, lengthOf(h)
		f.stored = rfc9111.Stored{Status: status, Header: h, Requested: f.stored.Requested, Received: time.Now()}
		if f.why = f.judge(false); f.why == "" && f.part == nil {
			f.storable, f.stored.Header = true, f.storables(h, f.stored.Received)
			f.vary = rfc9111.VaryFields(h)
			f.selects = rfc9111.Secondary(f.vary, f.sent, f.c.normalForm)
		}
	})}
	defer f.stream.Free()
	err := next.ServeHTTP(t, q.r)
	t.end()
	if err == nil && f.storable && (f.length < 0 || f.length == f.stream.Size()) {
		f.keep()
	}
	if f.ticket != nil {
		f.ticket.End()
	}
	return err
}

// tee keeps what is written, where it may be stored.
type tee struct {
	*apart
	fill *fill
}

func (t *tee) WriteHeader(status int) {
	t.apart.WriteHeader(status)
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
	return t.apart.Write(p)
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
// answer (RFC 9111, section 4.3.5). It learns only where the origin is asked as for a
// GET: with the fields that reach it, and in the same name.
func (q *question) head(w http.ResponseWriter, next caddyhttp.Handler) error {
	q.passed(whyHead)
	if !q.namesWhom() || isConditional(q.r.Header) {
		return next.ServeHTTP(w, q.r)
	}
	r := q.r // the same one: the placeholders know it
	header, host, query := r.Header, r.Host, r.URL.RawQuery
	r.Header, r.Host, r.URL.RawQuery = maps.Clone(q.sent()), q.tags.host, q.query
	defer func() { r.Header, r.Host, r.URL.RawQuery = header, host, query }()
	ticket, o := q.c.shared.store.Begin(), q.found.object
	defer ticket.End()
	a := q.apart(w, func(status int, h http.Header) {
		if o == nil || status != http.StatusOK {
			return
		}
		if !rfc9111.SameRepresentation(h, &o.Stored) {
			q.c.shared.store.Remove(q.key, o)
			return
		}
		f := fill{c: q.c, ticket: ticket, stored: rfc9111.Stored{Requested: q.now}}
		newer := f.freshened(o, h, time.Now())
		if q.c.refuses(r, q.sent(), &newer.Stored, &newer.Timing, false) == "" {
			q.c.shared.store.Put(q.key, newer)
		}
	})
	err := next.ServeHTTP(a, r)
	a.end()
	return err
}

// isConditional reports whether a request has conditions, which a fetch has not.
func isConditional(h http.Header) bool {
	return len(h["If-None-Match"])+len(h["If-Modified-Since"])+len(h["If-Match"])+len(h["If-Unmodified-Since"]) > 0
}
