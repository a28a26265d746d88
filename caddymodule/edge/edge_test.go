package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

func write(t *testing.T, mode os.FileMode, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return path
}

func encode(t *testing.T, kind string, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newApp(assertion *Assertion, issuers ...*Issuer) *App {
	return &App{
		POP: "fra", DefaultRegion: "eu", Regions: []*Region{{Name: "eu", Upstreams: []string{"127.0.0.1:9"}}},
		Assertion: assertion, Issuers: issuers,
	}
}

// start provisions and starts a, and cleans up after it.
func start(t *testing.T, a *App) error {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := a.Provision(ctx); err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	t.Cleanup(func() { _ = a.Cleanup() })
	return a.Start()
}

func TestAssertion_signsWithItsFirstKeyAndPublishesAll(t *testing.T) {
	first, second, third := newKey(t), newKey(t), newKey(t)
	t.Setenv("GATEHOUSE_TEST_KEY", string(encode(t, "PRIVATE KEY", first)))
	a := newApp(&Assertion{KeyEnv: "GATEHOUSE_TEST_KEY", KeyFiles: []string{
		write(t, 0o600, encode(t, "PRIVATE KEY", second)), write(t, 0o400, encode(t, "PRIVATE KEY", third)),
	}})
	if err := start(t, a); err != nil {
		t.Fatal(err)
	}
	published, err := a.PublishedKeys()
	if err != nil {
		t.Fatal(err)
	}
	set, err := jwks.Parse(published)
	if err != nil || set.Len() != 3 {
		t.Fatalf("%s: %v", published, err)
	}
	if set.Keys()[0].ID != jwks.Thumbprint(first.Public()) {
		t.Error("the key that signs is not published first")
	}
	if strings.Contains(string(published), `"d"`) {
		t.Error("a private key is published")
	}
	token, err := a.Sign(handoff.NewClaims("fra", "eu", "eu", handoff.Identity{}, time.Now()))
	if err != nil || strings.Count(token, ".") != 2 {
		t.Errorf("%q, %v", token, err)
	}
}

func TestAssertion_aSecretIsNeverPublished(t *testing.T) {
	t.Parallel()
	a := newApp(&Assertion{SecretFile: write(t, 0o600, []byte(strings.Repeat("s", 32)+"\n"))})
	if err := start(t, a); err != nil {
		t.Fatal(err)
	}
	if published, err := a.PublishedKeys(); err != nil || string(published) != `{"keys":[]}` {
		t.Errorf("%s, %v", published, err)
	}
}

func TestStart_refusesKeysThatOthersCouldReadOrWrite(t *testing.T) {
	t.Parallel()
	good := encode(t, "PRIVATE KEY", newKey(t))
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := jwks.Marshal([]jwks.Key{{ID: "k", Material: newKey(t).Public()}})
	assertion := func(path string) *App { return newApp(&Assertion{KeyFiles: []string{path}}) }
	issuer := func(i Issuer) *App {
		i.Name, i.AnyAudience = "https://eu.example", true
		return newApp(&Assertion{KeyFiles: []string{write(t, 0o600, good)}}, &i)
	}
	for name, row := range map[string]struct {
		app  *App
		want string
	}{
		"a key others can read":       {assertion(write(t, 0o644, good)), "mode 0644: others could read the key; run chmod 600"},
		"a key its group can read":    {assertion(write(t, 0o640, good)), "mode 0640"},
		"no such key":                 {assertion("/nonexistent/key.pem"), "no such file"},
		"a directory":                 {assertion(t.TempDir()), "is not a regular file"},
		"no PEM":                      {assertion(write(t, 0o600, []byte("key"))), `not a PEM block "PRIVATE KEY"`},
		"another kind of key":         {assertion(write(t, 0o600, encode(t, "PRIVATE KEY", p256))), "an Ed25519 key is needed"},
		"another kind of block":       {assertion(write(t, 0o600, encode(t, "EC PRIVATE KEY", newKey(t)))), "not a PEM block"},
		"two keys in a file":          {assertion(write(t, 0o600, append(append([]byte{}, good...), good...))), "more than one key"},
		"a huge file":                 {assertion(write(t, 0o600, make([]byte, maxKeyFile+1))), "is over"},
		"an unset variable":           {newApp(&Assertion{KeyEnv: "GATEHOUSE_TEST_UNSET"}), "GATEHOUSE_TEST_UNSET is empty or not set"},
		"a short secret":              {newApp(&Assertion{SecretFile: write(t, 0o600, []byte("short"))}), "at least 32"},
		"a secret others can read":    {newApp(&Assertion{SecretFile: write(t, 0o604, []byte(strings.Repeat("s", 32)))}), "mode 0604"},
		"an issuer others can write":  {issuer(Issuer{KeyFile: write(t, 0o666, public)}), "others could put keys into it; run chmod go-w"},
		"an issuer that is no JWKS":   {issuer(Issuer{KeyFile: write(t, 0o644, []byte("{}"))}), "no key that can verify"},
		"an issuer's secret is short": {issuer(Issuer{SecretFile: write(t, 0o600, []byte("short"))}), `issuer "https://eu.example": the secret has 5 bytes`},
	} {
		err := start(t, row.app)
		if err == nil || !strings.Contains(err.Error(), row.want) || !strings.HasPrefix(err.Error(), "edge: ") {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	if err := start(t, issuer(Issuer{KeyFile: write(t, 0o644, public)})); err != nil {
		t.Errorf("public keys that all can read: %v", err)
	}
}

func TestProvision_readsNoKey(t *testing.T) {
	t.Parallel()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	a := newApp(&Assertion{KeyFiles: []string{"/nonexistent"}}, &Issuer{Name: "x", AnyAudience: true, SecretEnv: "GATEHOUSE_TEST_UNSET"})
	if err := a.Provision(ctx); err != nil {
		t.Errorf("a configuration cannot be validated without its keys: %v", err)
	}
}

// What Caddyfile parsing finds is found in JSON too, and null is no crash.
func TestProvision_refusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*App)
		want   string
	}{
		"no POP":               {func(a *App) { a.POP = "" }, "pop"},
		"a null region":        {func(a *App) { a.Regions = append(a.Regions, nil) }, "a region is null"},
		"two of a name":        {func(a *App) { a.Regions = append(a.Regions, a.Regions[0]) }, "region eu stands twice"},
		"a null issuer":        {func(a *App) { a.Issuers = []*Issuer{nil} }, "an issuer has no name"},
		"no default region":    {func(a *App) { a.DefaultRegion = "" }, "no default_region"},
		"no assertion":         {func(a *App) { a.Assertion = nil }, "no assertion"},
		"a cookie of no name":  {func(a *App) { a.SessionCookie = "a b" }, "session_cookie"},
		"an issuer of no keys": {func(a *App) { a.Issuers = []*Issuer{{Name: "x", AnyAudience: true}} }, "0 are given"},
		"several without a limit": {func(a *App) {
			a.Issuers = []*Issuer{{Name: "x", AnyAudience: true, KeyFile: "k", AnyTenant: true}, {Name: "y", AnyAudience: true, KeyFile: "k"}}
		}, `issuer "y": there are several issuers`},
		"a limit and none": {func(a *App) {
			a.Issuers = []*Issuer{{Name: "x", AnyAudience: true, KeyFile: "k", AnyTenant: true, Tenants: []string{"acme"}}}
		}, "exclude each other"},
		"an unknown claim": {func(a *App) {
			a.Issuers = []*Issuer{{Name: "x", AnyAudience: true, KeyFile: "k", Claims: map[string]string{"sub": "email"}}}
		}, "can have another name"},
		"a claim of no name": {func(a *App) {
			a.Issuers = []*Issuer{{Name: "x", AnyAudience: true, KeyFile: "k", Claims: map[string]string{"tenant": ""}}}
		}, "say what its tokens call it"},
		"a negative leeway": {func(a *App) { a.Issuers = []*Issuer{{Name: "x", AnyAudience: true, KeyFile: "k", Leeway: -1}} }, "leeway"},
	} {
		a := newApp(&Assertion{KeyEnv: "X"})
		row.change(a)
		if err := start(t, a); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
}

type closer struct{ closed int }

func (c *closer) Close() error { c.closed++; return nil }

func TestShared_outlivesItsConfigurationUntilTheLast(t *testing.T) {
	t.Parallel()
	key := t.Name()
	made := 0
	get := func(a *App) *closer {
		t.Helper()
		c, err := Shared(a, key, func() (*closer, error) { made++; return new(closer), nil })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var old, next App
	if _, ok := Found[*closer](&old, key); ok {
		t.Error("found before it was made")
	}
	first := get(&old)
	if c, ok := Found[*closer](&old, key); !ok || c != first {
		t.Error("not found")
	}
	if _, ok := Found[*closer](&next, key); ok {
		t.Error("found by who has it not")
	}
	if _, ok := Found[int](&old, key); ok {
		t.Error("found as another kind")
	}
	if get(&old) != first || get(&next) != first || made != 1 {
		t.Fatalf("made %d times", made)
	}
	if err := old.Cleanup(); err != nil || first.closed != 0 {
		t.Fatalf("closed with a user left: %v", err)
	}
	if err := next.Cleanup(); err != nil || first.closed != 1 {
		t.Errorf("closed %d times: %v", first.closed, err)
	}
	if _, ok := Found[*closer](&next, key); ok {
		t.Error("found though it is closed")
	}
	if get(&next) == first || made != 2 {
		t.Error("the closed one is given again")
	}
	if _, err := Shared(&next, key, func() (int, error) { return 1, nil }); err == nil {
		t.Error("one key holds two kinds of value")
	}
	if err := next.Cleanup(); err != nil {
		t.Error(err)
	}
	if _, err := Shared(&next, key+"/fails", func() (int, error) { return 0, os.ErrPermission }); err == nil || !strings.Contains(err.Error(), key+"/fails") {
		t.Errorf("error %v", err)
	}
}

func TestApp_findsRegionsAndIssuers(t *testing.T) {
	t.Parallel()
	a := newApp(&Assertion{KeyEnv: "X"}, &Issuer{Name: "i"})
	a.Regions = append(a.Regions, &Region{Name: "us", PublicName: "america", Countries: []string{"US"}})
	if a.Region("us") == nil || a.Region("america") != nil || a.RegionByPublicName("america") == nil || a.RegionByPublicName("us") != nil ||
		a.RegionOfCountry("US").Name != "us" || a.RegionOfCountry("") != nil || a.Issuer("i") == nil || a.Issuer("I") != nil {
		t.Error("a name is found that is none, or the other way round")
	}
}

func TestApp_warnsOfACookieThatOtherHostsCanSet(t *testing.T) {
	t.Parallel()
	secure := caddytls.ConnectionPolicies{new(caddytls.ConnectionPolicy)}
	for _, row := range []struct {
		cookie   string
		policies caddytls.ConnectionPolicies
		issuers  []*Issuer
		want     int
	}{
		{"session", secure, []*Issuer{{Name: "i"}}, 1},
		{"__Secure-session", secure, []*Issuer{{Name: "i"}}, 1},
		{DefaultSessionCookie, secure, []*Issuer{{Name: "i"}}, 0},
		{"session", nil, []*Issuer{{Name: "i"}}, 0},
		{"session", secure, nil, 0},
	} {
		core, logs := observer.New(zap.WarnLevel)
		a := newApp(nil, row.issuers...)
		a.SessionCookie, a.logger = row.cookie, zap.New(core)
		a.warnOfCookie(&caddyhttp.App{Servers: map[string]*caddyhttp.Server{"srv0": {}, "srv1": {TLSConnPolicies: row.policies}}})
		if logs.Len() != row.want {
			t.Errorf("%s, TLS %v: %d warnings", row.cookie, row.policies != nil, logs.Len())
		}
	}
}
