package cache

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
)

// writer is what the handlers behind the cache write to.
type writer struct {
	f       *fill
	header  http.Header
	wrote   bool
	strayed bool // so it seems: the origin is asked again
}

func (w *writer) Header() http.Header { return w.header }

// WriteHeader decides what becomes of the answer, and lets those who wait see it.
func (w *writer) WriteHeader(status int) {
	f := w.f
	switch {
	case w.wrote:
		return
	case status < 200:
		f.inform(status, w.header)
		return
	}
	w.wrote = true
	f.touch()
	if status == 499 { // reverse_proxy says so of its own request; an answer that it passes on has Via
		ended := f.ctx.Err() != nil
		w.strayed = !ended && !f.strayed && len(w.header["Via"]) == 0
		if ended || w.strayed {
			return
		}
	}
	received := time.Now()
	if status == http.StatusNotModified && f.object != nil {
		f.renew(w.header.Clone(), received)
		return
	}
	f.arrive(status, w.header.Clone(), received)
}

// Write passes the body on. The fill of an answer that nobody reads, and that is not
// stored, ends.
func (w *writer) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	f := w.f
	if f.renewed != nil || f.again || !f.decided {
		return len(p), nil // the body of a 304
	}
	f.idle.Stop() // a slow client is no idle origin
	if f.forAll && f.stream.Size()+int64(len(p)) > f.c.limits.maxObject {
		f.stream.Pass()
	}
	err := f.stream.Write(f.ctx, p)
	f.touch()
	if err != nil {
		if errors.Is(err, store.ErrUnread) {
			f.cancel(errLeft)
		}
		return 0, err
	}
	return len(p), nil
}

// FlushError is what http.ResponseController asks for: everything is passed on at once.
func (w *writer) FlushError() error {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return nil
}

// touch says that the origin has sent something.
func (f *fill) touch() { f.idle.Reset(f.c.limits.idle) }

// inform passes an informational answer on to those who wait.
func (f *fill) inform(status int, h http.Header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interim = append(f.interim, interim{status, h.Clone()})
	close(f.news)
	f.news = make(chan struct{})
}

// informed gives the informational answers after the first n, and a channel that is
// closed with the next.
func (f *fill) informed(n int) ([]interim, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.interim[n:], f.news
}

// arrive takes the header of an answer.
func (f *fill) arrive(status int, h http.Header, received time.Time) {
	private := f.fork.Dressed(h, status)
	f.status, f.header = status, h
	f.length = lengthOf(h)
	f.stored = rfc9111.Stored{Status: status, Header: h, Requested: f.stored.Requested, Received: received}
	f.route = f.fork.Route()
	f.why = f.judge(private)
	f.storable = f.why == ""
	f.forAll = f.storable || f.isEverybodysError()
	if f.forAll {
		f.vary = rfc9111.VaryFields(h)
		f.selects = rfc9111.Secondary(f.vary, f.sent, f.c.normalForm)
		f.stream.Expect(f.length)
	} else {
		f.stream.Pass()
	}
	if f.storable {
		f.stored.Header = f.storables(h, received)
	} else {
		switch {
		case f.isOneClients():
		case status >= 500: // the next may be another
			f.c.shared.forget(f.key, f.why)
		default:
			f.c.shared.pass(f.key, f.why)
		}
		if f.object != nil && !rfc9111.IsError(status) && !f.isOneClients() && f.object.Timing.Left(received) <= 0 {
			f.c.shared.store.Remove(f.key, f.object) // the origin no longer says so
		}
	}
	f.lines = linesOf(h)
	f.decide()
}

// isEverybodysError reports whether an answer is not stored for no other reason than
// that it is an error. Those who wait get it too: an origin that fails must not be
// asked by all of them at once.
func (f *fill) isEverybodysError() bool {
	return !f.c.letter && !f.alone && rfc9111.IsError(f.status) && (f.why == whyError || f.why == string(rfc9111.RefusedNoFreshness)) &&
		len(f.header["Set-Cookie"]) == 0 && f.c.mayVary(f.header)
}

// isOneClients reports whether the origin was asked for something that others do not
// ask for, or finds fault with how it was asked, so that the answer says nothing of
// theirs.
func (f *fill) isOneClients() bool {
	switch f.status {
	case http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestedRangeNotSatisfiable,
		http.StatusExpectationFailed, http.StatusMisdirectedRequest, http.StatusTooEarly, http.StatusPreconditionRequired, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return len(f.sent["Range"]) > 0 || len(f.sent["Early-Data"]) > 0 || len(f.sent["Authorization"]) > 0
}

// storables gives the header as it is stored.
func (f *fill) storables(h http.Header, received time.Time) http.Header {
	kept := rfc9111.Storables(h, &f.stored.Directives)
	for field := range kept {
		if strings.HasPrefix(field, http.TrailerPrefix) {
			delete(kept, field)
		}
	}
	if _, ok := kept["Date"]; !ok { // RFC 9110, section 6.6.1
		kept["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	}
	delete(kept, "X-Request-Id") // whoever is answered has one
	return kept
}

// trailers sets what came after the body. It comes once the stream is done.
func (f *fill) trailers(h http.Header) {
	for field, values := range f.trailer {
		h[field] = values
	}
}

// lengthOf reads Content-Length; -1 where there is none.
func lengthOf(h http.Header) int64 {
	lines := h["Content-Length"]
	if len(lines) != 1 || lines[0] == "" {
		return -1
	}
	var n int64
	for _, c := range []byte(lines[0]) {
		if c < '0' || c > '9' || n > 1<<58 {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// renew takes a 304: it freshens what is stored (RFC 9111, section 4.3.4). Where it is
// about nothing that is, or where that was purged meanwhile, the origin is asked
// again, without a condition. What may not be stored by it is its own client's alone.
func (f *fill) renew(h http.Header, received time.Time) {
	private, behind := f.fork.Dressed(h, http.StatusNotModified), f.fork.Route().ServedBy != ""
	all := append([]*store.Object{f.object}, f.others...)
	stored := make([]*rfc9111.Stored, len(all))
	for i, o := range all {
		stored[i] = &o.Stored
	}
	fresh := rfc9111.Freshened(h, stored)
	for i, o := range all {
		if !containsStored(fresh, stored[i]) || f.c.shared.store.Standing(o) == store.Invalid {
			continue
		}
		newer := f.freshened(o, h, received)
		selected := f.renewed == nil
		if selected && o != f.object { // another variant is what this request selects by now
			newer.Vary, newer.Select = f.object.Vary, f.object.Select
		}
		why := f.c.refuses(f.base, f.sent, &newer.Stored, &newer.Timing, false)
		if private {
			why = whyOurs
		}
		if selected {
			f.renewed, f.own = newer, why != "" || behind
		}
		switch {
		case why != "":
			f.c.shared.store.Remove(f.key, o)
			f.c.shared.forget(f.key, why)
		case behind: // a fallback knows nothing newer, which makes nothing fresh
		default:
			f.c.shared.store.Put(f.key, newer)
		}
	}
	if f.renewed == nil {
		f.again = true
		return
	}
	f.c.shared.land(f)
	f.decide()
}

func containsStored(list []*rfc9111.Stored, s *rfc9111.Stored) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// freshened makes an object of an older one and a 304.
func (f *fill) freshened(o *store.Object, h http.Header, received time.Time) *store.Object {
	s := rfc9111.Stored{Status: o.Status, Requested: f.stored.Requested, Received: received}
	directives := rfc9111.Targeted(h, f.c.Targets)
	s.Header = rfc9111.Updated(o.Header, h, &directives)
	if _, ok := h["Date"]; !ok {
		s.Header["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	}
	if _, ok := h["Age"]; !ok {
		delete(s.Header, "Age")
	}
	delete(s.Header, "X-Request-Id")
	s.Directives = rfc9111.Targeted(s.Header, f.c.Targets)
	newer := f.c.object(&s, f.c.timing(&s), o.Body)
	newer.Vary, newer.Select, newer.Ticket, newer.Tags = o.Vary, o.Select, f.ticket, o.Tags
	newer.Tags.Groups = rfc9111.Groups(s.Header, "Cache-Groups")
	return newer
}
