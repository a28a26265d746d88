package handoff_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

// The world of these tests: two POPs, region eu, and one moment.
var (
	moment = time.Unix(1_800_000_000, 0)
	ada    = handoff.Identity{
		Tenant: "acme", Subject: "user-1", SubjectIssuer: "https://eu.gatehouse.example",
		Session: "session-1", Roles: []string{"member", "approver"},
	}
	nobody handoff.Identity
)

const requestID = "0191d9a8-4f0e-7c5e-9a53-0d6f0c9b7c11"

// popKey is the key of a POP, always the same: the vectors are made with it.
func popKey(pop string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, "not a secret: test key of "+pop)
	return ed25519.NewKeyFromSeed(seed)
}

func signer(t testing.TB, pop string) *handoff.Signer {
	t.Helper()
	s, err := handoff.NewSigner(popKey(pop))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func popKeys(t testing.TB) handoff.StaticKeys {
	t.Helper()
	keys := handoff.StaticKeys{}
	for _, pop := range []string{"fra", "iad"} {
		set, err := jwks.NewSet(signer(t, pop).Key())
		if err != nil {
			t.Fatal(err)
		}
		keys[pop] = set
	}
	return keys
}

func verifier(t testing.TB) *handoff.Verifier {
	t.Helper()
	return &handoff.Verifier{Region: "eu", Keys: popKeys(t), Now: func() time.Time { return moment }}
}

// call is a request to the region as a POP makes it, and what a row changes.
type call struct {
	method, target string
	who            handoff.Identity
	claims         func(c *handoff.Claims) // before signing; nil: nothing
	header         func(h http.Header)     // after; nil: nothing
	unbound        bool                    // leave an unsafe method unbound
	signer         *handoff.Signer         // nil: of POP fra
	raw            func(assertion string) string
}

func (c call) request(t testing.TB) *http.Request {
	t.Helper()
	r := httptest.NewRequest(c.method, c.target, nil)
	claims := handoff.NewClaims("fra", "eu", "eu", c.who, moment)
	if handoff.Unsafe(c.method) && !c.unbound {
		claims.Bind(requestID, c.method, c.target)
	}
	if c.claims != nil {
		c.claims(claims)
	}
	s := c.signer
	if s == nil {
		s = signer(t, "fra")
	}
	assertion := signAnyway(t, s, popKey("fra"), claims)
	if c.raw != nil {
		assertion = c.raw(assertion)
	}
	r.Header.Set(handoff.HeaderAssertion, assertion)
	r.Header.Set(handoff.HeaderRequestID, requestID)
	r.Header.Set(handoff.HeaderHomeRegion, "eu")
	if c.who.Tenant != "" {
		r.Header.Set(handoff.HeaderTenant, c.who.Tenant)
	}
	if c.header != nil {
		c.header(r.Header)
	}
	return r
}

// signAnyway signs what a Signer refuses to sign, as a POP gone wrong might.
func signAnyway(t testing.TB, s *handoff.Signer, key ed25519.PrivateKey, claims *handoff.Claims) string {
	t.Helper()
	if assertion, err := s.Sign(claims); err == nil {
		return assertion
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"], token.Header["typ"] = s.Key().ID, handoff.AssertionType
	assertion, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return assertion
}

func set(name, value string) func(http.Header) {
	return func(h http.Header) { h[name] = []string{value} }
}

func add(name, value string) func(http.Header) {
	return func(h http.Header) { h[name] = append(h[name], value) }
}

func drop(name string) func(http.Header) { return func(h http.Header) { delete(h, name) } }

func TestVerify_whatAPOPSends(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		call call
	}{
		{"a read of a session", call{method: "GET", target: "/api/orders?limit=5", who: ada}},
		{"a read of nobody", call{method: "GET", target: "/products/coffee", who: nobody}},
		{"a read of a tenant without a user", call{method: "GET", target: "/products/coffee", who: handoff.Identity{Tenant: "acme"}}},
		{"a HEAD", call{method: "HEAD", target: "/", who: ada}},
		{"an OPTIONS", call{method: "OPTIONS", target: "/api/orders", who: nobody}},
		{"a write", call{method: "POST", target: "/api/orders", who: ada}},
		{"a write with a query that JSON would escape", call{method: "PUT", target: "/api/x?a=1&b=%3Cc%3E&q=%22<>'", who: ada}},
		{"a write of nobody: the login", call{method: "POST", target: "/login", who: nobody}},
		{"a read that is bound", call{method: "GET", target: "/api/orders", who: ada, claims: func(c *handoff.Claims) { c.Bind(requestID, "GET", "/api/orders") }}},
		{"an empty tenant header for nobody", call{method: "GET", target: "/", who: nobody, header: set("X-Tenant-Id", "")}},
		{"a home elsewhere, for a route that may be read anywhere", call{method: "GET", target: "/", who: ada,
			claims: func(c *handoff.Claims) { c.Home = "us" }, header: set("X-Home-Region", "us")}},
		{"reused at the end of its reuse", call{method: "GET", target: "/", who: ada, claims: func(c *handoff.Claims) {
			c.IssuedAt = jwt.NewNumericDate(moment.Add(-handoff.AssertionReuse))
			c.ExpiresAt = jwt.NewNumericDate(moment.Add(handoff.AssertionLife - handoff.AssertionReuse))
		}}},
		{"the POP's clock behind within leeway", call{method: "GET", target: "/", who: ada, claims: func(c *handoff.Claims) {
			c.IssuedAt = jwt.NewNumericDate(moment.Add(-69 * time.Second))
			c.ExpiresAt = jwt.NewNumericDate(moment.Add(-9 * time.Second))
		}}},
		{"the POP's clock ahead within leeway", call{method: "GET", target: "/", who: ada, claims: func(c *handoff.Claims) {
			c.IssuedAt = jwt.NewNumericDate(moment.Add(10 * time.Second))
			c.ExpiresAt = jwt.NewNumericDate(moment.Add(70 * time.Second))
		}}},
		{"a header of the client's own", call{method: "GET", target: "/", who: ada, header: set("Authorization", "Bearer x")}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			claims, err := verifier(t).Verify(row.call.request(t))
			if err != nil {
				t.Fatal(err)
			}
			got, want := claims.Identity(), row.call.who
			if got.Tenant != want.Tenant || got.Subject != want.Subject || got.Session != want.Session ||
				got.SubjectIssuer != want.SubjectIssuer || strings.Join(got.Roles, ",") != strings.Join(want.Roles, ",") {
				t.Errorf("identity %+v, want %+v", got, want)
			}
			if claims.POP != "fra" || claims.ID == "" || claims.Replay {
				t.Errorf("claims %+v", claims)
			}
		})
	}
}

func TestVerify_whatNobodyMaySend(t *testing.T) {
	t.Parallel()
	get := func(change func(*call)) call {
		c := call{method: "GET", target: "/api/orders?limit=5", who: ada}
		change(&c)
		return c
	}
	post := func(change func(*call)) call {
		c := call{method: "POST", target: "/api/orders?draft=1", who: ada}
		change(&c)
		return c
	}
	for _, row := range []struct {
		name string
		call call
		want error
	}{
		{"no assertion", get(func(c *call) { c.header = drop("X-Edge-Assertion") }), handoff.ErrNoAssertion},
		{"an empty assertion", get(func(c *call) { c.header = set("X-Edge-Assertion", "") }), handoff.ErrNoAssertion},
		{"two assertions", get(func(c *call) { c.header = add("X-Edge-Assertion", "x.y.z") }), handoff.ErrTwice},
		{"the assertion twice", get(func(c *call) {
			c.header = func(h http.Header) { add("X-Edge-Assertion", h.Get("X-Edge-Assertion"))(h) }
		}), handoff.ErrTwice},
		{"two assertions in one header", get(func(c *call) { c.raw = func(a string) string { return a + ", " + a } }), strictjwt.ErrMalformed},
		{"rubbish", get(func(c *call) { c.raw = func(string) string { return "rubbish" } }), strictjwt.ErrMalformed},
		{"too large", get(func(c *call) {
			c.raw = func(a string) string { return a + strings.Repeat("A", handoff.AssertionMaxBytes) }
		}), strictjwt.ErrTooLarge},

		{"tenant header of another tenant", get(func(c *call) { c.header = set("X-Tenant-Id", "globex") }), handoff.ErrMismatch},
		{"tenant header in another case", get(func(c *call) { c.header = set("X-Tenant-Id", "ACME") }), handoff.ErrMismatch},
		{"tenant header with a space", get(func(c *call) { c.header = set("X-Tenant-Id", "acme ") }), handoff.ErrMismatch},
		{"tenant header absent", get(func(c *call) { c.header = drop("X-Tenant-Id") }), handoff.ErrMismatch},
		{"tenant header twice", get(func(c *call) { c.header = add("X-Tenant-Id", "acme") }), handoff.ErrTwice},
		{"tenant header twice, the second another's", get(func(c *call) { c.header = add("X-Tenant-Id", "globex") }), handoff.ErrTwice},
		{"tenant header a list", get(func(c *call) { c.header = set("X-Tenant-Id", "acme, globex") }), handoff.ErrMismatch},
		{"tenant header for nobody", get(func(c *call) { c.who = nobody; c.header = set("X-Tenant-Id", "acme") }), handoff.ErrMismatch},
		{"home header of another region", get(func(c *call) { c.header = set("X-Home-Region", "us") }), handoff.ErrMismatch},
		{"home header absent", get(func(c *call) { c.header = drop("X-Home-Region") }), handoff.ErrMismatch},
		{"home header twice", get(func(c *call) { c.header = add("X-Home-Region", "eu") }), handoff.ErrTwice},
		{"request id absent", get(func(c *call) { c.header = drop("X-Request-Id") }), handoff.ErrMismatch},
		{"request id malformed", get(func(c *call) { c.header = set("X-Request-Id", "a b") }), handoff.ErrMismatch},
		{"request id twice", get(func(c *call) { c.header = add("X-Request-Id", requestID) }), handoff.ErrTwice},

		{"a write that is not bound", post(func(c *call) { c.unbound = true }), handoff.ErrUnbound},
		{"a read's assertion for a method in lower case", call{method: "get", target: "/", who: ada, unbound: true}, handoff.ErrUnbound},
		{"a read's assertion for an unknown method", call{method: "PROPFIND", target: "/", who: ada, unbound: true}, handoff.ErrUnbound},
		{"bound to another method", post(func(c *call) { c.claims = func(c *handoff.Claims) { c.Method = "PUT" } }), handoff.ErrUnbound},
		{"bound to the method in lower case", post(func(c *call) { c.claims = func(c *handoff.Claims) { c.Method = "post" } }), handoff.ErrUnbound},
		{"bound to another path", post(func(c *call) { c.claims = func(c *handoff.Claims) { c.Path = "/api/products?draft=1" } }), handoff.ErrUnbound},
		{"bound to the path without the query", post(func(c *call) { c.claims = func(c *handoff.Claims) { c.Path = "/api/orders" } }), handoff.ErrUnbound},
		{"bound to another query", post(func(c *call) { c.claims = func(c *handoff.Claims) { c.Path = "/api/orders?draft=0" } }), handoff.ErrUnbound},
		{"bound to the path in another spelling", post(func(c *call) { c.claims = func(c *handoff.Claims) { c.Path = "/api/%6frders?draft=1" } }), handoff.ErrUnbound},
		{"bound to another request id", post(func(c *call) { c.claims = func(c *handoff.Claims) { c.RequestID = "another-request" } }), handoff.ErrUnbound},
		{"the request id exchanged", post(func(c *call) { c.header = set("X-Request-Id", "another-request") }), handoff.ErrUnbound},
		{"bound to the request id alone", post(func(c *call) { c.claims = func(c *handoff.Claims) { c.Method, c.Path = "", "" } }), handoff.ErrUnbound},
		{"bound to method and path alone", post(func(c *call) { c.claims = func(c *handoff.Claims) { c.RequestID = "" } }), handoff.ErrUnbound},
		{"a read bound to another path", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.Bind(requestID, "GET", "/api/products") } }), handoff.ErrUnbound},
		{"a read with a write's assertion", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.Bind(requestID, "POST", "/api/orders?limit=5") } }), handoff.ErrUnbound},

		{"for another region", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.Audience = jwt.ClaimStrings{"us"} } }), strictjwt.ErrAudience},
		{"for two regions", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.Audience = jwt.ClaimStrings{"eu", "us"} } }), strictjwt.ErrClaims},
		{"for no region", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.Audience = nil } }), strictjwt.ErrClaims},
		{"expired", get(func(c *call) {
			c.claims = func(c *handoff.Claims) {
				c.IssuedAt, c.ExpiresAt = jwt.NewNumericDate(moment.Add(-70*time.Second)), jwt.NewNumericDate(moment.Add(-10*time.Second))
			}
		}), strictjwt.ErrExpired},
		{"lives 61 s", get(func(c *call) {
			c.claims = func(c *handoff.Claims) { c.ExpiresAt = jwt.NewNumericDate(moment.Add(61 * time.Second)) }
		}), strictjwt.ErrClaims},
		{"lives a year", get(func(c *call) {
			c.claims = func(c *handoff.Claims) { c.ExpiresAt = jwt.NewNumericDate(moment.AddDate(1, 0, 0)) }
		}), strictjwt.ErrClaims},
		{"of the future", get(func(c *call) {
			c.claims = func(c *handoff.Claims) {
				c.IssuedAt, c.ExpiresAt = jwt.NewNumericDate(moment.Add(11*time.Second)), jwt.NewNumericDate(moment.Add(71*time.Second))
			}
		}), strictjwt.ErrNotYet},
		{"without iat", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.IssuedAt = nil } }), strictjwt.ErrClaims},
		{"without exp", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.ExpiresAt = nil } }), strictjwt.ErrClaims},
		{"not before a minute from now", get(func(c *call) {
			c.claims = func(c *handoff.Claims) { c.NotBefore = jwt.NewNumericDate(moment.Add(time.Minute)) }
		}), strictjwt.ErrNotYet},

		{"pop is not iss", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.POP = "iad" } }), strictjwt.ErrClaims},
		{"no pop", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.POP = "" } }), strictjwt.ErrClaims},
		{"no iss", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.Issuer = "" } }), strictjwt.ErrIssuer},
		{"an unknown POP", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.POP, c.Issuer = "sin", "sin" } }), strictjwt.ErrKey},
		{"POP iad signed with fra's key and kid", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.POP, c.Issuer = "iad", "iad" } }), strictjwt.ErrKey},
		{"no home", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.Home = "" }; c.header = drop("X-Home-Region") }), strictjwt.ErrClaims},
		{"a home that is no name", get(func(c *call) {
			c.claims = func(c *handoff.Claims) { c.Home = "../eu" }
			c.header = set("X-Home-Region", "../eu")
		}), strictjwt.ErrClaims},
		{"a tenant that is no name", get(func(c *call) {
			c.claims = func(c *handoff.Claims) { c.Tenant = "Acme Inc" }
			c.header = set("X-Tenant-Id", "Acme Inc")
		}), strictjwt.ErrClaims},
		{"a subject that nobody vouches for", get(func(c *call) { c.claims = func(c *handoff.Claims) { c.SubjectIssuer = "" } }), strictjwt.ErrClaims},
		{"roles of nobody", get(func(c *call) {
			c.who = nobody
			c.claims = func(c *handoff.Claims) { c.Roles = []string{"approver"} }
		}), strictjwt.ErrClaims},
		{"a session of nobody", get(func(c *call) { c.who = nobody; c.claims = func(c *handoff.Claims) { c.Session = "s" } }), strictjwt.ErrClaims},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			claims, err := verifier(t).Verify(row.call.request(t))
			if !errors.Is(err, row.want) {
				t.Errorf("%v, want %v", err, row.want)
			}
			if claims != nil {
				t.Error("claims are given with the error")
			}
		})
	}
}

// TestVerify_anotherTokenIsNoAssertion: with one shared secret for sessions
// and assertions, a session must not open a region and an assertion must not
// open a POP.
func TestVerify_anotherTokenIsNoAssertion(t *testing.T) {
	t.Parallel()
	secret := []byte("one secret for everything, alas!")
	keys, err := jwks.Secret(secret)
	if err != nil {
		t.Fatal(err)
	}
	v := verifier(t)
	v.Keys = handoff.StaticKeys{"fra": keys}
	claims := handoff.NewClaims("fra", "eu", "eu", ada, moment)
	session := jwt.NewWithClaims(jwt.SigningMethodHS256, claims) // typ JWT
	raw, err := session.SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	c := call{method: "GET", target: "/", who: ada, raw: func(string) string { return raw }}
	if _, err := v.Verify(c.request(t)); !errors.Is(err, strictjwt.ErrType) {
		t.Errorf("a session token at the region: %v", err)
	}

	s, err := handoff.NewSecretSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := s.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	asSession := strictjwt.Policy{Now: func() time.Time { return moment }}
	_, err = strictjwt.Verify(assertion, new(handoff.Claims), asSession, func(string, strictjwt.Header) (jwks.Key, error) { return keys.Keys()[0], nil })
	if !errors.Is(err, strictjwt.ErrType) {
		t.Errorf("an assertion at a POP: %v", err)
	}
	c.raw = func(string) string { return assertion }
	if _, err := v.Verify(c.request(t)); err != nil {
		t.Errorf("the assertion at the region: %v", err)
	}
}

func TestVerifier_unsetRefusesEverything(t *testing.T) {
	t.Parallel()
	r := call{method: "GET", target: "/", who: ada}.request(t)
	now := func() time.Time { return moment }
	for name, v := range map[string]*handoff.Verifier{
		"zero":            {},
		"no region":       {Keys: popKeys(t), Now: now},
		"no keys":         {Region: "eu", Now: now},
		"no POPs":         {Region: "eu", Keys: handoff.StaticKeys{}, Now: now},
		"nil set":         {Region: "eu", Keys: handoff.StaticKeys{"fra": nil}, Now: now},
		"nil set, remote": {Region: "eu", Keys: handoff.RemoteKeys{"fra": nil}, Now: now},
	} {
		if claims, err := v.Verify(r); err == nil || claims != nil {
			t.Errorf("%s: %+v, %v", name, claims, err)
		}
	}
}

// downKeys cannot know any key now.
type downKeys struct{}

func (downKeys) AssertionKey(context.Context, string, string) (jwks.Key, bool, error) {
	return jwks.Key{}, false, jwks.ErrUnavailable
}

func TestMiddleware_answers(t *testing.T) {
	t.Parallel()
	good := call{method: "POST", target: "/api/orders", who: ada}
	for _, row := range []struct {
		name   string
		keys   handoff.KeySource
		call   call
		status int
		kind   string
	}{
		{"trusted", nil, good, http.StatusNoContent, ""},
		{"without an assertion", nil, call{method: "POST", target: "/api/orders", who: ada, header: drop("X-Edge-Assertion")}, 401, problem.UntrustedHop},
		{"with a malformed request id", nil, call{method: "GET", target: "/", who: ada, header: set("X-Request-Id", "<script>")}, 401, problem.UntrustedHop},
		{"while the keys cannot be had", downKeys{}, good, 503, problem.Overloaded},
		{"on a path that is read in two ways", nil, call{method: "POST", target: "/public/%2e%2e/api", who: ada}, 400, problem.AmbiguousPath},
		{"on such a path and without an assertion", nil, call{method: "GET", target: "/a%2fb", who: ada, header: drop("X-Edge-Assertion")}, 400, problem.AmbiguousPath},
		{"HEAD without an assertion", nil, call{method: "HEAD", target: "/", who: ada, header: drop("X-Edge-Assertion")}, 401, problem.UntrustedHop},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			v := verifier(t)
			if row.keys != nil {
				v.Keys = row.keys
			}
			var refused error
			v.Refused = func(_ *http.Request, err error) { refused = err }
			reached := false
			handler := v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reached = true
				if claims := handoff.FromContext(r.Context()); claims == nil || claims.Tenant != "acme" {
					t.Errorf("the handler is given %+v", claims)
				}
				w.WriteHeader(http.StatusNoContent)
			}))
			w := httptest.NewRecorder()
			r := row.call.request(t)
			handler.ServeHTTP(w, r)
			if w.Code != row.status || reached != (row.kind == "") || (refused == nil) != reached {
				t.Fatalf("status %d, reached %t, refused %v", w.Code, reached, refused)
			}
			if row.kind == "" {
				return
			}
			if got := w.Header().Values("X-Request-Id"); len(got) != 1 || !handoff.ValidRequestID(got[0]) {
				t.Errorf("X-Request-Id %q", got)
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (row.status == 401) || (w.Header().Get("Retry-After") != "") != (row.status == 503) {
				t.Errorf("header %v", w.Header())
			}
			if row.call.method == "HEAD" {
				if w.Body.Len() != 0 {
					t.Errorf("HEAD is answered with %q", w.Body)
				}
				return
			}
			var p problem.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			if p.Name() != row.kind || p.RequestID != w.Header().Get("X-Request-Id") {
				t.Errorf("problem %+v", p)
			}
			if row.kind == problem.UntrustedHop && bytes.Contains(w.Body.Bytes(), []byte("assertion")) {
				t.Errorf("the caller is told what was wrong: %s", w.Body)
			}
		})
	}
}

func TestFromContext_outsideIsNil(t *testing.T) {
	t.Parallel()
	if handoff.FromContext(context.Background()) != nil {
		t.Error("claims from nowhere")
	}
}

// TestRemoteKeys_findTheKeysOfEachPOP over the wire, as a POP publishes them,
// and a rotation with an overlap refuses nobody.
func TestRemoteKeys_findTheKeysOfEachPOP(t *testing.T) {
	t.Parallel()
	published := map[string][]jwks.Key{"fra": {signer(t, "fra").Key()}, "iad": {signer(t, "iad").Key()}}
	keys := handoff.RemoteKeys{}
	at := moment
	for pop := range published {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != handoff.JWKSPath {
				http.NotFound(w, r)
				return
			}
			_, _ = w.Write(jwks.Marshal(published[pop]))
		}))
		t.Cleanup(server.Close)
		keys[pop] = &jwks.Remote{URL: server.URL + handoff.JWKSPath, Now: func() time.Time { return at }}
	}
	v := verifier(t)
	v.Keys, v.Now = keys, func() time.Time { return moment }
	good := call{method: "GET", target: "/", who: ada}
	if _, err := v.Verify(good.request(t)); err != nil {
		t.Fatal(err)
	}
	published["fra"] = []jwks.Key{signer(t, "fra-next").Key(), signer(t, "fra").Key()}
	at = at.Add(jwks.DefaultCooldown)
	next := good
	next.signer = signer(t, "fra-next")
	for _, c := range []call{next, good, next} {
		if _, err := v.Verify(c.request(t)); err != nil {
			t.Error(err)
		}
	}
	stranger := good
	stranger.signer = signer(t, "sin")
	if _, err := v.Verify(stranger.request(t)); !errors.Is(err, strictjwt.ErrKey) {
		t.Error(err)
	}
}

func FuzzAssertionHeader(f *testing.F) {
	v := verifier(f)
	fixed := func(c *handoff.Claims) { c.ID = "fixed" } // the processes of a run agree on one token
	bound := call{method: "POST", target: "/api/orders", who: ada, claims: fixed}.request(f)
	genuine := bound.Header.Get(handoff.HeaderAssertion)
	for _, c := range []call{
		{method: "GET", target: "/", who: ada}, {method: "GET", target: "/", who: nobody},
		{method: "POST", target: "/api/orders", who: ada, claims: fixed},
	} {
		h := c.request(f).Header
		f.Add(h.Get(handoff.HeaderAssertion), h.Get(handoff.HeaderTenant), "eu", requestID, "POST", "/api/orders")
	}
	f.Add("eyJhbGciOiJub25lIn0.e30.", "acme", "eu", requestID, "GET", "/")
	f.Add("", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, assertion, tenant, home, id, method, target string) {
		r := &http.Request{Method: method, RequestURI: target, Header: http.Header{
			handoff.HeaderAssertion: {assertion}, handoff.HeaderTenant: {tenant}, handoff.HeaderHomeRegion: {home}, handoff.HeaderRequestID: {id},
		}}
		claims, err := v.Verify(r)
		if (claims == nil) == (err == nil) {
			t.Fatal("claims and an error, or neither")
		}
		if err != nil {
			return
		}
		// What was accepted says of itself what its headers say, and an unsafe
		// method only what it was signed for.
		if claims.Tenant != tenant || claims.Home != home || !handoff.ValidRequestID(id) {
			t.Errorf("accepted %+v with tenant %q, home %q, id %q", claims, tenant, home, id)
		}
		if handoff.Unsafe(method) && (assertion != genuine || method != "POST" || target != "/api/orders" || id != requestID) {
			t.Errorf("accepted %s %s as %+v", method, target, claims)
		}
	})
}
