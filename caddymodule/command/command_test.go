package command_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	_ "github.com/gatehouse-edge/gatehouse/caddymodule"
	"github.com/gatehouse-edge/gatehouse/caddymodule/command"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/broker"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"

	"github.com/nats-io/nats.go/jetstream"
)

// pop is a POP that runs, with its admin endpoint on a unix socket.
type pop struct {
	admin, site string
	key         any // of issuer gatehouse:eu
	secret      []byte
	pem         string           // of an assertion's key
	published   *httptest.Server // the key set of issuer gatehouse:us
	broker      *broker.Broker
	config      string
}

// socket is a path that is short enough for one.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "unix/" + filepath.Join(dir, "admin.sock")
}

// newPOP makes one with two issuers, and with a feed where that is asked for. It
// is not run yet.
func newPOP(t *testing.T, withFeed bool) *pop {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	p := &pop{admin: socket(t), key: edgetest.Key(t, "EdDSA"), secret: []byte("the secret that nobody may ever be shown"), pem: string(edgetest.PEM(t, edgetest.Key(t, "EdDSA")))}
	p.published = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(jwks.Marshal([]jwks.Key{{ID: "us-1", Material: edgetest.Public(edgetest.Key(t, "ES256"))}}))
	}))
	edgetest.NewPort(t).Move(t, p.published)
	p.published.Start()
	t.Cleanup(p.published.Close)
	follows := ""
	if withFeed {
		b, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Regions: []string{"eu"}, POPs: []string{"fra"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Stop)
		p.broker = b
		follows = "feed {\n\t\t\turl " + b.URL("fra") + "\n\t\t}"
	}
	p.config = fmt.Sprintf(`{
	admin %s
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
			upstreams 127.0.0.1:9
		}
		assertion {
			key_file %s
		}
		issuer gatehouse:eu {
			key_file %s
			audience shop
			any_tenant
		}
		issuer gatehouse:us {
			jwks_url %s
			audience shop
			any_tenant
		}
		issuer old {
			secret_file %s
			audience shop
			any_tenant
		}
		session_cookie session
		%s
	}
}
http://:0 {
	bind 127.0.0.1
	edge_guard
	edge_session
	respond "in as {http.auth.user.id}"
}
`, p.admin, t.TempDir(), edgetest.Write(t, "assertion.pem", []byte(p.pem)),
		edgetest.KeyFile(t, jwks.Key{ID: "eu-1", Material: edgetest.Public(p.key)}), p.published.URL, edgetest.Write(t, "secret", p.secret), follows)
	return p
}

func (p *pop) run(t *testing.T) *pop {
	t.Helper()
	if p.broker != nil {
		p.beat(t)
	}
	p.site = edgetest.Run(t, p.config)
	return p
}

// beat publishes a heartbeat, without which sessions would get 503.
func (p *pop) beat(t *testing.T) {
	t.Helper()
	inbox, _ := link.Region("eu")
	conn, err := link.Dial(link.Server{URL: p.broker.URL("eu")}, "eu", inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	subject, document, err := feed.Encode("eu", feed.Heartbeat{Region: "eu", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.Publish(t.Context(), subject, document)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (p *pop) token(t *testing.T, changes jwt.MapClaims) string {
	t.Helper()
	return edgetest.Token(t, "EdDSA", p.key, edgetest.Claims("gatehouse:eu", "shop", changes), map[string]any{"kid": "eu-1"})
}

func (p *pop) status(t *testing.T, token string) int {
	t.Helper()
	return edgetest.Raw(t, p.site, "GET /app HTTP/1.1\nHost: pop.example\nAuthorization: Bearer "+token+"\n\n").StatusCode
}

// api sends a request to the admin endpoint as it stands.
func (p *pop) api(t *testing.T, method, path, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(p.admin, "unix/"))
	}}}
	res, err := client.Do(r)
	for range 100 {
		// After a reload the endpoint of the configuration before it listens at the same
		// socket for a moment, and leaves whom it accepts last without an answer.
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		r.Body = io.NopCloser(strings.NewReader(body))
		res, err = client.Do(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(read)
}

// typed runs a command as a person would, and gives what it printed.
func typed(t *testing.T, c func() *cobra.Command, args ...string) (string, error) {
	t.Helper()
	cmd := c()
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

const asJSON = "Content-Type: application/json"

func TestAPI_isStrict(t *testing.T) {
	p := newPOP(t, true).run(t)
	long := `{"tenant":"` + strings.Repeat("a", 70<<10) + `"}`
	for _, row := range []struct {
		name, method, path, body, header string
		status                           int
		says                             string
	}{
		{"a method that is not there", "POST", "/edge/keys", "", asJSON, 405, "use GET"},
		{"another", "DELETE", "/edge/revocations", "", "", 405, "use GET or POST"},
		{"HEAD", "PUT", "/edge/revocations", "{}", asJSON, 405, "use GET or POST"},
		{"a query", "GET", "/edge/keys?x=1", "", "", 400, "takes no query"},
		{"a simple request", "POST", "/edge/revocations", `{"tenant":"acme"}`, "Content-Type: text/plain", 415, "application/json"},
		{"explain by GET", "GET", "/edge/explain", "", "", 405, "use POST"},
		{"explain of nothing", "POST", "/edge/explain", `{}`, asJSON, 400, "neither one such as"},
		{"explain of more", "POST", "/edge/explain", `{"method":"GET","url":"/","cookie":"a=b"}`, asJSON, 400, "cookie"},
		{"routes by POST", "POST", "/edge/routes", `{}`, asJSON, 405, "use GET"},
		{"no type", "POST", "/edge/revocations", `{"tenant":"acme"}`, "", 415, "application/json"},
		{"a form", "POST", "/edge/revocations", `tenant=acme`, "Content-Type: application/x-www-form-urlencoded", 415, "application/json"},
		{"nothing", "POST", "/edge/revocations", ``, asJSON, 400, "no JSON object"},
		{"no object", "POST", "/edge/revocations", `[]`, asJSON, 400, "no JSON object"},
		{"null", "POST", "/edge/revocations", `null`, asJSON, 400, "names 0 of sid, sub and tenant"},
		{"a name twice", "POST", "/edge/revocations", `{"tenant":"acme","tenant":"globex"}`, asJSON, 400, "duplicate"},
		{"an unknown name", "POST", "/edge/revocations", `{"tenants":"acme"}`, asJSON, 400, "tenants"},
		{"another case", "POST", "/edge/revocations", `{"Tenant":"acme"}`, asJSON, 400, "Tenant"},
		{"two documents", "POST", "/edge/revocations", `{"tenant":"acme"}{}`, asJSON, 400, "no JSON object"},
		{"bad UTF-8", "POST", "/edge/revocations", "{\"tenant\":\"\xff\"}", asJSON, 400, "no JSON object"},
		{"too long", "POST", "/edge/revocations", long, asJSON, 413, "65536 bytes"},
		{"nobody", "POST", "/edge/revocations", `{}`, asJSON, 400, "names 0 of sid, sub and tenant"},
		{"two at once", "POST", "/edge/revocations", `{"tenant":"acme","sid":"s","iss":"gatehouse:eu"}`, asJSON, 400, "names 2 of"},
		{"no tenant's name", "POST", "/edge/revocations", `{"tenant":"../acme"}`, asJSON, 400, "no tenant's name"},
		{"an issuer of no use", "POST", "/edge/revocations", `{"tenant":"acme","iss":"gatehouse:eu"}`, asJSON, 400, "iss goes with"},
		{"whose session", "POST", "/edge/revocations", `{"sid":"s"}`, asJSON, 400, "3 issuers"},
		{"an unknown issuer", "POST", "/edge/revocations", `{"sid":"s","iss":"gatehouse:mars"}`, asJSON, 400, "not one of this POP's"},
		{"an exemption from a session", "POST", "/edge/revocations", `{"sid":"s","iss":"gatehouse:eu","except":"x"}`, asJSON, 400, "except goes with sub"},
		{"a path below", "GET", "/edge/keys/x", "", "", 404, ""},
		{"another site's page", "POST", "/edge/revocations", `{"tenant":"acme"}`, "Sec-Fetch-Mode: no-cors", 400, "same-origin"},
		{"an origin of nobody", "POST", "/edge/revocations", `{"tenant":"acme"}`, "Origin: https://evil.example", 403, "origin"},
	} {
		var header []string
		if row.header != "" {
			header = append(header, row.header)
		}
		status, h, body := p.api(t, row.method, row.path, row.body, header...)
		if status != row.status || !strings.Contains(body, row.says) {
			t.Errorf("%s: %d %s", row.name, status, body)
		}
		if status != 404 && !strings.HasPrefix(body, `{"error":"`) {
			t.Errorf("%s: no clear error: %s", row.name, body)
		}
		if status == 405 && h.Get("Allow") == "" {
			t.Errorf("%s: no Allow", row.name)
		}
	}
	if status := p.status(t, p.token(t, nil)); status != 200 {
		t.Errorf("something that was refused was done: %d", status)
	}
}

func TestAPI_saysThatThereIsNoEdge(t *testing.T) {
	admin := socket(t)
	edgetest.Run(t, "{\n\tadmin "+admin+"\n\tpersist_config off\n\tauto_https off\n}\nhttp://:0 {\n\tbind 127.0.0.1\n\trespond hello\n}\n")
	for _, c := range []func() *cobra.Command{command.Keys, command.Regions, command.Routes, listing} {
		if out, err := typed(t, c, "--address", admin); err == nil || !strings.Contains(err.Error(), "no edge { … }") || out != "" {
			t.Errorf("%q %v", out, err)
		}
	}
}

// A configuration that fails while it starts leaves the one before it, and the
// API speaks of that.
func TestAPI_speaksOfTheConfigurationThatRuns(t *testing.T) {
	p := newPOP(t, false).run(t)
	bad := strings.Replace(p.config, "pop fra", "pop iad", 1)
	bad = strings.Replace(bad, "key_file ", "key_file /no/such", 1)
	if err := edgetest.Load(bad); err == nil {
		t.Fatal("it was loaded")
	}
	if _, _, body := p.api(t, "GET", "/edge/keys", ""); !strings.Contains(body, `"pop":"fra"`) {
		t.Error(body)
	}
}

func TestCommands_refuseWhereNoCaddyRuns(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ address, says string }{
		{edgetest.Nobody(t), "connection refused"},
		{"unix//no/such/admin.sock", "no such socket"},
		{"127.0.0.1:1-9", "is no admin address"},
	} {
		for name, asked := range map[string]struct {
			command func() *cobra.Command
			args    []string
		}{
			"keys":    {command.Keys, nil},
			"regions": {command.Regions, nil},
			"routes":  {command.Routes, nil},
			"explain": {command.Explain, []string{"GET", "/app"}},
			"revoke":  {command.Revoke, []string{"--tenant", "acme"}},
			"purge":   {command.Purge, []string{"--all"}},
			"ls":      {command.Cache, []string{"ls"}},
			"show":    {command.Cache, []string{"show", "/"}},
		} {
			out, err := typed(t, asked.command, append(asked.args, "--address", row.address)...)
			if err == nil || out != "" || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), row.address) {
				t.Errorf("%s at %s: %q %v", name, row.address, out, err)
			}
		}
	}
}

// What answers there need not be ours.
func TestCommands_refuseWhatIsNoAnswer(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		handler http.HandlerFunc
		says    string
	}{
		"a Caddy without us": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "404 page not found", 404) }, "no Caddy with Gatehouse in it"},
		"another form":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "another version"},
		"an error":           {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, "with 502"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example", http.StatusFound)
		}, "with 302"},
	} {
		server := httptest.NewServer(row.handler)
		out, err := typed(t, command.Keys, "--address", strings.TrimPrefix(server.URL, "http://"))
		server.Close()
		if err == nil || out != "" || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %q %v", name, out, err)
		}
	}
}

func TestKeys_nameWhatVerifiesAndShowNoSecret(t *testing.T) {
	p := newPOP(t, false).run(t)
	out, err := typed(t, command.Keys, "--address", p.admin)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out, "\n")
	if len(lines) < 6 || !strings.HasPrefix(lines[0], "ISSUER        STATE    FETCHED  KEYS") {
		t.Fatalf("no table:\n%s", out)
	}
	for i, want := range []string{"gatehouse:eu  static   -        eu-1 EdDSA", "gatehouse:us  waiting  -        -", "old           static   -        HS256"} {
		if !strings.HasPrefix(lines[i+1], want) {
			t.Errorf("line %d: %q, want %q", i+1, lines[i+1], want)
		}
	}
	if !strings.Contains(out, "POP fra signs with: ") {
		t.Error(out)
	}

	us := edgetest.Token(t, "EdDSA", p.key, edgetest.Claims("gatehouse:us", "shop", nil), map[string]any{"kid": "us-9"})
	if got := p.status(t, us); got != 401 {
		t.Fatalf("a forged token: %d", got)
	}
	out, _ = typed(t, command.Keys, "--address", p.admin)
	if !strings.Contains(out, "fresh") || !strings.Contains(out, "us-1 ES256") || !strings.Contains(out, " ago") {
		t.Errorf("after a fetch:\n%s", out)
	}
	out, err = typed(t, command.Keys, "--address", p.admin, "--json")
	if err != nil || !strings.Contains(out, `"state": "fresh"`) || !strings.Contains(out, `"kid": "us-1"`) {
		t.Errorf("%v\n%s", err, out)
	}
	_, _, body := p.api(t, "GET", "/edge/keys", "")
	_, _, more := p.api(t, "GET", "/edge/revocations", "")
	for _, secret := range []string{string(p.secret), "PRIVATE", `"x":`, `"k":`, us} {
		if strings.Contains(body+more+out, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
}

func TestKeys_sayWhyThereAreNone(t *testing.T) {
	p := newPOP(t, false)
	p.published.Close()
	p.run(t)
	us := edgetest.Token(t, "EdDSA", p.key, edgetest.Claims("gatehouse:us", "shop", nil), map[string]any{"kid": "us-1"})
	if got := p.status(t, us); got != 503 {
		t.Fatalf("%d", got)
	}
	out, err := typed(t, command.Keys, "--address", p.admin)
	if err != nil || !strings.Contains(out, "unavailable") || !strings.Contains(out, "gatehouse:us: load key set: ") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRevoke_actsOnThePOPItAsks(t *testing.T) {
	p := newPOP(t, true).run(t)
	session := func(sid, sub, tenant string) string {
		return p.token(t, jwt.MapClaims{"sid": sid, "sub": sub, "tenant_id": tenant})
	}
	for _, row := range []struct {
		args            []string
		refused, stands []string
		says            string
	}{
		{[]string{"--session", "s1", "--issuer", "gatehouse:eu"}, []string{session("s1", "u1", "acme")}, []string{session("s2", "u1", "acme")},
			"POP fra refuses session s1 of gatehouse:eu. No other POP was told.\n"},
		{[]string{"--user", "u2", "--issuer", "gatehouse:eu", "--except", "kept"}, []string{session("a", "u2", "acme"), session("b", "u2", "acme")}, []string{session("kept", "u2", "acme"), session("a", "u3", "acme")},
			"POP fra refuses all sessions of user u2 of gatehouse:eu but kept. No other POP was told.\n"},
		{[]string{"--tenant", "globex"}, []string{session("c", "u4", "globex")}, []string{session("d", "u4", "acme")},
			"POP fra refuses all sessions of tenant globex. No other POP was told.\n"},
	} {
		for _, token := range append(row.refused, row.stands...) {
			if got := p.status(t, token); got != 200 {
				t.Fatalf("%q before: %d", row.args, got)
			}
		}
		out, err := typed(t, command.Revoke, append(row.args, "--address", p.admin)...)
		if err != nil || out != row.says {
			t.Errorf("%q: %v %q", row.args, err, out)
		}
		for _, token := range row.refused {
			if got := p.status(t, token); got != 401 {
				t.Errorf("%q: %d", row.args, got)
			}
		}
		for _, token := range row.stands {
			if got := p.status(t, token); got != 200 {
				t.Errorf("%q: one that stands: %d", row.args, got)
			}
		}
	}
	out, err := typed(t, command.Revoke, "--tenant", "umbrella", "--address", p.admin, "--json")
	if err != nil || !strings.Contains(out, `"news": true`) || !strings.Contains(out, `"scope": "pop"`) {
		t.Errorf("%v %s", err, out)
	}
	if out, _ := typed(t, command.Revoke, "--session", "s1", "--issuer", "gatehouse:eu", "--address", p.admin); !strings.Contains(out, "it had ended before") {
		t.Errorf("twice: %q", out)
	}
	if _, _, body := p.api(t, "GET", "/edge/revocations", ""); !strings.Contains(body, `"revocations":4`) || !strings.Contains(body, `"following":true`) || !strings.Contains(body, `"eu":"`) {
		t.Error(body)
	}

	// It is kept as what the feed said is.
	p.broker.Stop()
	for range 2 {
		p.site = ""
		if err := edgetest.Load(p.config); err != nil {
			t.Fatal(err)
		}
		p.site = edgetest.Address(t)
		if got := p.status(t, session("s1", "u1", "acme")); got != 401 {
			t.Errorf("after a reload: %d", got)
		}
	}
}

func TestRevoke_saysThatAPOPWithoutAFeedKeepsNothing(t *testing.T) {
	p := newPOP(t, false).run(t)
	if out, err := typed(t, command.Revoke, "--tenant", "acme", "--address", p.admin); err == nil || !strings.Contains(err.Error(), "no feed") || out != "" {
		t.Errorf("%q %v", out, err)
	}
	if got := p.status(t, p.token(t, nil)); got != 200 {
		t.Error(got)
	}
}

func TestRevoke_asksForOneAlone(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		nil, {"--session", "s", "--user", "u"}, {"--tenant", ""}, {"--session", "s", "--except", "x"}, {"--tenant", "acme", "--issuer", "i"}, {"--tenant", "acme", "more"},
	} {
		if out, err := typed(t, command.Revoke, append(args, "--address", "127.0.0.1:1")...); err == nil || strings.Contains(err.Error(), "127.0.0.1:1") {
			t.Errorf("%q: %q %v", args, out, err)
		}
	}
}
