package handoff_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"flag"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

var update = flag.Bool("update", false, "write the vectors of testdata anew")

// The files of testdata, whose form docs/HANDOFF.md describes.
type (
	assertionVectors struct {
		Comment string                    `json:"comment"`
		Now     int64                     `json:"now"`
		Region  string                    `json:"region"`
		Leeway  int64                     `json:"leeway_seconds"`
		MaxLife int64                     `json:"max_life_seconds"`
		Keys    map[string]jsontext.Value `json:"keys_by_pop"`
		Secrets map[string]string         `json:"secrets_by_pop"`
		Cases   []assertionVector         `json:"cases"`
	}
	assertionVector struct {
		Name    string         `json:"name"`
		Request requestVector  `json:"request"`
		Status  int            `json:"status"`
		Reason  string         `json:"reason,omitempty"`
		Claims  jsontext.Value `json:"claims,omitempty"`
	}
	requestVector struct {
		Method  string      `json:"method"`
		Target  string      `json:"target"`
		Headers [][2]string `json:"headers"`
	}
	pathVectors struct {
		Comment string       `json:"comment"`
		Cases   []pathVector `json:"cases"`
	}
	pathVector struct {
		Target   string `json:"target"`
		Accepted bool   `json:"accepted"`
		Reason   string `json:"reason,omitempty"`
	}
	returnToVectors struct {
		Comment  string           `json:"comment"`
		Fallback string           `json:"fallback"`
		Cases    []returnToVector `json:"cases"`
	}
	returnToVector struct {
		Target string `json:"target"`
		Answer string `json:"answer"`
	}
	nameVectors struct {
		Comment     string   `json:"comment"`
		Protected   []string `json:"protected_headers"`
		Unprotected []string `json:"unprotected_headers"`
		GoodIDs     []string `json:"request_ids"`
		BadIDs      []string `json:"not_request_ids"`
		Tenants     []string `json:"tenants"`
		NoTenants   []string `json:"not_tenants"`
	}
)

const devSecret = "not a secret: test secret of POP dev"

// reasons name the outcome of a refused vector.
var reasons = []struct {
	err  error
	name string
}{
	{handoff.ErrNoAssertion, "no-assertion"}, {handoff.ErrTwice, "header-twice"}, {handoff.ErrMismatch, "header-mismatch"},
	{handoff.ErrUnbound, "not-bound-to-this-request"}, {strictjwt.ErrMalformed, "malformed"}, {strictjwt.ErrTooLarge, "too-large"},
	{strictjwt.ErrAlgorithm, "algorithm"}, {strictjwt.ErrCritical, "critical-header"}, {strictjwt.ErrType, "type"},
	{strictjwt.ErrIssuer, "issuer"}, {strictjwt.ErrKey, "key"}, {strictjwt.ErrSignature, "signature"}, {strictjwt.ErrExpired, "expired"},
	{strictjwt.ErrNotYet, "not-yet"}, {strictjwt.ErrAudience, "audience"}, {strictjwt.ErrClaims, "claims"},
	{handoff.ErrPathForm, "form"}, {handoff.ErrPathDoubleSlash, "double-slash"}, {handoff.ErrPathDotSegment, "dot-segment"},
	{handoff.ErrPathBackslash, "backslash"}, {handoff.ErrPathEncoded, "encoded"}, {handoff.ErrPathParameter, "parameter"},
	{handoff.ErrPathFragment, "fragment"}, {handoff.ErrPathByte, "byte"},
}

func reason(err error) string {
	for _, row := range reasons {
		if errors.Is(err, row.err) {
			return row.name
		}
	}
	return ""
}

// forge signs any header and claims with the key of a POP.
func forge(t testing.TB, pop, header string, claims *handoff.Claims) string {
	t.Helper()
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode(body)
	signature, err := jwt.SigningMethodEdDSA.Sign(signed, popKey(pop))
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(signature)
}

// vectorCalls are the requests of testdata/assertions.json.
func vectorCalls(t testing.TB) []struct {
	name string
	call call
} {
	t.Helper()
	read := func(change func(*call)) call {
		c := call{method: "GET", target: "/api/orders?limit=5", who: ada}
		if change != nil {
			change(&c)
		}
		return c
	}
	write := func(change func(*call)) call {
		c := call{method: "POST", target: "/api/orders?draft=1&note=a%26b", who: ada}
		if change != nil {
			change(&c)
		}
		return c
	}
	claims := func(change func(*handoff.Claims)) func(*call) { return func(c *call) { c.claims = change } }
	header := func(change func(http.Header)) func(*call) { return func(c *call) { c.header = change } }
	id := jwks.Thumbprint(popKey("fra").Public())
	// other writes the genuine assertion's claims under another header.
	other := func(head string) func(*call) {
		return func(c *call) {
			who := c.who
			c.raw = func(string) string {
				claims := handoff.NewClaims("fra", "eu", "eu", who, moment)
				claims.ID = "vector"
				return forge(t, "fra", head, claims)
			}
		}
	}
	spliced := func(change func(parts []string)) func(*call) {
		return func(c *call) {
			c.raw = func(assertion string) string {
				parts := strings.Split(assertion, ".")
				change(parts)
				return strings.Join(parts, ".")
			}
		}
	}
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	secret, err := handoff.NewSecretSigner([]byte(devSecret))
	if err != nil {
		t.Fatal(err)
	}
	publicAsSecret, err := handoff.NewSecretSigner(jwks.Marshal([]jwks.Key{signer(t, "fra").Key()}))
	if err != nil {
		t.Fatal(err)
	}
	times := func(issued, expires time.Duration) func(*handoff.Claims) {
		return func(c *handoff.Claims) {
			c.IssuedAt, c.ExpiresAt = jwt.NewNumericDate(moment.Add(issued)), jwt.NewNumericDate(moment.Add(expires))
		}
	}
	return []struct {
		name string
		call call
	}{
		{"a read of a session, not bound", read(nil)},
		{"the same assertion for another read of that session", call{method: "GET", target: "/api/customers", who: ada}},
		{"a HEAD", call{method: "HEAD", target: "/app", who: ada}},
		{"a read of nobody", call{method: "GET", target: "/products/coffee", who: nobody}},
		{"a read of a tenant without a user", call{method: "GET", target: "/products/coffee", who: handoff.Identity{Tenant: "acme"}}},
		{"a write, bound", write(nil)},
		{"a write of nobody, bound", call{method: "POST", target: "/login", who: nobody}},
		{"a read, bound", read(claims(func(c *handoff.Claims) { c.Bind(requestID, "GET", "/api/orders?limit=5") }))},
		{"a replay of a write", write(claims(func(c *handoff.Claims) { c.Replay = true }))},
		{"a home that is not this region", read(func(c *call) {
			c.claims = func(c *handoff.Claims) { c.Home = "us" }
			c.header = set("X-Home-Region", "us")
		})},
		{"of POP iad", read(func(c *call) {
			c.claims, c.signer = func(c *handoff.Claims) { c.POP, c.Issuer = "iad", "iad" }, signer(t, "iad")
		})},
		{"of POP dev, HS256", read(func(c *call) {
			c.claims, c.signer = func(c *handoff.Claims) { c.POP, c.Issuer = "dev", "dev" }, secret
		})},
		{"issued 10 s ahead: the leeway", read(claims(times(10*time.Second, 70*time.Second)))},
		{"expired for 9 s: within the leeway", read(claims(times(-69*time.Second, -9*time.Second)))},
		{"headers that name or hold a key are passed over", read(other(`{"alg":"EdDSA","typ":"edge-assertion+jwt","kid":"` + id + `","jku":"https://attacker.example/","x5u":"https://attacker.example/","jwk":{"kty":"OKP"}}`))},

		{"no assertion", read(header(drop("X-Edge-Assertion")))},
		{"two assertions", read(header(func(h http.Header) { add("X-Edge-Assertion", h.Get("X-Edge-Assertion"))(h) }))},
		{"two parts", read(func(c *call) { c.raw = func(a string) string { return a[:strings.LastIndexByte(a, '.')] } })},
		{"five parts", read(func(c *call) { c.raw = func(a string) string { return a + ".e30.e30" } })},
		{"a space in it", read(func(c *call) { c.raw = func(a string) string { return a[:9] + " " + a[9:] } })},
		{"padding", read(func(c *call) { c.raw = func(a string) string { return a + "==" } })},
		{"alg none, no signature", read(spliced(func(p []string) { p[0], p[2] = encode(`{"alg":"none"}`), "" }))},
		{"alg None, the signature kept", read(spliced(func(p []string) { p[0] = encode(`{"alg":"None","typ":"edge-assertion+jwt"}`) }))},
		{"HS256 with the published key set as the secret", read(func(c *call) { c.signer = publicAsSecret })},
		{"HS256 of POP dev in the name of fra", read(func(c *call) { c.signer = secret })},
		{"EdDSA where the POP has a secret", read(claims(func(c *handoff.Claims) { c.POP, c.Issuer = "dev", "dev" }))},
		{"crit with a name", read(other(`{"alg":"EdDSA","typ":"edge-assertion+jwt","kid":"` + id + `","crit":["exp"]}`))},
		{"crit empty", read(other(`{"alg":"EdDSA","typ":"edge-assertion+jwt","kid":"` + id + `","crit":[]}`))},
		{"b64 false", read(other(`{"alg":"EdDSA","typ":"edge-assertion+jwt","kid":"` + id + `","b64":false}`))},
		{"typ of a session", read(other(`{"alg":"EdDSA","typ":"JWT","kid":"` + id + `"}`))},
		{"no typ", read(other(`{"alg":"EdDSA","kid":"` + id + `"}`))},
		{"kid unknown", read(other(`{"alg":"EdDSA","typ":"edge-assertion+jwt","kid":"../../key"}`))},
		{"a bit of the signature turned", read(spliced(func(p []string) {
			signature, err := base64.RawURLEncoding.DecodeString(p[2])
			if err != nil {
				t.Fatal(err)
			}
			signature[3] ^= 1
			p[2] = base64.RawURLEncoding.EncodeToString(signature)
		}))},
		{"the claims exchanged", read(spliced(func(p []string) {
			body, err := base64.RawURLEncoding.DecodeString(p[1])
			if err != nil {
				t.Fatal(err)
			}
			p[1] = encode(strings.Replace(string(body), "acme", "acne", 1))
		}))},
		{"signed by a stranger", read(func(c *call) { c.signer = signer(t, "stranger") })},
		{"POP unknown", read(func(c *call) {
			c.claims, c.signer = func(c *handoff.Claims) { c.POP, c.Issuer = "sin", "sin" }, signer(t, "sin")
		})},
		{"POP iad with the key of fra", read(claims(func(c *handoff.Claims) { c.POP, c.Issuer = "iad", "iad" }))},
		{"pop is not iss", read(claims(func(c *handoff.Claims) { c.POP = "iad" }))},
		{"for another region", read(claims(func(c *handoff.Claims) { c.Audience = jwt.ClaimStrings{"us"} }))},
		{"for two regions", read(claims(func(c *handoff.Claims) { c.Audience = jwt.ClaimStrings{"eu", "us"} }))},
		{"expired, the leeway over", read(claims(times(-70*time.Second, -10*time.Second)))},
		{"issued too far ahead", read(claims(times(11*time.Second, 71*time.Second)))},
		{"lives 61 s", read(claims(times(0, 61*time.Second)))},
		{"no exp", read(claims(func(c *handoff.Claims) { c.ExpiresAt = nil }))},
		{"no iat", read(claims(func(c *handoff.Claims) { c.IssuedAt = nil }))},
		{"no home", read(func(c *call) { c.claims, c.header = func(c *handoff.Claims) { c.Home = "" }, drop("X-Home-Region") })},
		{"roles of nobody", read(func(c *call) { c.who, c.claims = nobody, func(c *handoff.Claims) { c.Roles = []string{"approver"} } })},
		{"X-Tenant-Id of another tenant", read(header(set("X-Tenant-Id", "globex")))},
		{"X-Tenant-Id absent", read(header(drop("X-Tenant-Id")))},
		{"X-Tenant-Id twice", read(header(add("X-Tenant-Id", "acme")))},
		{"X-Tenant-Id for nobody", call{method: "GET", target: "/", who: nobody, header: set("X-Tenant-Id", "acme")}},
		{"X-Home-Region of another region", read(header(set("X-Home-Region", "us")))},
		{"X-Home-Region absent", read(header(drop("X-Home-Region")))},
		{"X-Request-Id absent", read(header(drop("X-Request-Id")))},
		{"X-Request-Id malformed", read(header(set("X-Request-Id", "a b")))},
		{"X-Request-Id twice", read(header(add("X-Request-Id", requestID)))},
		{"a write with a read's assertion", write(func(c *call) { c.unbound = true })},
		{"a method in lower case with a read's assertion", call{method: "get", target: "/app", who: ada, unbound: true}},
		{"a write bound to another method", write(claims(func(c *handoff.Claims) { c.Method = "PUT" }))},
		{"a write bound to another path", write(claims(func(c *handoff.Claims) { c.Path = "/api/orders/1?draft=1&note=a%26b" }))},
		{"a write bound to the path alone", write(claims(func(c *handoff.Claims) { c.Path = "/api/orders" }))},
		{"a write bound to the query decoded", write(claims(func(c *handoff.Claims) { c.Path = "/api/orders?draft=1&note=a&b" }))},
		{"a write bound to another request", write(header(set("X-Request-Id", "another-request")))},
		{"a write bound to method and path alone", write(claims(func(c *handoff.Claims) { c.RequestID = "" }))},
		{"a path that can be read in two ways", call{method: "GET", target: "/public/%2e%2e/app", who: ada}},
		{"such a path without an assertion", call{method: "GET", target: "/public%2fapp", who: ada, header: drop("X-Edge-Assertion")}},
	}
}

func vectorVerifier(t testing.TB) *handoff.Verifier {
	t.Helper()
	v := verifier(t)
	dev, err := jwks.Secret([]byte(devSecret))
	if err != nil {
		t.Fatal(err)
	}
	keys := popKeys(t)
	keys["dev"] = dev
	v.Keys = keys
	return v
}

// judge runs a request through the middleware as a server would.
func judge(v *handoff.Verifier, r *http.Request) (status int, claims *handoff.Claims, err error) {
	verifier := *v
	verifier.Refused = func(_ *http.Request, cause error) { err = cause }
	w := httptest.NewRecorder()
	verifier.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		claims = handoff.FromContext(r.Context())
	})).ServeHTTP(w, r)
	return w.Code, claims, err
}

func makeAssertions(t testing.TB) any {
	t.Helper()
	v := vectorVerifier(t)
	file := assertionVectors{
		Comment: "Requests as region eu receives them at the second `now`, and what it must answer: status 200 stands for any answer " +
			"of the application, made with these claims. The reason is for the reader: nobody is told it. Made by `go test ./handoff -update`.",
		Now: moment.Unix(), Region: "eu", Leeway: int64(handoff.AssertionLeeway.Seconds()), MaxLife: int64(handoff.AssertionLife.Seconds()),
		Keys: map[string]jsontext.Value{}, Secrets: map[string]string{"dev": devSecret},
	}
	for _, pop := range []string{"fra", "iad"} {
		file.Keys[pop] = jwks.Marshal([]jwks.Key{signer(t, pop).Key()})
	}
	for _, row := range vectorCalls(t) {
		c, change := row.call, row.call.claims
		c.claims = func(claims *handoff.Claims) {
			claims.ID = "vector"
			if change != nil {
				change(claims)
			}
		}
		r := c.request(t)
		vector := assertionVector{Name: row.name, Request: requestVector{Method: c.method, Target: c.target}}
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			for _, value := range r.Header[name] {
				vector.Request.Headers = append(vector.Request.Headers, [2]string{name, value})
			}
		}
		status, claims, err := judge(v, r)
		vector.Status, vector.Reason = status, reason(err)
		if claims != nil {
			data, err := json.Marshal(claims)
			if err != nil {
				t.Fatal(err)
			}
			vector.Claims = data
		}
		file.Cases = append(file.Cases, vector)
	}
	return file
}

func makePaths(testing.TB) any {
	file := pathVectors{Comment: "Request targets as they are sent, and whether both sides accept them. Targets that are not UTF-8 are refused too " +
		"and cannot stand here. Made by `go test ./handoff -update`."}
	for _, row := range pathRule {
		if utf8.ValidString(row.target) {
			file.Cases = append(file.Cases, pathVector{Target: row.target, Accepted: row.want == nil, Reason: reason(row.want)})
		}
	}
	return file
}

func makeReturnTo(testing.TB) any {
	file := returnToVectors{
		Comment:  "Where a browser goes after the login when return_to is `target`. Made by `go test ./handoff -update`.",
		Fallback: "/fallback",
	}
	for _, row := range returnTargets {
		answer := file.Fallback
		if row.kept {
			answer = row.target
		}
		if utf8.ValidString(row.target) {
			file.Cases = append(file.Cases, returnToVector{Target: row.target, Answer: answer})
		}
	}
	return file
}

func makeNames(testing.TB) any {
	return nameVectors{
		Comment: "Header names that only the edge may set (in whatever spelling), and others; what is a request id and what is not; " +
			"what names a tenant, a region or a POP and what does not. Made by `go test ./handoff -update`.",
		Protected: []string{
			"X-Request-Id", "x-request-id", "X_Request_Id", "X-Tenant-Id", "X.Tenant.Id", "X_TENANT-ID", "x~tenant!id", "X-Home-Region",
			"Traceparent", "TRACESTATE", "baggage", "X-Edge-Assertion", "X_Edge.Assertion", "X-Edge-Wrote", "X-Edge-Served-By", "x-edge-anything",
		},
		Unprotected: []string{"", "Accept", "Authorization", "Cookie", "Idempotency-Key", "X-Edge", "X-Edge-", "X-Edges-Assertion", "X-Tenant", "X-TenantId", "X-Forwarded-For", "Trace-Parent"},
		GoodIDs:     []string{requestID, "12345678", "a.b_c-D9", strings.Repeat("x", 128)},
		BadIDs:      []string{"", "1234567", strings.Repeat("x", 129), "1234 5678", "12345678\r\nX: y", "12345678%0a", "<script>", "ääääääää", "12345678,12345678"},
		Tenants:     []string{"acme", "a", "a-b-9", strings.Repeat("a", 63)},
		NoTenants:   []string{"", strings.Repeat("a", 64), "Acme", "a.b", "a_b", "a/b", "..", "a b", "acmé", "acme\n"},
	}
}

// TestVectors_areWhatTheCodeSays compares each file with what would be written.
func TestVectors_areWhatTheCodeSays(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]func(testing.TB) any{
		"assertions.json": makeAssertions, "paths.json": makePaths, "return_to.json": makeReturnTo, "names.json": makeNames,
	} {
		want, err := json.Marshal(file(t), json.Deterministic(true), jsontext.WithIndent("  "))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the code says (%v): go test ./handoff -update", path, err)
		}
	}
}

func readVectors[T any](t testing.TB, name string) T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var file T
	if err := json.Unmarshal(data, &file, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return file
}

// TestVectors_holdHere reads the files as another program would: keys, requests
// and verdicts come from there alone.
func TestVectors_holdHere(t *testing.T) {
	t.Parallel()
	file := readVectors[assertionVectors](t, "assertions.json")
	keys := handoff.StaticKeys{}
	for pop, data := range file.Keys {
		set, err := jwks.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		keys[pop] = set
	}
	for pop, secret := range file.Secrets {
		set, err := jwks.Secret([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		keys[pop] = set
	}
	v := &handoff.Verifier{
		Region: file.Region, Keys: keys, Leeway: time.Duration(file.Leeway) * time.Second,
		Now: func() time.Time { return time.Unix(file.Now, 0) },
	}
	verdicts := map[int]int{}
	for _, row := range file.Cases {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Method, r.RequestURI = row.Request.Method, row.Request.Target
		for _, h := range row.Request.Headers {
			r.Header.Add(h[0], h[1])
		}
		status, claims, err := judge(v, r)
		verdicts[status]++
		if status != row.Status || reason(err) != row.Reason {
			t.Errorf("%s: status %d, %v; want %d, %s", row.Name, status, err, row.Status, row.Reason)
		}
		if (claims != nil) != (row.Claims != nil) {
			t.Errorf("%s: claims %+v, want %s", row.Name, claims, row.Claims)
			continue
		}
		if claims != nil {
			got, err := json.Marshal(claims)
			if err != nil {
				t.Fatal(err)
			}
			want := row.Claims.Clone()
			if err := want.Compact(); err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s: claims %s, want %s", row.Name, got, want)
			}
		}
	}
	if verdicts[200] < 10 || verdicts[401] < 40 || verdicts[400] < 2 {
		t.Errorf("verdicts %v: the file is thin", verdicts)
	}

	for _, row := range readVectors[pathVectors](t, "paths.json").Cases {
		if err := handoff.CheckPath(row.Target); (err == nil) != row.Accepted || reason(err) != row.Reason {
			t.Errorf("path %q: %v, want %s", row.Target, err, row.Reason)
		}
	}
	places := readVectors[returnToVectors](t, "return_to.json")
	for _, row := range places.Cases {
		if got := handoff.ReturnTo(row.Target, places.Fallback); got != row.Answer {
			t.Errorf("return_to %q: %q, want %q", row.Target, got, row.Answer)
		}
	}
	names := readVectors[nameVectors](t, "names.json")
	for _, row := range []struct {
		names []string
		rule  func(string) bool
		want  bool
	}{
		{names.Protected, handoff.Protected, true}, {names.Unprotected, handoff.Protected, false},
		{names.GoodIDs, handoff.ValidRequestID, true}, {names.BadIDs, handoff.ValidRequestID, false},
		{names.Tenants, handoff.ValidTenant, true}, {names.NoTenants, handoff.ValidTenant, false},
		{names.Tenants, handoff.ValidRegion, true}, {names.NoTenants, handoff.ValidRegion, false},
	} {
		for _, name := range row.names {
			if row.rule(name) != row.want {
				t.Errorf("%q: want %t", name, row.want)
			}
		}
	}
}

// TestVectors_holdInJavaScript runs a region's checks written for Node with
// nothing but its standard library. Whoever changes Go needs no Node: only .ci/run
// insists on it.
func TestVectors_holdInJavaScript(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatal("node is not on the PATH (.ci/need nodejs): the vectors were not checked from another language")
	case err != nil:
		t.Skip("node is not on the PATH: the vectors were NOT checked from another language")
	}
	out, err := exec.CommandContext(t.Context(), node, filepath.Join("testdata", "verify.mjs")).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("node testdata/verify.mjs: %v", err)
	}
}
