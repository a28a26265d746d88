package region

import (
	"context"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// stamped gives the header that a region receives: out's, without what only the
// edge may set, and with what it sets. out keeps its own, which reverse_proxy
// writes into its debug log: an assertion does not belong there.
func stamped(ctx context.Context, out *http.Request, d *decision.Decision, assertion, cookie string) http.Header {
	h := out.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	dropProtected(h)
	h[handoff.HeaderRequestID] = []string{d.RequestID}
	h[handoff.HeaderHomeRegion] = []string{d.Home}
	h[handoff.HeaderAssertion] = []string{assertion}
	if d.Identity.Tenant != "" {
		h[handoff.HeaderTenant] = []string{d.Identity.Tenant}
	}
	if trace.SpanContextFromContext(ctx).IsValid() {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(h))
	}
	if !d.ForwardSession {
		dropCookie(h, cookie)
		dropBearer(h)
	}
	if handoff.Unsafe(out.Method) {
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
	h["Authorization"] = slices.DeleteFunc(h["Authorization"], func(line string) bool {
		scheme, _, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
		return strings.EqualFold(scheme, "Bearer")
	})
	if len(h["Authorization"]) == 0 {
		delete(h, "Authorization")
	}
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
	kept := lines[:0:0]
	changed := false
	for _, line := range lines {
		if !strings.Contains(line, name) {
			kept = append(kept, line)
			continue
		}
		var pairs []string
		for pair := range strings.SplitSeq(line, ";") {
			key, _, _ := strings.Cut(pair, "=")
			if textproto.TrimString(key) == name {
				changed = true
				continue
			}
			pairs = append(pairs, textproto.TrimString(pair))
		}
		if len(pairs) > 0 {
			kept = append(kept, strings.Join(pairs, "; "))
		}
	}
	switch {
	case !changed:
	case len(kept) == 0:
		delete(h, "Cookie")
	default:
		h["Cookie"] = kept
	}
}
