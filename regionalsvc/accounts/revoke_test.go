package accounts

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// opened is whom a new session of email speaks for.
func (w *world) opened(t *testing.T, email string) handoff.Identity {
	t.Helper()
	session, err := w.enter(t.Context(), email, password)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(session.Token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims Claims
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return handoff.Identity{Tenant: "acme", Subject: claims.Subject, SubjectIssuer: claims.Issuer, Session: claims.Session}
}

// over reads which of acme's sessions have ended.
func (w *world) over(t *testing.T, sessions ...handoff.Identity) (ended []bool) {
	t.Helper()
	for _, s := range sessions {
		var is bool
		w.row(t, "select revoked_at is not null from sessions where id = '"+s.Session+"'", &is)
		ended = append(ended, is)
	}
	return ended
}

// told is the one message that POPs will hear.
func (w *world) told(t *testing.T) feed.Revocation {
	t.Helper()
	var subject, message string
	if err := w.pool.QueryRow(t.Context(), "select subject, message from feed_outbox").Scan(&subject, &message); err != nil {
		t.Fatal(err)
	}
	var r feed.Revocation
	if err := json.Unmarshal([]byte(message), &r); err != nil {
		t.Fatalf("%s: %v", message, err)
	}
	return r
}

func TestSignOutEverywhere_endsAllButTheOneThatIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kept, other, colleague := w.opened(t, "ada@acme.example"), w.opened(t, "ada@acme.example"), w.opened(t, "alan@acme.example")
	if err := w.SignOutEverywhere(t.Context(), kept, kept.Session); err != nil {
		t.Fatal(err)
	}
	if got := w.over(t, kept, other, colleague); got[0] || !got[1] || got[2] {
		t.Errorf("ended: the kept one %v, the user's other %v, a colleague's %v", got[0], got[1], got[2])
	}
	if r := w.told(t); r.Issuer != kept.SubjectIssuer || r.Subject != kept.Subject || r.Except != kept.Session || r.Tenant != "" || r.Session != "" {
		t.Errorf("POPs are told %+v", r)
	}
}

func TestRevokeTenant_endsEverySession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada, alan := w.opened(t, "ada@acme.example"), w.opened(t, "alan@acme.example")
	if err := w.RevokeTenant(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	if got := w.over(t, ada, alan); !got[0] || !got[1] {
		t.Errorf("ended: %v", got)
	}
	if r := w.told(t); r.Tenant != "acme" || r.Subject != "" || r.Session != "" {
		t.Errorf("POPs are told %+v", r)
	}
}

func TestSignOutEverywhere_isToldOnlyIfItIsDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.opened(t, "ada@acme.example")
	elsewhere := ada
	elsewhere.Tenant = "unknown" // whose audit entry is refused
	if err := w.SignOutEverywhere(t.Context(), elsewhere, ""); err == nil {
		t.Fatal("it succeeded")
	}
	var messages int
	if err := w.pool.QueryRow(t.Context(), "select count(*) from feed_outbox").Scan(&messages); err != nil {
		t.Fatal(err)
	}
	if messages != 0 || w.over(t, ada)[0] {
		t.Errorf("%d messages, and the session has ended: %v", messages, w.over(t, ada)[0])
	}
}
