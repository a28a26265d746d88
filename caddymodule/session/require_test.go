package session

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
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
)

func placeholderOf(t *testing.T, s seen, name string) string {
	t.Helper()
	repl := s.next.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	value, _ := repl.GetString(name)
	return value
}

// TestSession_rulesMatrix asks every kind of handler with every credential, as a
// person and as a program, and derives the answer from what the rules promise.
func TestSession_rulesMatrix(t *testing.T) {
	t.Parallel()
	handlers := map[string]*fixture{}
	one := newFixture(t, "EdDSA")
	for name, change := range map[string]func(*Session){
		"plain":    func(*Session) {},
		"optional": func(s *Session) { s.Optional = true },
		"role":     func(s *Session) { s.RequireRoles = []string{"admin", "owner"} },
		"fresh":    func(s *Session) { s.RequireFresh = caddy.Duration(5 * time.Minute) },
		"both": func(s *Session) {
			s.RequireRoles, s.RequireFresh = []string{"admin", "owner"}, caddy.Duration(5*time.Minute)
		},
	} {
		handlers[name] = newFixture(t, "EdDSA", func(s *Session, i *edge.Issuer) { change(s); *i = *one.app.Issuers[0] })
	}
	tokens := map[string]struct {
		claims           jwt.MapClaims
		holds, has, late bool
	}{
		"clerk":       {holds: true},
		"admin":       {claims: jwt.MapClaims{"roles": []string{"clerk", "admin"}}, holds: true, has: true},
		"clerk, late": {claims: jwt.MapClaims{"auth_time": ago(10 * time.Minute)}, holds: true, late: true},
		"admin, late": {claims: jwt.MapClaims{"auth_time": ago(10 * time.Minute), "roles": []string{"owner"}}, holds: true, has: true, late: true},
		"admin, never said when": {claims: jwt.MapClaims{"auth_time": nil, "roles": []string{"admin"}}, holds: true, has: true,
			late: true},
		"admin, of the future": {claims: jwt.MapClaims{"auth_time": ago(-time.Hour), "roles": []string{"admin"}}, holds: true, has: true, late: true},
		"admin, a clock ahead": {claims: jwt.MapClaims{"auth_time": ago(-5 * time.Second), "roles": []string{"admin"}}, holds: true, has: true},
		"Admin":                {claims: jwt.MapClaims{"roles": []string{"Admin"}}, holds: true},
		"no roles":             {claims: jwt.MapClaims{"roles": nil}, holds: true},
		"expired admin":        {claims: jwt.MapClaims{"exp": 1, "roles": []string{"admin"}}},
	}
	for handlerName, f := range handlers {
		asksRole, asksFresh := handlerName == "role" || handlerName == "both", handlerName == "fresh" || handlerName == "both"
		for tokenName, token := range tokens {
			for _, bearer := range []bool{false, true} {
				for _, method := range []string{"GET", "POST"} {
					for _, navigate := range []bool{false, true} {
						h := header("Cookie", "session="+one.token(t, token.claims))
						if bearer {
							h = header("Authorization", "Bearer "+one.token(t, token.claims))
						}
						if navigate {
							h.Set("Sec-Fetch-Mode", "navigate")
							h.Set("Sec-Fetch-Site", "same-origin")
						}
						person := navigate && method == "GET"
						want, location, challenge := 204, "", ""
						const login, bare = "/login?return_to=%2Fapp%2Fx%3Fy%3D1", `Bearer realm="gatehouse"`
						switch {
						case !token.holds && handlerName == "optional" && !bearer:
						case !token.holds && person:
							want, location = 302, login
						case !token.holds:
							want, challenge = 401, bare+`, error="invalid_token"`
						case asksRole && !token.has:
							want = 403
						case asksFresh && token.late && person:
							want, location = 302, login+"&max_age=300"
						case asksFresh && token.late:
							want, challenge = 401, bare+`, error="insufficient_user_authentication", error_description="The user must sign in again", max_age="300"`
						}
						s := f.serve(t, method, "/app/x?y=1", h)
						where := strings.Join([]string{handlerName, tokenName, method}, " · ")
						if bearer {
							where += " · bearer"
						}
						if navigate {
							where += " · navigate"
						}
						if s.Code != want || s.Header().Get("Location") != location || s.Header().Get("WWW-Authenticate") != challenge {
							t.Errorf("%s: %d %q %q, want %d %q %q", where, s.Code, s.Header().Get("Location"), s.Header().Get("WWW-Authenticate"), want, location, challenge)
							continue
						}
						if (s.next != nil) != (want == 204) {
							t.Errorf("%s: reached the next handler: %v", where, s.next != nil)
						}
						if want == 204 && !token.holds && (!s.Identity.Anonymous() || s.SessionKey != [32]byte{} || s.next.Header.Get("Cookie") != "") {
							t.Errorf("%s: nobody is %+v, Cookie %q", where, s.Identity, s.next.Header.Get("Cookie"))
						}
						outcome := map[int]decision.Outcome{204: decision.OutcomeAnswered, 302: decision.OutcomeUnauthenticated,
							401: decision.OutcomeUnauthenticated, 403: decision.OutcomeForbidden}[want]
						if s.Outcome != outcome {
							t.Errorf("%s: outcome %q, want %q", where, s.Outcome, outcome)
						}
						if want != 204 && s.Header().Get("Cache-Control") != "no-store" {
							t.Errorf("%s: Cache-Control %q", where, s.Header().Get("Cache-Control"))
						}
						body := s.Body.String()
						if stale := strings.Contains(challenge, "insufficient"); stale != (strings.Contains(body, "urn:gatehouse:problem:sign-in-again") && strings.Contains(body, `"maxAge":300`)) {
							t.Errorf("%s: %s", where, body)
						}
						if (want == 403) != strings.Contains(body, "urn:gatehouse:problem:forbidden") {
							t.Errorf("%s: %s", where, body)
						}
					}
				}
			}
		}
	}
}

func ago(d time.Duration) int64 { return time.Now().Add(-d).Unix() }

func TestSession_optionalTakesABadCookieForNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) { s.Optional = true })
	forwards := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) { s.Optional, s.ForwardToken = true, true })
	good := f.token(t, nil)
	for _, row := range []struct {
		name string
		h    http.Header
		auth decision.Auth
		want int
		left string // of the cookies
	}{
		{"nothing", header(), decision.AuthMissing, 204, ""},
		{"good", header("Cookie", "a=1; session="+good), decision.AuthSession, 204, "a=1"},
		{"good bearer", header("Authorization", "Bearer "+good), decision.AuthBearer, 204, ""},
		{"expired", header("Cookie", "a=1; session="+f.token(t, jwt.MapClaims{"exp": 1})), decision.AuthExpired, 204, "a=1"},
		{"forged", header("Cookie", "session="+good[:len(good)-8]+"AAAAAAAA"), decision.AuthSignature, 204, ""},
		{"rubbish", header("Cookie", "session=x; a=1"), decision.AuthMalformed, 204, "a=1"},
		{"two", header("Cookie", "session="+good+"; session="+good), decision.AuthDuplicate, 204, ""},
		{"bad bearer", header("Authorization", "Bearer x", "Cookie", "session="+good), decision.AuthMalformed, 401, ""},
		{"expired bearer", header("Authorization", "Bearer "+f.token(t, jwt.MapClaims{"exp": 1})), decision.AuthExpired, 401, ""},
		{"two Authorizations", header("Authorization", "Bearer a", "Authorization", "Bearer b"), decision.AuthMalformed, 401, ""},
		{"another site, with a session", header("Cookie", "session="+good, "Sec-Fetch-Site", "cross-site"), decision.AuthCSRF, 403, ""},
		{"another site, without", header("Sec-Fetch-Site", "cross-site"), decision.AuthMissing, 204, ""},
	} {
		s := f.serve(t, "POST", "/logout", row.h)
		if s.Code != row.want || s.Auth != row.auth {
			t.Errorf("%s: %d %q, want %d %q", row.name, s.Code, s.Auth, row.want, row.auth)
		}
		if s.next != nil && s.next.Header.Get("Cookie") != row.left {
			t.Errorf("%s: Cookie %q, want %q", row.name, s.next.Header.Get("Cookie"), row.left)
		}
		if s.next != nil && s.Identity.Anonymous() != (row.auth != decision.AuthSession && row.auth != decision.AuthBearer) {
			t.Errorf("%s: is %+v", row.name, s.Identity)
		}
	}
	if s := forwards.serve(t, "POST", "/logout", header("Cookie", "session=x")); s.next == nil || s.next.Header.Get("Cookie") != "" || s.ForwardSession {
		t.Error("a session that does not hold travels on")
	}
	down := newFixture(t, "EdDSA", func(s *Session, i *edge.Issuer) {
		s.Optional, i.KeyFile, i.JWKSURL = true, "", "http://127.0.0.1:1/jwks.json"
	})
	if s := down.serve(t, "POST", "/logout", header("Cookie", "session="+down.token(t, nil))); s.Code != 503 || s.next != nil {
		t.Errorf("a session that may hold: %d", s.Code)
	}
}

// TestSession_rulesHoldForWhoeverReadTheSession: an outer edge_session without
// rules, optional or not, does not open an inner one with rules.
func TestSession_rulesHoldForWhoeverReadTheSession(t *testing.T) {
	t.Parallel()
	outer := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) { s.Optional = true })
	inner := newFixture(t, "EdDSA", func(s *Session, i *edge.Issuer) { s.RequireRoles = []string{"admin"}; *i = *outer.app.Issuers[0] })
	for _, row := range []struct {
		name    string
		h       http.Header
		status  int
		reached bool
	}{
		{"nobody", header(), 401, false},
		{"expired", header("Cookie", "session="+outer.token(t, jwt.MapClaims{"exp": 1})), 401, false},
		{"clerk", header("Cookie", "session="+outer.token(t, nil)), 403, false},
		{"admin", header("Cookie", "session="+outer.token(t, jwt.MapClaims{"roles": []string{"admin"}})), 200, true},
	} {
		s := outer.serve(t, "GET", "/app", row.h)
		if s.next == nil {
			t.Fatalf("%s: the outer one refused: %s", row.name, s.Auth)
		}
		reached := false
		w := &status{ResponseWriter: s.ResponseRecorder, code: 200}
		if err := inner.ServeHTTP(w, s.next, handlerFunc(func() { reached = true })); err != nil || reached != row.reached || w.code != row.status {
			t.Errorf("%s: %d, reached %v, %v", row.name, w.code, reached, err)
		}
	}
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) { s.code = code }

func TestSession_preflightsNeedNoSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) { s.RequireRoles = []string{"admin"} })
	good := f.token(t, nil)
	for _, row := range []struct {
		name, method string
		h            http.Header
		want         int
	}{
		{"preflight", "OPTIONS", header("Origin", "https://app.example", "Access-Control-Request-Method", "PUT"), 204},
		{"as a browser sends it", "OPTIONS", header("Origin", "https://app.example", "Access-Control-Request-Method", "PUT",
			"Access-Control-Request-Headers", "authorization", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "cross-site"), 204},
		{"null origin", "OPTIONS", header("Origin", "null", "Access-Control-Request-Method", "PUT"), 204},
		{"with what no browser sends", "OPTIONS", header("Origin", "https://app.example", "Access-Control-Request-Method", "PUT",
			"Cookie", "a=1; session="+good, "Authorization", "Bearer "+good), 204},
		{"no method asked for", "OPTIONS", header("Origin", "https://app.example"), 401},
		{"no origin", "OPTIONS", header("Access-Control-Request-Method", "PUT"), 401},
		{"another method", "GET", header("Origin", "https://app.example", "Access-Control-Request-Method", "PUT"), 401},
		{"a write", "POST", header("Origin", "https://app.example", "Access-Control-Request-Method", "PUT"), 401},
	} {
		s := f.serve(t, row.method, "/api/orders", row.h)
		if s.Code != row.want {
			t.Errorf("%s: %d, want %d", row.name, s.Code, row.want)
			continue
		}
		if row.want != 204 {
			continue
		}
		if s.Auth != decision.AuthPreflight || !s.Identity.Anonymous() || s.next == nil {
			t.Errorf("%s: %s %+v", row.name, s.Auth, s.Identity)
		}
		if strings.Contains(s.next.Header.Get("Cookie"), "session") || s.next.Header.Get("Authorization") != "" {
			t.Errorf("%s: a token travels on: %v", row.name, s.next.Header)
		}
	}
}

func TestSession_aTrustedOriginMaySendForTheUser(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) {
		s.TrustedOrigins = []string{"https://app.example", "https://admin.example:8443"}
	})
	cookie := "session=" + f.token(t, nil)
	for _, row := range []struct {
		origin, site, method string
		upgrade              bool
		want                 int
	}{
		{"https://app.example", "cross-site", "POST", false, 204},
		{"https://admin.example:8443", "same-site", "DELETE", false, 204},
		{"https://app.example", "", "POST", false, 204},
		{"https://app.example", "cross-site", "GET", true, 204},
		{"https://app.example:444", "cross-site", "POST", false, 403},
		{"http://app.example", "cross-site", "POST", false, 403},
		{"https://evil.example", "cross-site", "POST", false, 403},
		{"https://evil.example", "cross-site", "GET", true, 403},
		{"https://app.example.evil.example", "cross-site", "POST", false, 403},
		{"https://admin.example", "same-site", "POST", false, 403},
		{"null", "cross-site", "POST", false, 403},
		{"", "cross-site", "POST", false, 403},
	} {
		h := header("Cookie", cookie)
		if row.origin != "" {
			h.Set("Origin", row.origin)
		}
		if row.site != "" {
			h.Set("Sec-Fetch-Site", row.site)
		}
		if row.upgrade {
			h.Set("Connection", "Upgrade")
			h.Set("Upgrade", "websocket")
		}
		if s := f.serve(t, row.method, "/api/orders", h); s.Code != row.want {
			t.Errorf("%+v: %d", row, s.Code)
		}
	}
}

// TestSession_claimsThatAreRequired: each under its name, any of its values, and
// 403 for a session that has none of them, never 401.
func TestSession_claimsThatAreRequired(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) {
		s.RequireClaims = map[string][]string{"plan": {"pro", "team"}, "https://portal.example/level": {"7", "true"}}
	})
	const level = "https://portal.example/level"
	for _, row := range []struct {
		name   string
		claims jwt.MapClaims
		want   int
	}{
		{"both", jwt.MapClaims{"plan": "pro", level: 7}, 204},
		{"any of the values", jwt.MapClaims{"plan": "team", level: true}, 204},
		{"a number that is quoted", jwt.MapClaims{"plan": "team", level: "7"}, 204},
		{"in an array", jwt.MapClaims{"plan": []any{"free", "team"}, level: []any{1, nil, 7}}, 204},
		{"one of two", jwt.MapClaims{"plan": "pro"}, 403},
		{"the other of two", jwt.MapClaims{level: 7}, 403},
		{"none", nil, 403},
		{"another value", jwt.MapClaims{"plan": "free", level: 7}, 403},
		{"another case of the value", jwt.MapClaims{"plan": "Pro", level: 7}, 403},
		{"another case of the name", jwt.MapClaims{"Plan": "pro", level: 7}, 403},
		{"part of a value", jwt.MapClaims{"plan": "professional", level: 7}, 403},
		{"a value with more", jwt.MapClaims{"plan": "pro ", level: 7}, 403},
		{"two in one text", jwt.MapClaims{"plan": "pro,team", level: 7}, 403},
		{"another writing of the number", jwt.MapClaims{"plan": "pro", level: 7.5}, 403},
		{"null", jwt.MapClaims{"plan": json.RawMessage("null"), level: 7}, 403},
		{"an object", jwt.MapClaims{"plan": map[string]string{"pro": "pro"}, level: 7}, 403},
		{"an array in an array", jwt.MapClaims{"plan": [][]string{{"pro"}}, level: 7}, 403},
		{"an empty array", jwt.MapClaims{"plan": []string{}, level: 7}, 403},
		{"expired", jwt.MapClaims{"plan": "pro", level: 7, "exp": 1}, 401},
	} {
		token := f.token(t, row.claims)
		for _, what := range []string{"cold", "cached"} {
			for _, h := range []http.Header{header("Cookie", "session="+token), header("Authorization", "Bearer "+token)} {
				s := f.serve(t, "POST", "/api/exports", h)
				if s.Code != row.want || (s.next != nil) != (row.want == 204) {
					t.Errorf("%s, %s: %d %s, want %d", row.name, what, s.Code, s.Body, row.want)
				}
				if row.want == 403 && (!strings.Contains(s.Body.String(), "urn:gatehouse:problem:forbidden") || s.Header().Get("WWW-Authenticate") != "") {
					t.Errorf("%s: %s %q", row.name, s.Body, s.Header())
				}
			}
		}
	}
	if s := f.serve(t, "POST", "/api/exports", header()); s.Code != 401 {
		t.Errorf("nobody: %d", s.Code)
	}
}

// TestSession_claimsOfAnyNameCanBeRequired, those too that are read anyway or are
// called otherwise by the issuer.
func TestSession_claimsOfAnyNameCanBeRequired(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA", func(s *Session, i *edge.Issuer) {
		s.RequireClaims = map[string][]string{"iss": {issuerName}, "org": {"acme"}, "roles": {"clerk"}}
		i.Claims = map[string]string{"tenant": "org"}
	})
	if s := f.serve(t, "GET", "/app", header("Cookie", "session="+f.token(t, jwt.MapClaims{"org": "acme"}))); s.Code != 204 || s.Identity.Tenant != "acme" {
		t.Errorf("%d %s as %+v", s.Code, s.Body, s.Identity)
	}
	if s := f.serve(t, "GET", "/app", header("Cookie", "session="+f.token(t, jwt.MapClaims{"org": "globex"}))); s.Code != 403 {
		t.Errorf("another tenant: %d", s.Code)
	}
}

// TestSession_anInnerRuleSeesTheOutersClaims: the outer edge_session reads, and
// takes away, the token that the inner one's rules are about.
func TestSession_anInnerRuleSeesTheOutersClaims(t *testing.T) {
	t.Parallel()
	outer := newFixture(t, "EdDSA")
	inner := &Session{RequireClaims: map[string][]string{"plan": {"pro"}}}
	outer.Session = &Session{MaxTokenSize: 8 << 10} // one app for both, as in a configuration
	app := edgetest.App(t, &edge.Issuer{Name: issuerName, Audience: audience, KeyFile: edgetest.KeyFile(t, outer.public)})
	for _, s := range []*Session{outer.Session, inner} {
		if err := s.use(app); err != nil {
			t.Fatal(err)
		}
	}
	for plan, want := range map[string]int{"pro": 200, "free": 403} {
		s := outer.serve(t, "GET", "/app", header("Cookie", "session="+outer.token(t, jwt.MapClaims{"plan": plan})))
		if s.next == nil {
			t.Fatalf("the outer one refused: %s", s.Auth)
		}
		w := &status{ResponseWriter: s.ResponseRecorder, code: 200}
		if err := inner.ServeHTTP(w, s.next, handlerFunc(func() {})); err != nil || w.code != want {
			t.Errorf("%s: %d, want %d: %v", plan, w.code, want, err)
		}
	}
}

// TestVerify_otherRulesShareNoVerdicts: a token that was verified when nobody asked
// for a claim has none to show.
func TestVerify_otherRulesShareNoVerdicts(t *testing.T) {
	t.Parallel()
	before := newFixture(t, "EdDSA")
	token := before.token(t, jwt.MapClaims{"plan": "pro"})
	if s := before.serve(t, "GET", "/app", header("Cookie", "session="+token)); s.Code != 204 {
		t.Fatal(s.Code)
	}
	after := newFixture(t, "EdDSA", func(s *Session, i *edge.Issuer) {
		*i = edge.Issuer{Name: issuerName, Audience: audience, KeyFile: before.app.Issuers[0].KeyFile}
		s.RequireClaims = map[string][]string{"plan": {"pro"}}
	})
	if after.verifier.policy != before.verifier.policy {
		t.Fatal("the issuers differ, so that this shows nothing")
	}
	if s := after.serve(t, "GET", "/app", header("Cookie", "session="+token)); s.Code != 204 {
		t.Errorf("%d %s", s.Code, s.Body)
	}
}

func FuzzPick(f *testing.F) {
	for _, payload := range []string{`{}`, `{"plan":"pro"}`, `{"plan":["a",1,true,null,{}]}`, `{"plan":1e400}`, `{"plan":"\u0000"}`, `[]`, `{"plan":`, `{"plan":1,"plan":2}`} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		token := "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
		got, err := pick(token, []string{"plan"})
		if err != nil {
			if got != nil {
				t.Fatalf("%v beside %v", got, err)
			}
			return
		}
		var members map[string]any
		if json.Unmarshal([]byte(payload), &members) != nil {
			return // numbers that no float holds
		}
		want := []string(nil)
		each := func(v any) {
			if text, ok := v.(string); ok {
				want = append(want, text)
			}
		}
		if several, ok := members["plan"].([]any); ok {
			for _, v := range several {
				each(v)
			}
		} else {
			each(members["plan"])
		}
		for _, text := range want {
			if !slices.Contains(got["plan"], text) {
				t.Fatalf("%s: %q is missing from %q", payload, text, got["plan"])
			}
		}
		if _, there := members["plan"]; !there && len(got) > 0 {
			t.Fatalf("%s: %q out of nothing", payload, got)
		}
	})
}

// TestSession_whatIsExemptFromTheOriginRule, and nothing beside it: another path,
// a request without a session, a role that is missing.
func TestSession_whatIsExemptFromTheOriginRule(t *testing.T) {
	t.Parallel()
	hooks := caddyhttp.MatcherSet{caddyhttp.MatchPath{"/hooks/*"}, caddyhttp.MatchMethod{"POST"}}
	socket := caddyhttp.MatcherSet{caddyhttp.MatchPath{"/live"}}
	f := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) { s.exempt = caddyhttp.MatcherSets{hooks, socket} })
	strict := newFixture(t, "EdDSA", func(s *Session, i *edge.Issuer) {
		s.exempt, s.RequireRoles = f.exempt, []string{"admin"}
		*i = *f.app.Issuers[0]
	})
	good := f.token(t, nil)
	for _, row := range []struct {
		name         string
		f            *fixture
		method, path string
		more         []string
		want         int
	}{
		{"exempt", f, "POST", "/hooks/x", nil, 204},
		{"all of a set", f, "PUT", "/hooks/x", nil, 403},
		{"another path", f, "POST", "/api/orders", nil, 403},
		{"below no hook", f, "POST", "/hook/x", nil, 403},
		{"any of the sets", f, "POST", "/live", nil, 204},
		{"an upgrade", f, "GET", "/live", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, 204},
		{"an upgrade elsewhere", f, "GET", "/app", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, 403},
		{"an upgrade is no POST to a matcher", f, "GET", "/hooks/x", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, 403},
		{"a role is asked for all the same", strict, "POST", "/hooks/x", nil, 403},
	} {
		h := header(append([]string{"Cookie", "session=" + good, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, row.more...)...)
		if s := row.f.serve(t, row.method, row.path, h); s.Code != row.want {
			t.Errorf("%s: %d %s, want %d", row.name, s.Code, s.Auth, row.want)
		}
	}
	if s := f.serve(t, "POST", "/hooks/x", header("Sec-Fetch-Site", "cross-site")); s.Code != 401 {
		t.Errorf("nobody: %d", s.Code)
	}
}

// broken is a matcher that cannot tell.
type broken struct{}

func (broken) Match(*http.Request) bool { return true }
func (broken) MatchWithError(*http.Request) (bool, error) {
	return true, errors.New("the list cannot be read")
}

func TestSession_anExemptionThatCannotBeToldIsNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) {
		s.exempt = caddyhttp.MatcherSets{caddyhttp.MatcherSet{broken{}}}
	})
	s := f.serve(t, "POST", "/hooks/x", header("Cookie", "session="+f.token(t, nil), "Sec-Fetch-Site", "cross-site"))
	if s.Code != 403 || s.next != nil {
		t.Errorf("%d", s.Code)
	}
	if s := f.serve(t, "POST", "/hooks/x", header("Cookie", "session="+f.token(t, nil), "Sec-Fetch-Site", "same-origin")); s.Code != 204 {
		t.Errorf("of this site, for whom it is not asked: %d", s.Code)
	}
}
