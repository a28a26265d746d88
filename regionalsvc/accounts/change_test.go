package accounts

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

const another = "a battery of correct horses"

func TestLogout_everywhere(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		body         string
		status       int
		here, others bool // have ended
		cleared      bool
	}{
		"nothing said":      {``, 204, true, false, true},
		"an empty document": {`{}`, 204, true, false, true},
		"this one, said so": {`{"everywhere":false}`, 204, true, false, true},
		"everywhere":        {`{"everywhere":true}`, 204, true, true, true},
		"everywhere else":   {`{"everywhere":true,"keepCurrent":true}`, 204, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			here, other, colleague := w.opened(t, "ada@acme.example"), w.opened(t, "ada@acme.example"), w.opened(t, "alan@acme.example")
			resp, body := w.post(t, "/logout", "application/json", row.body, here)
			if resp.StatusCode != row.status {
				t.Errorf("%d %s, want %d", resp.StatusCode, body, row.status)
			}
			if got := w.over(t, here, other, colleague); got[0] != row.here || got[1] != row.others || got[2] {
				t.Errorf("ended: this one %v, the other %v, a colleague's %v", got[0], got[1], got[2])
			}
			if cookies := resp.Cookies(); (len(cookies) == 1 && cookies[0].MaxAge == -1) != row.cleared || !row.cleared && len(cookies) > 0 {
				t.Errorf("cookies %q", resp.Header.Values("Set-Cookie"))
			}
			if row.others {
				if r := w.told(t); r.Subject != here.Subject || (r.Except == here.Session) != !row.here {
					t.Errorf("POPs are told %+v", r)
				}
			}
		})
	}
}

func TestLogout_refusesBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	who := w.opened(t, "ada@acme.example")
	for _, row := range []struct {
		contentType, body string
		status            int
	}{
		{"application/json", `{"keepCurrent":true}`, 400},
		{"application/json", `{"Everywhere":true}`, 400},
		{"application/json", `{"everywhere":true,"tenant":"acme"}`, 400},
		{"application/json", `{"everywhere":"true"}`, 400},
		{"application/json", `{"everywhere":true,"everywhere":false}`, 400},
		{"application/json", `everywhere`, 400},
		{"text/plain", `{"everywhere":true}`, 415},
	} {
		resp, body := w.post(t, "/logout", row.contentType, row.body, who)
		if resp.StatusCode != row.status || w.over(t, who)[0] || len(resp.Cookies()) > 0 {
			t.Errorf("%s %s: %d %s", row.contentType, row.body, resp.StatusCode, body)
		}
	}
}

func (w *world) change(t *testing.T, who handoff.Identity, body string, header ...string) (*http.Response, string) {
	t.Helper()
	return w.post(t, "/api/account/password", "application/json", body, who, header...)
}

// TestChangePassword_signsOutEverywhereElse, by one entry that exempts the session
// of whoever changed it, and opens nothing with the old password any more.
func TestChangePassword_signsOutEverywhereElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	here, other, colleague := w.opened(t, "ada@acme.example"), w.opened(t, "ada@acme.example"), w.opened(t, "alan@acme.example")
	resp, body := w.change(t, here, `{"current":"`+password+`","new":"`+another+`"}`)
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Cache-Control") != "no-store" || len(resp.Cookies()) != 0 {
		t.Fatalf("%d %s %q", resp.StatusCode, body, resp.Header)
	}
	if got := w.over(t, here, other, colleague); got[0] || !got[1] || got[2] {
		t.Errorf("ended: this one %v, the other %v, a colleague's %v", got[0], got[1], got[2])
	}
	r := w.told(t)
	state := feed.NewState(feed.Limits{})
	if _, err := state.Apply("eu", r, time.Now()); err != nil {
		t.Fatal(err)
	}
	asked := func(who handoff.Identity) bool {
		return state.Revoked(&feed.Session{Issuer: who.SubjectIssuer, ID: who.Session, Subject: who.Subject, Tenant: "acme", AuthTime: time.Now().Unix() - 1})
	}
	if asked(here) || !asked(other) || asked(colleague) {
		t.Errorf("POPs are told %+v", r)
	}
	if _, err := w.enter(t.Context(), "ada@acme.example", password); err == nil {
		t.Error("the old password opens a session")
	}
	if _, err := w.enter(t.Context(), "ada@acme.example", another); err != nil {
		t.Errorf("the new one: %v", err)
	}
	if renewed, err := w.Renew(t.Context(), here); err != nil || claimsOf(t, renewed.Token).Session != here.Session {
		t.Errorf("the session that stays is not renewed: %v", err)
	}
	var entry string
	w.row(t, "select action || ' ' || detail from audit_entries where action = 'account.password_changed'", &entry)
	if !strings.Contains(entry, here.Session) || strings.Contains(entry, another) {
		t.Errorf("audit entry %s", entry)
	}
}

func TestChangePassword_refuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	who := w.opened(t, "ada@acme.example")
	good := `{"current":"` + password + `","new":"` + another + `"}`
	stranger := who
	stranger.SubjectIssuer = "https://idp.example"
	gone := who
	gone.Subject = "00000000-0000-4000-8000-000000000000"
	for name, row := range map[string]struct {
		who    handoff.Identity
		body   string
		header []string
		status int
		field  string
	}{
		"a wrong one":           {who, `{"current":"wrong horse","new":"` + another + `"}`, nil, 422, "/current"},
		"a malformed one":       {who, `{"current":"\u0000","new":"` + another + `"}`, nil, 422, "/current"},
		"too short":             {who, `{"current":"` + password + `","new":"short"}`, nil, 422, "/new"},
		"too long":              {who, `{"current":"` + password + `","new":"` + strings.Repeat("a", MaxPassword+1) + `"}`, nil, 400, "/new"},
		"a control character":   {who, `{"current":"` + password + `","new":"long enough\u0000"}`, nil, 422, "/new"},
		"none":                  {who, `{"current":"` + password + `"}`, nil, 400, "/new"},
		"without the old one":   {who, `{"new":"` + another + `"}`, nil, 400, "/current"},
		"unknown member":        {who, `{"current":"a","new":"b","user":"alan"}`, nil, 400, "/user"},
		"from another site":     {who, good, []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		"nobody":                {handoff.Identity{}, good, nil, 401, ""},
		"another issuer's user": {stranger, good, nil, 403, ""},
		"a user who is gone":    {gone, good, nil, 403, ""},
	} {
		resp, body := w.change(t, row.who, row.body, append([]string{"X-Forwarded-For", name}, row.header...)...)
		if resp.StatusCode != row.status || row.field != "" && !strings.Contains(body, `"`+row.field+`"`) {
			t.Errorf("%s: %d %s, want %d at %q", name, resp.StatusCode, body, row.status, row.field)
		}
		if strings.Contains(body, password) || strings.Contains(body, another) {
			t.Errorf("%s: the answer repeats a password", name)
		}
	}
	if w.over(t, who)[0] {
		t.Error("a session ended")
	}
	if _, err := w.enter(t.Context(), "ada@acme.example", password); err != nil {
		t.Errorf("the password became another: %v", err)
	}
}

// TestChangePassword_guessingIsSlowedDown: whoever has a session and not the
// password gets no further than at the login.
func TestChangePassword_guessingIsSlowedDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	who := w.opened(t, "ada@acme.example")
	for range 100 {
		resp, body := w.change(t, who, `{"current":"wrong horse","new":"`+another+`"}`)
		if resp.StatusCode == http.StatusTooManyRequests {
			if resp.Header.Get("Retry-After") == "" {
				t.Error("it does not say when to try again")
			}
			return
		}
		if resp.StatusCode != http.StatusUnprocessableEntity {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	t.Error("100 guesses were heard")
}

// TestChangePassword_ofTwoAtOnceOneWins, and the other is told so.
func TestChangePassword_ofTwoAtOnceOneWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.opened(t, "ada@acme.example"), w.opened(t, "ada@acme.example")
	var changes sync.WaitGroup
	statuses := make([]int, 2)
	for i, who := range []handoff.Identity{one, two} {
		changes.Go(func() {
			resp, _ := w.change(t, who, `{"current":"`+password+`","new":"`+another+`"}`, "X-Forwarded-For", who.Session)
			statuses[i] = resp.StatusCode
		})
	}
	changes.Wait()
	// The later one may have read the new hash already, which its password has not.
	won, lost := statuses[0], statuses[1]
	if won != 204 {
		won, lost = lost, won
	}
	if won != 204 || lost != 409 && lost != 422 {
		t.Errorf("%d and %d", statuses[0], statuses[1])
	}
}

// TestLogin_withAnOldPasswordOpensNothingThatOutlivesTheChange: the password was
// checked before the change, and the session would begin after it.
func TestLogin_withAnOldPasswordOpensNothingThatOutlivesTheChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	who := w.opened(t, "ada@acme.example")
	u, err := w.find(t.Context(), "acme", "ada@acme.example") // as the login found it
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ChangePassword(t.Context(), who, Passwords{Current: password, New: another, From: "a"}); err != nil {
		t.Fatal(err)
	}
	if session, err := w.open(t.Context(), u, ""); err == nil {
		t.Errorf("a session of the old password: %+v", session)
	}
	var open int
	w.row(t, "select count(*) from sessions where revoked_at is null", &open)
	if open != 1 {
		t.Errorf("%d sessions are open", open)
	}
}

// TestSignOutEverywhere_endsWhatAnotherClockSaysBeginsLater: the processes of a
// region do not agree on the time to the second.
func TestSignOutEverywhere_endsWhatAnotherClockSaysBeginsLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	who := w.opened(t, "ada@acme.example")
	w.age(t, who, -5*time.Second)
	renewed, err := w.Renew(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.SignOutEverywhere(t.Context(), who, ""); err != nil {
		t.Fatal(err)
	}
	if at, began := w.told(t).At, claimsOf(t, renewed.Token).AuthTime; at < began {
		t.Errorf("POPs end what began up to %d, this one began at %d", at, began)
	}
}
