package accounts

import (
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// claimsOf decodes a token that was just signed here.
func claimsOf(t *testing.T, token string) Claims {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims Claims
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// age makes a session older, as if its user had signed in that long ago.
func (w *world) age(t *testing.T, who handoff.Identity, by time.Duration) {
	t.Helper()
	w.force(t, "update sessions set created_at = created_at - $2 * interval '1 second', expires_at = expires_at - $2 * interval '1 second' where id::text = $1",
		who.Session, int64(by/time.Second))
}

// TestRenew_keepsTheSessionAndItsAuthTime: one session from its sign-in to its end,
// by tokens that are each good to their own exp and never beyond the longest life.
func TestRenew_keepsTheSessionAndItsAuthTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	who := w.opened(t, "ada@acme.example")
	var signedIn int64
	w.row(t, "select extract(epoch from created_at)::bigint from sessions where id = '"+who.Session+"'", &signedIn)
	for _, row := range []struct {
		age, life time.Duration
	}{
		{0, time.Hour}, {30 * time.Minute, time.Hour}, {10 * time.Hour, time.Hour},
		{11*time.Hour + 30*time.Minute, 30 * time.Minute}, {12*time.Hour - time.Minute, time.Minute},
	} {
		w.age(t, who, row.age)
		resp, body := w.post(t, "/session/renew", "", "", who)
		if resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 1 {
			t.Fatalf("after %s: %d %s", row.age, resp.StatusCode, body)
		}
		cookie := resp.Cookies()[0]
		c := claimsOf(t, cookie.Value)
		if c.Session != who.Session || c.Subject != who.Subject || c.Tenant != "acme" || c.Issuer != who.SubjectIssuer || len(c.Roles) != 1 {
			t.Errorf("after %s: %+v", row.age, c)
		}
		if want := signedIn - int64(row.age/time.Second); c.AuthTime != want {
			t.Errorf("after %s: auth_time %d, want %d", row.age, c.AuthTime, want)
		}
		if life := c.ExpiresAt.Sub(c.IssuedAt.Time); life > row.life || life < row.life-10*time.Second {
			t.Errorf("after %s: the token lives %s, want %s", row.age, life, row.life)
		}
		if age := time.Duration(cookie.MaxAge) * time.Second; age > row.life || age < row.life-20*time.Second {
			t.Errorf("after %s: the cookie lives %s", row.age, age)
		}
		if cookie.Name != "session" || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" {
			t.Errorf("cookie %q", resp.Header.Get("Set-Cookie"))
		}
		if resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("Cache-Control %q", resp.Header.Get("Cache-Control"))
		}
		if strings.Contains(body, cookie.Value) {
			t.Error("the token is in the body, where a script could read it")
		}
		w.age(t, who, -row.age)
	}
	w.age(t, who, 12*time.Hour)
	if resp, body := w.post(t, "/session/renew", "", "", who); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("at the end: %d %s", resp.StatusCode, body)
	}
}

// TestRenew_refuses whatever is over or is not this region's to renew, and leaves
// the browser's cookie alone, which may be another session's by now.
func TestRenew_refuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good, left, gone, whole := w.opened(t, "ada@acme.example"), w.opened(t, "ada@acme.example"), w.opened(t, "alan@acme.example"), w.opened(t, "ada@acme.example")
	if err := w.Logout(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	if err := w.SignOutEverywhere(t.Context(), gone, ""); err != nil {
		t.Fatal(err)
	}
	change := func(of handoff.Identity, change func(*handoff.Identity)) handoff.Identity {
		change(&of)
		return of
	}
	cross := []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}
	for name, row := range map[string]struct {
		who    handoff.Identity
		header []string
		status int
	}{
		"good":                       {good, nil, 200},
		"from this site":             {good, []string{"Sec-Fetch-Site", "same-origin"}, 200},
		"from another site":          {good, cross, 403},
		"logged out":                 {left, nil, 401},
		"signed out everywhere":      {gone, nil, 401},
		"nobody":                     {handoff.Identity{}, nil, 401},
		"never opened":               {change(good, func(i *handoff.Identity) { i.Session = "00000000-0000-4000-8000-000000000000" }), nil, 401},
		"another user's":             {change(good, func(i *handoff.Identity) { i.Subject = gone.Subject }), nil, 401},
		"another issuer's":           {change(good, func(i *handoff.Identity) { i.SubjectIssuer = "https://idp.example" }), nil, 403},
		"no id of ours":              {change(good, func(i *handoff.Identity) { i.Session = "x" }), nil, 403},
		"no user of ours":            {change(good, func(i *handoff.Identity) { i.Subject = "x" }), nil, 403},
		"a tenant of another region": {change(good, func(i *handoff.Identity) { i.Tenant = "globex" }), nil, 421},
	} {
		resp, body := w.post(t, "/session/renew", "", "", row.who, row.header...)
		if resp.StatusCode != row.status {
			t.Errorf("%s: %d %s, want %d", name, resp.StatusCode, body, row.status)
		}
		if row.status != 200 && len(resp.Cookies()) > 0 {
			t.Errorf("%s: cookies %q", name, resp.Header.Values("Set-Cookie"))
		}
	}
	if err := w.RevokeTenant(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if resp, _ := w.post(t, "/session/renew", "", "", whole); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after all of the tenant's: %d", resp.StatusCode)
	}
}

// TestRenew_givesTheRolesOfNow and not those of the sign-in.
func TestRenew_givesTheRolesOfNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	who := w.opened(t, "ada@acme.example")
	w.force(t, "update users set roles = '{auditor}' where id::text = $1", who.Subject)
	session, err := w.Renew(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	if roles := claimsOf(t, session.Token).Roles; len(roles) != 1 || roles[0] != "auditor" {
		t.Errorf("roles %q", roles)
	}
}

// TestRenew_manyAtOnceHarmNobody: tabs that race each get a token of the one
// session, and a renewal changes nothing that a later one, or a POP, could miss.
func TestRenew_manyAtOnceHarmNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, err := w.enter(t.Context(), "ada@acme.example", password)
	if err != nil {
		t.Fatal(err)
	}
	signed := claimsOf(t, first.Token)
	who := handoff.Identity{Tenant: "acme", Subject: signed.Subject, SubjectIssuer: signed.Issuer, Session: signed.Session}
	renewed := make([]Session, 4)
	var tabs sync.WaitGroup
	for i := range renewed {
		tabs.Go(func() {
			var err error
			if renewed[i], err = w.Renew(t.Context(), who); err != nil {
				t.Error(err)
			}
		})
	}
	tabs.Wait()
	for _, session := range renewed {
		if session.Token == "" {
			continue // it was said
		}
		if c := claimsOf(t, session.Token); c.Session != signed.Session || c.AuthTime != signed.AuthTime {
			t.Errorf("session %s of %d, want %s of %d", c.Session, c.AuthTime, signed.Session, signed.AuthTime)
		}
	}
	var sessions, messages int
	w.row(t, "select count(*) from sessions where revoked_at is null", &sessions)
	if err := w.pool.QueryRow(t.Context(), "select count(*) from feed_outbox").Scan(&messages); err != nil {
		t.Fatal(err)
	}
	if sessions != 1 || messages != 0 {
		t.Errorf("%d sessions, %d messages: a token before was ended", sessions, messages)
	}
}

// TestRenew_aRenewalOutrunsNoRevocation: a token renewed while the session is being
// ended is refused by what the POPs are told, whichever came first.
func TestRenew_aRenewalOutrunsNoRevocation(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*world, handoff.Identity) error{
		"logout":     func(w *world, who handoff.Identity) error { return w.Logout(t.Context(), who) },
		"everywhere": func(w *world, who handoff.Identity) error { return w.SignOutEverywhere(t.Context(), who, "") },
		"the tenant": func(w *world, who handoff.Identity) error { return w.RevokeTenant(t.Context(), who) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			who := w.opened(t, "ada@acme.example")
			renewed, err := w.Renew(t.Context(), who)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(w, who); err != nil {
				t.Fatal(err)
			}
			c := claimsOf(t, renewed.Token)
			state := feed.NewState(feed.Limits{})
			if _, err := state.Apply("eu", w.told(t), time.Now()); err != nil {
				t.Fatal(err)
			}
			if !state.Revoked(&feed.Session{Issuer: c.Issuer, ID: c.Session, Subject: c.Subject, Tenant: c.Tenant, AuthTime: c.AuthTime}) {
				t.Errorf("the renewed token goes on: %+v", w.told(t))
			}
		})
	}
}
