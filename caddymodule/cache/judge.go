package cache

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
)

// Why an answer is not stored, beside the refusals of rfc9111.
const (
	whySetCookie = "set-cookie"
	whyVaries    = "vary"
	whyFallback  = "fallback"
	whySize      = "size"
	whyLength    = "no-length"
	whyRoom      = "no-room"
	whyOurs      = "own-cookie"
	whyError     = "error"
	whyStandsIn  = "stale-stands-in"
)

// errorTTL bounds how long the default profile keeps a 404 and a 410.
const errorTTL = time.Minute

// timing gives the freshness of an answer, by the options too.
func (c *Cache) timing(s *rfc9111.Stored) rfc9111.Timing {
	t := s.Timing(c.limits.heuristic)
	if !t.Explicit && t.Lifetime == 0 && c.limits.ttl > 0 {
		t.Lifetime = c.limits.ttl
	}
	if c.limits.maxTTL > 0 {
		t.Lifetime = min(t.Lifetime, c.limits.maxTTL)
	}
	if !c.letter && s.Status >= 400 {
		t.Lifetime = min(t.Lifetime, errorTTL)
	}
	return t
}

// judge says why the answer at hand is not stored, and sets what is needed where it
// is.
func (f *fill) judge(private bool) string {
	c, s := f.c, &f.stored
	s.Directives = rfc9111.Targeted(s.Header, c.Targets)
	f.timing = c.timing(s)
	if s.Status == http.StatusPartialContent {
		if part, ok := rfc9111.ParseContentRange(s.Header["Content-Range"]); ok && part.Length() == f.length {
			f.part = &part
		} else {
			return string(rfc9111.RefusedPartial)
		}
	}
	switch {
	case private:
		return whyOurs
	case f.route.ServedBy != "": // of a fallback, or a replica: it may be behind
		return whyFallback
	case f.length > c.limits.maxObject:
		return whySize
	case rfc9111.IsError(s.Status) && f.object != nil && s.Directives.MayUseOnError(&f.object.Timing, &rfc9111.Request{}, s.Received, c.limits.onErr):
		return whyStandsIn
	}
	return c.refuses(f.base, f.sent, s, &f.timing, true)
}

// refuses says why an answer may not be stored. Empty: it may.
func (c *Cache) refuses(r *http.Request, sent http.Header, s *rfc9111.Stored, t *rfc9111.Timing, whole bool) string {
	asked := *r
	asked.Header = sent
	var request rfc9111.Request
	if c.letter {
		request = rfc9111.ParseRequest(sent)
	}
	why := rfc9111.MayStore(&asked, request, s)
	if why == rfc9111.RefusedNoFreshness && t.Lifetime > 0 { // by the option ttl
		why = rfc9111.Storable
	}
	switch {
	case why != rfc9111.Storable:
		return string(why)
	case c.letter:
		return ""
	case len(s.Header["Set-Cookie"]) > 0 && !c.StoreSetCookie:
		return whySetCookie
	case s.Status >= 400 && s.Status != http.StatusNotFound && s.Status != http.StatusGone:
		return whyError
	case t.Lifetime <= 0 && !useful(s):
		return string(rfc9111.RefusedNoFreshness)
	case !c.mayVary(s.Header):
		return whyVaries
	}
	return ""
}

// useful reports whether an answer that is never fresh is worth to be kept: it can be
// validated, or used stale.
func useful(s *rfc9111.Stored) bool {
	d := &s.Directives
	if _, ok := rfc9111.ParseTag(s.Header); ok || len(s.Header["Last-Modified"]) == 1 {
		return d.MaxAge.Given || d.SMaxAge.Given || d.NoCache || len(s.Header["Expires"]) > 0
	}
	return d.StaleWhileRevalidate.Or(0) > 0 || d.StaleIfError.Or(0) > 0
}

// mayVary reports whether an answer varies by what may be told apart: not by
// credentials, and by cookies only where those that count are named: no other reaches
// the origin, so that the answer is that for a request without.
func (c *Cache) mayVary(h http.Header) bool {
	fields := rfc9111.VaryFields(h)
	return !slices.Contains(fields, "Authorization") && (!slices.Contains(fields, "Cookie") || len(c.Cookies)+len(c.BypassCookies) > 0)
}

// combined puts a part together with those that are stored of the same representation
// (RFC 9111, section 3.4), as far as they meet. The whole is a 200.
func (c *Cache) combined(key string, o *store.Object) *store.Object {
	for _, other := range c.shared.store.Get(key) {
		if other.Part == nil || other.Select != o.Select || other.Part.Size != o.Part.Size || other.Part.Size < 0 ||
			!rfc9111.Combinable(other.Header, o.Header) || c.shared.store.Standing(other) != store.Valid {
			continue
		}
		first, last := other, o
		if o.Part.First < other.Part.First {
			first, last = o, other
		}
		if last.Part.First > first.Part.Last+1 {
			continue // they do not meet
		}
		if max(first.Part.Last, last.Part.Last)-first.Part.First >= c.limits.maxObject {
			continue
		}
		body := store.Body{Pieces: slices.Clone(first.Body.Pieces), Size: first.Body.Size}
		if last.Part.Last > first.Part.Last {
			_ = last.Body.Section(first.Part.Last+1-last.Part.First, last.Body.Size-1, func(p []byte) error {
				body.Pieces, body.Size = append(body.Pieces, p), body.Size+int64(len(p))
				return nil
			})
		}
		span := rfc9111.Span{First: first.Part.First, Last: max(first.Part.Last, last.Part.Last)}
		c.shared.store.Remove(key, other)
		o = c.grown(o, body, &rfc9111.ContentRange{Span: span, Size: o.Part.Size})
	}
	if o.Part.First == 0 && o.Part.Last == o.Part.Size-1 {
		whole := o.Stored
		whole.Status, whole.Header = http.StatusOK, o.Header.Clone()
		delete(whole.Header, "Content-Range")
		whole.Header["Content-Length"] = []string{strconv.FormatInt(o.Part.Size, 10)} // not the part's
		w := c.object(&whole, o.Timing, o.Body)
		w.Vary, w.Select, w.Tags, w.Ticket = o.Vary, o.Select, o.Tags, o.Ticket
		return w
	}
	return o
}

// grown is a part with more of the body.
func (c *Cache) grown(o *store.Object, body store.Body, part *rfc9111.ContentRange) *store.Object {
	g := c.object(&o.Stored, o.Timing, body)
	g.Vary, g.Select, g.Tags, g.Ticket, g.Part = o.Vary, o.Select, o.Tags, o.Ticket, part
	return g
}
