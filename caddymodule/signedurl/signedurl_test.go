package signedurl_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	command "github.com/gatehouse-edge/gatehouse/caddymodule/signedurl"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/signedurl"
)

const keyText = "k1:bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE=\nk0:b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZCE\n"

func keys(t testing.TB) *signedurl.Keys {
	t.Helper()
	k, err := signedurl.ParseKeys([]byte(keyText))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign makes a link that holds for an hour, unless l says otherwise.
func sign(t testing.TB, l signedurl.Link) string {
	t.Helper()
	if l.Expires.IsZero() {
		l.Expires = time.Now().Add(time.Hour)
	}
	target, err := keys(t).Sign(l)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// origin stands behind the POP. Its answers say that everybody may keep them.
type origin struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func newOrigin(t testing.TB) *origin {
	o := new(origin)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.seen = append(o.seen, r.Method+" "+r.RequestURI)
		o.mu.Unlock()
		if strings.Contains(r.Header.Get("X-Cache"), "=") {
			w.Header().Set("Cache-Control", r.Header.Get("X-Cache"))
		}
		w.Header().Set("CDN-Cache-Control", "max-age=9999")
		if status, err := strconv.Atoi(r.Header.Get("X-Status")); err == nil {
			w.WriteHeader(status)
		}
		_, _ = io.WriteString(w, "asset")
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen := o.seen
	o.seen = nil
	return seen
}

// config is a Caddyfile whose site has body; KEYS is the file of keys, ORIGIN the
// origin's address. token is a session of acme.
func config(t testing.TB, o *origin, body string) (text, token string) {
	t.Helper()
	session := edgetest.Key(t, "EdDSA")
	body = strings.ReplaceAll(body, "KEYS", edgetest.Write(t, "links.keys", []byte(keyText)))
	body = strings.ReplaceAll(body, "ORIGIN", strings.TrimPrefix(o.URL, "http://"))
	return fmt.Sprintf(`{
	%s
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
		}
		assertion {
			key_file %s
		}
		issuer https://eu.example {
			key_file %s
			audience gatehouse
		}
		session_cookie session
	}
}
http://:0 {
	bind 127.0.0.1
	%s
}
`, edgetest.Globals, edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))),
			edgetest.KeyFile(t, jwks.Key{ID: "s1", Material: edgetest.Public(session)}), body),
		edgetest.Token(t, "EdDSA", session, edgetest.Claims("https://eu.example", "gatehouse", nil), map[string]any{"kid": "s1"})
}

func ask(t testing.TB, address, method, target string, header ...string) edgetest.Answer {
	t.Helper()
	return edgetest.Raw(t, address, method+" "+target+" HTTP/1.1\nHost: files.example.com\n"+strings.Join(header, "\n")+"\n\n")
}

func TestSigned_opensWhatIsSigned(t *testing.T) {
	o := newOrigin(t)
	text, token := config(t, o, `edge_guard
	edge_session /members/*
	edge_signed {
		key_file KEYS
	}
	reverse_proxy ORIGIN`)
	address := edgetest.Run(t, text)
	session := "Cookie: session=" + token
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	for name, row := range map[string]struct {
		link   signedurl.Link
		method string
		header string
		want   string // what the origin sees
	}{
		"plain":   {signedurl.Link{Target: "/a/report.pdf"}, "GET", "", "GET /a/report.pdf"},
		"head":    {signedurl.Link{Target: "/a/report.pdf"}, "HEAD", "", "HEAD /a/report.pdf"},
		"query":   {signedurl.Link{Target: "/a?x=%2f&y"}, "GET", "", "GET /a?x=%2f&y"},
		"path":    {signedurl.Link{Target: "/a/%7e/caf%c3%a9"}, "GET", "", "GET /a/%7e/caf%c3%a9"},
		"put":     {signedurl.Link{Target: "/a", Method: "PUT"}, "PUT", "", "PUT /a"},
		"host":    {signedurl.Link{Target: "/a", Host: "files.example.com"}, "GET", "", "GET /a"},
		"network": {signedurl.Link{Target: "/a", Network: loopback}, "GET", "", "GET /a"},
		"tenant":  {signedurl.Link{Target: "/members/a", Tenant: "acme"}, "GET", session, "GET /members/a"},
		"prefix":  {signedurl.Link{Target: "/films/1/a", Prefix: "/films/1/"}, "GET", "", "GET /films/1/a"},
	} {
		a := ask(t, address, row.method, sign(t, row.link), row.header)
		if seen := o.take(); a.StatusCode != 200 || len(seen) != 1 || seen[0] != row.want {
			t.Errorf("%s: %d, the origin saw %q (%s)", name, a.StatusCode, seen, a.Body)
		}
		if cache := a.Header.Get("Cache-Control"); !strings.HasPrefix(cache, "private, max-age=35") || a.Header.Get("CDN-Cache-Control") != "" {
			t.Errorf("%s: Cache-Control %q", name, cache)
		}
	}
}

func TestSigned_refusals(t *testing.T) {
	o := newOrigin(t)
	log := filepath.Join(t.TempDir(), "access.log")
	text, token := config(t, o, "log {\n\t\toutput file "+log+"\n\t}\n\t"+`edge_guard
	edge_session /members/*
	edge_signed {
		key_file KEYS
	}
	reverse_proxy ORIGIN`)
	address := edgetest.Run(t, text)
	good := sign(t, signedurl.Link{Target: "/a?x=1"})
	rows := []struct{ method, target, reason string }{
		{"GET", "/a?x=1", "missing"},
		{"GET", "/a?x=1&edge-sig=x;y", "malformed"},
		{"GET", good + "&x=1", "duplicate_parameter"},
		{"GET", good + "&edge-exp=1", "duplicate_parameter"},
		{"GET", good + "&%65dge-exp=1", "malformed"},
		{"GET", strings.Replace(good, "edge-v=1", "edge-v=2", 1), "version"},
		{"GET", strings.Replace(good, "edge-kid=k1", "edge-kid=k9", 1), "unknown_key"},
		{"GET", strings.Replace(good, "edge-kid=k1", "edge-kid=k0", 1), "signature"},
		{"GET", strings.Replace(good, "/a?", "/b?", 1), "signature"},
		{"GET", good + "&y=1", "signature"},
		{"POST", good, "method"},
		{"GET", sign(t, signedurl.Link{Target: "/a", Expires: time.Now().Add(-time.Minute)}), "expired"},
		{"GET", sign(t, signedurl.Link{Target: "/a", NotBefore: time.Now().Add(time.Minute)}), "not_yet_valid"},
		{"GET", sign(t, signedurl.Link{Target: "/a", Host: "other.example"}), "host"},
		{"GET", sign(t, signedurl.Link{Target: "/a", Tenant: "acme"}), "tenant"},
		{"GET", sign(t, signedurl.Link{Target: "/members/a", Tenant: "globex"}), "tenant"},
		{"GET", sign(t, signedurl.Link{Target: "/a", Network: netip.MustParsePrefix("192.0.2.0/24")}), "network"},
		{"GET", strings.Replace(sign(t, signedurl.Link{Target: "/f/1/a", Prefix: "/f/1/"}), "/f/1/a", "/f/2/a", 1), "path"},
	}
	bodies := map[string]bool{}
	for _, row := range rows {
		a := ask(t, address, row.method, row.target, "Cookie: session="+token)
		status, problem := 403, "link-refused"
		if row.reason == "expired" {
			status, problem = 410, "link-expired"
		}
		id := a.Header.Get("X-Request-Id")
		if a.StatusCode != status || !strings.Contains(a.Body, "urn:gatehouse:problem:"+problem) || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", row.target, a.StatusCode, a.Body)
		}
		if status == 403 {
			bodies[strings.ReplaceAll(a.Body, id, "ID")] = true
		}
	}
	if len(bodies) != 1 {
		t.Errorf("the refusals can be told apart: %v", bodies)
	}
	if seen := o.take(); len(seen) > 0 {
		t.Errorf("the origin saw %q", seen)
	}
	lines := waitFor(t, log, len(rows))
	for i, row := range rows {
		if !strings.Contains(lines[i], `"signed_link":"`+row.reason+`"`) {
			t.Errorf("%s: the log does not say %s: %s", row.target, row.reason, lines[i])
		}
	}
}

// waitFor reads a log as soon as it has so many lines.
func waitFor(t testing.TB, file string, count int) []string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		data, _ := os.ReadFile(file)
		if lines := strings.Split(strings.TrimSpace(string(data)), "\n"); len(lines) >= count && bytes.HasSuffix(data, []byte("\n")) {
			return lines
		}
	}
	t.Fatalf("%s never had %d lines", file, count)
	return nil
}

// In early data a link that is for one network says nothing; another does.
func TestSigned_earlyDataProvesNoNetwork(t *testing.T) {
	text, _ := config(t, newOrigin(t), "edge_guard\n\tedge_signed {\n\t\tkey_file KEYS\n\t}\n\trespond ok")
	edgetest.Run(t, text)
	server := edgetest.Server(t)
	for network, want := range map[string]int{"": 200, "192.0.2.0/24": 425, "198.51.100.0/24": 425} {
		l := signedurl.Link{Target: "/a"}
		if network != "" {
			l.Network = netip.MustParsePrefix(network)
		}
		r := httptest.NewRequest("GET", sign(t, l), nil) // from 192.0.2.1
		r.TLS = &tls.ConnectionState{ServerName: "files.example.com"}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d %s", network, w.Code, w.Body)
		}
	}
}

func TestCommand_isBelowEdge(t *testing.T) {
	t.Parallel()
	edge, ok := caddycmd.Commands()["edge"]
	if !ok {
		t.Fatal("caddy has no command edge")
	}
	c := new(cobra.Command)
	edge.CobraFunc(c)
	if sub, _, err := c.Find([]string{"sign"}); err != nil || sub.Name() != "sign" {
		t.Error(sub, err)
	}
}

func TestSigned_redirectsAndRewrites(t *testing.T) {
	o := newOrigin(t)
	text, _ := config(t, o, `edge_guard
	handle_path /dl/* {
		edge_signed {
			key_file KEYS
			redirect https://storage.example.com/bucket{path}
		}
	}
	handle /uri/* {
		edge_signed {
			key_file KEYS
			redirect https://storage.example.com{uri}
			max_age 10m
		}
	}
	handle /fixed {
		edge_signed {
			key_file KEYS
			redirect /terms.html
		}
	}
	handle_path /files/* {
		edge_signed {
			key_file KEYS
			rewrite "/private files{path}"
		}
		reverse_proxy ORIGIN
	}`)
	text = strings.ReplaceAll(text, "/private files", "/private%20files")
	address := edgetest.Run(t, text)
	for target, want := range map[string]string{
		"/dl/a%20b/caf%c3%a9?x=1": "https://storage.example.com/bucket/a%20b/caf%c3%a9",
		"/dl/@evil.example":       "https://storage.example.com/bucket/@evil.example",
		"/uri/a?x=1&y":            "https://storage.example.com/uri/a?x=1&y",
		"/uri/.evil.example":      "https://storage.example.com/uri/.evil.example",
		"/fixed":                  "/terms.html",
	} {
		a := ask(t, address, "GET", sign(t, signedurl.Link{Target: target}))
		cache := "private, max-age=35"
		if strings.HasPrefix(target, "/uri") {
			cache = "private, max-age=600"
		}
		if a.StatusCode != 302 || a.Header.Get("Location") != want || !strings.HasPrefix(a.Header.Get("Cache-Control"), cache) || len(a.Header["X-Request-Id"]) != 1 {
			t.Errorf("%s: %d %q %q", target, a.StatusCode, a.Header.Get("Location"), a.Header.Get("Cache-Control"))
		}
	}
	a := ask(t, address, "GET", sign(t, signedurl.Link{Target: "/files/a%20b?x=%2f"}))
	if seen := o.take(); a.StatusCode != 200 || len(seen) != 1 || seen[0] != "GET /private%20files/a%20b?x=%2f" {
		t.Errorf("%d, the origin saw %q", a.StatusCode, seen)
	}
	if a := ask(t, address, "GET", "/files/a"); a.StatusCode != 403 {
		t.Errorf("without a link: %d", a.StatusCode)
	}
}

func TestSigned_nobodyKeepsTheAnswerLongerThanTheLinkHolds(t *testing.T) {
	o := newOrigin(t)
	text, _ := config(t, o, `edge_guard
	edge_signed {
		key_file KEYS
		max_age 2h
	}
	reverse_proxy ORIGIN`)
	address := edgetest.Run(t, text)
	short := sign(t, signedurl.Link{Target: "/a", Expires: time.Now().Add(100 * time.Second)})
	for said, want := range map[string]string{
		"public, max-age=86400, immutable, stale-while-revalidate=9": "private, max-age=9", // 9x seconds
		"max-age=5, must-revalidate":                                 "private, must-revalidate, max-age=5",
		"public, s-maxage=9999, max-age=bad":                         "private, max-age=0",
		"no-cache, x=1":                                              "private, no-cache, x=1, max-age=9",
		"no-store, max-age=1":                                        "no-store",
	} {
		a := ask(t, address, "GET", short, "X-Cache: "+said)
		if got := a.Header.Get("Cache-Control"); !strings.HasPrefix(got, want) || len(a.Header["Cache-Control"]) != 1 {
			t.Errorf("%s: %q, want %q…", said, got, want)
		}
	}
	if a := ask(t, address, "GET", short, "X-Status: 404"); a.StatusCode != 404 || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a failure: %d %q", a.StatusCode, a.Header.Get("Cache-Control"))
	}
}

func TestSigned_keysAreReadAtTheStart(t *testing.T) {
	t.Cleanup(func() { _ = caddy.Stop() })
	o := newOrigin(t)
	open := edgetest.Write(t, "open.keys", []byte(keyText))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GATEHOUSE_TEST_LINKS", keyText)
	t.Setenv("GATEHOUSE_TEST_BAD", "k1:short")
	for keys, want := range map[string]string{
		"key_file /nonexistent/links.keys":                         "no such file",
		"key_file " + open:                                         "others could read the key; run chmod 600",
		"key_env GATEHOUSE_TEST_UNSET":                             "environment variable GATEHOUSE_TEST_UNSET is empty or not set",
		"key_env GATEHOUSE_TEST_BAD":                               "key_env GATEHOUSE_TEST_BAD: line 1",
		"key_file KEYS\n\t\tkey_env GATEHOUSE_TEST_LINKS":          "key id k1 stands twice",
		"key_env GATEHOUSE_TEST_LINKS":                             "",
		"key_file " + edgetest.Write(t, "empty.keys", []byte("#")): "holds no key",
	} {
		text, _ := config(t, o, "edge_guard\n\tedge_signed {\n\t\t"+keys+"\n\t}\n\trespond ok")
		err := edgetest.Load(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", keys, err, want)
		}
	}
}

func TestCommand_signsWhatThePOPBelieves(t *testing.T) {
	o := newOrigin(t)
	text, _ := config(t, o, "edge_guard\n\tedge_signed {\n\t\tkey_file KEYS\n\t}\n\treverse_proxy ORIGIN")
	address := edgetest.Run(t, text)
	file := edgetest.Write(t, "links.keys", []byte(keyText))
	link, err := run("--key-file", file, "--life", "10m", "--host", "files.example.com", "--network", "127.0.0.0/8", "--free", "w,h", "https://files.example.com/a?x=1")
	target, found := strings.CutPrefix(strings.TrimSpace(link), "https://files.example.com")
	if err != nil || !found {
		t.Fatal(link, err)
	}
	if a := ask(t, address, "GET", target+"&w=3"); a.StatusCode != 200 {
		t.Errorf("%s: %d %s", target, a.StatusCode, a.Body)
	}
	out, err := run("--key-file", file, "--until", "2099-01-31T12:00:00Z", "--prefix", "/f/", "--json", "/f/a")
	var said struct{ Link, Expires, Key string }
	if err := json.Unmarshal([]byte(out), &said, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(out, err)
	}
	if err != nil || said.Expires != "2099-01-31T12:00:00Z" || said.Key != "k1" {
		t.Errorf("%s %v", out, err)
	}
	if a := ask(t, address, "GET", strings.Replace(said.Link, "/f/a", "/f/b", 1)); a.StatusCode != 200 {
		t.Errorf("another file below the prefix: %d", a.StatusCode)
	}
}

func TestCommand_refusals(t *testing.T) {
	t.Parallel()
	file := edgetest.Write(t, "links.keys", []byte(keyText))
	for want, args := range map[string][]string{
		"at least one of the flags":         {"/a"},
		"none of the others can be":         {"--key-file", file, "--key-env", "X", "/a"},
		"accepts 1 arg":                     {"--key-file", file},
		"no such file":                      {"--key-file", "/nonexistent/k", "/a"},
		"--life -1m0s":                      {"--key-file", file, "--life", "-1m", "/a"},
		"--until \"soon\" is not":           {"--key-file", file, "--until", "soon", "/a"},
		"is over already":                   {"--key-file", file, "--until", "2001-01-01T00:00:00Z", "/a"},
		"--not-before \"x\"":                {"--key-file", file, "--not-before", "x", "/a"},
		"--network \"x\"":                   {"--key-file", file, "--network", "x", "/a"},
		"the address is neither":            {"--key-file", file, "a"},
		"is neither a path":                 {"--key-file", file, "ftp://files.example.com/a"},
		"method \"x\"":                      {"--key-file", file, "--method", "x", "/a"},
		"sign link: the request target is ": {"--key-file", file, "https://files.example.com"},
	} {
		if out, err := run(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q %v, want %q", args, out, err, want)
		}
	}
}

func run(args ...string) (string, error) {
	var out bytes.Buffer
	c := command.Command()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(io.Discard)
	err := c.Execute()
	return out.String(), err
}

// BenchmarkSigned is the chain of Caddy's own server with the handler in it, and
// without.
func BenchmarkSigned(b *testing.B) {
	for _, row := range []struct{ name, body string }{
		{"guard", "edge_guard\n\trespond ok"}, {"guard+signed", "edge_guard\n\tedge_signed {\n\t\tkey_file KEYS\n\t}\n\trespond ok"},
	} {
		b.Run(row.name, func(b *testing.B) {
			text, _ := config(b, newOrigin(b), row.body)
			if err := edgetest.Load(text); err != nil {
				b.Fatal(err)
			}
			defer func() { _ = caddy.Stop() }()
			server := edgetest.Server(b)
			target := sign(b, signedurl.Link{Target: "/downloads/report.pdf"})
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("GET", target, nil)
				w := httptest.NewRecorder()
				server.ServeHTTP(w, r)
				if w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
