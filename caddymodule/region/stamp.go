package region

import (
	"context"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// stamped gives the header that a region receives: out's, without what only the
// edge may set, and with what it sets. out keeps its own, which reverse_proxy
// writes into its debug log: an assertion does not belong there.
func stamped(ctx context.Context, out *http.Request, x *exchange, assertion, cookie string) http.Header {
	d := x.d
	// The values are out's own, which nobody below writes into.
	h := make(http.Header, len(out.Header)+8) // ours are four, and net/http's few
	for field, lines := range out.Header {
		if !handoff.Protected(field) {
			h[field] = lines
		}
	}
	own := [...]string{d.RequestID, d.Home, assertion, d.Identity.Tenant} // one allocation for the four
	h[handoff.HeaderRequestID] = own[0:1:1]
	h[handoff.HeaderHomeRegion] = own[1:2:2]
	h[handoff.HeaderAssertion] = own[2:3:3]
	if d.Identity.Tenant != "" {
		h[handoff.HeaderTenant] = own[3:4:4]
	}
	if x.wrote != "" {
		h[handoff.HeaderWrote] = []string{x.wrote}
	}
	if trace.SpanContextFromContext(ctx).IsValid() {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(h))
	}
	if !d.ForwardSession {
		dropCookie(h, cookie)
		dropBearer(h)
	}
	if x.writes(out.Method) || handoff.Unsafe(out.Method) {
		hideIdempotencyKey(h)
	}
	return h
}

// dropProtected takes out what only the edge may set.
func dropProtected(h http.Header) {
	for field := range h {
		if handoff.Protected(field) {
			delete(h, field)
		}
	}
}

// dropBearer takes bearer tokens out (RFC 6750, section 2.1) and leaves other
// schemes. edge_session has taken out the one that it read; on a route without
// edge_session it is still there.
func dropBearer(h http.Header) {
	lines := h["Authorization"]
	if !slices.ContainsFunc(lines, isBearer) {
		return
	}
	h["Authorization"] = slices.DeleteFunc(slices.Clone(lines), isBearer)
	if len(h["Authorization"]) == 0 {
		delete(h, "Authorization")
	}
}

func isBearer(line string) bool {
	end := strings.IndexAny(line, " \t")
	if end < 0 {
		end = len(line)
	}
	return strings.EqualFold(line[:end], "Bearer")
}

// hideIdempotencyKey keeps net/http from sending an unsafe request again by
// itself: it takes either header for a promise that this is harmless, while no
// region reads the second, and what a region may have seen is not sent twice.
// net/http looks for the canonical spelling alone; on the wire it is the same
// field (RFC 9110, section 5.1).
func hideIdempotencyKey(h http.Header) {
	for _, field := range [...]string{handoff.HeaderIdempotencyKey, "X-Idempotency-Key"} {
		if lines, ok := h[field]; ok {
			delete(h, field)
			h[strings.ToLower(field)] = lines
		}
	}
}

// dropCookie takes the cookie of that exact name out, wherever it stands, and
// leaves the others as they are.
func dropCookie(h http.Header, name string) {
	lines := h["Cookie"]
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, name) }) {
		return
	}
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		if line = withoutCookie(line, name); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}

// withoutCookie cuts every pair of that name out of a Cookie line. A line without
// one is given back byte for byte.
func withoutCookie(line, name string) string {
	for start := 0; ; {
		end := len(line)
		if i := strings.IndexByte(line[start:], ';'); i >= 0 {
			end = start + i
		}
		key, _, _ := strings.Cut(line[start:end], "=")
		switch {
		case textproto.TrimString(key) != name:
			if end == len(line) {
				return line
			}
			start = end + 1
		case end == len(line): // the last: the separator before it goes too
			return textproto.TrimString(strings.TrimSuffix(textproto.TrimString(line[:start]), ";"))
		case start == 0:
			line = strings.TrimLeft(line[end+1:], " \t")
		default:
			line = line[:start] + line[end+1:]
		}
	}
}
