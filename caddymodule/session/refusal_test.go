package session

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// TestSession_refusalMatrix asks every combination and derives the answer from
// the rule as DESIGN states it, not from the handler's own code.
func TestSession_refusalMatrix(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	good, expired := f.token(t, nil), f.token(t, jwt.MapClaims{"exp": 1})

	credentials := map[string]struct {
		h               http.Header
		session, cookie bool
		sent            bool
	}{
		"nothing":         {h: header()},
		"good cookie":     {h: header("Cookie", "session="+good), session: true, cookie: true, sent: true},
		"expired cookie":  {h: header("Cookie", "session="+expired), sent: true},
		"two cookies":     {h: header("Cookie", "session="+good+"; session="+good), sent: true},
		"good bearer":     {h: header("Authorization", "Bearer "+good), session: true, sent: true},
		"expired bearer":  {h: header("Authorization", "Bearer "+expired), sent: true},
		"bad over good":   {h: header("Authorization", "Bearer "+expired, "Cookie", "session="+good), sent: true},
		"good over none":  {h: header("Authorization", "Bearer "+good, "Cookie", "session="), session: true, sent: true},
		"basic":           {h: header("Authorization", "Basic YTpi")},
		"other case":      {h: header("Cookie", "Session="+good)},
		"basic and login": {h: header("Authorization", "Basic YTpi", "Cookie", "session="+good), session: true, cookie: true, sent: true},
	}
	accepts := map[string]struct {
		value string
		html  bool
	}{
		"none": {}, "html": {"text/html", true}, "a browser's": {"text/html,application/xhtml+xml,*/*;q=0.8", true},
		"anything": {"*/*", false}, "text": {"text/*", false}, "json": {"application/json", false},
		"html in capitals": {"TEXT/HTML;q=0.9", true}, "html last": {"application/json, text/html", true},
		"html refused": {"text/html;q=0, */*", false}, "looks like html": {"text/html5, application/text/html", false},
	}
	fetches := map[string]struct {
		h        http.Header
		navigate bool // a navigation whatever Accept says
		present  bool
		foreign  bool // says that another site caused it
	}{
		"none":              {h: header()},
		"navigate":          {h: header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "none", "Sec-Fetch-Dest", "document"), navigate: true, present: true},
		"navigate, foreign": {h: header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site"), navigate: true, present: true, foreign: true},
		"cors":              {h: header("Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "same-origin"), present: true},
		"cors, same site":   {h: header("Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "same-site"), present: true, foreign: true},
		"websocket":         {h: header("Sec-Fetch-Mode", "websocket", "Sec-Fetch-Site", "same-origin"), present: true},
		"site alone":        {h: header("Sec-Fetch-Site", "none"), present: true},
		"dest alone":        {h: header("Sec-Fetch-Dest", "document"), present: true},
		"a later one alone": {h: header("Sec-Fetch-Storage-Access", "active"), present: true},
		"navigate twice":    {h: header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Mode", "navigate"), present: true},
		"own origin":        {h: header("Origin", "http://pop.example")},
		"foreign origin":    {h: header("Origin", "http://evil.example"), foreign: true},
		"null origin":       {h: header("Origin", "null"), foreign: true},
	}
	count := 0
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "FROBNICATE"} {
		for _, upgrade := range []bool{false, true} {
			for aName, accept := range accepts {
				for fName, fetch := range fetches {
					for cName, c := range credentials {
						h := http.Header{}
						for _, part := range []http.Header{c.h, fetch.h} {
							for k, v := range part {
								h[k] = append([]string(nil), v...)
							}
						}
						if accept.value != "" {
							h.Set("Accept", accept.value)
						}
						if upgrade {
							h.Set("Connection", "Upgrade")
							h.Set("Upgrade", "websocket")
						}
						reads := method == "GET" || method == "HEAD"
						want := 401
						switch {
						case c.session && c.cookie && fetch.foreign && (upgrade || !reads && method != "OPTIONS"):
							want = 403
						case c.session:
							want = 204
						case reads && (fetch.navigate || !fetch.present && accept.html):
							want = 302
						}
						s := f.serve(t, method, "/app/x?y=1", h)
						count++
						name := strings.Join([]string{method, aName, fName, cName}, " · ")
						if upgrade {
							name += " · upgrade"
						}
						if s.Code != want {
							t.Errorf("%s: %d, want %d", name, s.Code, want)
							continue
						}
						challenge, location := s.Header().Get("WWW-Authenticate"), s.Header().Get("Location")
						wantChallenge, wantLocation := "", ""
						switch {
						case want == 401 && c.sent:
							wantChallenge = `Bearer realm="gatehouse", error="invalid_token"`
						case want == 401:
							wantChallenge = `Bearer realm="gatehouse"`
						case want == 302:
							wantLocation = "/login?return_to=%2Fapp%2Fx%3Fy%3D1"
						}
						if challenge != wantChallenge || location != wantLocation {
							t.Errorf("%s: WWW-Authenticate %q, Location %q", name, challenge, location)
						}
						if want >= 302 && s.Header().Get("Cache-Control") != "no-store" {
							t.Errorf("%s: Cache-Control %q", name, s.Header().Get("Cache-Control"))
						}
						if (want == 401 || want == 403) && s.Header().Get("Content-Type") != "application/problem+json" {
							t.Errorf("%s: Content-Type %q", name, s.Header().Get("Content-Type"))
						}
						if (s.next != nil) != (want == 204) {
							t.Errorf("%s: reached the next handler: %v", name, s.next != nil)
						}
						if want == 401 || want == 302 {
							if s.Outcome != decision.OutcomeUnauthenticated {
								t.Errorf("%s: outcome %q", name, s.Outcome)
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d combinations", count)
}

func TestSession_returnToStaysOnThisSite(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	for _, row := range []struct{ target, want string }{
		{"/app", "/login?return_to=%2Fapp"},
		{"/", "/login?return_to=%2F"},
		{"/app/orders?limit=5&cursor=a%2Fb", "/login?return_to=%2Fapp%2Forders%3Flimit%3D5%26cursor%3Da%252Fb"},
		{"/caf%C3%A9?q=%20x+y", "/login?return_to=%2Fcaf%25C3%25A9%3Fq%3D%2520x%2By"},
		{"/app?next=https://evil.example/", "/login?return_to=%2Fapp%3Fnext%3Dhttps%3A%2F%2Fevil.example%2F"},
		{"/app?return_to=/x&return_to=//evil.example", "/login?return_to=%2Fapp%3Freturn_to%3D%2Fx%26return_to%3D%2F%2Fevil.example"},
		{"//evil.example", "/login"},
		{"/\\evil.example", "/login"},
		{"/%09/evil.example", "/login"},
		{"/%2f%2fevil.example", "/login"},
		{"/app/../..//evil.example", "/login"},
		{"https://evil.example/app", "/login"},
		{"/caf\u00e9", "/login"},
		{"/app#fragment", "/login"},
		{"/" + strings.Repeat("a", 4000), "/login"},
		{"*", "/login"},
	} {
		s := f.serve(t, "GET", row.target, header("Sec-Fetch-Mode", "navigate"))
		if s.Code != 302 || s.Header().Get("Location") != row.want {
			t.Errorf("%.40q: %d to %q, want %q", row.target, s.Code, s.Header().Get("Location"), row.want)
		}
	}
}

// FuzzReturnTo holds the redirect to what a browser makes of it.
func FuzzReturnTo(f *testing.F) {
	for _, seed := range []string{"/app", "/app?x=1&y=%20", "//evil", "/\\evil", "/a#b", "/%0d%0aX: y"} {
		f.Add(seed)
	}
	fix := newFixture(f, "EdDSA")
	site, _ := url.Parse("https://pop.example/app")
	f.Fuzz(func(t *testing.T, target string) {
		s := fix.serve(t, "GET", target, header("Sec-Fetch-Mode", "navigate"))
		location := s.Header().Get("Location")
		u, err := site.Parse(location)
		if err != nil || u.Host != "pop.example" || u.Scheme != "https" || u.Path != "/login" || u.Fragment != "" {
			t.Fatalf("%q leads to %q", target, location)
		}
		if strings.ContainsAny(location, "\r\n") {
			t.Fatalf("%q breaks the header: %q", target, location)
		}
		back := u.Query().Get("return_to")
		if back == "" {
			return
		}
		if back != target {
			t.Fatalf("return_to %q, want %q", back, target)
		}
		if u, err := site.Parse(back); err != nil || u.Host != "pop.example" || strings.HasPrefix(back, "//") {
			t.Fatalf("return_to %q leaves the site", back)
		}
	})
}

func TestSession_loginIsNotRedirectedToItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) { s.Login = "/sign-in" })
	for _, target := range []string{"/sign-in", "/sign-in?return_to=%2Fapp", "/Sign-In", "/sign%2Din"} {
		s := f.serve(t, "GET", target, header("Sec-Fetch-Mode", "navigate"))
		if s.Code != 401 || s.Header().Get("Location") != "" || s.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d to %q", target, s.Code, s.Header().Get("Location"))
		}
	}
	if s := f.serve(t, "GET", "/login", header("Sec-Fetch-Mode", "navigate")); s.Header().Get("Location") != "/sign-in?return_to=%2Flogin" {
		t.Errorf("another page: %q", s.Header().Get("Location"))
	}
}

func TestSession_realmIsTheConfigured(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA", func(s *Session, _ *edge.Issuer) { s.Realm = "the portal" })
	if got := f.serve(t, "GET", "/app", header()).Header().Get("WWW-Authenticate"); got != `Bearer realm="the portal"` {
		t.Errorf("WWW-Authenticate %q", got)
	}
}

func TestSession_needsTheGuard(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	r := newRequest()
	err := f.ServeHTTP(nil, r, nil)
	if err == nil || !strings.Contains(err.Error(), "edge_guard has not seen this request") {
		t.Errorf("error %v", err)
	}
}

func TestSession_standingTwiceReadsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "EdDSA")
	s := f.serve(t, "GET", "/app", header("Cookie", "session="+f.token(t, nil)))
	if s.next == nil {
		t.Fatal(s.Auth)
	}
	reached := false
	if err := f.ServeHTTP(s.ResponseRecorder, s.next, handlerFunc(func() { reached = true })); err != nil || !reached {
		t.Errorf("the second edge_session refused what the first let in: %v", err)
	}
}
