package accounts

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
)

const operatorToken = "the-token-of-the-operator-32-bytes-and-more"

func (w *world) operate(t *testing.T, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/revocations", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	rec := httptest.NewRecorder()
	w.Operator(operatorToken).ServeHTTP(rec, r)
	return rec
}

const asOperator = "Authorization: Bearer " + operatorToken

func TestOperator_endsSessionsTellsPOPsAndWritesItDown(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, body, action string
		ada, other, alan   bool // ended
	}{
		{"a session", `{"tenant":"acme","sid":"ADA"}`, "operator.session_ended", true, false, false},
		{"a user", `{"tenant":"acme","sub":"USER"}`, "operator.user_signed_out", true, true, false},
		{"a user but for a session", `{"tenant":"acme","sub":"USER","except":"ADA"}`, "operator.user_signed_out", false, true, false},
		{"a tenant", `{"tenant":"acme"}`, "operator.tenant_signed_out", true, true, true},
		{"another issuer's session of that id", `{"tenant":"acme","sid":"ADA","iss":"https://login.example"}`, "operator.session_ended", false, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ada, other, alan := w.opened(t, "ada@acme.example"), w.opened(t, "ada@acme.example"), w.opened(t, "alan@acme.example")
			body := strings.NewReplacer("ADA", ada.Session, "USER", ada.Subject).Replace(row.body)
			rec := w.operate(t, body, asOperator)
			if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"scope":"everywhere"`) || !strings.Contains(rec.Body.String(), `"region":"eu"`) {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			if got := w.over(t, ada, other, alan); got[0] != row.ada || got[1] != row.other || got[2] != row.alan {
				t.Errorf("ended: %v", got)
			}
			if told := w.told(t); told.At == 0 || told.Issuer == "" && told.Tenant == "" {
				t.Errorf("POPs are told %+v", told)
			}
			var actor, action string
			w.row(t, "select actor || actor_issuer from audit_entries where action like 'operator.%'", &actor)
			w.row(t, "select action from audit_entries where action like 'operator.%'", &action)
			if actor != "operator" || action != row.action {
				t.Errorf("audit: %q %q", actor, action)
			}
		})
	}
}

func TestOperator_refuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.opened(t, "ada@acme.example")
	all := `{"tenant":"acme"}`
	for _, row := range []struct {
		name, body string
		header     []string
		status     int
		says       string
	}{
		{"nobody", all, nil, 401, "operator's token"},
		{"a wrong token", all, []string{asOperator + "x"}, 401, "operator's token"},
		{"a part of it", all, []string{asOperator[:len(asOperator)-1]}, 401, "operator's token"},
		{"nothing as the token", all, []string{"Authorization: Bearer "}, 401, "operator's token"},
		{"another scheme", all, []string{"Authorization: Basic " + operatorToken}, 401, "operator's token"},
		{"two of them", all, []string{asOperator, asOperator}, 401, "operator's token"},
		{"in a cookie", all, []string{"Cookie: session=" + operatorToken}, 401, "operator's token"},
		{"another type", all, []string{asOperator, "Content-Type: text/plain"}, 415, ""},
		{"nothing", ``, []string{asOperator}, 400, ""},
		{"no tenant", `{"sid":"s"}`, []string{asOperator}, 400, "/tenant"},
		{"two at once", `{"tenant":"acme","sid":"s","sub":"u"}`, []string{asOperator}, 400, "/sub"},
		{"an exemption from a tenant", `{"tenant":"acme","except":"s"}`, []string{asOperator}, 400, "/except"},
		{"an issuer of a tenant", `{"tenant":"acme","iss":"i"}`, []string{asOperator}, 400, "/iss"},
		{"an unknown name", `{"tenant":"acme","all":true}`, []string{asOperator}, 400, "/all"},
		{"a name twice", `{"tenant":"acme","tenant":"globex"}`, []string{asOperator}, 400, ""},
		{"too long a name", `{"tenant":"acme","sid":"` + strings.Repeat("s", 300) + `"}`, []string{asOperator}, 400, "/sid"},
		{"an unknown tenant", `{"tenant":"umbrella"}`, []string{asOperator}, 404, "no such tenant"},
		{"a tenant of another region", `{"tenant":"globex"}`, []string{asOperator}, 421, "at home in us"},
	} {
		rec := w.operate(t, row.body, row.header...)
		if rec.Code != row.status || !strings.Contains(rec.Body.String(), row.says) || strings.Contains(rec.Body.String(), operatorToken) {
			t.Errorf("%s: %d %s", row.name, rec.Code, rec.Body)
		}
	}
	if w.over(t, ada)[0] {
		t.Error("something that was refused was done")
	}
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/revocations", strings.NewReader(all))
	r.Header.Set("Authorization", "Bearer ")
	w.Operator("").ServeHTTP(rec, r)
	if rec.Code != http.StatusForbidden || !strings.Contains(rec.Body.String(), "--operator-token") {
		t.Errorf("without a token: %d %s", rec.Code, rec.Body)
	}
}

func FuzzEnded(f *testing.F) {
	for _, seed := range []string{`{"tenant":"acme"}`, `{"tenant":"acme","sid":"s"}`, `{"tenant":"acme","sub":"u","except":"s","iss":"i"}`, `{}`, `[]`, `{"tenant":"acme","tenant":"b"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := api.Parse[Ended](body)
		if err != nil {
			return
		}
		r := feed.Revocation{Issuer: in.Issuer, Session: in.Session, Subject: in.Subject, Except: in.Except, At: 1, Expires: 2}
		switch {
		case in.Session == "" && in.Subject == "":
			r.Tenant = in.Tenant
		case in.Issuer == "":
			r.Issuer = "gatehouse:eu"
		}
		if err := r.Check(); err != nil { // what passes can be told to the POPs
			t.Errorf("%q: %v", body, err)
		}
	})
}
