package guard

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dunglas/httpsfv"
	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// ready is a guard as a configuration makes it.
func ready(t testing.TB, g *Guard) *Guard {
	t.Helper()
	g.app = edgetest.App(t)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := g.use(ctx); err != nil {
		t.Fatal(err)
	}
	return g
}

// fresh is the name of a limit that no other test counts in: limits of one name and
// one meaning are one.
func fresh() string { return fmt.Sprint("limit-", made.Add(1)) }

var made atomic.Int64

// from is a request of a client's.
func from(client, method, target string) *http.Request {
	r := edgetest.Request(method, target, nil)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, client)
	return r
}

func TestRateLimit_refusesAClientOverIt(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{RateLimits: []*RateLimit{{Name: "all-of-it", Rate: "2/h"}}})
	for i, want := range []string{`"all-of-it";r=1;t=1800`, `"all-of-it";r=0;t=1800`} {
		s := serve(t, g, from("192.0.2.1", "GET", "/"), false)
		if s.Code != 204 || s.Header().Get("RateLimit") != want || s.Outcome != decision.OutcomeAnswered {
			t.Errorf("request %d: %d %v", i, s.Code, s.Header())
		}
		if got := s.Header().Get("RateLimit-Policy"); got != `"all-of-it";q=2;w=3600;gatehouse-burst=2` {
			t.Errorf("RateLimit-Policy: %s", got)
		}
	}
	s := serve(t, g, from("192.0.2.1", "GET", "/"), false)
	if s.Code != 429 || s.next != nil || s.Limit != "all-of-it" || s.Outcome != decision.OutcomeLimited {
		t.Fatalf("%d, limit %q, outcome %q", s.Code, s.Limit, s.Outcome)
	}
	for name, want := range map[string]string{
		"Retry-After": "1800", "RateLimit": `"all-of-it";r=0;t=1800`, "Content-Type": problem.ContentType, "Cache-Control": "no-store",
	} {
		if got := s.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var p problem.Problem
	if err := json.Unmarshal(s.Body.Bytes(), &p); err != nil || p.Name() != problem.QuotaExceeded ||
		len(p.ViolatedPolicies) != 1 || p.ViolatedPolicies[0] != "all-of-it" {
		t.Errorf("%v: %s", err, s.Body)
	}
	for _, other := range []string{"192.0.2.2", "2001:db8::1", "::ffff:192.0.2.3"} {
		if s := serve(t, g, from(other, "GET", "/"), false); s.Code != 204 {
			t.Errorf("%s is held to another's limit", other)
		}
	}
}

// TestRateLimit_fieldsAreStructured holds both fields to the draft: lists of
// strings with integers as parameters (RFC 9651), each policy once.
func TestRateLimit_fieldsAreStructured(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{RateLimits: []*RateLimit{{Name: "client", Rate: "100/1m"}, {Name: "everybody", By: "route", Rate: "1000/s", Burst: 7}}})
	s := serve(t, g, from("192.0.2.1", "GET", "/"), false)
	for field, parameters := range map[string][]string{"RateLimit": {"r", "t"}, "RateLimit-Policy": {"q", "w", "gatehouse-burst"}} {
		list, err := httpsfv.UnmarshalList(s.Header()[http.CanonicalHeaderKey(field)])
		if err != nil || len(list) != 2 {
			t.Fatalf("%s %q: %v", field, s.Header().Get(field), err)
		}
		for i, name := range []string{"client", "everybody"} {
			item := list[i].(httpsfv.Item)
			if item.Value != name {
				t.Errorf("%s: member %d is %v", field, i, item.Value)
			}
			for _, p := range parameters {
				if v, ok := item.Params.Get(p); !ok || v.(int64) < 0 {
					t.Errorf("%s: %s of %s is %v", field, p, name, v)
				}
			}
		}
	}
}

func TestRateLimit_anIPv6ClientIsItsNetwork(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		limit RateLimit
		other string
		want  int
	}{
		{RateLimit{}, "2001:db8:0:1:ffff::9", 429},
		{RateLimit{}, "2001:db8:0:2::1", 204},
		{RateLimit{IPv6Prefix: 48}, "2001:db8:0:2::1", 429},
		{RateLimit{IPv6Prefix: 128}, "2001:db8:0:1::2", 204},
	} {
		l := row.limit
		l.Name, l.Rate = fresh(), "1/h"
		g := ready(t, &Guard{RateLimits: []*RateLimit{&l}})
		serve(t, g, from("2001:db8:0:1::1", "GET", "/"), false)
		if s := serve(t, g, from(row.other, "GET", "/"), false); s.Code != row.want {
			t.Errorf("/%d: %s is %d", l.IPv6Prefix, row.other, s.Code)
		}
	}
	l := RateLimit{Name: fresh(), Rate: "1/h", IPv4Prefix: 24}
	g := ready(t, &Guard{RateLimits: []*RateLimit{&l}})
	serve(t, g, from("192.0.2.1", "GET", "/"), false)
	if s := serve(t, g, from("192.0.2.200", "GET", "/"), false); s.Code != 429 {
		t.Errorf("/24: %d", s.Code)
	}
}

// settle is what edge_session does: it finds an identity, and asks.
func settle(t *testing.T, g *Guard, r *http.Request, who handoff.Identity) seen {
	t.Helper()
	s := seen{ResponseRecorder: httptest.NewRecorder()}
	err := g.ServeHTTP(s.ResponseRecorder, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		d := decision.Of(r.Context())
		d.Identity = who
		if passes, err := d.SessionSettled(w, r); !passes {
			return err
		}
		s.next = r
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	s.Decision = decision.Of(r.Context())
	return s
}

func TestRateLimit_countsWhoeverItIsBy(t *testing.T) {
	t.Parallel()
	ada := handoff.Identity{SubjectIssuer: "eu", Subject: "ada", Session: "s-1", Tenant: "acme"}
	with := func(change func(*handoff.Identity)) handoff.Identity {
		i := ada
		change(&i)
		return i
	}
	other := map[string]handoff.Identity{
		"another session":    with(func(i *handoff.Identity) { i.Session = "s-2" }),
		"another user":       with(func(i *handoff.Identity) { i.Session, i.Subject = "s-2", "alan" }),
		"another tenant":     with(func(i *handoff.Identity) { i.Session, i.Subject, i.Tenant = "s-2", "grace", "globex" }),
		"of another issuer":  with(func(i *handoff.Identity) { i.SubjectIssuer = "us" }),
		"nobody":             {},
		"the same once more": ada,
	}
	for by, refused := range map[string]string{
		"session": "the same once more",
		"user":    "the same once more, another session",
		"tenant":  "the same once more, another session, another user, of another issuer",
		"route":   "the same once more, another session, another user, another tenant, of another issuer, nobody",
	} {
		for name, who := range other {
			g := ready(t, &Guard{RateLimits: []*RateLimit{{Name: fresh(), By: by, Rate: "1/h"}}})
			if s := settle(t, g, from("192.0.2.1", "GET", "/"), ada); s.Code != 204 || s.Header().Get("RateLimit") == "" {
				t.Fatalf("by %s: %d", by, s.Code)
			}
			want := 204
			for is := range strings.SplitSeq(refused, ", ") {
				if is == name {
					want = 429
				}
			}
			s := settle(t, g, from("192.0.2.9", "GET", "/"), who)
			if s.Code != want || (s.next == nil) != (want == 429) {
				t.Errorf("by %s, %s: %d, want %d", by, name, s.Code, want)
			}
			if name == "nobody" && by != "route" && s.Header().Get("RateLimit") != "" {
				t.Errorf("by %s: nobody is told of a quota", by)
			}
		}
	}
}

// TestRateLimit_whatOneKeepsOutUsesUpNoOther: one session in a frenzy must not use
// up what its tenant may do.
func TestRateLimit_whatOneKeepsOutUsesUpNoOther(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{RateLimits: []*RateLimit{
		{Name: "tenant", By: "tenant", Rate: "4/h"}, {Name: "watched", By: "tenant", Rate: "4/h", DryRun: true}, {Name: "session", By: "session", Rate: "2/h"},
	}})
	one := handoff.Identity{SubjectIssuer: "eu", Subject: "ada", Session: "s-1", Tenant: "acme"}
	two := one
	two.Session = "s-2"
	for i := range 100 {
		s := settle(t, g, from("192.0.2.1", "GET", "/"), one)
		if want := 204; i < 2 && s.Code != want || i >= 2 && (s.Code != 429 || s.Limit != "session") {
			t.Fatalf("request %d: %d by %s", i, s.Code, s.Limit)
		}
	}
	for range 2 {
		if s := settle(t, g, from("192.0.2.1", "GET", "/"), two); s.Code != 204 || len(s.LimitDryRun) > 0 {
			t.Fatalf("another session of the tenant: %d by %s, dry run %q", s.Code, s.Limit, s.LimitDryRun)
		}
	}
	if s := settle(t, g, from("192.0.2.1", "GET", "/"), handoff.Identity{SubjectIssuer: "eu", Session: "s-3", Tenant: "acme"}); s.Limit != "tenant" {
		t.Errorf("a fifth of the tenant: %d by %q", s.Code, s.Limit)
	}
}

func TestRateLimit_dryRunRefusesNothing(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{RateLimits: []*RateLimit{{Name: "tried", Rate: "1/h", DryRun: true}}})
	for i := range 3 {
		s := serve(t, g, from("192.0.2.1", "GET", "/"), false)
		if s.Code != 204 || s.Header().Get("RateLimit") != "" || s.Limit != "" {
			t.Fatalf("request %d: %d %v", i, s.Code, s.Header())
		}
		if would := len(s.LimitDryRun) == 1 && s.LimitDryRun[0] == "tried"; would != (i > 0) {
			t.Errorf("request %d: would be refused by %q", i, s.LimitDryRun)
		}
	}
}

// TestRateLimit_explainingCountsNothing: "caddy edge explain" must not use up
// anybody's quota.
func TestRateLimit_explainingCountsNothing(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{RateLimits: []*RateLimit{{Name: fresh(), Rate: "1/h"}, {Name: fresh(), By: "session", Rate: "1/h"}}})
	r := from("192.0.2.77", "GET", "/")
	for range 3 {
		d := &decision.Decision{DryRun: true, Identity: handoff.Identity{SubjectIssuer: "eu", Session: "s-1"}}
		if passes, err := charge(httptest.NewRecorder(), r, d, append(g.early, g.late...)); !passes || err != nil || d.RateLimit == "" {
			t.Fatalf("%v, %v, %q", passes, err, d.RateLimit)
		}
	}
}

// TestRateLimit_earlyDataIsChargedToNobody: over QUIC an address in early data may
// be forged, and its owner would be shut out.
func TestRateLimit_earlyDataIsChargedToNobody(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{RateLimits: []*RateLimit{{Name: fresh(), Rate: "1/h"}}})
	for range 3 {
		r := from("192.0.2.1", "GET", "/")
		r.TLS = new(tls.ConnectionState)
		if s := serve(t, g, r, false); s.Code != 425 {
			t.Fatalf("%d", s.Code)
		}
	}
	if s := serve(t, g, from("192.0.2.1", "GET", "/"), false); s.Code != 204 {
		t.Errorf("the owner of the address: %d", s.Code)
	}
}

func TestRateLimit_loginsHaveOneByDefault(t *testing.T) {
	t.Parallel()
	g := ready(t, &Guard{})
	for i := range 30 {
		if s := serve(t, g, from("192.0.2.1", "POST", "/login"), false); s.Code != 204 ||
			s.Header().Get("RateLimit-Policy") != `"login";q=60;w=60;gatehouse-burst=30` {
			t.Fatalf("login %d: %d %v", i, s.Code, s.Header())
		}
	}
	for _, row := range []struct {
		client, method, target string
		want                   int
	}{
		{"192.0.2.1", "POST", "/login", 429},
		{"192.0.2.1", "POST", "/login?return_to=%2Fapp", 429},
		{"192.0.2.1", "POST", "/LOGIN", 429},
		{"192.0.2.1", "POST", "/%6Cogin", 429},
		{"192.0.2.1", "POST", "/login/", 429},
		{"192.0.2.1", "PUT", "/login", 429},
		{"192.0.2.1", "GET", "/login", 204},
		{"192.0.2.1", "POST", "/api/orders", 204},
		{"192.0.2.1", "POST", "/loginx", 204},
		{"192.0.2.2", "POST", "/login", 204},
	} {
		if s := serve(t, g, from(row.client, row.method, row.target), false); s.Code != row.want {
			t.Errorf("%s %s of %s: %d, want %d", row.method, row.target, row.client, s.Code, row.want)
		}
	}
}

func TestRateLimit_theLoginsIsChangedOrTakenAway(t *testing.T) {
	t.Parallel()
	off := ready(t, &Guard{RateLimits: []*RateLimit{{Name: "login", Off: true}}})
	for range 100 {
		if s := serve(t, off, from("192.0.2.1", "POST", "/login"), false); s.Code != 204 || s.Header().Get("RateLimit") != "" {
			t.Fatalf("off: %d %v", s.Code, s.Header())
		}
	}
	sign := caddy.ModuleMap{"path": caddyconfig.JSON([]string{"/sign-in"}, nil)}
	g := ready(t, &Guard{RateLimits: []*RateLimit{{Name: "login", Burst: 1, MatcherSetsRaw: caddyhttp.RawMatcherSets{sign}}}})
	for _, row := range []struct {
		target string
		want   int
	}{{"/sign-in", 204}, {"/sign-in", 429}, {"/login", 204}, {"/login", 204}} {
		if s := serve(t, g, from("192.0.2.1", "POST", row.target), false); s.Code != row.want {
			t.Errorf("%s: %d, want %d", row.target, s.Code, row.want)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, seed := range []string{"60/1m", "60/m", "1/s", "0/1m", "-1/1m", "60/", "/1m", "60", "1e3/1m", "60/1d", "60/-1m", "1000001/1s", "9223372036854775808/1m"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseRate(text)
		if err != nil || p.Check() != nil {
			return
		}
		if p.Interval() <= 0 || p.Quota < 1 || p.Window <= 0 {
			t.Fatalf("%q is %+v", text, p)
		}
	})
}
