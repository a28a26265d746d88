package e2e

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// One trace leads from the edge's server span to the insert, and it is ours: the
// trace id that a client sends is not adopted.
func TestTrace_leadsFromTheEdgeToTheInsert(t *testing.T) {
	t.Parallel()
	const clientTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	b := login(t, iad(), ada)
	a := b.post(t, "/api/orders", newOrder{b.customer(t), 1299}, "Traceparent", "00-"+clientTrace+"-00f067aa0ba902b7-01", "Tracestate", "x=y", "Baggage", "tenant=globex")
	if a.status != http.StatusCreated {
		t.Fatalf("order: %s", a)
	}
	edgeSpans := []string{handoff.SpanGuard, handoff.SpanAuth, handoff.SpanRegionSelect, handoff.SpanToRegion}
	regionSpans := []string{handoff.SpanParseOrder, handoff.SpanPoolWait, handoff.SpanInsertOrder, handoff.SpanEnqueue}
	spans := traces.trace(t, handoff.AttrRequestID, a.header.Get("X-Request-Id"), func(found []span) bool {
		all := strings.Join(names(found), "\n") + "\n"
		for _, name := range append(edgeSpans, regionSpans...) {
			if !strings.Contains(all, " "+name+"\n") {
				return false
			}
		}
		return servers(found, "gatehouse-edge") == 1 && servers(found, "gatehouse-region") == 1
	})
	if id(spans[0].TraceId) == clientTrace {
		t.Error("the client's trace id was adopted")
	}
	edge := server(t, spans, "gatehouse-edge")
	if len(edge.ParentSpanId) != 0 {
		t.Errorf("the edge's server span has the parent %s", id(edge.ParentSpanId))
	}
	for _, name := range edgeSpans {
		child(t, spans, edge, name)
	}
	hop := child(t, spans, edge, handoff.SpanToRegion)
	if hop.Kind != trace.Span_SPAN_KIND_CLIENT {
		t.Errorf("%s is %s, not a client span", hop.Name, hop.Kind)
	}
	region := server(t, spans, "gatehouse-region")
	if id(region.ParentSpanId) != id(hop.SpanId) {
		t.Errorf("the region's server span is not a child of %s", hop.Name)
	}
	child(t, spans, region, handoff.SpanParseOrder)
	// The connection is taken when the first statements are sent, not before.
	child(t, spans, child(t, spans, region, handoff.SpanInsertOrder), handoff.SpanPoolWait)
	child(t, spans, region, handoff.SpanEnqueue)
	if got := attribute(edge.Attributes, handoff.AttrTenant); got != "acme" {
		t.Errorf("%s of the edge's span is %q", handoff.AttrTenant, got)
	}
}

// servers counts a service's server spans.
func servers(spans []span, service string) (n int) {
	for _, s := range spans {
		if s.Kind == trace.Span_SPAN_KIND_SERVER && s.service == service {
			n++
		}
	}
	return n
}

func server(t *testing.T, spans []span, service string) span {
	t.Helper()
	for _, s := range spans {
		if s.Kind == trace.Span_SPAN_KIND_SERVER && s.service == service {
			return s
		}
	}
	t.Fatalf("%s has no server span; there are: %s", service, names(spans))
	return span{}
}

// line is a line of JSON in a program's log.
type line map[string]any

// logged waits for the lines about a request.
func logged(t *testing.T, path, requestID string) line {
	t.Helper()
	var found []line
	await(t, "request "+requestID+" in "+path, func() bool {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found = nil
		for l := range strings.Lines(string(text)) {
			if !strings.Contains(l, requestID) {
				continue
			}
			var parsed line
			if err := json.Unmarshal([]byte(l), &parsed); err == nil && parsed[handoff.FieldRequestID] == requestID {
				found = append(found, parsed)
			}
		}
		return len(found) > 0
	})
	if len(found) != 1 {
		t.Fatalf("%d lines about request %s in %s, want one: %v", len(found), requestID, path, found)
	}
	return found[0]
}

func TestLogs_oneRequestIDFindsTheRequestOnBothSides(t *testing.T) {
	t.Parallel()
	b := login(t, iad(), ada)
	a := b.post(t, "/api/orders", newOrder{b.customer(t), 1299}, "Authorization-Info", "x")
	if a.status != http.StatusCreated {
		t.Fatalf("order: %s", a)
	}
	requestID := a.header.Get("X-Request-Id")
	edge, region := logged(t, iad().Log, requestID), logged(t, eu().Log, requestID)

	same := map[string]string{
		handoff.FieldRequestID: requestID, handoff.FieldTenant: "acme", handoff.FieldRegion: "eu", handoff.FieldPOP: "iad",
	}
	for field, want := range same {
		if edge[field] != want || region[field] != want {
			t.Errorf("%s is %v at the edge and %v in the region, want %s on both", field, edge[field], region[field], want)
		}
	}
	if id, _ := edge[handoff.FieldTraceID].(string); id == "" || region[handoff.FieldTraceID] != id {
		t.Errorf("%s is %v at the edge and %v in the region", handoff.FieldTraceID, edge[handoff.FieldTraceID], region[handoff.FieldTraceID])
	}
	for field, want := range map[string]string{handoff.FieldAuth: "session", handoff.FieldRegionReason: "table"} {
		if edge[field] != want {
			t.Errorf("%s at the edge is %v, want %s", field, edge[field], want)
		}
	}
	for _, field := range []string{handoff.FieldPoolWait, handoff.FieldDBTime, handoff.FieldDBQueries, handoff.FieldDBRoundTrips} {
		if _, ok := region[field].(float64); !ok {
			t.Errorf("%s is missing on the region's line: %v", field, region)
		}
	}
	for _, l := range []line{edge, region} {
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if _, token, _ := strings.Cut(b.cookie, "="); strings.Contains(string(text), token) {
			t.Error("the session's token is in a log")
		}
	}
}

// Where the edge rewrites a path, and where it answers itself, its line says so.
func TestLogs_sayWhatTheEdgeDid(t *testing.T) {
	t.Parallel()
	a := login(t, iad(), ada).get(t, "/app", "Accept", "text/html")
	if got := logged(t, iad().Log, a.header.Get("X-Request-Id"))[handoff.FieldRewrite]; got != "/eu/app" {
		t.Errorf("%s is %v, want /eu/app", handoff.FieldRewrite, got)
	}
	a = visit(iad()).get(t, "/api/orders")
	if got := logged(t, iad().Log, a.header.Get("X-Request-Id"))[handoff.FieldShortCircuit]; got != "edge_session" {
		t.Errorf("%s is %v, want edge_session", handoff.FieldShortCircuit, got)
	}
}
