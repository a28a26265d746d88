package region_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"go.uber.org/goleak"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

func TestMain(m *testing.M) {
	caddy.RegisterModule(testSession{})
	httpcaddyfile.RegisterHandlerDirective("test_session", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return testSession{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_session", httpcaddyfile.Before, "method")
	edgetest.RegisterLeaver()
	caddy.RegisterModule(testTracing{})
	httpcaddyfile.RegisterHandlerDirective("test_tracing", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return testTracing{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_tracing", httpcaddyfile.After, "tracing")
	var err error
	if scratch, err = os.MkdirTemp("", "edge-region"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = caddy.Stop()
	_ = os.RemoveAll(scratch)
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(
			// Caddy starts these once for the process.
			goleak.IgnoreAnyFunction("github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy.(*Upstream).fillDynamicHost.func1.1"),
			goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*Cache).maintainAssets"),
			goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"), // ends within seconds
		); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// scratch is a directory for the whole run.
var scratch string

// testSession stands for edge_session: it believes what a test says.
type testSession struct{}

func (testSession) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_session", New: func() caddy.Module { return new(testSession) }}
}

func (testSession) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	d, err := decision.From(r)
	if err != nil {
		return err
	}
	if tenant := r.Header.Get("Test-Tenant"); tenant != "" {
		d.Identity = handoff.Identity{
			Tenant: tenant, Subject: "u-" + tenant, SubjectIssuer: "test", Session: "s-" + tenant, Roles: []string{"buyer"},
		}
		d.SessionKey = sha256.Sum256([]byte(tenant))
		d.Auth = decision.AuthSession
		if r.Header.Get("Test-Bearer") != "" {
			d.Auth = decision.AuthBearer
		}
		if session := r.Header.Get("Test-Session"); session != "" {
			d.Identity.SubjectIssuer, d.Identity.Session, _ = strings.Cut(session, " ")
			d.SessionKey = sha256.Sum256([]byte(tenant + session))
		}
	}
	d.ClaimedHome = r.Header.Get("Test-Home")
	d.ForwardSession = r.Header.Get("Test-Forward") != ""
	err = next.ServeHTTP(w, r)
	lastDecision.Store(d.RequestID, *d)
	return err
}

// lastDecision keeps decisions by request id.
var lastDecision sync.Map

func decided(t *testing.T, res *http.Response) decision.Decision {
	t.Helper()
	d, ok := lastDecision.Load(res.Header.Get("X-Request-Id"))
	if !ok {
		t.Fatalf("no decision was kept for %q", res.Header.Get("X-Request-Id"))
	}
	return d.(decision.Decision)
}

// pop is a POP in this process, with two regions.
type pop struct {
	url    string
	eu, us *fakeRegion
}

// fakeRegion is a region: a real HTTP server that checks the hand-off.
type fakeRegion struct {
	*httptest.Server
	name     string
	t        *testing.T
	verifier *handoff.Verifier

	mu     sync.Mutex
	seen   []seen
	answer http.HandlerFunc
}

// seen is one request as a region received it.
type seen struct {
	method, target string
	header         http.Header
	body           []byte
	bodyErr        error
	claims         *handoff.Claims
	refused        error
}

func newRegion(t *testing.T, name string, keys handoff.KeySource, configure ...func(*httptest.Server)) *fakeRegion {
	t.Helper()
	f := &fakeRegion{name: name, t: t, verifier: verifierOf(name, keys)}
	f.Server = httptest.NewUnstartedServer(f)
	edgetest.NewPort(t).Move(t, f.Server)
	for _, c := range configure {
		c(f.Server)
	}
	f.Start()
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

func verifierOf(region string, keys handoff.KeySource) *handoff.Verifier {
	return &handoff.Verifier{Region: region, Keys: keys}
}

func (f *fakeRegion) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := seen{method: r.Method, target: r.RequestURI, header: r.Header.Clone()}
	s.claims, s.refused = f.verifier.Verify(r)
	f.mu.Lock()
	answer := f.answer
	i := len(f.seen)
	f.seen = append(f.seen, s)
	f.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	f.seen[i].body, f.seen[i].bodyErr = body, err
	f.mu.Unlock()
	fmt.Fprintf(w, "%s %s %s %d", f.name, r.Method, r.RequestURI, len(body))
}

func (f *fakeRegion) answers(h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = h
}

func (f *fakeRegion) requests() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

// only gives the one request that the region has seen, which must verify.
func (f *fakeRegion) only() seen {
	f.t.Helper()
	all := f.requests()
	if len(all) != 1 {
		f.t.Fatalf("region %s saw %d requests, 1 was to come: %+v", f.name, len(all), all)
	}
	if all[0].refused != nil {
		f.t.Fatalf("region %s refuses the hand-off: %v", f.name, all[0].refused)
	}
	return all[0]
}

func (f *fakeRegion) addr() string { return f.Listener.Addr().String() }

// sendsTo answers 421 in the way of a region.
func sendsTo(home string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Home-Region", home)
		w.WriteHeader(http.StatusMisdirectedRequest)
		_, _ = io.WriteString(w, `{"title":"misdirected"}`)
	}
}

// site is the body of the Caddyfile's site, with the transport's options.
func site(route, transport string) string {
	return "edge_guard\ntest_session\n" + route + "\nreverse_proxy {\ndynamic edge_region\ntransport edge {\n" + transport + "\n}\n}\n"
}

var popKey struct {
	once sync.Once
	file string
	keys handoff.StaticKeys
}

// keys makes the POP's key, once.
func keys(t *testing.T) (file string, source handoff.KeySource) {
	t.Helper()
	popKey.once.Do(func() {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		popKey.file = filepath.Join(scratch, "key.pem")
		if err := os.WriteFile(popKey.file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := jwks.NewSet(jwks.Key{ID: jwks.Thumbprint(public), Algorithm: "EdDSA", Material: public})
		if err != nil {
			t.Fatal(err)
		}
		popKey.keys = handoff.StaticKeys{"fra": set}
	})
	return popKey.file, popKey.keys
}

var secret struct {
	once sync.Once
	file string
}

// cookieSecret is a file with what every POP of these tests seals with.
func cookieSecret(t *testing.T) string {
	t.Helper()
	secret.once.Do(func() {
		secret.file = filepath.Join(scratch, "cookie.secret")
		if err := os.WriteFile(secret.file, []byte("a secret for cookies of at least 32 bytes"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	return secret.file
}

// newPOP starts two regions and a POP in front of them. There is one Caddy in a
// process, so tests that call it do not run side by side.
func newPOP(t *testing.T, siteBody string, configure ...func(*httptest.Server)) *pop {
	t.Helper()
	_, source := keys(t)
	p := &pop{eu: newRegion(t, "eu", source, configure...), us: newRegion(t, "us", source, configure...)}
	forget(t)
	p.load(t, siteBody)
	return p
}

// forget stops Caddy, so that the next test finds nothing learnt.
func forget(t *testing.T) {
	t.Helper()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
}

func (p *pop) load(t *testing.T, siteBody string) {
	t.Helper()
	p.loadRegions(t, p.eu.addr(), p.us.addr(), siteBody)
}

// loadRegions puts a POP before regions at these addresses. What the POP before
// it had learnt stays known. There is no circuit breaker unless a region's addresses
// are followed by one: the tests of failures have many on purpose.
func (p *pop) loadRegions(t *testing.T, eu, us, siteBody string) {
	t.Helper()
	if err := caddy.Load(adapt(t, caddyfile(t, eu, us, siteBody)), true); err != nil {
		t.Fatalf("load: %v", err)
	}
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	p.url = "http://" + app.(*caddyhttp.App).Servers["srv0"].Listeners()[0].Addr().String()
}

func caddyfile(t *testing.T, eu, us, siteBody string) string {
	file, _ := keys(t)
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	grace_period 1s
	storage file_system %s
	log {
		output discard
	}
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams %s
			countries DE FR
		}
		region us {
			upstreams %s
			public_name america
			countries US
		}
		assertion {
			key_file %s
		}
		session_cookie session
		cookie_secret_file %s
		breaker off
	}
}
http://:0 {
	bind 127.0.0.1
	%s
}
`, filepath.Join(scratch, "storage"), eu, us, file, cookieSecret(t), siteBody)
}

func adapt(t *testing.T, text string) []byte {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("adapt: %v\n%s", err, text)
	}
	return config
}

// ask sends one request to the POP. fields are "Name: value".
func (p *pop) ask(t *testing.T, method, target string, body io.Reader, fields ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.url+target, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		field, value, _ := strings.Cut(f, ": ")
		r.Header.Add(field, value)
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: read the answer: %v", method, target, err)
	}
	return res, string(text)
}

// raw sends bytes as they are and reads one answer.
func (p *pop) raw(t *testing.T, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	_, _ = io.Copy(&out, conn) // until it is closed
	return out.String()
}

var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
}
