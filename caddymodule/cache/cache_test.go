package cache_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// origin is a server whose answers a test decides, and that writes down what it was
// asked.
type origin struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []*http.Request
	answer http.HandlerFunc
}

func newOrigin(t testing.TB, answer http.HandlerFunc) *origin {
	t.Helper()
	o := &origin{answer: answer}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.asked = append(o.asked, r.Clone(r.Context()))
		answer := o.answer
		o.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) address() string { return strings.TrimPrefix(o.URL, "http://") }

// count is how often the path was asked for.
func (o *origin) count(path string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.asked {
		if r.URL.Path == path {
			n++
		}
	}
	return n
}

// site runs Caddy with routes that end at the origin.
type site struct {
	t       testing.TB
	address string
	client  *http.Client
	tokens  map[string]string
	config  string
	now     atomic.Pointer[string] // the address, where it changes while others ask
}

// addressNow is where the site listens.
func (s *site) addressNow() string {
	if at := s.now.Load(); at != nil {
		return *at
	}
	return s.address
}

func newSite(t testing.TB, o *origin, routes string) *site {
	t.Helper()
	return newSiteWith(t, o, "", routes)
}

// newSiteWith has further options in the edge's block.
func newSiteWith(t testing.TB, o *origin, options, routes string) *site {
	t.Helper()
	key := edgetest.Key(t, "EdDSA")
	s := &site{t: t, tokens: map[string]string{}}
	s.config = `{
	` + edgetest.Globals + `
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
		}
		assertion {
			key_file ` + edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))) + `
		}
		cookie_secret_file ` + edgetest.Write(t, "cookie.secret", []byte(edgetest.CookieSecret)) + `
		issuer https://eu.example {
			key_file ` + edgetest.KeyFile(t, jwks.Key{ID: "k1", Material: edgetest.Public(key)}) + `
			audience gatehouse
		}
		` + options + `
	}
}
http://:0 {
	bind 127.0.0.1
	edge_guard
	` + strings.ReplaceAll(routes, "ORIGIN", o.address()) + `
}
`
	s.address = edgetest.Run(t, s.config)
	for name, changes := range map[string]map[string]any{
		"ada":   {"tenant_id": "acme", "sub": "ada", "sid": "s-1"},
		"alan":  {"tenant_id": "acme", "sub": "alan", "sid": "s-2"},
		"grace": {"tenant_id": "globex", "sub": "grace", "sid": "s-3"},
	} {
		s.tokens[name] = edgetest.Token(t, "EdDSA", key, edgetest.Claims("https://eu.example", "gatehouse", changes), map[string]any{"kid": "k1"})
	}
	s.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

// got is an answer.
type got struct {
	*http.Response
	body string
}

// cache is our member of Cache-Status.
func (g got) cache() string {
	lines := g.Header.Values("Cache-Status")
	if len(lines) == 0 {
		return ""
	}
	return strings.TrimPrefix(lines[len(lines)-1], "gatehouse; ")
}

func (g got) is(t testing.TB, status int, body, cache string) {
	t.Helper()
	if g.StatusCode != status || body != "*" && g.body != body || !begins(g.cache(), cache) {
		t.Errorf("%s: %d %.80q, cache %q; want %d %q, %q", g.Request.URL.Path, g.StatusCode, g.body, g.cache(), status, body, cache)
	}
}

// begins reports whether a Cache-Status begins so. A ttl may be two seconds less: Date is
// whole seconds, so that an answer is a second old as soon as the clock's next one begins.
func begins(status, want string) bool {
	if strings.HasPrefix(status, want) {
		return true
	}
	before, ttl, _ := strings.Cut(want, "ttl=")
	n, err := strconv.Atoi(ttl)
	return err == nil && (strings.HasPrefix(status, fmt.Sprint(before, "ttl=", n-1)) || strings.HasPrefix(status, fmt.Sprint(before, "ttl=", n-2)))
}

// ask sends a request; header are names and values in turn. as is whose session.
func (s *site) ask(method, target, as string, header ...string) got {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://"+s.address+target, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+s.tokens[as])
	}
	res, err := s.client.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	return got{res, string(body)}
}

func (s *site) get(target string, header ...string) got { return s.ask("GET", target, "", header...) }

// counted answers with how often it was asked.
func counted(h ...string) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		body := fmt.Sprint("answer ", n)
		mu.Unlock()
		for i := 0; i < len(h); i += 2 {
			w.Header().Add(h[i], h[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
	}
}

func TestMain(m *testing.M) {
	edgetest.RegisterLeaver()
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/caddyserver/certmagic.(*Cache).maintainAssets"),
		goleak.IgnoreAnyFunction("github.com/maypok86/otter/v2.(*cache[...]).periodicCleanUp"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
		goleak.IgnoreAnyFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
	)
}

func TestCache_answersFromMemory(t *testing.T) {
	o := newOrigin(t, counted("Cache-Control", "max-age=60", "Etag", `"one"`, "X-From", "origin"))
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	first := s.get("/page?x=1")
	first.is(t, 200, "answer 1", "fwd=uri-miss; fwd-status=200; stored; ttl=60")
	second := s.get("/page?x=1")
	second.is(t, 200, "answer 1", "hit; ttl=")
	if second.Header.Get("Age") == "" || second.Header.Get("X-From") != "origin" || second.Header.Get("Content-Length") != "8" {
		t.Errorf("%v", second.Header)
	}
	if a, b := first.Header.Get("X-Request-Id"), second.Header.Get("X-Request-Id"); a == "" || a == b {
		t.Errorf("request ids %q and %q", a, b)
	}
	s.get("/page?x=2").is(t, 200, "answer 2", "fwd=uri-miss")
	s.get("/page?x=1", "If-None-Match", `W/"one"`).is(t, 304, "", "hit")
	s.get("/page?x=1", "Range", "bytes=2-4").is(t, 206, "swe", "hit")
	s.ask("HEAD", "/page?x=1", "").is(t, 200, "", "hit")
	s.ask("POST", "/page?x=1", "").is(t, 200, "answer 3", "fwd=method")
	s.get("/page?x=1").is(t, 200, "answer 4", "fwd=uri-miss")
	if n := o.count("/page"); n != 4 {
		t.Errorf("the origin was asked %d times", n)
	}
}
