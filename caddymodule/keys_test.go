package caddymodule_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// heard is what the events app told the handler below, in this process.
var heard struct {
	sync.Mutex
	events []caddy.Event
}

// listener is an event handler that remembers.
type listener struct{}

func (listener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.edgetest", New: func() caddy.Module { return new(listener) }}
}

func (listener) Handle(_ context.Context, e caddy.Event) error {
	heard.Lock()
	defer heard.Unlock()
	heard.events = append(heard.events, e)
	return nil
}

func (listener) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

var _ caddyevents.Handler = listener{}

func init() { caddy.RegisterModule(listener{}) }

func heardNames() []string {
	heard.Lock()
	defer heard.Unlock()
	var names []string
	for _, e := range heard.events {
		names = append(names, e.Name())
	}
	return names
}

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not come to be", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// keyServer publishes a key set at an address that it keeps while it is down.
type keyServer struct {
	edgetest.Port
	server *httptest.Server
	mu     sync.Mutex
	paths  map[string]string
	asked  int
}

func (k *keyServer) up(t *testing.T) {
	t.Helper()
	k.server = &httptest.Server{Listener: k.Listen(t), Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		body, ok := k.paths[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		k.asked++
		_, _ = w.Write([]byte(body))
	})}}
	k.server.Start()
	t.Cleanup(k.server.Close)
}

func (k *keyServer) publish(path, body string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paths[path] = body
}

// TestCaddy_keysOutliveTheirIssuerAndTheProcess: what was fetched is kept in
// Caddy's storage, answers a cold start while the issuer is down, and gives way
// to what the issuer publishes when it is back; figures and events tell of it.
func TestCaddy_keysOutliveTheirIssuerAndTheProcess(t *testing.T) {
	heard.Lock()
	heard.events = nil
	heard.Unlock()
	first, second := edgetest.Key(t, "EdDSA"), edgetest.Key(t, "EdDSA")
	k := &keyServer{Port: edgetest.NewPort(t), paths: map[string]string{}}
	k.publish("/keys", string(jwks.Marshal([]jwks.Key{{ID: "first", Material: edgetest.Public(first)}})))
	k.up(t)
	issuer := "http://" + k.Address + "/realm"
	k.publish("/realm/.well-known/openid-configuration", `{"issuer":"`+issuer+`","jwks_uri":"http://`+k.Address+`/keys"}`)
	old := edgetest.Token(t, "EdDSA", first, edgetest.Claims(issuer, "gatehouse", nil), map[string]any{"kid": "first"})
	rotated := edgetest.Token(t, "EdDSA", second, edgetest.Claims(issuer, "gatehouse", nil), map[string]any{"kid": "second"})

	dir := t.TempDir()
	s := site{
		body: `edge_guard
	metrics /metrics
	edge_session /app
	respond /app "{edge.user}"`,
		key:    edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))),
		issuer: "issuer " + issuer + " {\n\t\t\tdiscovery\n\t\t\taudience gatehouse\n\t\t}",
		globals: "storage file_system " + dir + "\n\tevents {\n\t\ton " + strings.Join([]string{
			edge.EventKeysStale, "edgetest\n\t\ton " + edge.EventKeysRotated, "edgetest\n\t\ton " + edge.EventKeysRecovered, "edgetest\n\t\ton " + edge.EventKeysUnavailable,
		}, " ") + " edgetest\n\t}",
	}
	address := edgetest.Run(t, s.String())
	ask := func(token string) int {
		t.Helper()
		a := edgetest.Raw(t, address, "GET /app HTTP/1.1\nHost: pop.example\nCookie: session="+token+"\n\n")
		if a.StatusCode == 200 && a.Body != issuer+" ada" {
			t.Errorf("the user is %q", a.Body)
		}
		return a.StatusCode
	}
	metric := func(want string) bool {
		t.Helper()
		body := edgetest.Raw(t, address, "GET /metrics HTTP/1.1\nHost: pop.example\n\n").Body
		return slices.Contains(strings.Split(body, "\n"), want)
	}
	label := `{issuer="` + issuer + `"}`
	loads := func(result string) string {
		return handoff.MetricJWKSLoads + `{issuer="` + issuer + `",result="` + result + `"} `
	}

	if got := ask(old); got != 200 {
		t.Fatalf("with the issuer up: %d", got)
	}
	eventually(t, "a kept key set", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "gatehouse/jwks/*.json"))
		return len(files) == 1
	})
	eventually(t, "figures of the fetch", func() bool {
		return metric(loads("fetched")+"1") && metric(handoff.MetricJWKSKeys+label+" 1") && metric(handoff.MetricJWKSStale+label+" 0")
	})

	// The whole process ends; the issuer is down when another starts.
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	k.server.Close()
	if err := edgetest.Load(s.String()); err != nil {
		t.Fatalf("a cold start needs its issuer: %v", err)
	}
	address = edgetest.Address(t)
	for range 3 {
		if got := ask(old); got != 200 {
			t.Fatalf("cold start with the issuer down: %d", got)
		}
	}
	if got := ask(rotated); got != 503 {
		t.Errorf("an unknown key, which may be the newest: %d", got)
	}
	eventually(t, "the event that it is stale", func() bool { return slices.Contains(heardNames(), edge.EventKeysStale) })
	if !metric(loads("restored")+"1") || !metric(handoff.MetricJWKSStale+label+" 1") || !metric(handoff.MetricJWKSKeys+label+" 1") {
		t.Error("the figures do not say that a kept set answers")
	}

	// It comes back, with another key.
	k.publish("/keys", string(jwks.Marshal([]jwks.Key{{ID: "second", Material: edgetest.Public(second)}})))
	k.up(t)
	eventually(t, "the issuer's new key", func() bool { return ask(rotated) == 200 })
	if got := ask(old); got != 401 {
		t.Errorf("a key that the issuer dropped: %d", got)
	}
	eventually(t, "the events of its return", func() bool {
		return slices.Contains(heardNames(), edge.EventKeysRecovered) && slices.Contains(heardNames(), edge.EventKeysRotated)
	})
	eventually(t, "the figures of its return", func() bool { return metric(handoff.MetricJWKSStale + label + " 0") })
	if count := strings.Count(strings.Join(heardNames(), " "), edge.EventKeysStale); count != 1 {
		t.Errorf("%d events for one outage", count)
	}
	heard.Lock()
	defer heard.Unlock()
	for _, e := range heard.events {
		if e.Data["issuer"] != issuer || e.Data["source"] != "discovery" || e.Data["keys"] != 1 {
			t.Errorf("%s says %v", e.Name(), e.Data)
		}
	}
}

// TestCaddy_aDamagedKeptSetIsPassedOver: nothing that lies in the storage keeps
// a POP from starting, nor brings keys of another issuer.
func TestCaddy_aDamagedKeptSetIsPassedOver(t *testing.T) {
	key, other := edgetest.Key(t, "EdDSA"), edgetest.Key(t, "EdDSA")
	k := &keyServer{Port: edgetest.NewPort(t), paths: map[string]string{}}
	k.publish("/keys", string(jwks.Marshal([]jwks.Key{{ID: "k", Material: edgetest.Public(key)}})))
	k.up(t)
	dir := t.TempDir()
	s := site{
		body:    "edge_guard\n\tedge_session /app\n\trespond ok",
		key:     edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))),
		issuer:  "issuer damaged {\n\t\t\tjwks_url http://" + k.Address + "/keys\n\t\t\taudience gatehouse\n\t\t}",
		globals: "storage file_system " + dir,
	}
	address := edgetest.Run(t, s.String())
	ask := func(key any) int {
		token := edgetest.Token(t, "EdDSA", key, edgetest.Claims("damaged", "gatehouse", nil), map[string]any{"kid": "k"})
		return edgetest.Raw(t, address, "GET /app HTTP/1.1\nHost: pop.example\nCookie: session="+token+"\n\n").StatusCode
	}
	if got := ask(key); got != 200 {
		t.Fatal(got)
	}
	var file string
	eventually(t, "a kept key set", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "gatehouse/jwks/*.json"))
		if len(files) == 1 {
			file = files[0]
		}
		return file != ""
	})
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	foreign := strings.Replace(string(good), `"issuer":"damaged"`, `"issuer":"another"`, 1)
	if foreign == string(good) {
		t.Fatalf("no issuer in %s", good)
	}
	forged := string(jwks.Marshal([]jwks.Key{{ID: "k", Material: edgetest.Public(other)}}))
	for name, content := range map[string]string{
		"empty": "", "rubbish": "\x00\xff", "half": string(good[:len(good)/2]), "of another issuer": foreign,
		"a bare key set": forged, "no keys": `{"issuer":"damaged","url":"http://` + k.Address + `/keys","fetched":"2026-01-01T00:00:00Z","jwks":{"keys":[]}}`,
		"too old": `{"issuer":"damaged","url":"http://` + k.Address + `/keys","fetched":"2020-01-01T00:00:00Z","jwks":` + forged + `}`,
	} {
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := edgetest.Load(s.String()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		address = edgetest.Address(t)
		if got := ask(other); got != 401 {
			t.Errorf("%s: another's key: %d", name, got)
		}
		if got := ask(key); got != 200 {
			t.Errorf("%s: %d", name, got)
		}
		eventually(t, "the good set is kept again", func() bool {
			data, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(data), `"issuer":"damaged"`) && string(data) != content
		})
	}
}

// TestCaddy_aFloodOfInventedKeysIsOneFetch, through the whole edge.
func TestCaddy_aFloodOfInventedKeysIsOneFetch(t *testing.T) {
	key := edgetest.Key(t, "EdDSA")
	k := &keyServer{Port: edgetest.NewPort(t), paths: map[string]string{}}
	k.publish("/keys", string(jwks.Marshal([]jwks.Key{{ID: "k", Material: edgetest.Public(key)}})))
	k.up(t)
	s := site{
		body:    "edge_guard\n\tedge_session /app\n\trespond ok",
		key:     edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))),
		issuer:  "issuer flooded {\n\t\t\tjwks_url http://" + k.Address + "/keys\n\t\t\taudience gatehouse\n\t\t}",
		globals: "storage file_system " + t.TempDir(),
	}
	address := edgetest.Run(t, s.String())
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	began := time.Now()
	token := edgetest.Token(t, "EdDSA", key, edgetest.Claims("flooded", "gatehouse", nil), map[string]any{"kid": "@"})
	_, rest, _ := strings.Cut(token, ".")
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for n := range 1250 {
				r, _ := http.NewRequest(http.MethodGet, "http://"+address+"/app", nil)
				r.Header.Set("Cookie", "session="+inventedHeader(worker*1250+n)+"."+rest)
				res, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				if res.StatusCode != 401 {
					t.Errorf("status %d", res.StatusCode)
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	k.mu.Lock()
	defer k.mu.Unlock()
	if allowed := 1 + int(took/jwks.DefaultCooldown); k.asked > allowed {
		t.Errorf("10,000 invented keys in %s cost %d fetches, %d are allowed", took, k.asked, allowed)
	}
	t.Logf("10,000 invented keys in %s, %d fetches", took, k.asked)
}

// inventedHeader is a token's header that names a key of no issuer.
func inventedHeader(n int) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"EdDSA","kid":"bogus-%d"}`, n))
}
