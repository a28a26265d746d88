package e2e

import (
	"net/http"
	"testing"
	"time"
)

// A log-out at one POP ends the session at all of them, within a second.
func TestFeed_aLogoutIsInForceAtEveryPOP(t *testing.T) {
	for _, email := range []string{ada, grace} {
		b, other := login(t, fra(), email), login(t, fra(), email)
		for _, pop := range topology.POPs {
			b.at(pop).get(t, "/api/orders") // and its token is cached there
		}
		began := time.Now()
		b.do(t, http.MethodPost, "/logout", nil, "Origin", fra().URL, "Sec-Fetch-Site", "same-origin")
		for _, pop := range topology.POPs {
			await(t, "the session's end at "+pop.POP, func() bool {
				return b.at(pop).get(t, "/api/orders").status == http.StatusUnauthorized
			})
			if a := other.at(pop).get(t, "/api/orders"); a.status != http.StatusOK {
				t.Errorf("the user's other session at %s: %s", pop.POP, a)
			}
		}
		t.Logf("%s: in force everywhere after %s", email, time.Since(began))
	}
}

// While the broker is away a log-out is committed all the same, and comes to the
// POPs with it; a POP that is loaded anew meanwhile still knows what it knew.
func TestFeed_anOutageOfTheBrokerLosesNothing(t *testing.T) {
	before, during := login(t, fra(), ada), login(t, iad(), ada)
	logout := func(b *browser) {
		t.Helper()
		if a := b.do(t, http.MethodPost, "/logout", nil); a.status != http.StatusNoContent {
			t.Fatalf("%s", a)
		}
	}
	refused := func(b *browser) func() bool {
		return func() bool {
			return b.at(fra()).get(t, "/api/orders").status == http.StatusUnauthorized &&
				b.at(iad()).get(t, "/api/orders").status == http.StatusUnauthorized
		}
	}
	logout(before)
	await(t, "the first", refused(before))
	topology.StopFeed()
	logout(during)
	if err := fra().Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if a := before.at(fra()).get(t, "/api/orders"); a.status != http.StatusUnauthorized {
		t.Errorf("a reload without the broker forgot: %s", a)
	}
	if err := topology.RestartFeed(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the second", refused(during))
}
