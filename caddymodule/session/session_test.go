package session

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

const (
	issuerName = "https://eu.example"
	audience   = "gatehouse"
)

type pub = ed25519.PublicKey

// fixture is a handler that believes one issuer with one key.
type fixture struct {
	*Session
	algorithm string
	private   any
	public    jwks.Key
}

func newFixture(t testing.TB, algorithm string, change ...func(*Session, *edge.Issuer)) *fixture {
	t.Helper()
	f := &fixture{Session: &Session{Login: DefaultLogin, Realm: DefaultRealm, MaxTokenSize: 8 << 10}, algorithm: algorithm}
	f.private = edgetest.Key(t, algorithm)
	f.public = jwks.Key{ID: "k1", Material: edgetest.Public(f.private)}
	issuer := &edge.Issuer{Name: issuerName, Audience: audience}
	if secret, ok := f.private.([]byte); ok {
		issuer.SecretFile = edgetest.Write(t, "secret", secret)
		f.public.ID = ""
	} else {
		issuer.KeyFile = edgetest.KeyFile(t, f.public)
	}
	for _, c := range change {
		c(f.Session, issuer)
	}
	if err := f.begin(edgetest.App(t, issuer)); err != nil {
		t.Fatal(err)
	}
	return f
}

// begin prepares the handler and starts it, as Caddy does in two steps.
func (s *Session) begin(app *edge.App) error {
	if err := s.use(app); err != nil {
		return err
	}
	return s.start()
}

// token signs a good session with changes laid over its claims.
func (f *fixture) token(t testing.TB, changes jwt.MapClaims) string {
	t.Helper()
	header := map[string]any{"kid": f.public.ID}
	if f.public.ID == "" {
		header["kid"] = nil
	}
	return edgetest.Token(t, f.algorithm, f.private, edgetest.Claims(issuerName, audience, changes), header)
}

// seen is what came of a request: the answer, the decision, and the request as
// the next handler got it, if it did.
type seen struct {
	*httptest.ResponseRecorder
	*decision.Decision
	next *http.Request
}

func (f *fixture) serve(t testing.TB, method, target string, header http.Header) seen {
	t.Helper()
	r := edgetest.Request(method, target, header)
	s := seen{ResponseRecorder: httptest.NewRecorder()}
	d, w := decision.Begin(s.ResponseRecorder, r, "request-1", decision.Options{POP: "fra"})
	s.Decision = d
	err := f.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		s.next = r
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	if err := d.Finish(r, err); err != nil {
		t.Fatalf("handler: %v", err)
	}
	return s
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestSession_goodTokenSpeaksForItsOwner(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"EdDSA", "ES256", "RS256", "HS256"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, algorithm)
			token := f.token(t, nil)
			for _, h := range []http.Header{
				header("Cookie", "session="+token),
				header("Authorization", "Bearer "+token),
				header("Authorization", "bearer  "+token, "Cookie", "session=rubbish"),
				header("Cookie", "a=1; session="+token+"; b=2", "Authorization", "Basic YTpi"),
			} {
				for _, what := range []string{"cold", "cached"} {
					s := f.serve(t, "GET", "/app", h.Clone())
					if s.Code != 204 || s.next == nil {
						t.Fatalf("%s: %d %s (%s)", what, s.Code, s.Body, s.Auth)
					}
					id := s.Identity
					if id.Subject != "ada" || id.Tenant != "acme" || id.Session != "s-1" || id.SubjectIssuer != issuerName ||
						!slices.Equal(id.Roles, []string{"clerk"}) || s.ClaimedHome != "eu" || s.SessionKey == [32]byte{} {
						t.Errorf("%s: %+v home %q", what, id, s.ClaimedHome)
					}
				}
			}
		})
	}
}

func TestSession_namesTheUserForTheAccessLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	s := f.serve(t, "GET", "/app", header("Cookie", "session="+f.token(t, nil)))
	repl := s.next.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if id, _ := repl.GetString("http.auth.user.id"); id != "ada" {
		t.Errorf("http.auth.user.id is %q", id)
	}
	if tenant, _ := repl.GetString("edge.tenant"); tenant != "acme" {
		t.Errorf("edge.tenant is %q", tenant)
	}
}

func TestSession_tokenStaysAtTheEdge(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	open := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) { s.ForwardToken = true })
	for _, row := range []struct{ name, cookie, authorization, wantCookie, wantAuthorization string }{
		{"only the session", "session=T", "", "", ""},
		{"first", "session=T; a=1; b= 2 ", "", "a=1; b= 2 ", ""},
		{"middle", `a="x y"; session=T; Session=other`, "", `a="x y"; Session=other`, ""},
		{"last", "a=1;  b=2; session=T", "", "a=1;  b=2", ""},
		{"no spaces", "a=1;session=T;b=2", "", "a=1;b=2", ""},
		{"odd separators", "a=1;; session=T;", "", "a=1;;", ""},
		{"bearer", "", "Bearer T", "", ""},
		{"bearer and cookies", "session=x; a=1; session=y", "Bearer T", "a=1", ""},
		{"another scheme", "session=T", "Basic YTpi", "", "Basic YTpi"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, f := range []*fixture{f, open} {
				token := f.token(t, nil)
				h := http.Header{}
				if row.cookie != "" {
					h.Set("Cookie", strings.ReplaceAll(row.cookie, "=T", "="+token))
				}
				if row.authorization != "" {
					h.Set("Authorization", strings.ReplaceAll(row.authorization, " T", " "+token))
				}
				sent := h.Clone()
				s := f.serve(t, "GET", "/app", h)
				if s.next == nil {
					t.Fatalf("refused: %s", s.Auth)
				}
				if f == open {
					if !slices.Equal(s.next.Header["Cookie"], sent["Cookie"]) || !slices.Equal(s.next.Header["Authorization"], sent["Authorization"]) || !s.ForwardSession {
						t.Errorf("forward_token: %q became %q", sent, s.next.Header)
					}
					continue
				}
				if got := s.next.Header.Get("Cookie"); got != row.wantCookie || len(s.next.Header["Cookie"]) > 1 {
					t.Errorf("Cookie %q, want %q", s.next.Header["Cookie"], row.wantCookie)
				}
				if got := s.next.Header.Get("Authorization"); got != row.wantAuthorization {
					t.Errorf("Authorization %q, want %q", got, row.wantAuthorization)
				}
				if _, there := s.next.Header["Cookie"]; there && row.wantCookie == "" {
					t.Error("an empty Cookie header is left")
				}
			}
		})
	}
}

func TestSession_cookiesOfSeveralLinesKeepTheirLines(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	s := f.serve(t, "GET", "/app", header("Cookie", "a=1", "Cookie", "session="+f.token(t, nil), "Cookie", "b=2; c=3"))
	if want := []string{"a=1", "b=2; c=3"}; s.next == nil || !slices.Equal(s.next.Header["Cookie"], want) {
		t.Fatalf("%s, Cookie %q, want %q", s.Auth, s.next.Header["Cookie"], want)
	}
}

func TestSession_attacksOnCookies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	good := f.token(t, nil)
	many := strings.Repeat("c=1; ", 100)
	for _, row := range []struct {
		name string
		h    http.Header
		want decision.Auth
	}{
		{"none", header(), decision.AuthMissing},
		{"other name", header("Cookie", "sessions="+good), decision.AuthMissing},
		{"other case", header("Cookie", "Session="+good), decision.AuthMissing},
		{"capitals", header("Cookie", "SESSION="+good), decision.AuthMissing},
		{"prefix of a prefix", header("Cookie", "__Host-session="+good), decision.AuthMissing},
		{"other case beside it", header("Cookie", "SESSION=x; session="+good+"; Session=y"), decision.AuthSession},
		{"duplicate", header("Cookie", "session="+good+"; session="+good), decision.AuthDuplicate},
		{"duplicate, first is rubbish", header("Cookie", "session=x; session="+good), decision.AuthDuplicate},
		{"duplicate, last is rubbish", header("Cookie", "session="+good+"; session=x"), decision.AuthDuplicate},
		{"duplicate, one is empty", header("Cookie", "session=; session="+good), decision.AuthDuplicate},
		{"duplicate, one is quoted", header("Cookie", `session="x"; session=`+good), decision.AuthDuplicate},
		{"duplicate, one has bytes of no cookie", header("Cookie", "session=a\\b; session="+good), decision.AuthDuplicate},
		{"duplicate without a value", header("Cookie", "session; session="+good), decision.AuthDuplicate},
		{"duplicate over two lines", header("Cookie", "session="+good, "Cookie", "session="+good), decision.AuthDuplicate},
		{"duplicate with a space before =", header("Cookie", "session="+good+"; session =x"), decision.AuthDuplicate},
		{"duplicate with a tab", header("Cookie", "session="+good+";\tsession\t=x"), decision.AuthDuplicate},
		{"space before =", header("Cookie", "session ="+good), decision.AuthSession},
		{"space after =", header("Cookie", "session= "+good), decision.AuthMalformed},
		{"quoted", header("Cookie", `session="`+good+`"`), decision.AuthMalformed},
		{"half quoted", header("Cookie", `session="`+good), decision.AuthMalformed},
		{"inside another's quotes", header("Cookie", `a="; session=`+good+`"`), decision.AuthMalformed},
		{"empty", header("Cookie", "session="), decision.AuthMissing},
		{"no value", header("Cookie", "session"), decision.AuthMissing},
		{"empty name", header("Cookie", "=session="+good), decision.AuthMissing},
		{"comma is no separator", header("Cookie", "a=1, session="+good), decision.AuthMissing},
		{"huge", header("Cookie", "session="+strings.Repeat("a", 8<<10+1)), decision.AuthTooLarge},
		{"100 others", header("Cookie", many+"session="+good), decision.AuthSession},
		{"100 others around", header("Cookie", many+"session="+good+"; "+many), decision.AuthSession},
		{"100 of them", header("Cookie", strings.Repeat("session="+good+"; ", 100)), decision.AuthDuplicate},
		{"as a parameter", header("Cookie", "$Version=1; session="+good+"; $Path=/"), decision.AuthSession},
		{"percent-encoded name", header("Cookie", "%73ession="+good), decision.AuthMissing},
		{"nul after the name", header("Cookie", "session\x00="+good), decision.AuthMissing},
		{"in another header", header("X-Session", good, "Cookie2", "session="+good), decision.AuthMissing},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := f.serve(t, "GET", "/app", row.h)
			if s.Auth != row.want {
				t.Errorf("is %q, want %q", s.Auth, row.want)
			}
			if passed := s.next != nil; passed != (row.want == decision.AuthSession) {
				t.Errorf("reached the next handler: %v", passed)
			}
		})
	}
}

func TestSession_attacksOnAuthorization(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	good := f.token(t, nil)
	cookie := "session=" + good
	for _, row := range []struct {
		name string
		h    http.Header
		want decision.Auth
	}{
		{"a bad bearer is not rescued by the cookie", header("Authorization", "Bearer x", "Cookie", cookie), decision.AuthMalformed},
		{"an expired bearer is not rescued either", header("Authorization", "Bearer "+f.token(t, jwt.MapClaims{"exp": 1}), "Cookie", cookie), decision.AuthExpired},
		{"an empty bearer is not rescued either", header("Authorization", "Bearer", "Cookie", cookie), decision.AuthMalformed},
		{"nor one of spaces", header("Authorization", "Bearer   ", "Cookie", cookie), decision.AuthMalformed},
		{"tab in place of the space", header("Authorization", "Bearer\t"+good, "Cookie", cookie), decision.AuthMalformed},
		{"colon", header("Authorization", "Bearer: "+good, "Cookie", cookie), decision.AuthMalformed},
		{"two tokens", header("Authorization", "Bearer "+good+" "+good), decision.AuthMalformed},
		{"two in a list", header("Authorization", "Bearer "+good+", Bearer "+good), decision.AuthMalformed},
		{"two headers", header("Authorization", "Bearer "+good, "Authorization", "Bearer "+good), decision.AuthMalformed},
		{"two headers of other schemes", header("Authorization", "Basic a", "Authorization", "Basic b", "Cookie", cookie), decision.AuthMalformed},
		{"quoted", header("Authorization", `Bearer "`+good+`"`), decision.AuthMalformed},
		{"padding", header("Authorization", "Bearer "+good+"="), decision.AuthMalformed},
		{"huge", header("Authorization", "Bearer "+strings.Repeat("a", 8<<10+1)), decision.AuthTooLarge},
		{"other scheme alone", header("Authorization", "Basic YTpi"), decision.AuthMissing},
		{"token without scheme", header("Authorization", good), decision.AuthMissing},
		{"a scheme that begins alike", header("Authorization", "BearerX "+good), decision.AuthMissing},
		{"empty header", header("Authorization", ""), decision.AuthMissing},
		{"another header", header("Proxy-Authorization", "Bearer "+good), decision.AuthMissing},
		{"capitals", header("Authorization", "BEARER "+good), decision.AuthBearer},
		{"beside two cookies", header("Authorization", "Bearer "+good, "Cookie", "session=a; session=b"), decision.AuthBearer},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := f.serve(t, "GET", "/app", row.h)
			if s.Auth != row.want {
				t.Errorf("is %q, want %q", s.Auth, row.want)
			}
			if passed := s.next != nil; passed != (row.want == decision.AuthBearer) {
				t.Errorf("reached the next handler: %v", passed)
			}
		})
	}
}

func TestSession_attacksOnTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	rs := newFixture(t, "RS256")
	hs := newFixture(t, "HS256")
	narrow := newFixture(t, "RS256", func(_ *Session, i *edge.Issuer) { i.Algorithms = []string{"PS256"} })
	now := time.Now()

	good := f.token(t, nil)
	parts := strings.Split(good, ".")
	encode := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	raw := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	flipped := func(part int) string {
		p := slices.Clone(parts)
		b := []byte(p[part])
		if at := &b[len(b)/2]; *at == 'A' {
			*at = 'B'
		} else {
			*at = 'A'
		}
		p[part] = string(b)
		return strings.Join(p, ".")
	}
	with := func(h map[string]any) string {
		merged := map[string]any{"kid": "k1"}
		for k, v := range h {
			merged[k] = v
		}
		return edgetest.Token(t, "EdDSA", f.private, edgetest.Claims(issuerName, audience, nil), merged)
	}
	// signed with the right key over a payload that no library would write
	text := func(payload string) string {
		signing := raw(`{"alg":"EdDSA","kid":"k1"}`) + "." + raw(payload)
		signature, err := jwt.SigningMethodEdDSA.Sign(signing, f.private)
		if err != nil {
			t.Fatal(err)
		}
		return signing + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	other := edgetest.Key(t, "EdDSA")
	publicAsSecret := []byte(edgetest.Public(f.private).(pub))

	rows := []struct {
		name  string
		f     *fixture
		token string
		want  decision.Auth
	}{
		{"none", f, raw(`{"alg":"none"}`) + "." + parts[1] + ".", decision.AuthAlgorithm},
		{"none with a signature", f, raw(`{"alg":"none","kid":"k1"}`) + "." + parts[1] + "." + parts[2], decision.AuthAlgorithm},
		{"None", f, raw(`{"alg":"None"}`) + "." + parts[1] + ".", decision.AuthAlgorithm},
		{"no alg", f, raw(`{"kid":"k1"}`) + "." + parts[1] + "." + parts[2], decision.AuthAlgorithm},
		{"alg twice", f, raw(`{"alg":"EdDSA","alg":"none","kid":"k1"}`) + "." + parts[1] + "." + parts[2], decision.AuthMalformed},
		{"alg in other case", f, raw(`{"alg":"eddsa","kid":"k1"}`) + "." + parts[1] + "." + parts[2], decision.AuthAlgorithm},
		{"Alg in place of alg", f, raw(`{"Alg":"EdDSA","kid":"k1"}`) + "." + parts[1] + "." + parts[2], decision.AuthAlgorithm},
		{"HS256 with the public key", f, edgetest.Token(t, "HS256", publicAsSecret, edgetest.Claims(issuerName, audience, nil), map[string]any{"kid": "k1"}), decision.AuthAlgorithm},
		{"HS512 with the secret", hs, edgetest.Token(t, "HS512", hs.private, edgetest.Claims(issuerName, audience, nil), nil), decision.AuthAlgorithm},
		{"RS512 with the key", rs, edgetest.Token(t, "RS512", rs.private, edgetest.Claims(issuerName, audience, nil), map[string]any{"kid": "k1"}), decision.AuthAlgorithm},
		{"an algorithm the issuer does not use", narrow, narrow.token(t, nil), decision.AuthAlgorithm},
		{"no kid, one key", f, with(map[string]any{"kid": nil}), decision.AuthSession},
		{"unknown kid", f, with(map[string]any{"kid": "k2"}), decision.AuthKey},
		{"kid is a path", f, with(map[string]any{"kid": "../../../dev/null"}), decision.AuthKey},
		{"kid is SQL", f, with(map[string]any{"kid": "k1' OR '1'='1"}), decision.AuthKey},
		{"kid is a number", f, with(map[string]any{"kid": 1}), decision.AuthMalformed},
		{"kid is huge", f, with(map[string]any{"kid": strings.Repeat("k", 300)}), decision.AuthMalformed},
		{"jku, jwk and x5u are not looked at", f, with(map[string]any{"jku": "https://evil.example/jwks", "x5u": "https://evil.example", "jwk": map[string]any{"kty": "OKP"}}), decision.AuthSession},
		{"own jwk", f, edgetest.Token(t, "EdDSA", other, edgetest.Claims(issuerName, audience, nil), map[string]any{"kid": "k1", "jwk": map[string]any{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(edgetest.Public(other).(pub))}}), decision.AuthSignature},
		{"crit", f, with(map[string]any{"crit": []string{"exp"}}), decision.AuthCritical},
		{"crit is empty", f, with(map[string]any{"crit": []string{}}), decision.AuthCritical},
		{"crit is null", f, raw(`{"alg":"EdDSA","kid":"k1","crit":null}`) + "." + parts[1] + "." + parts[2], decision.AuthCritical},
		{"b64", f, with(map[string]any{"b64": false}), decision.AuthCritical},
		{"an assertion is no session", f, with(map[string]any{"typ": "edge-assertion+jwt"}), decision.AuthType},
		{"at+jwt", f, with(map[string]any{"typ": "at+jwt"}), decision.AuthSession},
		{"another key of the same kind", f, edgetest.Token(t, "EdDSA", other, edgetest.Claims(issuerName, audience, nil), map[string]any{"kid": "k1"}), decision.AuthSignature},
		{"signature flipped", f, flipped(2), decision.AuthSignature},
		{"payload flipped", f, parts[0] + "." + encode(edgetest.Claims(issuerName, audience, jwt.MapClaims{"tenant_id": "globex"})) + "." + parts[2], decision.AuthSignature},
		{"no signature", f, parts[0] + "." + parts[1] + ".", decision.AuthSignature},
		{"half a signature", f, good[:len(good)-20], ""},
		{"signature of another token", f, parts[0] + "." + parts[1] + "." + strings.Split(f.token(t, jwt.MapClaims{"sub": "eve"}), ".")[2], decision.AuthSignature},
		{"two parts", f, parts[0] + "." + parts[1], decision.AuthMalformed},
		{"five parts", f, good + ".a.b", decision.AuthMalformed},
		{"one part", f, "rubbish", decision.AuthMalformed},
		{"dots alone", f, "..", decision.AuthMalformed},
		{"header truncated", f, parts[0][:8] + "." + parts[1] + "." + parts[2], decision.AuthMalformed},
		{"header is no object", f, raw(`["EdDSA"]`) + "." + parts[1] + "." + parts[2], decision.AuthMalformed},
		{"standard base64", f, parts[0] + "." + base64.StdEncoding.EncodeToString(payload) + "." + parts[2], ""},
		{"line break", f, parts[0] + ".\n" + parts[1] + "." + parts[2], decision.AuthMalformed},
		{"huge", f, strings.Repeat("a", 8<<10) + ".b.c", decision.AuthTooLarge},
		{"deep JSON", f, text(strings.Repeat("[", 4000) + strings.Repeat("]", 1000)), ""},
		{"deep claim", f, text(`{"iss":"` + issuerName + `","x":` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000) + "}"), ""},
		{"no exp", f, f.token(t, jwt.MapClaims{"exp": nil}), decision.AuthClaims},
		{"exp is null", f, f.token(t, jwt.MapClaims{"exp": json.RawMessage("null")}), decision.AuthClaims},
		{"exp is a string", f, f.token(t, jwt.MapClaims{"exp": "9999999999"}), ""},
		{"exp overflows", f, f.token(t, jwt.MapClaims{"exp": json.RawMessage("1e300")}), ""},
		{"expired", f, f.token(t, jwt.MapClaims{"exp": now.Add(-time.Hour).Unix()}), decision.AuthExpired},
		{"expired beyond the leeway", f, f.token(t, jwt.MapClaims{"exp": now.Add(-40 * time.Second).Unix()}), decision.AuthExpired},
		{"expired within the leeway", f, f.token(t, jwt.MapClaims{"exp": now.Add(-5 * time.Second).Unix()}), decision.AuthSession},
		{"not yet", f, f.token(t, jwt.MapClaims{"nbf": now.Add(time.Hour).Unix()}), decision.AuthNotYet},
		{"not yet, within the leeway", f, f.token(t, jwt.MapClaims{"nbf": now.Add(5 * time.Second).Unix()}), decision.AuthSession},
		{"other issuer", f, f.token(t, jwt.MapClaims{"iss": "https://evil.example"}), decision.AuthIssuer},
		{"issuer in other case", f, f.token(t, jwt.MapClaims{"iss": "https://EU.example"}), decision.AuthIssuer},
		{"issuer with a slash", f, f.token(t, jwt.MapClaims{"iss": issuerName + "/"}), decision.AuthIssuer},
		{"no issuer", f, f.token(t, jwt.MapClaims{"iss": nil}), decision.AuthIssuer},
		{"issuer twice", f, text(`{"iss":"https://evil.example","iss":"` + issuerName + `"}`), ""},
		{"other audience", f, f.token(t, jwt.MapClaims{"aud": "billing"}), decision.AuthAudience},
		{"no audience", f, f.token(t, jwt.MapClaims{"aud": nil}), decision.AuthAudience},
		{"one of several audiences", f, f.token(t, jwt.MapClaims{"aud": []string{"billing", audience}}), decision.AuthSession},
		{"audience holds null", f, f.token(t, jwt.MapClaims{"aud": []any{audience, nil}}), ""},
		{"no tenant", f, f.token(t, jwt.MapClaims{"tenant_id": nil}), decision.AuthTenant},
		{"empty tenant", f, f.token(t, jwt.MapClaims{"tenant_id": ""}), decision.AuthTenant},
		{"tenant with a slash", f, f.token(t, jwt.MapClaims{"tenant_id": "acme/../globex"}), decision.AuthTenant},
		{"tenant with a line break", f, f.token(t, jwt.MapClaims{"tenant_id": "acme\r\nX-Edge: 1"}), decision.AuthTenant},
		{"tenant in capitals", f, f.token(t, jwt.MapClaims{"tenant_id": "ACME"}), decision.AuthTenant},
		{"tenant is too long", f, f.token(t, jwt.MapClaims{"tenant_id": strings.Repeat("a", 64)}), decision.AuthTenant},
		{"tenant is a number", f, f.token(t, jwt.MapClaims{"tenant_id": 7}), ""},
		{"tenant is a list", f, f.token(t, jwt.MapClaims{"tenant_id": []string{"acme"}}), ""},
		{"tenant twice", f, text(`{"iss":"` + issuerName + `","tenant_id":"globex","tenant_id":"acme"}`), ""},
		{"Tenant_Id in place of tenant_id", f, f.token(t, jwt.MapClaims{"tenant_id": nil, "Tenant_Id": "acme"}), decision.AuthTenant},
		{"no sub", f, f.token(t, jwt.MapClaims{"sub": nil}), decision.AuthClaims},
		{"huge sub", f, f.token(t, jwt.MapClaims{"sub": strings.Repeat("a", 256)}), decision.AuthClaims},
		{"no sid", f, f.token(t, jwt.MapClaims{"sid": nil}), decision.AuthClaims},
		{"huge sid", f, f.token(t, jwt.MapClaims{"sid": strings.Repeat("a", 256)}), decision.AuthClaims},
		{"no region", f, f.token(t, jwt.MapClaims{"region": nil}), decision.AuthSession},
		{"region is no name", f, f.token(t, jwt.MapClaims{"region": "eu/../us"}), decision.AuthClaims},
		{"65 roles", f, f.token(t, jwt.MapClaims{"roles": slices.Repeat([]string{"a"}, 65)}), decision.AuthClaims},
		{"a huge role", f, f.token(t, jwt.MapClaims{"roles": []string{strings.Repeat("a", 65)}}), decision.AuthClaims},
		{"an empty role", f, f.token(t, jwt.MapClaims{"roles": []string{""}}), decision.AuthClaims},
		{"roles are a string", f, f.token(t, jwt.MapClaims{"roles": "admin"}), ""},
		{"no roles", f, f.token(t, jwt.MapClaims{"roles": nil}), decision.AuthSession},
		{"auth_time is a string", f, f.token(t, jwt.MapClaims{"auth_time": "now"}), ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for range 2 { // what was refused stays refused
				s := row.f.serve(t, "GET", "/app", header("Cookie", "session="+row.token))
				refused := row.want != decision.AuthSession
				// Where the reader and golang-jwt may name the same fault
				// differently, only the refusal counts.
				if row.want != "" && s.Auth != row.want {
					t.Errorf("is %q, want %q", s.Auth, row.want)
				}
				if refused != (s.next == nil) {
					t.Errorf("%s reached the next handler: %v", s.Auth, s.next != nil)
				}
				if refused && (s.Code != 401 || s.Identity.Tenant != "" || s.SessionKey != [32]byte{}) {
					t.Errorf("%d with %+v", s.Code, s.Identity)
				}
			}
		})
	}
}
