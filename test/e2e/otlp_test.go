package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver takes traces in by OTLP over HTTP and keeps them.
type receiver struct {
	server *httptest.Server

	mu    sync.Mutex
	spans []span
}

// span is one that was received.
type span struct {
	*trace.Span
	service string
}

func newReceiver() *receiver {
	r := new(receiver)
	r.server = httptest.NewServer(r)
	return r
}

func (r *receiver) close() { r.server.Close() }

// env makes a program send its traces here, soon.
func (r *receiver) env() []string {
	return []string{
		"OTEL_TRACES_EXPORTER=otlp",
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.server.URL,
		"OTEL_BSP_SCHEDULE_DELAY=100",
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	request := new(collector.ExportTraceServiceRequest)
	if err == nil {
		err = proto.Unmarshal(body, request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		service := attribute(resource.Resource.Attributes, "service.name")
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				r.spans = append(r.spans, span{s, service})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// trace waits for a trace that a request with this id belongs to, until complete
// says that all of it is there.
func (r *receiver) trace(t *testing.T, requestIDAttribute, requestID string, complete func([]span) bool) []span {
	t.Helper()
	var found []span
	await(t, "the trace of request "+requestID, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		var id []byte
		for _, s := range r.spans {
			if attribute(s.Attributes, requestIDAttribute) == requestID {
				id = s.TraceId
			}
		}
		found = nil
		for _, s := range r.spans {
			if id != nil && string(s.TraceId) == string(id) {
				found = append(found, s)
			}
		}
		return id != nil && complete(found)
	})
	return found
}

func attribute(attributes []*common.KeyValue, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// child gives the only span of that name below parent.
func child(t *testing.T, spans []span, parent span, name string) span {
	t.Helper()
	var found []span
	for _, s := range spans {
		if s.Name == name && id(s.ParentSpanId) == id(parent.SpanId) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans below %s are called %s, want one; the trace:\n%s", len(found), parent.Name, name, tree(spans))
	}
	return found[0]
}

// tree lists a trace for people.
func tree(spans []span) string {
	var b strings.Builder
	for _, s := range spans {
		fmt.Fprintf(&b, "%s below %s: %s %s (%s)\n", id(s.SpanId), id(s.ParentSpanId), s.service, s.Name, s.Kind)
	}
	return b.String()
}

func names(spans []span) (list []string) {
	for _, s := range spans {
		list = append(list, s.service+" "+s.Name)
	}
	return list
}

func id(b []byte) string { return hex.EncodeToString(b) }
