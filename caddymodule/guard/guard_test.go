package guard

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/uuid"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// seen is what came of a request: the answer, the decision, and the request as
// the next handler got it, if it did.
type seen struct {
	*httptest.ResponseRecorder
	*decision.Decision
	next *http.Request
}

func serve(t testing.TB, g *Guard, r *http.Request, trusted bool) seen {
	t.Helper()
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, trusted)
	s := seen{ResponseRecorder: httptest.NewRecorder()}
	err := g.ServeHTTP(s.ResponseRecorder, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		s.next = r
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	s.Decision = decision.Of(r.Context())
	return s
}

func newGuard(t testing.TB) *Guard { return &Guard{app: edgetest.App(t)} }

func TestGuard_namesTheRequest(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	for _, row := range []struct {
		name    string
		sent    []string
		trusted bool
		kept    bool
	}{
		{"none", nil, true, false},
		{"from a trusted proxy", []string{"0192-abcdef"}, true, true},
		{"from anyone else", []string{"0192-abcdef"}, false, false},
		{"twice", []string{"0192-abcdef", "0192-abcdef"}, true, false},
		{"a list", []string{"0192-abcdef, 0192-abcdeg"}, true, false},
		{"too short", []string{"1234567"}, true, false},
		{"too long", []string{strings.Repeat("a", 129)}, true, false},
		{"a line break", []string{"0192abcdef\r\nSet-Cookie: a=b"}, true, false},
		{"markup", []string{"<script>alert(1)</script>"}, true, false},
		{"not ASCII", []string{"0192abcdéf"}, true, false},
		{"empty", []string{""}, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if row.sent != nil {
				h["X-Request-Id"] = row.sent
			}
			s := serve(t, g, edgetest.Request("GET", "/", h), row.trusted)
			ids := s.Header()["X-Request-Id"]
			if len(ids) != 1 || ids[0] != s.RequestID || !handoff.ValidRequestID(ids[0]) {
				t.Fatalf("X-Request-Id %q, decision %q", ids, s.RequestID)
			}
			if row.kept {
				if ids[0] != row.sent[0] {
					t.Errorf("is %q, want %q", ids[0], row.sent[0])
				}
			} else if id, err := uuid.Parse(ids[0]); err != nil || id.Version() != 7 {
				t.Errorf("%q is no UUIDv7", ids[0])
			}
			if _, there := s.next.Header["X-Request-Id"]; there {
				t.Error("the client's id is passed on")
			}
		})
	}
}

func TestRequestID_isUniqueAndSorted(t *testing.T) {
	t.Parallel()
	last := ""
	for range 10000 {
		id := newRequestID(time.Now())
		if id <= last {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
	}
}

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

func TestGuard_takesAwayWhatOnlyTheEdgeMaySay(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	g.MaxHeaders = 1000
	spellings := []string{}
	for _, name := range []string{
		"X-Request-Id", "X-Tenant-Id", "X-Home-Region", "X-Edge-Assertion", "X-Edge-Wrote", "X-Edge-Served-By", "X-Edge-Anything-New",
		"Traceparent", "Tracestate", "Baggage",
	} {
		spellings = append(spellings, name, strings.ToLower(name), strings.ToUpper(name),
			strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."), strings.ReplaceAll(strings.ToLower(name), "-", "_"),
			strings.ReplaceAll(name, "-", "~"), strings.Replace(name, "-", "_", 1))
	}
	for _, trusted := range []bool{false, true} {
		h := http.Header{"Accept": {"a", "b"}, "X-Tenant": {"kept"}, "X-Edgeware": {"kept"}, "Trace": {"kept"}, "Idempotency-Key": {"k"}}
		kept := len(h)
		for _, name := range spellings {
			h[name] = []string{"forged", "twice"}
		}
		s := serve(t, g, edgetest.Request("GET", "/", h), trusted)
		want := kept
		if trusted { // the trace, under its own three names
			want += 3
		}
		if len(s.next.Header) != want {
			t.Errorf("trusted %v: left are %q", trusted, s.next.Header)
		}
		if _, ok := s.next.Header["Traceparent"]; ok != trusted {
			t.Errorf("trusted %v: Traceparent is left: %v", trusted, ok)
		}
	}
}

func TestGuard_cleansConnection(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		sent, want []string
	}{
		{"nothing of ours", []string{"keep-alive,  Upgrade ,,x"}, []string{"keep-alive,  Upgrade ,,x"}},
		{"close", []string{"close"}, []string{"close"}},
		{"ours alone", []string{"x-tenant-id"}, nil},
		{"among others", []string{"keep-alive, X-Tenant-Id, Upgrade"}, []string{"keep-alive, Upgrade"}},
		{"odd spaces and case", []string{"\tx-TENANT-id\t ,  close"}, []string{"close"}},
		{"no spaces", []string{"close,x-request-id,traceparent,tracestate,baggage,x-edge-assertion,x-home-region"}, []string{"close"}},
		{"other spellings", []string{"x_tenant_id, X.Tenant.Id, close"}, []string{"close"}},
		{"several lines", []string{"x-tenant-id", "keep-alive", "x-edge-assertion, upgrade"}, []string{"keep-alive", "upgrade"}},
		{"every line", []string{"x-tenant-id", " , x-edge-assertion"}, nil},
		{"a later header of ours", []string{"x-edge-future"}, nil},
		{"many", []string{strings.Repeat("x-tenant-id,", 1000) + "close"}, []string{"close"}},
		{"empty", []string{""}, []string{""}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{"Connection": slices.Clone(row.sent)}
			cleanConnection(h)
			if !slices.Equal(h["Connection"], row.want) {
				t.Errorf("%q, want %q", h["Connection"], row.want)
			}
			if _, there := h["Connection"]; there != (row.want != nil) {
				t.Error("an empty header is left")
			}
		})
	}
}

// FuzzConnection holds the cleaner against what a proxy does with the header:
// after it, removing what Connection names must leave every header of ours.
func FuzzConnection(f *testing.F) {
	for _, seed := range []string{"close", "x-tenant-id", "X_Tenant_Id , upgrade", "\tx-edge-assertion\t,,", "keep-alive,traceparent", "x-tenant-id\x00"} {
		f.Add(seed, "close")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		h := http.Header{"Connection": {one, two}}
		cleanConnection(h)
		ours := http.Header{}
		for _, name := range []string{"X-Tenant-Id", "X-Request-Id", "X-Home-Region", "X-Edge-Assertion", "Traceparent", "Tracestate", "Baggage"} {
			ours.Set(name, "ours")
		}
		before := len(ours)
		for _, line := range h["Connection"] { // reverseproxy.removeConnectionHeaders
			for token := range strings.SplitSeq(line, ",") {
				if token = textproto.TrimString(token); token != "" {
					ours.Del(token)
				}
			}
		}
		if len(ours) != before {
			t.Fatalf("%q, %q became %q, which takes away a header of ours", one, two, h["Connection"])
		}
		tokens := func(lines ...string) (kept []string) {
			for _, line := range lines {
				for token := range strings.SplitSeq(line, ",") {
					if token = textproto.TrimString(token); token != "" && !handoff.Protected(token) {
						kept = append(kept, token)
					}
				}
			}
			return kept
		}
		if !slices.Equal(tokens(h["Connection"]...), tokens(one, two)) {
			t.Fatalf("%q, %q lost a token: %q", one, two, h["Connection"])
		}
	})
}

func FuzzRequestID(f *testing.F) {
	for _, seed := range []string{"", "0192-abcdef", "a\r\nb: c", strings.Repeat("x", 200), "ünïcode-id", "a b c d e f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		for _, trusted := range []bool{false, true} {
			id := requestID(http.Header{"X-Request-Id": {sent}}, trusted, time.Now())
			if !handoff.ValidRequestID(id) {
				t.Fatalf("%q gives %q", sent, id)
			}
			if id == sent && !trusted {
				t.Fatalf("anybody can name a request %q", sent)
			}
		}
	})
}

func TestGuard_remembersAnUntrustedTraceForTheLogAlone(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	for _, row := range []struct{ sent, want string }{
		{traceparent, traceID},
		{"00-" + traceID + "-00f067aa0ba902b7-00", traceID},
		{"01-" + traceID + "-00f067aa0ba902b7-01-more", traceID},
		{"00-" + traceID + "-00f067aa0ba902b7-01-more", ""},
		{"ff-" + traceID + "-00f067aa0ba902b7-01", ""},
		{"00-" + strings.ToUpper(traceID) + "-00f067aa0ba902b7-01", ""},
		{"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", ""},
		{"00-" + traceID + "-0000000000000000-01", ""},
		{"00-" + traceID, ""}, {"", ""}, {strings.Repeat("a", 55), ""}, {"00_" + traceparent[3:], ""},
	} {
		s := serve(t, g, edgetest.Request("GET", "/", http.Header{"Traceparent": {row.sent}}), false)
		if s.ClientTraceID != row.want {
			t.Errorf("%q: %q, want %q", row.sent, s.ClientTraceID, row.want)
		}
	}
	if s := serve(t, g, edgetest.Request("GET", "/", http.Header{"Traceparent": {traceparent, traceparent}}), false); s.ClientTraceID != "" {
		t.Error("two of them are believed")
	}
	if s := serve(t, g, edgetest.Request("GET", "/", http.Header{"Traceparent": {traceparent}}), true); s.ClientTraceID != "" {
		t.Error("a trusted trace is written off as a client's")
	}
}

func TestGuard_keepsProtectedNamesOutOfTrailers(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	r := edgetest.Request("POST", "/", nil)
	r.Trailer = http.Header{"X-Tenant-Id": nil, "X-Checksum": nil}
	r.Body = io.NopCloser(atEOF{strings.NewReader("body"), func() { // as net/http does, announced or not
		r.Trailer["X-Tenant-Id"], r.Trailer["X-Edge-Assertion"], r.Trailer["X-Checksum"] = []string{"a"}, []string{"b"}, []string{"c"}
	}})
	s := serve(t, g, r, true)
	if _, there := s.next.Trailer["X-Tenant-Id"]; there {
		t.Error("an announced trailer is left")
	}
	if body, err := io.ReadAll(s.next.Body); err != nil || string(body) != "body" {
		t.Fatal(string(body), err)
	}
	if len(s.next.Trailer) != 1 || s.next.Trailer.Get("X-Checksum") != "c" {
		t.Errorf("trailers after the body: %q", s.next.Trailer)
	}
}

type atEOF struct {
	io.Reader
	then func()
}

func (a atEOF) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		a.then()
	}
	return n, err
}

func TestGuard_refusesMethodsThatNoProxyShouldPass(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	for _, method := range []string{"CONNECT", "TRACE"} {
		s := serve(t, g, edgetest.Request(method, "/", nil), true)
		if s.Code != 405 || s.Header().Get("Allow") == "" || s.next != nil || s.Outcome != decision.OutcomeRefused || s.Problem != "method-not-allowed" {
			t.Errorf("%s: %d, Allow %q, %s", method, s.Code, s.Header().Get("Allow"), s.Outcome)
		}
	}
	for _, row := range []struct {
		version  int
		field    string
		protocol string
		want     int
	}{
		{1, "websocket", "websocket", 405}, // no such thing: whoever wrote it was no parser of ours
		{2, "websocket", "HTTP/2.0", 204},
		{2, "connect-udp", "HTTP/2.0", 405},
		{2, "", "websocket", 405},
		{3, "", "websocket", 204},
		{3, "websocket", "HTTP/3.0", 405},
		{3, "", "webtransport", 405},
	} {
		r := edgetest.Request("CONNECT", "/ws", http.Header{":protocol": {row.field}})
		r.ProtoMajor, r.Proto = row.version, row.protocol
		if s := serve(t, g, r, false); s.Code != row.want {
			t.Errorf("%+v: %d", row, s.Code)
		}
	}
}

func TestGuard_refusesUnsafeEarlyData(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	early := http.Header{"Early-Data": {"1"}} // of a proxy before us
	for _, row := range []struct {
		method   string
		complete bool
		header   http.Header
		want     int
		told     string // what the region is told
	}{
		{"POST", false, nil, 425, ""}, {"DELETE", false, nil, 425, ""}, {"PROPFIND", false, nil, 425, ""},
		{"GET", false, nil, 204, "1"}, {"HEAD", false, nil, 204, "1"}, {"POST", true, nil, 204, ""}, {"GET", true, nil, 204, ""},
		{"POST", true, early, 425, ""}, {"GET", true, early, 204, "1"}, {"GET", false, early, 204, "1"},
		{"POST", true, http.Header{"Early-Data": {"0"}}, 425, ""}, // any value is its 1
		{"POST", true, http.Header{"Early-Data": {""}}, 425, ""},
		{"GET", true, http.Header{"Early-Data": {"1", "x"}}, 204, "1"},
		{"GET", true, http.Header{"Early-Data": {"1"}, "Upgrade": {"websocket"}, "Connection": {"Upgrade"}}, 425, ""},
		{"GET", true, http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}, 204, ""},
	} {
		r := edgetest.Request(row.method, "/", row.header.Clone())
		r.TLS = &tls.ConnectionState{HandshakeComplete: row.complete}
		s := serve(t, g, r, false)
		if s.Code != row.want {
			t.Errorf("%+v: %d", row, s.Code)
		}
		if s.next != nil && strings.Join(s.next.Header["Early-Data"], "|") != row.told {
			t.Errorf("%+v: the region is told %q", row, s.next.Header["Early-Data"])
		}
	}
}

func TestGuard_mustSeeThePathFirst(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	for _, u := range []*url.URL{{Path: "/other"}, {Path: "/app", RawQuery: "x=1"}, {Path: "/app/"}, {Path: ""}, {Path: "/ap"}} {
		for _, target := range []string{"/app", "/%61pp"} {
			r := edgetest.Request("GET", target, nil)
			r.URL = u
			s := serve(t, g, r, false)
			if s.Code != 500 || s.next != nil {
				t.Errorf("%s routed as %v: %d", target, u, s.Code)
			}
		}
	}
}

// Whatever CheckPath lets through is routed as it was checked.
func FuzzAgrees(f *testing.F) {
	for _, seed := range []string{"/", "/app?x=1", "/%61pp", "/caf%C3%A9", "/a%20b?", "/a??b", "/a%3fb", `/"<>^{|}`, "/caf\u00e9", "/a%25"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || handoff.CheckPath(target) != nil {
			return
		}
		if !agrees(target, u) {
			t.Fatalf("%q is parsed as path %q query %q, which agrees not", target, u.Path, u.RawQuery)
		}
		if changed := *u; true {
			changed.Path += "x"
			if agrees(target, &changed) {
				t.Fatalf("%q agrees with %q", target, changed.Path)
			}
		}
	})
}

func TestGuard_publishesTheKeysOfItsAssertions(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	want, err := g.app.PublishedKeys()
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, g, edgetest.Request("GET", handoff.JWKSPath, nil), false)
	if s.Code != 200 || s.Body.String() != string(want) || s.next != nil {
		t.Fatalf("%d %s", s.Code, s.Body)
	}
	for name, value := range map[string]string{"Content-Type": "application/jwk-set+json", "Cache-Control": "public, max-age=300"} {
		if got := s.Header().Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if s := serve(t, g, edgetest.Request("HEAD", handoff.JWKSPath, nil), false); s.Code != 200 || s.Body.Len() != 0 {
		t.Errorf("HEAD: %d %q", s.Code, s.Body)
	}
	etag := s.Header().Get("Etag")
	if s := serve(t, g, edgetest.Request("GET", handoff.JWKSPath, http.Header{"If-None-Match": {etag}}), false); etag == "" || s.Code != 304 {
		t.Errorf("If-None-Match %s: %d", etag, s.Code)
	}
	if s := serve(t, g, edgetest.Request("POST", handoff.JWKSPath, nil), false); s.Code != 405 || s.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, Allow %q", s.Code, s.Header().Get("Allow"))
	}
}

func TestGuard_standingTwiceDecidesOnce(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	r := edgetest.Request("GET", "/", nil)
	w := httptest.NewRecorder()
	var outer, inner *decision.Decision
	second := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		outer = decision.Of(r.Context())
		return g.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			inner = decision.Of(r.Context())
			return nil
		}))
	})
	if err := g.ServeHTTP(w, r, second); err != nil || inner == nil || inner != outer {
		t.Errorf("%v: %p and %p", err, outer, inner)
	}
}

func TestGuard_countsWhatPanics(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	r := edgetest.Request("GET", "/", nil)
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler { //nolint:errorlint // a panic value
				t.Error("the panic did not go through")
			}
		}()
		_ = g.ServeHTTP(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
			panic(http.ErrAbortHandler)
		}))
	}()
	if d := decision.Of(r.Context()); d.Outcome != decision.OutcomeError {
		t.Errorf("outcome %q", d.Outcome)
	}
}
