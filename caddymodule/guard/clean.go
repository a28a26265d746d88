package guard

import (
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// clean takes away whatever only the edge may say, and what frameworks believe. From a
// trusted proxy the trace is kept, under its own three names, and what a proxy says of
// its client. It counts what came, in one look over the header, which costs more than
// the questions.
func (g *Guard) clean(r *http.Request, trusted bool) (came size) {
	for name, values := range r.Header {
		came.add(name, values)
		if handoff.Protected(name) && !(trusted && isTrace(name)) || g.drops(name, r, trusted) {
			delete(r.Header, name)
		}
	}
	cleanConnection(r.Header)
	if r.Trailer != nil {
		cleanTrailer(r)
	}
	return came
}

func isTrace(field string) bool {
	switch field {
	case handoff.HeaderTraceparent, handoff.HeaderTracestate, handoff.HeaderBaggage:
		return true
	}
	return false
}

// cleanConnection takes protected names out of Connection. A proxy removes the
// headers that are named there, so that a client could have ours removed after
// they were set: no X-Tenant-Id is to some origins the tenant of everyone. The
// other tokens stay, byte for byte where nothing was taken out.
//
// Te and Trailer need none of this: reverse_proxy forwards neither, but for
// "Te: trailers".
func cleanConnection(h http.Header) {
	lines, ok := h["Connection"]
	if !ok || !namesProtected(lines) {
		return
	}
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		tokens := make([]string, 0, 4)
		for token := range strings.SplitSeq(line, ",") {
			if token = textproto.TrimString(token); token != "" && !handoff.Protected(token) {
				tokens = append(tokens, token)
			}
		}
		if len(tokens) > 0 {
			kept = append(kept, strings.Join(tokens, ", "))
		}
	}
	if len(kept) == 0 {
		delete(h, "Connection")
		return
	}
	h["Connection"] = kept
}

func namesProtected(lines []string) bool {
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			if handoff.Protected(textproto.TrimString(token)) {
				return true
			}
		}
	}
	return false
}

// cleanTrailer keeps protected names out of the trailer (RFC 9110, section
// 6.5), which is known when the body was read: net/http then adds whatever was
// sent, announced or not.
func cleanTrailer(r *http.Request) {
	dropTrailers(r.Trailer)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &trailedBody{ReadCloser: r.Body, trailer: r.Trailer}
	}
}

type trailedBody struct {
	io.ReadCloser
	trailer http.Header
}

func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		dropTrailers(b.trailer)
	}
	return n, err
}

// dropTrailers drops the trace too, whoever sent it: a trailer is too late for it.
func dropTrailers(trailer http.Header) {
	for field := range trailer {
		if handoff.Protected(field) {
			delete(trailer, field)
		}
	}
}

// clientTraceID gives the trace id of a well-formed traceparent (W3C Trace
// Context, section 3.2), for the log alone. Empty: there is none.
func clientTraceID(h http.Header) string {
	lines := h[handoff.HeaderTraceparent]
	if len(lines) != 1 {
		return ""
	}
	// version "-" trace-id "-" parent-id "-" trace-flags, then what later versions add
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	p := lines[0]
	switch {
	case len(p) < length, len(p) > length && (p[:2] == "00" || p[length] != '-'):
		return ""
	case p[2] != '-' || p[35] != '-' || p[52] != '-':
		return ""
	}
	version, trace, parent, flags := p[:2], p[3:35], p[36:52], p[53:55]
	if !lowerHex(version) || version == "ff" || !lowerHex(flags) ||
		!lowerHex(trace) || strings.Trim(trace, "0") == "" ||
		!lowerHex(parent) || strings.Trim(parent, "0") == "" {
		return ""
	}
	return trace
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
