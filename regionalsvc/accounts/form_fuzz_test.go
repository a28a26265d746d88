package accounts

import (
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
)

// FuzzForms reads what a browser or a program may send to the routes of this
// package before anybody is signed in.
func FuzzForms(f *testing.F) {
	for _, body := range []string{
		"email=ada%40acme.example&password=correct+horse&return_to=%2Fapp", "email=a&email=b", "return_to=//evil.example", "a=%zz", "email=%ff", "email;password", "=", "&&&",
		`{"everywhere":true,"keepCurrent":true}`, `{"keepCurrent":true}`, `{"current":"a","new":"b"}`, `{"current":"\u0000"}`, `{"everywhere":true}{}`, "",
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		form := httptest.NewRequest("POST", "/login", strings.NewReader(body))
		if values, err := readForm(form, "email", "password", "return_to"); err == nil {
			if len(values) > 3 || len(body) > maxForm {
				t.Fatalf("%d values of %d bytes", len(values), len(body))
			}
			for name, several := range values {
				if len(several) != 1 || !utf8.ValidString(several[0]) {
					t.Fatalf("%s is %q", name, several)
				}
			}
			if target := handoff.ReturnTo(values.Get("return_to"), afterLogin); !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") {
				t.Fatalf("returns to %q", target)
			}
		}
		program := httptest.NewRequest("POST", "/logout", strings.NewReader(body))
		program.Header.Set("Content-Type", "application/json")
		if in, err := readLogout(program); err == nil && in.KeepCurrent && !in.Everywhere {
			t.Fatalf("%+v of %s", in, body)
		}
		if in, err := api.Parse[passwordInput]([]byte(body)); err == nil && (in.Current == "" || in.New == "" || len(in.New) > MaxPassword || len(in.Current) > MaxPassword) {
			t.Fatalf("%+v of %s", in, body)
		}
		if password, err := normalizePassword(body); err == nil && !utf8.ValidString(password) {
			t.Fatalf("%q became %q", body, password)
		}
	})
}
