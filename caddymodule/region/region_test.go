package region

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// bench is a POP without a server, for what is looked at or measured alone.
type bench struct {
	region    *Region
	upstreams *Upstreams
	transport *Transport
}

func newBench(t testing.TB, rewrite string) *bench {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	app := &edge.App{
		POP: "fra", DefaultRegion: "eu", SessionCookie: "session",
		Regions: []*edge.Region{
			{Name: "eu", PublicName: "eu", Upstreams: []string{"127.0.0.1:1", "127.0.0.1:2"}, Countries: []string{"DE"}},
			{Name: "us", PublicName: "america", Upstreams: []string{"127.0.0.1:3"}, Countries: []string{"US"}},
		},
		Assertion: &edge.Assertion{KeyFiles: []string{file}},
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := app.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Cleanup() })
	l, err := newLearnt()
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAssertions()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = l.Close(), a.Close() })
	b := &bench{
		region:    &Region{Country: "{http.request.header.Country}", app: app, table: app.TenantHome, learnt: l},
		upstreams: &Upstreams{app: app},
		transport: &Transport{ReplayLimit: DefaultReplayLimit, app: app, table: app.TenantHome, learnt: l, assertions: a},
	}
	b.transport.signer = func() (string, error) { return "fra key", nil }
	b.transport.defaults()
	if err := b.transport.findDials(); err != nil {
		t.Fatal(err)
	}
	if rewrite != "" {
		if b.region.template, err = parseTemplate(rewrite, app.Regions); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// request begins a request as Caddy and edge_guard do.
func request(method, target string) (*http.Request, *decision.Decision) {
	r := httptest.NewRequest(method, "/", nil)
	if u, err := url.ParseRequestURI(target); err == nil {
		r.URL, r.RequestURI = u, target
	}
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	d, _ := decision.Begin(w, r, "0123456789abcdef", decision.Options{POP: "fra"})
	return r, d
}

// sessionOf gives the decision a session.
func sessionOf(d *decision.Decision, tenant string) {
	d.Identity = handoff.Identity{Tenant: tenant, Subject: "u-1", SubjectIssuer: "https://eu.example", Session: "s-1", Roles: []string{"buyer", "approver"}}
	d.SessionKey = sha256.Sum256([]byte(tenant))
	d.ClaimedHome = "eu"
}

func TestTemplate_refusesWhatIsNoPrefix(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/{edge.region}":                    "ends with {uri}",
		"/{edge.region}{uri}/x":             "ends with {uri}",
		"/{edge.region}{uri}{uri}":          "ends with {uri}",
		"/portal{uri}":                      "names no {edge.region}",
		"{edge.region}{uri}":                "begins with a slash",
		"/{edge.region}/{uri}":              "{uri} begins with a slash itself",
		"/{edge.tenant}/{edge.region}{uri}": "the placeholders that it may hold",
		"/{edge.region}?{uri}":              "a plain path",
		"/%65/{edge.region}{uri}":           "a plain path",
		"/a//{edge.region}{uri}":            "a plain path",
		"/../{edge.region}{uri}":            "a plain path",
		"/a#{edge.region}{uri}":             "a plain path",
	} {
		if _, err := splitTemplate(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestTemplate_aLongerPrefixIsTakenOffWhole(t *testing.T) {
	t.Parallel()
	b := newBench(t, "/r/{edge.region}{uri}")
	for target, want := range map[string]string{"/app": "/r/eu/app", "/r/america/app": "/r/eu/app", "/america/app": "/r/eu/america/app", "/r/eu": "/r/eu"} {
		r, d := request("GET", target)
		d.Region("eu", decision.ReasonPOP)
		b.region.template.rewrite(r, d)
		if r.RequestURI != want || r.URL.RequestURI() != want || d.Retarget("us") != strings.Replace(want, "/eu", "/america", 1) {
			t.Errorf("%s: %s, want %s (us: %s)", target, r.RequestURI, want, d.Retarget("us"))
		}
	}
}

func TestUpstreams_areTheHomeRegionsInOrderAndNewForEachRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	r, d := request("POST", "/")
	beginExchange(d)
	for home, want := range map[string][]string{"eu": {"127.0.0.1:1", "127.0.0.1:2"}, "us": {"127.0.0.1:3"}, "mars": nil, "": nil} {
		d.Home = home
		first, err := b.upstreams.GetUpstreams(r)
		second, _ := b.upstreams.GetUpstreams(r)
		var got []string
		for i, u := range first {
			got = append(got, u.Dial)
			if u == second[i] {
				t.Error("reverse_proxy writes into upstreams: two requests must not share one")
			}
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q, and never an error", home, got, err, want)
		}
	}
}

// What becomes of a request says something of the upstream, or of somebody else.
func TestErrand_whoseFaultItIs(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for name, row := range map[string]struct {
		err    error
		counts bool
	}{
		"dial":                 {&failure{kind: unsent, cause: reverseproxy.NewDialError(refused)}, true},
		"handshake":            {&failure{kind: unsent, cause: &tls.CertificateVerificationError{Err: errors.New("unknown authority")}}, true},
		"no TLS there":         {&failure{kind: unsent, cause: tls.RecordHeaderError{}}, true},
		"closed at once":       {&failure{kind: unsent, cause: io.EOF}, true},
		"closed unasked":       {&failure{kind: unsent, cause: closedBeforeItWasAsked(t)}, true},
		"another left":         {&failure{kind: broken, cause: errStrayed}, false},
		"broke off":            {&failure{kind: broken, cause: io.ErrUnexpectedEOF}, true},
		"took too long":        {&failure{kind: timedOut, cause: errStalled}, true},
		"cannot be written":    {&failure{kind: unsent, cause: errors.New("net/http: invalid header field value")}, false},
		"misdirected":          {&failure{kind: misdirected, detail: detailTwice}, false},
		"cannot be asserted":   {&failure{kind: tooLong}, false},
		"the client left":      {gone(context.Canceled), false},
		"the client broke off": {clientFault(io.ErrUnexpectedEOF), false},
		"no key":               {caddyhttp.Error(http.StatusInternalServerError, errors.New("no key")), false},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: each finds the upstream as new
			to := newBench(t, "").region.app.Region("eu").Reach()[0]
			for range health.DefaultFailures {
				ticket, ok := to.Begin()
				if !ok {
					t.Fatal("it is left alone already")
				}
				errand{to, ticket}.failed(row.err, true)
			}
			if open := to.Use() != health.Plain; open != row.counts {
				t.Errorf("the breaker is open: %t, want %t", open, row.counts)
			}
		})
	}
}

// closedBeforeItWasAsked is net/http's error for a connection that ended between
// dialling and the first byte of the request.
func closedBeforeItWasAsked(t *testing.T) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan struct{})
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		theirs, err := l.Accept()
		if err != nil {
			return nil, err
		}
		return &tellsClose{Conn: ours, closed: closed}, theirs.Close()
	}}
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { <-closed },
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://region.invalid", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = transport.RoundTrip(r); err == nil {
		t.Fatal("it was answered")
	}
	return err
}

// tellsClose closes closed when it is closed itself.
type tellsClose struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *tellsClose) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// BenchmarkErrand is what the health of an upstream adds to a request.
func BenchmarkErrand(b *testing.B) {
	bench := newBench(b, "")
	r, d := request("POST", "/")
	d.Home = "eu"
	beginExchange(d)
	r = r.WithContext(context.WithValue(r.Context(), dialInfoCtxKey, reverseproxy.DialInfo{Network: "tcp", Address: "127.0.0.1:2"}))
	x := exchangeOf(r.Context())
	answer := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}}
	b.ReportAllocs()
	for b.Loop() {
		e, err := bench.transport.errand(x, r)
		if err != nil || e.to == nil {
			b.Fatal(e, err)
		}
		e.answered(answer)
	}
}

func TestDropCookie(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ sent, want []string }{
		{nil, nil},
		{[]string{"a=1"}, []string{"a=1"}},
		{[]string{"session=x"}, nil},
		{[]string{"session"}, nil},
		{[]string{"a=1; session=x; b=2", "session=y", "c=3"}, []string{"a=1; b=2", "c=3"}},
		{[]string{"a=1;session =x;\tsession=y ;b=session=z"}, []string{"a=1;b=session=z"}},
		{[]string{"SESSION=x; xsession=y; session2=z"}, []string{"SESSION=x; xsession=y; session2=z"}},
		{[]string{"a=session;b=2"}, []string{"a=session;b=2"}},
	} {
		h := http.Header{}
		if row.sent != nil {
			h["Cookie"] = slices.Clone(row.sent)
		}
		dropCookie(h, "session")
		if _, there := h["Cookie"]; !slices.Equal(h["Cookie"], row.want) || there != (len(row.want) > 0) {
			t.Errorf("%q became %q, want %q", row.sent, h["Cookie"], row.want)
		}
	}
}

func TestAssertion_isNotSharedBetweenKeysRegionsAndReplays(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	_, d := request("GET", "/")
	sessionOf(d, "acme")
	d.Region("eu", decision.ReasonClaim)
	signed := func() string {
		t.Helper()
		s, err := b.transport.assertion(&exchange{d: d}, "GET", "/")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	seen := map[string]string{}
	note := func(what string) {
		t.Helper()
		s := signed()
		if again := signed(); again != s {
			t.Errorf("%s: made twice", what)
		}
		if other, ok := seen[s]; ok {
			t.Errorf("%s and %s share an assertion", what, other)
		}
		seen[s] = what
	}
	note("first")
	d.Home = "us"
	note("another region")
	d.Replayed = true
	note("a replay")
	b.transport.signer = func() (string, error) { return "fra other", nil }
	note("another key")
	d.SessionKey = sha256.Sum256([]byte("other"))
	note("another session")
	d.Identity = handoff.Identity{}
	note("nobody")
	d.Identity, d.SessionKey = handoff.Identity{Tenant: "acme"}, [sha256.Size]byte{}
	if first := signed(); first == signed() {
		t.Error("a session that nothing tells apart is shared")
	}
}

func TestTransport_itsDeadlineEndsAfterTheRegions(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	if edge, region := b.transport.ResponseHeaderTimeout, caddy.Duration(handoff.RegionRequestTimeout); edge <= region {
		t.Errorf("the edge waits %d, a region works %d", edge, region)
	}
	if b.transport.DialTimeout != caddy.Duration(DefaultDialTimeout) {
		t.Error(b.transport.DialTimeout)
	}
}

// What was learnt outlives a configuration, and the next may lack the region.
func TestRegion_whatWasLearntOfARegionThatIsGoneIsPassedOver(t *testing.T) {
	t.Parallel()
	learnt, err := newLearnt()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = learnt.Close() })
	learnt.remember("acme", "", lesson{home: "gone", epoch: 1})
	h := &Region{app: &edge.App{DefaultRegion: "eu", Regions: []*edge.Region{{Name: "eu"}, {Name: "us"}}}, table: tableOf("", 0), learnt: learnt}
	d := &decision.Decision{Identity: handoff.Identity{Tenant: "acme"}, ClaimedHome: "us"}
	if home, why := h.choose(httptest.NewRequest("GET", "/", nil), d); home != "us" || why != decision.ReasonClaim {
		t.Errorf("%s because of %s", home, why)
	}
}

func TestCorrection(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		lines []string
		home  string
		ok    bool
	}{
		{[]string{"us"}, "us", true},
		{nil, "", false},
		{[]string{""}, "", false},
		{[]string{"us", "us"}, "", false},
		{[]string{"us,eu"}, "", false},
		{[]string{" us"}, "", false},
		{[]string{"US"}, "", false},
		{[]string{strings.Repeat("a", 64)}, "", false},
	} {
		if home, ok := correction(http.Header{"X-Home-Region": row.lines}); home != row.home || ok != row.ok {
			t.Errorf("%q: %q %v", row.lines, home, ok)
		}
	}
}

// dialled is the request as reverse_proxy hands it to a transport.
func dialled(r *http.Request) *http.Request {
	ctx := context.WithValue(r.Context(), dialInfoCtxKey, reverseproxy.DialInfo{Network: "tcp", Address: "127.0.0.1:1", Host: "127.0.0.1", Port: "1"})
	out := r.WithContext(ctx)
	u := *r.URL
	u.Scheme, u.Host = "http", "127.0.0.1:1"
	out.URL, out.Body, out.ContentLength = &u, nil, 0
	return out
}
