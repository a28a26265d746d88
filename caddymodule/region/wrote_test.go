package region_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// wrote answers as a region that committed at a position does.
func wrote(position ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header()["X-Edge-Wrote"] = position
		w.WriteHeader(http.StatusCreated)
	}
}

// markOf is the cookie that an answer sets, as a client sends it back.
func markOf(t *testing.T, res *http.Response) string {
	t.Helper()
	for _, c := range res.Cookies() {
		if c.Name != "edge_wrote" {
			continue
		}
		if c.Path != "/" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.MaxAge != 30 || c.Secure || c.Domain != "" {
			t.Errorf("%+v", c)
		}
		return "Cookie: " + c.Name + "=" + c.Value
	}
	return ""
}

func TestWrote_readsOfThatSessionGoHome(t *testing.T) {
	p := newPOP(t, fallbackSite(""))
	const acme, bearer = "Test-Tenant: acme", "Test-Bearer: 1"
	p.eu.answers(wrote("0/16B3748"))
	res, _ := p.ask(t, "POST", "/api", strings.NewReader("order"), acme)
	cookie := markOf(t, res)
	if res.StatusCode != 201 || cookie == "" || strings.Contains(cookie, "16B3748") || res.Header.Get("X-Edge-Wrote") != "" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	if cc := res.Header.Get("Cache-Control"); !strings.Contains(cc, "private") {
		t.Errorf("Cache-Control %q", cc)
	}
	res, _ = p.ask(t, "POST", "/api", strings.NewReader("order"), acme, bearer)
	field := "X-Edge-Wrote: " + res.Header.Get("X-Edge-Wrote")
	if len(res.Header["X-Edge-Wrote"]) != 1 || strings.Contains(field, "16B3748") || len(res.Header["Set-Cookie"]) != 0 {
		t.Fatalf("%v", res.Header)
	}
	res, _ = p.ask(t, "POST", "/api", nil) // nobody's
	if len(res.Header["Set-Cookie"]) != 0 || len(res.Header["X-Edge-Wrote"]) != 0 {
		t.Errorf("nobody is marked: %v", res.Header)
	}

	// While home answers it learns where the client's write is; of nobody else's.
	p.eu.answers(nil)
	for _, row := range []struct {
		fields []string
		at     string
	}{
		{[]string{acme, cookie}, "0/16B3748"},
		{[]string{acme, bearer, field}, "0/16B3748"},
		{[]string{acme}, ""},
		{[]string{acme, bearer, "X-Edge-Wrote: 0/16B3748"}, ""},
		{[]string{acme, "X-Edge-Wrote: 0/16B3748"}, ""},
		{[]string{acme, field}, ""},
		{[]string{acme, bearer, field, field}, ""},
		{[]string{acme, bearer, "X_Edge_Wrote" + field[len("X-Edge-Wrote"):]}, ""},
		{[]string{acme, "Test-Session: test s-2", cookie}, ""},
		{[]string{"Test-Tenant: globex", "Test-Session: test s-acme", cookie}, ""},
		{[]string{cookie}, ""},
	} {
		before := len(p.eu.requests())
		p.ask(t, "GET", "/replica/", nil, row.fields...)
		all := p.eu.requests()
		if len(all) != before+1 {
			t.Fatalf("eu saw %d", len(all)-before)
		}
		got := all[before].header["X-Edge-Wrote"]
		if row.at == "" && len(got) != 0 || row.at != "" && (len(got) != 1 || got[0] != row.at) {
			t.Errorf("%v: eu is told %q, want %q", row.fields, got, row.at)
		}
	}

	// Now it is down.
	p.loadRegions(t, edgetest.Nobody(t), p.us.addr(), fallbackSite(""))
	for _, row := range []struct {
		name, target string
		fields       []string
		us           bool
	}{
		{"no mark", "/replica/", []string{acme}, true},
		{"a mark", "/replica/", []string{acme, cookie}, false},
		{"a bearer token's mark", "/replica/", []string{acme, bearer, field}, false},
		{"a mark on a page without a session", "/", []string{cookie}, false},
		{"another session's", "/replica/", []string{acme, "Test-Session: test s-2", cookie}, true},
		{"another issuer's", "/replica/", []string{acme, "Test-Session: other s-acme", cookie}, true},
		{"another tenant's", "/replica/", []string{"Test-Tenant: globex", "Test-Session: test s-acme", cookie}, true},
		{"a forged one", "/replica/", []string{acme, cookie[:len(cookie)-8] + "AAAAAAAA"}, true},
		{"a position", "/replica/", []string{acme, "Cookie: edge_wrote=0/16B3748"}, true},
		{"a bearer token's mark as a cookie", "/replica/", []string{acme, bearer, cookie}, true},
		{"a cookie's mark in the field", "/replica/", []string{acme, field}, true},
	} {
		res, text := p.ask(t, "GET", row.target, nil, row.fields...)
		d := decided(t, res)
		if want := map[bool]int{true: 200, false: 503}[row.us]; res.StatusCode != want || d.RecentWrite == row.us {
			t.Errorf("%s: %d, recent write %v: %s", row.name, res.StatusCode, d.RecentWrite, text)
		}
		if !row.us {
			if got := problemIn(t, res, text); got.Name() != problem.RegionUnavailable {
				t.Error(text)
			}
		}
	}
	for _, s := range p.us.requests() {
		if len(s.header["X-Edge-Wrote"]) != 0 {
			t.Errorf("us is told a position in eu's log: %v", s.header["X-Edge-Wrote"])
		}
	}
}

// What is no position is no word of a write; and what another region wrote, in place
// of the home region, is not in the home region's log.
func TestWrote_whatARegionMaySay(t *testing.T) {
	p := newPOP(t, fallbackSite(""))
	for _, row := range []struct {
		position []string
		marked   bool
	}{
		{[]string{"0/1"}, true},
		{[]string{strings.Repeat("x", 64)}, true},
		{[]string{strings.Repeat("x", 65)}, false},
		{[]string{""}, false},
		{[]string{"0/1", "0/1"}, false},
		{[]string{"0/1, 0/2"}, false},
		{[]string{"0 1"}, false},
		{[]string{"é"}, false},
		{nil, false},
	} {
		p.eu.answers(wrote(row.position...))
		res, _ := p.ask(t, "POST", "/", nil, "Test-Tenant: acme")
		if got := markOf(t, res) != ""; got != row.marked || res.Header.Get("X-Edge-Wrote") != "" {
			t.Errorf("%q: marked %v, %v", row.position, got, res.Header)
		}
	}
	p.loadRegions(t, edgetest.Nobody(t), p.us.addr(), fallbackSite(""))
	p.us.answers(wrote("0/1"))
	if res, _ := p.ask(t, "GET", "/replica/", nil, "Test-Tenant: acme"); res.StatusCode != 201 || markOf(t, res) != "" || res.Header.Get("X-Edge-Served-By") != "us" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

// Nobody knows what became of a write that was sent and not answered: it may have
// been carried out, and its client may look.
func TestWrote_anUnknownOutcomeIsMarked(t *testing.T) {
	p := newPOP(t, fallbackSite("")+"\n")
	p.eu.answers(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	res, text := p.ask(t, "POST", "/", strings.NewReader("order"), "Test-Tenant: acme")
	cookie := markOf(t, res)
	if res.StatusCode != 502 || cookie == "" || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s %v", res.StatusCode, text, res.Header)
	}
	bearer, _ := p.ask(t, "POST", "/", nil, "Test-Tenant: acme", "Test-Bearer: 1")
	if bearer.StatusCode != 502 || bearer.Header.Get("X-Edge-Wrote") == "" {
		t.Errorf("%d %v", bearer.StatusCode, bearer.Header)
	}
	res, _ = p.ask(t, "GET", "/replica/", nil, "Test-Tenant: acme", cookie) // eu breaks off, and us may not be asked
	if res.StatusCode != 502 || markOf(t, res) != "" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	p.loadRegions(t, edgetest.Nobody(t), p.us.addr(), fallbackSite(""))
	res, _ = p.ask(t, "POST", "/", nil, "Test-Tenant: acme") // nothing was sent
	if res.StatusCode != 503 || markOf(t, res) != "" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

func TestWrote_recentWriteOff(t *testing.T) {
	p := newPOP(t, "edge_guard\ntest_session\nedge_region {\nrecent_write off\nfallback us\n}\n"+proxyWith(""))
	p.eu.answers(wrote("0/1"))
	for _, fields := range [][]string{{"Test-Tenant: acme"}, {"Test-Tenant: acme", "Test-Bearer: 1"}} {
		if res, _ := p.ask(t, "POST", "/", nil, fields...); res.Header.Get("Set-Cookie")+res.Header.Get("X-Edge-Wrote") != "" {
			t.Error(fmt.Sprint(res.Header))
		}
	}
}
