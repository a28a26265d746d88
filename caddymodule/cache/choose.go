package cache

import (
	"net/http"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
)

// found is what is stored for a question, and what may be done with it.
type found struct {
	// object was selected for the request; nil: none.
	object *store.Object
	use    rfc9111.Use
	left   time.Duration // how much longer it is fresh
	// others are the other variants: validation names them too.
	others []*store.Object
	// vary is set where something is stored, and nothing that this request selects.
	vary bool
	// soft is set where a purge lets the object be used as a stale one at most.
	soft bool
	// flight names the fetch that would be for this request too, as far as is known by
	// what the stored ones vary by.
	flight string
	// parts are the parts of the selected representation that are stored.
	parts []*store.Object
}

// choose looks up what is stored.
func (q *question) choose() {
	f := found{flight: q.key}
	var fields []string
	selects, asked := "", false
	for _, o := range q.stored() {
		standing := q.c.shared.store.Standing(o)
		if standing == store.Invalid || q.before(o) {
			continue
		}
		if !o.Body.Usable() { // the disk had no room for it any more
			q.c.shared.store.Lose(q.key, o)
			continue
		}
		if !asked || !equal(fields, o.Vary) {
			fields, selects = o.Vary, q.selecting(o.Vary)
			if !asked { // the newest
				f.flight, asked = q.key+selects, true
			}
		}
		switch {
		case o.Select != selects:
			f.vary = true
			if o.Part == nil {
				f.others = append(f.others, o)
			}
		case o.Part != nil:
			f.parts = append(f.parts, o)
		case f.object == nil || o.Timing.At.After(f.object.Timing.At):
			f.object, f.soft = o, standing == store.Stale
		}
	}
	if f.object != nil {
		f.use, f.left = q.decide(f.object, f.soft)
	}
	q.found = f
}

// stored gives what is stored under the key. A dry run leaves no trace.
func (q *question) stored() []*store.Object {
	if q.d.DryRun {
		return q.c.shared.store.Peek(q.key)
	}
	return q.c.shared.store.Get(q.key)
}

// decide says what may be done with an object.
func (q *question) decide(o *store.Object, soft bool) (rfc9111.Use, time.Duration) {
	use, left := o.Directives.Decide(&o.Timing, &q.request, q.now)
	if soft && use == rfc9111.Fresh { // as if it had become stale by the purge
		if use, left = rfc9111.MustValidate, -1; o.Directives.StaleWhileRevalidate.Or(0) > 0 && !o.Directives.MustRevalidate && !o.Directives.ProxyRevalidate {
			use = rfc9111.StaleWhileRevalidate
		}
	}
	return use, left
}

// clockSkew is how far the clocks of two POPs may differ: the mark of a write may be
// another's.
const clockSkew = 2 * time.Second

// before reports whether an object of a tenant or a user was asked for before the
// client's own last write: the client would not see what it wrote.
func (q *question) before(o *store.Object) bool {
	return !q.wrote.IsZero() && o.Ticket.Began.Before(q.wrote.Add(clockSkew))
}

// mayStandIn reports whether an object may be used although the origin failed.
func (q *question) mayStandIn(o *store.Object) bool {
	return o != nil && o.Directives.MayUseOnError(&o.Timing, &q.request, time.Now(), q.c.limits.onErr)
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// isHEAD reports whether the answer has no body.
func (q *question) isHEAD() bool { return q.r.Method == http.MethodHead }
