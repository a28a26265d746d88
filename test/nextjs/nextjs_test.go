// Package nextjs puts edge_cache in front of a real Next.js application, built and run
// as it is deployed (output: 'standalone').
package nextjs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/test/node"
)

func TestNextjs(t *testing.T) {
	next := start(t, build(t))
	site := "http://" + edgetest.Run(t, fmt.Sprintf(`{
	`+edgetest.Globals+`
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
		}
		assertion {
			key_file `+edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA")))+`
		}
	}
}
http://:0 {
	bind 127.0.0.1
	edge_guard
	edge_cache {
		preset nextjs
		policy public
	}
	reverse_proxy %s
}
`, strings.TrimPrefix(next, "http://")))

	t.Run("what it builds is kept for good", func(t *testing.T) {
		files := regexp.MustCompile(`/_next/static/[^"\\]+\.js`).FindAllString(ask(t, next, "GET", "/").body, -1)
		if len(files) == 0 {
			t.Fatal("the page names no script")
		}
		for _, file := range files[:2] {
			first, second := ask(t, site, "GET", file), ask(t, site, "GET", file)
			first.is(t, 200, "fwd=uri-miss; fwd-status=200; stored; ttl=3153")
			second.is(t, 200, "hit; ttl=3153")
			if second.body != ask(t, next, "GET", file).body || second.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
				t.Errorf("%s: %v", file, second.Header)
			}
		}
	})

	// A page, its data for the router, what is fetched ahead of a click, and each of them
	// compressed have one path. Whatever was asked before, the answer is the application's.
	t.Run("the answers of one path are told apart", func(t *testing.T) {
		tree := `["",{"children":["__PAGE__",{},null,null]},null,null,true]`
		kinds := [][]string{
			nil,
			{"Rsc", "1"},
			{"Rsc", "1", "Next-Router-State-Tree", tree},
			{"Rsc", "1", "Next-Router-Prefetch", "1"},
			{"Rsc", "1", "Next-Router-Prefetch", "1", "Next-Router-Segment-Prefetch", "/_tree"},
			{"Rsc", "1", "Next-Router-State-Tree", tree, "Next-Url", "/about"},
		}
		hits := 0
		for round := range 3 {
			for _, path := range []string{"/", "/about", "/products/coffee", "/products/tea", "/nothing"} {
				for i := range kinds {
					for _, encoding := range []string{"identity", "gzip", "gzip, deflate, br, zstd"} {
						kind := kinds[(i+round)%len(kinds)] // in another order each time
						header := append([]string{"Accept-Encoding", encoding}, kind...)
						target := path
						if kind != nil { // the client adds a digest of its fields, the server corrects it
							first := ask(t, site, "GET", path, header...)
							if path != "/nothing" {
								first.is(t, 307, "fwd=")
								target = first.Header.Get("Location")
							}
							if !strings.HasPrefix(target, path) {
								t.Fatalf("%s %q: to %q", path, kind, target)
							}
						}
						want, got := ask(t, next, "GET", target, header...), ask(t, site, "GET", target, header...)
						for _, field := range []string{"Content-Type", "Etag", "Cache-Control"} {
							if got.Header.Get(field) != want.Header.Get(field) {
								t.Errorf("%s %q: %s: %q, want %q", target, header, field, got.Header.Get(field), want.Header.Get(field))
							}
						}
						if got.StatusCode != want.StatusCode || got.plain(t) != want.plain(t) {
							t.Errorf("%s %q (%s): %d %.200q, want %d %.200q", target, header, got.cache(), got.StatusCode, got.plain(t), want.StatusCode, want.plain(t))
						}
						if strings.HasPrefix(got.cache(), "hit") {
							hits++
						} else if round > 0 && got.StatusCode == 200 {
							t.Errorf("%s %q: %s", target, header, got.cache())
						}
					}
				}
			}
		}
		if hits == 0 {
			t.Error("nothing was answered from memory")
		}
		page := ask(t, site, "GET", "/")
		page.is(t, 200, "hit")
		ask(t, site, "GET", "/", "If-None-Match", page.Header.Get("Etag")).is(t, 304, "hit")
	})

	// What Next.js believes of itself changes neither what a client gets nor what the next one does.
	t.Run("a client poisons nothing", func(t *testing.T) {
		for i, field := range []string{
			"X-Middleware-Subrequest: middleware:middleware:middleware:middleware:middleware", "X-Middleware-Prefetch: 1", "X-Nextjs-Data: 1",
			"X-Now-Route-Matches: 1=evil", "X-Matched-Path: /dashboard", "X-Invoke-Path: /dashboard", "X-Invoke-Status: 500", "Next-Resume: 1",
			"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: evil", "X-Original-Url: /dashboard", "Content-Security-Policy: script-src 'nonce-evil'", "Next-Action: evil",
		} {
			name, value, _ := strings.Cut(field, ": ")
			path := fmt.Sprint("/products/poison-", i)
			first, second := ask(t, site, "GET", path, name, value), ask(t, site, "GET", path)
			first.is(t, 200, "fwd=uri-miss; fwd-status=200; stored")
			second.is(t, 200, "hit")
			if want := ask(t, next, "GET", path).body; first.body != want || second.body != want || strings.Contains(want, "evil") {
				t.Errorf("%s: %.300q, want %.300q", field, first.body, want)
			}
		}
	})

	t.Run("a dynamic page is nobody else's", func(t *testing.T) {
		for range 2 {
			a := ask(t, site, "GET", "/dashboard", "Cookie", "name=ada")
			a.is(t, 200, `fwd=uri-miss; fwd-status=200; detail="no-store"`)
			if !strings.Contains(a.body, "nobody") || strings.Contains(a.body, `"ada"`) { // policy public sends no cookie that is not named
				t.Errorf("%.3000s", a.body)
			}
		}
	})

	t.Run("a draft is an editor's alone", func(t *testing.T) {
		enabled := ask(t, site, "GET", "/draft")
		enabled.is(t, 200, `fwd=uri-miss; fwd-status=200; detail="`)
		cookies := enabled.Cookies()
		if len(cookies) != 1 || cookies[0].Name != "__prerender_bypass" {
			t.Fatalf("%v", cookies)
		}
		if again := ask(t, site, "GET", "/draft"); strings.HasPrefix(again.cache(), "hit") || len(again.Cookies()) != 1 {
			t.Errorf("%s %v", again.cache(), again.Cookies())
		}
		cookie := cookies[0].Name + "=" + cookies[0].Value
		for range 2 {
			draft := ask(t, site, "GET", "/", "Cookie", "_ga=1; "+cookie)
			draft.is(t, 200, `fwd=bypass; detail="bypass-cookie"`)
			if !strings.Contains(draft.body, "a draft that nobody else may see") {
				t.Error("the editor does not see the draft")
			}
			published := ask(t, site, "GET", "/", "Cookie", "_ga=1")
			published.is(t, 200, "")
			if !strings.Contains(published.body, "as published") || strings.Contains(published.body, "a draft") {
				t.Error("somebody else sees the draft")
			}
		}
	})

	t.Run("a form is sent to the application", func(t *testing.T) {
		page := ask(t, site, "GET", "/")
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		hidden := regexp.MustCompile(`<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?`).FindAllStringSubmatch(page.body, -1)
		if len(hidden) == 0 {
			t.Fatalf("the form names no action: %s", page.body)
		}
		for _, field := range hidden {
			_ = form.WriteField(field[1], strings.ReplaceAll(field[2], "&quot;", `"`))
		}
		_ = form.WriteField("word", "hello")
		_ = form.Close()
		said := send(t, site, "POST", "/", &body, "Content-Type", form.FormDataContentType(), "Origin", site)
		said.is(t, 200, "fwd=method")
		if !strings.Contains(said.body, "said hello") {
			t.Errorf("%.2000s", said.body)
		}
		if after := ask(t, site, "GET", "/"); strings.Contains(after.body, "said hello") {
			t.Error("somebody else sees what was said")
		}
	})

	t.Run("what was published is seen at once", func(t *testing.T) {
		before := ask(t, site, "GET", "/products/coffee")
		ask(t, site, "GET", "/products/coffee").is(t, 200, "hit")
		other := ask(t, site, "GET", "/products/tea")
		ask(t, site, "POST", "/publish/coffee").is(t, 200, "fwd=method")
		for i, coding := range []string{"identity", "gzip"} {
			after := ask(t, site, "GET", "/products/coffee", "Accept-Encoding", coding)
			after.is(t, 200, [...]string{"fwd=uri-miss", "fwd=vary-miss"}[i])
			if after.plain(t) == before.plain(t) {
				t.Error("the page is the one before")
			}
		}
		if again := ask(t, site, "GET", "/products/tea"); again.body != other.body || !strings.HasPrefix(again.cache(), "hit") {
			t.Errorf("another product: %s", again.cache())
		}
	})

	t.Run("a page that comes in parts is passed on in parts", func(t *testing.T) {
		res, err := http.Get(site + "/slow")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		lines, read := bufio.NewReader(res.Body), ""
		for !strings.Contains(read, "the first part</p>") {
			part, err := lines.ReadString('>')
			if err != nil {
				t.Fatalf("%v after %s", err, read)
			}
			read += part
		}
		ask(t, site, "POST", "/rest").is(t, 200, "fwd=method") // the rest is not made before
		rest, err := io.ReadAll(lines)
		if err != nil || strings.Contains(read, "the rest") || !strings.Contains(string(rest), "the rest") {
			t.Errorf("%v: %s, and then %s", err, read, rest)
		}
	})
}

// build makes the application, as its Dockerfile would.
func build(t *testing.T) (dir string) {
	t.Helper()
	const lost = "edge_cache was NOT tested in front of a real Next.js application"
	dir = node.Install(t, lost, "app", "next.config.mjs")
	if out := node.Run(t, dir, "node", "-p", "process.versions.node.split('.').map(Number).reduce((a, n) => a * 1000 + n) >= 20009000"); strings.TrimSpace(out) != "true" {
		t.Skipf("Next.js needs Node.js 20.9: %s", lost)
	}
	t.Setenv("NEXT_TELEMETRY_DISABLED", "1")
	node.Run(t, dir, "node", "node_modules/next/dist/bin/next", "build")
	standalone := filepath.Join(dir, ".next", "standalone")
	if err := os.CopyFS(filepath.Join(standalone, ".next", "static"), os.DirFS(filepath.Join(dir, ".next", "static"))); err != nil {
		t.Fatal(err)
	}
	return standalone
}

// start runs the application. It takes no port 0: a free one is named, and another
// where somebody else was faster.
func start(t *testing.T, dir string) (url string) {
	t.Helper()
	var log output
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(l.Addr().String())
		_ = l.Close()
		server := exec.CommandContext(t.Context(), "node", "server.js")
		server.Dir, server.Stdout, server.Stderr = dir, &log, &log
		server.Env = append(os.Environ(), "HOSTNAME="+host, "PORT="+port, "NEXT_TELEMETRY_DISABLED=1")
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = server.Wait()
			close(ended)
		}()
		t.Cleanup(func() { <-ended }) // the test's context has ended by then
		url = "http://" + host + ":" + port
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			select {
			case <-ended:
			default:
				if strings.Contains(log.String(), "Ready in") {
					return url
				}
				continue
			}
			break
		}
	}
	t.Fatalf("the application does not start: %s", log.String())
	return ""
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// answer is an answer, its body as it was sent.
type answer struct {
	*http.Response
	body string
}

var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       time.Minute,
}

// ask sends a request without a body; header are names and values in turn.
func ask(t *testing.T, site, method, target string, header ...string) answer {
	t.Helper()
	return send(t, site, method, target, nil, header...)
}

func send(t *testing.T, site, method, target string, body io.Reader, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, site+target, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return answer{res, string(read)}
}

// cache is the edge's member of Cache-Status.
func (a answer) cache() string {
	lines := a.Header.Values("Cache-Status")
	if len(lines) == 0 {
		return ""
	}
	return strings.TrimPrefix(lines[len(lines)-1], "gatehouse; ")
}

func (a answer) is(t *testing.T, status int, cache string) {
	t.Helper()
	if a.StatusCode != status || !strings.HasPrefix(a.cache(), cache) {
		t.Errorf("%s %s: %d, cache %q; want %d, %q", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.cache(), status, cache)
	}
}

// plain is the body without its coding.
func (a answer) plain(t *testing.T) string {
	t.Helper()
	switch coding := a.Header.Get("Content-Encoding"); coding {
	case "":
		return a.body
	case "gzip":
		z, err := gzip.NewReader(strings.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return string(plain)
	default:
		t.Fatalf("coding %q", coding)
		return ""
	}
}
