package e2e

import (
	"net/http"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// A write leaves a mark that every POP knows again: the reads that follow, wherever
// they are asked, are this client's own, and see what it wrote.
func TestWrote_aReadAfterAWriteIsKnownAtEveryPOP(t *testing.T) {
	t.Parallel()
	b := login(t, fra(), ada)
	a := b.post(t, "/api/orders", newOrder{b.customer(t), 1299})
	if a.status != http.StatusCreated {
		t.Fatalf("order: %s", a)
	}
	if got := a.header.Values(handoff.HeaderWrote); len(got) != 0 {
		t.Errorf("the client sees %q", got)
	}
	var mark *http.Cookie
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.Name == "edge_wrote" {
			mark = c
		}
	}
	if mark == nil || mark.MaxAge != 30 || !mark.HttpOnly {
		t.Fatalf("no mark of the write: %s", a)
	}
	placed := decode[order](t, a)
	reads := func(who *browser, cookies string) (answer, any) {
		t.Helper()
		a := who.get(t, "/api/orders/"+placed.ID, "Cookie", who.cookie+cookies)
		return a, logged(t, iad().Log, a.header.Get("X-Request-Id"))[handoff.FieldRecentWrite]
	}
	a, recent := reads(b.at(iad()), "; edge_wrote="+mark.Value)
	if a.status != http.StatusOK || decode[order](t, a) != placed || recent != true {
		t.Errorf("recent_write %v: %s", recent, a)
	}
	if a, recent = reads(b.at(iad()), ""); a.status != http.StatusOK || recent != nil {
		t.Errorf("without the mark: recent_write %v: %s", recent, a)
	}
	if a, recent = reads(login(t, iad(), ada), "; edge_wrote="+mark.Value); a.status != http.StatusOK || recent != nil {
		t.Errorf("another session of the same user: recent_write %v: %s", recent, a)
	}
	if a, recent = reads(login(t, iad(), grace), "; edge_wrote="+mark.Value); a.status != http.StatusNotFound || recent != nil {
		t.Errorf("another tenant: recent_write %v: %s", recent, a)
	}
	// A read leaves none.
	if a := b.get(t, "/api/orders"); len(a.header.Values("Set-Cookie")) != 0 {
		t.Errorf("a read is marked: %s", a)
	}
}
