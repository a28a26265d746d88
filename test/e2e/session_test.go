package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claims reads what the browser's token says.
func (b *browser) claims(t *testing.T) jwt.MapClaims {
	t.Helper()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(b.cookie[len("session="):], claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// renew asks for a new token as the portal's pages do; with is the browser that
// has it.
func (b *browser) renew(t *testing.T) (with *browser, a answer) {
	t.Helper()
	a = b.do(t, http.MethodPost, "/session/renew", nil, "Origin", b.base, "Sec-Fetch-Site", "same-origin")
	with = &browser{base: b.base, client: b.client}
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.Name == "session" && c.Value != "" {
			with.cookie = c.Name + "=" + c.Value
		}
	}
	return with, a
}

// TestSession_isRenewedAtAnyPOP, for either region's users, by many tabs at once,
// and what the session was before goes on.
func TestSession_isRenewedAtAnyPOP(t *testing.T) {
	t.Parallel()
	for _, email := range []string{ada, grace} {
		first := login(t, fra(), email)
		before := first.claims(t)
		var tabs sync.WaitGroup
		for i := range 6 {
			tabs.Go(func() {
				pop := topology.POPs[i%2]
				renewed, a := first.at(pop).renew(t)
				if a.status != http.StatusOK || renewed.cookie == "" {
					t.Errorf("%s at %s: %s", email, pop.POP, a)
					return
				}
				if got := a.header.Get("Cache-Control"); got != "no-store" {
					t.Errorf("Cache-Control %q", got)
				}
				after := renewed.claims(t)
				for _, claim := range []string{"iss", "sub", "sid", "tenant_id", "auth_time"} {
					if after[claim] != before[claim] {
						t.Errorf("%s became %v, was %v", claim, after[claim], before[claim])
					}
				}
				if after["exp"].(float64) < before["exp"].(float64) {
					t.Errorf("exp %v, was %v", after["exp"], before["exp"])
				}
				for _, b := range []*browser{first, renewed} { // the old token stays good
					for _, pop := range topology.POPs {
						if a := b.at(pop).get(t, "/api/orders"); a.status != http.StatusOK {
							t.Errorf("at %s: %s", pop.POP, a)
						}
					}
				}
			})
		}
		tabs.Wait()
	}
}

func TestSession_renewalIsRefused(t *testing.T) {
	t.Parallel()
	b := login(t, fra(), ada)
	if a := b.do(t, http.MethodPost, "/session/renew", nil, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden {
		t.Errorf("from another site: %s", a)
	}
	if a := b.get(t, "/session/renew"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %s", a)
	}
	visit(fra()).do(t, http.MethodPost, "/session/renew", nil).is(t, http.StatusUnauthorized, "unauthenticated")
}

// TestSession_signOutEverywhereEndsTheOthersAtEveryPOP: the session that asks stays
// where it says so, its renewed tokens too; without that it ends as well.
func TestSession_signOutEverywhereEndsTheOthersAtEveryPOP(t *testing.T) {
	for _, email := range []string{ada, grace} {
		here, other := login(t, fra(), email), login(t, iad(), email)
		renewed, _ := other.renew(t)
		colleague := login(t, fra(), alan)
		ended := func(b *browser) bool {
			for _, pop := range topology.POPs {
				if b.at(pop).get(t, "/api/orders").status != http.StatusUnauthorized {
					return false
				}
			}
			return true
		}
		if a := here.post(t, "/logout", map[string]bool{"everywhere": true, "keepCurrent": true}); a.status != http.StatusNoContent || strings.Contains(strings.Join(a.header.Values("Set-Cookie"), "; "), "session=") {
			t.Fatalf("%s", a)
		}
		began := time.Now()
		await(t, "the end of the others", func() bool { return ended(other) && ended(renewed) })
		t.Logf("in force everywhere after %s", time.Since(began))
		kept, a := here.renew(t)
		if a.status != http.StatusOK {
			t.Errorf("the session that is kept: %s", a)
		}
		for _, b := range []*browser{here, kept, colleague} {
			for _, pop := range topology.POPs {
				if a := b.at(pop).get(t, "/api/orders"); a.status != http.StatusOK {
					t.Errorf("at %s: %s", pop.POP, a)
				}
			}
		}
		if _, a := other.renew(t); a.status != http.StatusUnauthorized {
			t.Errorf("an ended session is renewed: %s", a)
		}
		if a := here.post(t, "/logout", map[string]bool{"everywhere": true}); a.status != http.StatusNoContent {
			t.Fatalf("%s", a)
		}
		last := time.Now().Unix()
		await(t, "the end of all", func() bool { return ended(here) && ended(kept) })
		// A sign-in of the same second would count as one before.
		await(t, "the next second", func() bool { return time.Now().Unix() > last })
	}
}
