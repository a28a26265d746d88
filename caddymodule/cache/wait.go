package cache

import (
	"context"
	"errors"
	"maps"
	"math"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// What a request does that is not answered from memory: it causes a fetch, or waits for
// the one that another has caused. The fetch itself is fill.go.

// mayJoin reports whether a question may be answered by a fill that is under way.
func (q *question) mayJoin(f *fill) bool {
	return q.wrote.IsZero() || !f.ticket.Began.Before(q.wrote.Add(clockSkew))
}

// fetch asks the origin, or waits for what another has asked.
func (q *question) fetch(w http.ResponseWriter, next caddyhttp.Handler) error {
	if q.mustGoAlone() {
		return q.fetchAlone(w, next)
	}
	flight := q.found.flight
	for range 3 { // a fetch may fail of itself, or be another variant's
		f, mine := q.c.shared.join(flight, func() *fill { return q.newFill(next) })
		if mine {
			if q.overtaken() {
				q.c.shared.land(f)
				f.discard()
				q.hit(q.found.left)
				return q.serve(w, q.found.object)
			}
			return q.lead(w, f)
		}
		if !q.mayJoin(f) {
			break
		}
		done, err := q.follow(w, f)
		if done {
			return err
		}
		switch {
		case !isClosed(f.ready): // it takes too long
			return q.fetchAlone(w, next)
		case f.err != nil:
		case f.forAll && f.part == nil && len(f.vary) > 0: // others of this variant may wait for each other
			flight = q.key + q.selecting(f.vary)
		default:
			return q.fetchAlone(w, next)
		}
	}
	return q.fetchAlone(w, next)
}

// overtaken reports whether a fetch that this request did not meet has stored the
// answer since it was looked for.
func (q *question) overtaken() bool {
	before := q.found.object
	q.choose()
	return q.found.object != nil && q.found.object != before && q.found.use == rfc9111.Fresh
}

// mustGoAlone reports whether nobody may wait for the fetch: the answer is for one
// client, as far as is known.
func (q *question) mustGoAlone() bool {
	return q.c.shared.passes(q.key) || len(q.r.Header["Authorization"]) > 0 ||
		q.wantsPart() || edge.InEarlyData(q.r)
}

// wantsPart reports whether the origin is to be asked for a part: nothing is stored, and
// Range is one that can be heeded. Another is as good as none.
func (q *question) wantsPart() bool {
	if len(q.r.Header["Range"]) == 0 || q.found.object != nil {
		return false
	}
	_, what := rfc9111.ParseRange(q.r.Header, math.MaxInt64)
	return what != rfc9111.Whole
}

// fetchAlone asks the origin for this client alone. It may be stored all the same.
func (q *question) fetchAlone(w http.ResponseWriter, next caddyhttp.Handler) error {
	if q.wantsPart() {
		h := maps.Clone(q.sent())
		for _, field := range [...]string{"Range", "If-Range"} {
			if lines, ok := q.r.Header[field]; ok {
				h[field] = lines
			}
		}
		q.header = h
	}
	f := q.newFill(next)
	f.alone = true
	return q.lead(w, f)
}

// lead starts a fill and waits for it.
func (q *question) lead(w http.ResponseWriter, f *fill) error {
	reader, _ := f.stream.Read()
	go f.run()
	q.wait(w, f, 0)
	if !isClosed(f.ready) {
		reader.Close()
		if f.alone || f.stream.Unread() {
			f.cancel(errLeft)
		}
		return q.gone()
	}
	defer q.left(f, reader)
	q.d.Adopt(f.route)
	switch {
	case f.err != nil:
		return q.failed(w, f)
	case f.renewed != nil:
		q.forwarded(f, "stale", http.StatusNotModified)
		q.now = time.Now()
		return q.serve(w, f.renewed)
	case rfc9111.IsError(f.status) && q.mayStandIn(q.found.object):
		return q.standIn(w, f)
	}
	q.forwarded(f, q.missed(), f.status)
	return q.stream(w, f, reader)
}

// left ends the reading. A fetch that nobody reads, and that is not stored, ends.
func (q *question) left(f *fill, reader *store.Reader) {
	reader.Close()
	if (!f.forAll || f.stream.Unread()) && f.err == nil && f.renewed == nil {
		f.cancel(errLeft)
	}
}

// follow waits for a fill that another has started. done is false where its answer is
// not for this request.
func (q *question) follow(w http.ResponseWriter, f *fill) (done bool, err error) {
	q.wait(w, f, q.c.limits.wait)
	if !isClosed(f.ready) {
		if q.r.Context().Err() != nil {
			return true, q.gone()
		}
		return false, nil // it takes too long
	}
	switch {
	case f.err != nil:
		if q.mayStandIn(q.found.object) {
			return true, q.standIn(w, f)
		}
		if f.leader == nil || errors.Is(f.err, errLeft) {
			return false, nil
		}
		q.d.Adopt(f.route)
		return true, q.failed(w, f)
	case f.renewed != nil && !f.own && f.renewed.Select == q.selecting(f.renewed.Vary):
		q.d.Adopt(f.route)
		q.collapsed(f)
		q.now = time.Now()
		return true, q.serve(w, f.renewed)
	case rfc9111.IsError(f.status) && q.mayStandIn(q.found.object):
		return true, q.standIn(w, f)
	case !f.forAll || f.part != nil || f.selects != q.selecting(f.vary):
		return false, nil
	}
	reader, ok := f.stream.Read()
	if !ok {
		return false, nil
	}
	q.d.Adopt(f.route)
	q.collapsed(f)
	return true, q.stream(w, f, reader)
}

// wait waits until the fill is decided, the client leaves, or limit is over, if there
// is one. Informational answers are passed on meanwhile.
func (q *question) wait(w http.ResponseWriter, f *fill, limit time.Duration) {
	var over <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	for told := 0; ; {
		more, news := f.informed(told)
		for _, i := range more {
			if q.r.ProtoAtLeast(1, 1) { // RFC 9110, section 15.2
				inform(w, i)
			}
		}
		told += len(more)
		select {
		case <-f.ready:
			return
		case <-news:
		case <-q.r.Context().Done():
			return
		case <-over:
			return
		}
	}
}

// inform sends an informational answer.
func inform(w http.ResponseWriter, i interim) {
	h := w.Header()
	before := h.Clone()
	for field, values := range i.header {
		h[field] = values
	}
	w.WriteHeader(i.status)
	clear(h)
	maps.Copy(h, before)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// gone is the end of a request whose client has left.
func (q *question) gone() error {
	q.d.Outcome = decision.OutcomeClientGone
	return caddyhttp.Error(499, context.Cause(q.r.Context()))
}

// failed answers for an origin that gave no answer: with what is stale, where that may
// be, or with the error, in this request's own name.
func (q *question) failed(w http.ResponseWriter, f *fill) error {
	if q.mayStandIn(q.found.object) {
		return q.standIn(w, f)
	}
	q.result(resultError, "fwd="+q.missed())
	var refusal *decision.Refusal
	if errors.As(f.err, &refusal) {
		return q.d.RefuseAs(w, q.r, refusal)
	}
	return f.err
}

// standIn answers with what is stale in place of an origin that fails.
func (q *question) standIn(w http.ResponseWriter, f *fill) error {
	q.now = time.Now()
	q.stoodIn(f)
	return q.serve(w, q.found.object)
}

// refresh validates an object in the background, once at a time.
func (q *question) refresh(next caddyhttp.Handler) {
	o, s := q.found.object, q.c.shared
	if !o.Refreshing.CompareAndSwap(false, true) {
		return
	}
	if !s.mayRefresh() {
		o.Refreshing.Store(false)
		return
	}
	f, mine := s.join(q.found.flight, func() *fill { return q.newFill(next) })
	if !mine {
		s.refreshed()
		o.Refreshing.Store(false)
		return
	}
	f.leader = nil
	go func() {
		f.run()
		s.refreshed()
		if f.err != nil || rfc9111.IsError(f.status) {
			q.c.logger.Warn("a stored answer could not be refreshed", zap.String(handoff.FieldPath, f.tags.uri),
				zap.Int(handoff.FieldStatus, f.status), zap.Error(f.err))
			time.AfterFunc(pause(), func() { o.Refreshing.Store(false) })
			return
		}
		o.Refreshing.Store(false)
	}()
}
