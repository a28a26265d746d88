package session

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

func newRequest() *http.Request { return edgetest.Request("GET", "/app", nil) }

func handlerFunc(f func()) caddyhttp.Handler {
	return caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { f(); return nil })
}

func TestVerify_keysOutOfReachAreNoFaultOfTheUser(t *testing.T) {
	t.Parallel()
	down := "http://" + edgetest.Nobody(t)
	f := newFixture(t, "EdDSA", func(_ *Session, i *edge.Issuer) { i.KeyFile, i.JWKSURL = "", down+"/jwks.json" })
	for _, h := range []http.Header{
		header("Cookie", "session="+f.token(t, nil)),
		header("Cookie", "session="+f.token(t, nil), "Sec-Fetch-Mode", "navigate"), // a login would not help
	} {
		s := f.serve(t, "GET", "/app", h)
		if s.Code != 503 || s.Auth != decision.AuthNoKeys || s.Header().Get("Location") != "" || s.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%d %s, Location %q", s.Code, s.Auth, s.Header().Get("Location"))
		}
		if after, err := strconv.Atoi(s.Header().Get("Retry-After")); err != nil || after < 1 {
			t.Errorf("Retry-After %q", s.Header().Get("Retry-After"))
		}
		if got := s.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("Content-Type %q", got)
		}
	}
}

func TestVerify_keysOfOneIssuerAreNotAnothers(t *testing.T) {
	t.Parallel()
	eu, us := edgetest.Key(t, "EdDSA"), edgetest.Key(t, "EdDSA")
	issuers := []*edge.Issuer{
		{Name: "eu", Audience: "gatehouse", AnyTenant: true, KeyFile: edgetest.KeyFile(t, jwks.Key{ID: "k", Material: edgetest.Public(eu)})},
		{Name: "us", Audience: "gatehouse-us", AnyTenant: true, KeyFile: edgetest.KeyFile(t, jwks.Key{ID: "k", Material: edgetest.Public(us)})},
	}
	f := &fixture{Session: &Session{MaxTokenSize: 8 << 10}}
	if err := f.begin(edgetest.App(t, issuers...)); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		iss, aud string
		key      any
		want     decision.Auth
	}{
		{"eu", "gatehouse", eu, decision.AuthSession},
		{"us", "gatehouse-us", us, decision.AuthSession},
		{"us", "gatehouse-us", eu, decision.AuthSignature},
		{"eu", "gatehouse", us, decision.AuthSignature},
		{"eu", "gatehouse-us", eu, decision.AuthAudience},
		{"us", "gatehouse", us, decision.AuthAudience},
	} {
		token := edgetest.Token(t, "EdDSA", row.key, edgetest.Claims(row.iss, row.aud, nil), map[string]any{"kid": "k"})
		if s := f.serve(t, "GET", "/app", header("Cookie", "session="+token)); s.Auth != row.want {
			t.Errorf("%s for %s: %q, want %q", row.iss, row.aud, s.Auth, row.want)
		}
	}
}

func TestVerify_anIssuersLeewayIsItsOwn(t *testing.T) {
	t.Parallel()
	key := edgetest.Key(t, "EdDSA")
	file := edgetest.KeyFile(t, jwks.Key{ID: "k", Material: edgetest.Public(key)})
	f := &fixture{Session: &Session{MaxTokenSize: 8 << 10}}
	if err := f.begin(edgetest.App(t,
		&edge.Issuer{Name: "strict", AnyAudience: true, AnyTenant: true, KeyFile: file, Leeway: 1},
		&edge.Issuer{Name: "lax", AnyAudience: true, AnyTenant: true, KeyFile: file, Leeway: 1e9 * 3600},
	)); err != nil {
		t.Fatal(err)
	}
	past := jwt.MapClaims{"exp": time.Now().Add(-time.Minute).Unix()}
	future := jwt.MapClaims{"nbf": time.Now().Add(time.Minute).Unix()}
	for _, row := range []struct {
		iss     string
		changes jwt.MapClaims
		want    decision.Auth
	}{
		{"strict", past, decision.AuthExpired}, {"lax", past, decision.AuthSession},
		{"strict", future, decision.AuthNotYet}, {"lax", future, decision.AuthSession},
	} {
		token := edgetest.Token(t, "EdDSA", key, edgetest.Claims(row.iss, "anything", row.changes), map[string]any{"kid": "k"})
		if s := f.serve(t, "GET", "/app", header("Cookie", "session="+token)); s.Auth != row.want {
			t.Errorf("%s: %q, want %q", row.iss, s.Auth, row.want)
		}
	}
}

func TestVerify_rememberedTokenEndsWithItsExp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "HS256") // in the bubble, so that the cache has its clock
		token := f.token(t, jwt.MapClaims{"exp": time.Now().Add(time.Minute).Unix()})
		ask := func() decision.Auth { return f.serve(t, "GET", "/app", header("Cookie", "session="+token)).Auth }
		if got := ask(); got != decision.AuthSession {
			t.Fatal(got)
		}
		time.Sleep(time.Minute + edge.DefaultIssuerLeeway - 2*time.Second)
		if got := ask(); got != decision.AuthSession {
			t.Errorf("within the leeway: %s", got)
		}
		time.Sleep(3 * time.Second)
		if got := ask(); got != decision.AuthExpired {
			t.Errorf("beyond it: %s", got)
		}
	})
}

func TestVerify_hitAsksTheClockAndNotTheCacheAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	token := f.token(t, nil)
	fresh, sum, err := f.verifier.verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	old := *fresh
	old.expires = time.Now().Add(-time.Hour)
	if err := old.inTime(time.Now(), 0); err == nil {
		t.Error("an old verdict is in time")
	}
	if ok, err := f.verifier.holds(t.Context(), &old); ok || err == nil {
		t.Error("an old verdict holds")
	}
	if known, ok := f.verifier.verdicts.cache.GetIfPresent(sum); !ok || known != fresh {
		t.Error("a good token is not remembered")
	}
}

func TestVerify_refusedTokensAreNotRemembered(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) { s.MaxTokenSize = 8000 })
	for i := range 100 {
		f.serve(t, "GET", "/app", header("Cookie", fmt.Sprintf("session=%s", f.token(t, jwt.MapClaims{"exp": i}))))
	}
	f.verifier.verdicts.cache.CleanUp()
	for _, v := range slices.Collect(f.verifier.verdicts.cache.Values()) {
		if v.expires.Year() < 2000 {
			t.Fatal("a refused token is in the cache")
		}
	}
}

// The same issuers share what was verified; other settings, another key do not.
func TestVerify_reloadKeepsVerdictsOfTheSamePolicy(t *testing.T) {
	t.Parallel()
	private := edgetest.Key(t, "EdDSA")
	file := edgetest.KeyFile(t, jwks.Key{ID: "k", Material: edgetest.Public(private)})
	name := "https://reload.example"
	load := func(change func(*edge.Issuer)) *verifier {
		i := &edge.Issuer{Name: name, Audience: audience, KeyFile: file}
		if change != nil {
			change(i)
		}
		v, err := newVerifier(edgetest.App(t, i), 8<<10)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	token := edgetest.Token(t, "EdDSA", private, edgetest.Claims(name, audience, nil), map[string]any{"kid": "k"})
	first := load(nil)
	known, _, err := first.verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	second := load(nil)
	if again, _, err := second.verify(t.Context(), token); err != nil || again != known {
		t.Errorf("the next configuration verified again: %v", err)
	}
	if narrowed := load(func(i *edge.Issuer) { i.Audience = "billing" }); narrowed.verdicts == first.verdicts {
		t.Error("another audience shares what was verified")
	}
	small := load(nil) // of a route with a lower max_token_size
	if small.maxBytes = len(token) - 1; small.verdicts != first.verdicts {
		t.Fatal("the verdicts are not shared, so that this shows nothing")
	}
	if _, _, err := small.verify(t.Context(), token); !errors.Is(err, strictjwt.ErrTooLarge) {
		t.Errorf("a token that another route let in is over this one's limit: %v", err)
	}
	// The issuer is asked for the key on every hit: one that it dropped or
	// replaced ends what was signed with it, remembered or not.
	for _, row := range []struct {
		id   string
		want error
	}{{"k", strictjwt.ErrSignature}, {"other", strictjwt.ErrKey}} {
		key := jwks.Key{ID: row.id, Material: edgetest.Public(edgetest.Key(t, "EdDSA"))}
		if err := os.WriteFile(file, jwks.Marshal([]jwks.Key{key}), 0o600); err != nil {
			t.Fatal(err)
		}
		later := load(nil)
		if later.verdicts != first.verdicts {
			t.Fatal("the verdicts were not kept, so that this shows nothing")
		}
		if _, _, err := later.verify(t.Context(), token); !errors.Is(err, row.want) {
			t.Errorf("key replaced by %q: %v, want %v", row.id, err, row.want)
		}
	}
}

func TestVerify_memoryIsBounded(t *testing.T) {
	t.Parallel()
	v, err := newVerdicts()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	big := &verdict{expires: time.Now().Add(time.Hour), identity: handoff.Identity{Roles: slices.Repeat([]string{string(make([]byte, maxRole))}, maxRoles)}}
	for i := range 20000 {
		var key [32]byte
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i>>16)
		v.cache.Set(key, big)
	}
	v.cache.CleanUp()
	if weight := v.cache.WeightedSize(); weight > cacheBytes {
		t.Errorf("%d bytes, at most %d", weight, cacheBytes)
	}
}

// heap is how many bytes live after a collection.
func heap() int {
	runtime.GC()
	runtime.GC() // what the first one only unlinked
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// flood sends n distinct tokens of these claims, from the n-th on.
func flood(t testing.TB, f *fixture, from, n int, claims func(i int) jwt.MapClaims, want decision.Auth) {
	t.Helper()
	for i := from; i < from+n; i++ {
		auth := decision.AuthSession
		if _, _, err := f.verifier.verify(t.Context(), f.token(t, claims(i))); err != nil {
			auth = authOf(err)
		}
		if auth != want {
			t.Fatalf("token %d: %s, want %s", i, auth, want)
		}
	}
}

func distinct(i int) jwt.MapClaims {
	return jwt.MapClaims{"sub": fmt.Sprintf("user-%d", i), "sid": fmt.Sprintf("session-%d", i), "tenant_id": fmt.Sprintf("tenant-%d", i)}
}

// TestVerify_aFloodOfTokensTakesNoMoreMemory: neither more distinct good tokens
// than the cache holds, nor any number of bad ones. It does not run beside other
// tests, whose memory would count.
func TestVerify_aFloodOfTokensTakesNoMoreMemory(t *testing.T) {
	f := newFixture(t, "HS256")
	before := heap()
	full := 1
	for full < cacheBytes/600 { // until the cache is full
		flood(t, f, full, 10_000, distinct, decision.AuthSession)
		full += 10_000
	}
	f.verifier.verdicts.cache.CleanUp()
	held := heap()
	flood(t, f, full, 40_000, distinct, decision.AuthSession)
	flood(t, f, 0, 20_000, func(i int) jwt.MapClaims {
		claims := distinct(i)
		claims["exp"] = 1 + i
		return claims
	}, decision.AuthExpired)
	flood(t, f, 0, 20_000, func(i int) jwt.MapClaims { return jwt.MapClaims{"iss": fmt.Sprintf("https://%d.example", i)} }, decision.AuthIssuer)
	f.verifier.verdicts.cache.CleanUp()
	after := heap()
	entries := f.verifier.verdicts.cache.EstimatedSize()
	t.Logf("%d entries: %d bytes each, %d MiB held, %d KiB more after the flood", entries, (held-before)/max(1, entries), (held-before)>>20, (after-held)>>10)
	if weight := f.verifier.verdicts.cache.WeightedSize(); weight > cacheBytes {
		t.Errorf("the cache weighs %d, at most %d", weight, cacheBytes)
	}
	if held-before > 3*cacheBytes/2 {
		t.Errorf("a full cache takes %d bytes, it counts %d", held-before, cacheBytes)
	}
	if after-held > 4<<20 {
		t.Errorf("the flood took %d bytes more", after-held)
	}
}
