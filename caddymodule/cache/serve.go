package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
)

// lines is a header in the form in which it is sent: one array for all values, of
// which each answer gets a copy, since whoever stands before may write into it.
type lines struct {
	names  []string
	ends   []int // where the values of each name end
	values []string
}

func linesOf(h http.Header) *lines {
	l := &lines{}
	for field := range h {
		l.names = append(l.names, field)
	}
	slices.Sort(l.names)
	for _, field := range l.names {
		l.values = append(l.values, h[field]...)
		l.ends = append(l.ends, len(l.values))
	}
	return l
}

// into sets the fields, beside what stands there already, but for Server, which is
// the origin's to say.
func (l *lines) into(h http.Header, only func(string) bool) {
	values := make([]string, len(l.values))
	copy(values, l.values)
	delete(h, "Server")
	from := 0
	for i, field := range l.names {
		to := l.ends[i]
		if only == nil || only(field) {
			if own, ok := h[field]; ok {
				h[field] = append(slices.Clip(own), values[from:to]...)
			} else {
				h[field] = values[from:to:to]
			}
		}
		from = to
	}
}

func onlyFor304(field string) bool {
	return slices.Contains(rfc9111.OnlyFor304[:], field) || field == "Cache-Status"
}

// age sets Age (RFC 9111, section 5.1).
func age(h http.Header, age time.Duration) {
	h["Age"] = []string{strconv.FormatInt(int64(age/time.Second), 10)}
}

// serve answers with a stored response.
func (q *question) serve(w http.ResponseWriter, o *store.Object) error {
	q.uses(o)
	h := w.Header()
	l := o.Lines.(*lines)
	old := o.Timing.Age(q.now)
	q.count(o.Body.Size, old)
	if o.Status < 400 && o.Stored.NotModified(q.r.Header, q.now) {
		l.into(h, onlyFor304)
		q.dress(h)
		age(h, old)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	l.into(h, nil)
	q.dress(h)
	age(h, old)
	if o.Status == http.StatusOK && len(q.r.Header["Range"]) > 0 && q.r.Method == http.MethodGet && o.Stored.RangeHolds(q.r.Header, q.now) {
		if spans, what := rfc9111.ParseRange(q.r.Header, o.Body.Size); what != rfc9111.Whole {
			return q.serveRange(w, o, spans, what)
		}
	}
	if _, ok := h["Content-Length"]; !ok && hasBody(o.Status) { // what is stored is as long as it says
		h["Content-Length"] = []string{strconv.FormatInt(o.Body.Size, 10)}
	}
	w.WriteHeader(o.Status)
	if q.isHEAD() {
		return nil
	}
	if o.Body.File != nil {
		_ = q.send(w, o, 0, o.Body.Size-1)
		return nil
	}
	for _, p := range o.Body.Pieces {
		if _, err := w.Write(p); err != nil {
			return nil // the client has gone
		}
	}
	return nil
}

// dress makes the header right for whom the answer is: what is one tenant's or one
// user's must not be kept by a cache on the way that knows of neither. The targeted
// fields were for us, and Cache-Control is the browser's from here on.
func (q *question) dress(h http.Header) {
	if q.policy != PolicyTenant && q.policy != PolicyUser {
		return
	}
	for _, target := range q.c.Targets {
		delete(h, target)
	}
	delete(h, "Surrogate-Control")
	kept := []string{"private"}
	for _, line := range h["Cache-Control"] {
		for member := range strings.SplitSeq(line, ",") {
			member = strings.TrimSpace(member)
			name, _, _ := strings.Cut(strings.ToLower(member), "=")
			switch name {
			case "", "public", "private", "s-maxage", "proxy-revalidate", "stale-while-revalidate", "stale-if-error":
			default:
				kept = append(kept, member)
			}
		}
	}
	h["Cache-Control"] = []string{strings.Join(kept, ", ")}
}

// hasBody reports whether an answer of that status has content (RFC 9110, section
// 6.4.1).
func hasBody(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// serveRange answers with parts of a stored response (RFC 9110, sections 14 and
// 15.3.7).
func (q *question) serveRange(w http.ResponseWriter, o *store.Object, spans []rfc9111.Span, what rfc9111.Ranged) error {
	h, size := w.Header(), o.Body.Size
	switch {
	case what == rfc9111.Unsatisfiable:
		for _, field := range [...]string{"Content-Type", "Content-Encoding", "Etag", "Last-Modified", "Cache-Control", "Cdn-Cache-Control", "Expires"} {
			delete(h, field)
		}
		h["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
		h["Content-Length"] = []string{"0"}
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return nil
	case len(spans) == 1:
		span := spans[0]
		h["Content-Range"] = []string{rfc9111.ContentRange{Span: span, Size: size}.String()}
		h["Content-Length"] = []string{strconv.FormatInt(span.Length(), 10)}
		w.WriteHeader(http.StatusPartialContent)
		_ = q.send(w, o, span.First, span.Last)
		return nil
	}
	// A boundary that the body cannot hold is one that nobody could foresee.
	boundary := boundary()
	kind := ""
	if types := h["Content-Type"]; len(types) == 1 {
		kind = "Content-Type: " + types[0] + "\r\n"
	}
	head := func(span rfc9111.Span) string {
		return fmt.Sprintf("\r\n--%s\r\n%sContent-Range: %s\r\n\r\n", boundary, kind, rfc9111.ContentRange{Span: span, Size: size})
	}
	end := "\r\n--" + boundary + "--\r\n"
	length := int64(len(end))
	for _, span := range spans {
		length += int64(len(head(span))) + span.Length()
	}
	h["Content-Type"] = []string{"multipart/byteranges; boundary=" + boundary}
	h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	w.WriteHeader(http.StatusPartialContent)
	for _, span := range spans {
		if _, err := io.WriteString(w, head(span)); err != nil {
			return nil
		}
		if q.send(w, o, span.First, span.Last) != nil {
			return nil
		}
	}
	_, _ = io.WriteString(w, end)
	return nil
}

// servePart answers a request for a range from a stored part that holds all of it
// (RFC 9111, section 3.3). It reports whether it could.
func (q *question) servePart(w http.ResponseWriter) bool {
	if len(q.found.parts) == 0 || q.r.Method != http.MethodGet {
		return false
	}
	for _, o := range q.found.parts {
		if o.Part.Size < 0 || !o.Stored.RangeHolds(q.r.Header, q.now) {
			continue
		}
		spans, what := rfc9111.ParseRange(q.r.Header, o.Part.Size)
		if what != rfc9111.Parts || len(spans) != 1 || spans[0].First < o.Part.First || spans[0].Last > o.Part.Last {
			continue
		}
		use, left := q.decide(o, q.c.shared.store.Standing(o) == store.Stale)
		if use != rfc9111.Fresh {
			continue
		}
		q.uses(o)
		q.hit(left)
		old := o.Timing.Age(q.now)
		q.count(spans[0].Length(), old)
		h := w.Header()
		o.Lines.(*lines).into(h, nil)
		q.dress(h)
		age(h, old)
		h["Content-Range"] = []string{rfc9111.ContentRange{Span: spans[0], Size: o.Part.Size}.String()}
		h["Content-Length"] = []string{strconv.FormatInt(spans[0].Length(), 10)}
		w.WriteHeader(http.StatusPartialContent)
		_ = q.send(w, o, spans[0].First-o.Part.First, spans[0].Last-o.Part.First)
		return true
	}
	return false
}

// stream answers with what a fill brings, as it arrives.
func (q *question) stream(w http.ResponseWriter, f *fill, reader *store.Reader) error {
	defer reader.Close()
	h := w.Header()
	f.lines.into(h, nil)
	if f.forAll {
		q.dress(h)
	}
	if f.reused(q) { // not the one who caused it: the answer is a stored one by now
		age(h, f.timing.Age(time.Now()))
	}
	q.count(0, 0)
	now := time.Now()
	if f.status < 400 && f.storable && f.stored.NotModified(q.r.Header, now) {
		for field := range h {
			if !onlyFor304(field) && f.header[field] != nil {
				delete(h, field)
			}
		}
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	var skip, left int64 = 0, -1
	status := f.status
	if status == http.StatusOK && f.storable && len(q.r.Header["Range"]) > 0 && f.length >= 0 && f.stored.RangeHolds(q.r.Header, now) {
		spans, what := rfc9111.ParseRange(q.r.Header, f.length)
		if what == rfc9111.Parts && len(spans) == 1 { // several are left to the whole
			skip, left, status = spans[0].First, spans[0].Length(), http.StatusPartialContent
			h["Content-Range"] = []string{rfc9111.ContentRange{Span: spans[0], Size: f.length}.String()}
			h["Content-Length"] = []string{strconv.FormatInt(left, 10)}
		}
	}
	w.WriteHeader(status)
	if q.isHEAD() || !hasBody(status) {
		return nil
	}
	controller := http.NewResponseController(w)
	var sent int64
	flush := func() {
		if sent != f.length { // or the client would have all of it before it is stored
			_ = controller.Flush()
		}
	}
	for {
		p, err := reader.Next(q.r.Context(), flush)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			f.trailers(h)
			return nil
		case errors.Is(err, context.Canceled):
			return nil // the client has gone
		default:
			panic(http.ErrAbortHandler) // it must not look like the whole
		}
		if skip > 0 {
			n := min(skip, int64(len(p)))
			p, skip = p[n:], skip-n
		}
		if left >= 0 {
			p = p[:min(left, int64(len(p)))]
			left -= int64(len(p))
		}
		if len(p) > 0 {
			if _, err := w.Write(p); err != nil {
				return nil
			}
			sent += int64(len(p))
		}
		if left == 0 {
			return nil
		}
	}
}
