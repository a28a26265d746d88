package portal

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/telemetry"
)

const hostile = `"><script>alert(1)</script>&'`

func ask(t *testing.T, target string, who handoff.Identity, overview Overview) (*http.Response, string) {
	t.Helper()
	known, err := directory.New(directory.File{
		Tenants: map[string]directory.Tenant{"acme": {Home: "eu"}, "globex": {Home: "us"}},
	}, make([]byte, directory.MinKey))
	if err != nil {
		t.Fatal(err)
	}
	p := &Portal{Region: "eu", Regions: known.Regions(), Overview: overview, RenewEvery: 15 * time.Minute}
	pop := apitest.NewPOP(t, "fra", "eu")
	a, err := api.New(api.Config{
		Region: "eu", Directory: known, Keys: pop.Keys(t), Metrics: telemetry.NewMetrics(prometheus.NewRegistry()),
	}, p.Routes()...)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, pop.Request(t, http.MethodGet, target, nil, who))
	body, _ := io.ReadAll(w.Result().Body)
	return w.Result(), string(body)
}

func full(_ context.Context, who handoff.Identity) (View, error) {
	return View{
		Email:     "ada@" + who.Tenant + ".example" + hostile,
		Customers: []Customer{{ID: "c-1", Name: "Analytical Engines " + hostile}},
		Orders:    []Order{{ID: "o-1" + hostile, CustomerID: "c-1", TotalCents: 129905, Currency: "EUR", Status: "placed", CreatedAt: time.Unix(1e9, 0)}},
	}, nil
}

func empty(context.Context, handoff.Identity) (View, error) { return View{}, nil }

// wantPage holds what every page promises.
func wantPage(t *testing.T, resp *http.Response, status int, body string) {
	t.Helper()
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, body)
	}
	for header, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "private, no-store",
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
	} {
		if got := resp.Header.Get(header); got != want {
			t.Errorf("%s %q, want %q", header, got, want)
		}
	}
	for _, want := range []string{"<!doctype html>", `<html lang="en">`, "<title>", "<h1>", "<main>", `name="viewport"`} {
		if strings.Count(body, want) != 1 {
			t.Errorf("%q stands %d times", want, strings.Count(body, want))
		}
	}
	page, rest, own := strings.Cut(body, `<script data-every="900">`)
	script, rest, _ := strings.Cut(rest, "</script>")
	if page += rest; strings.Contains(page, "<script") || strings.Contains(page, "javascript:") || strings.Contains(page, " style=") {
		t.Errorf("the page holds what its policy forbids:\n%s", body)
	}
	if signedIn := strings.Contains(body, `action="/logout"`); own != signedIn {
		t.Errorf("the page keeps its session alive: %v, there is one: %v", own, signedIn)
	}
	if sum := sha256.Sum256([]byte(script)); own && !strings.Contains(resp.Header.Get("Content-Security-Policy"), "script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
		t.Errorf("the policy %q does not allow the page's own script", resp.Header.Get("Content-Security-Policy"))
	}
	_, rest, _ = strings.Cut(body, "<style>")
	css, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(css))
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
		t.Errorf("the policy %q does not allow the page's own style", csp)
	}
}

func TestApp_showsWhoseItIs(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/app", "/eu/app"} {
		resp, body := ask(t, target, apitest.User("acme", "approver"), full)
		wantPage(t, resp, http.StatusOK, body)
		for _, want := range []string{"ada@acme.example", "<dd>eu</dd>", "<dd>approver</dd>", "Analytical Engines", "1299.05 EUR", `datetime="2001-09-09T01:46:40Z"`, `action="/logout"`} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: %q is not on the page", target, want)
			}
		}
	}
}

func TestApp_showsThatThereIsNothing(t *testing.T) {
	t.Parallel()
	resp, body := ask(t, "/eu/app", apitest.User("acme"), empty)
	wantPage(t, resp, http.StatusOK, body)
	for _, want := range []string{"user-of-acme", "No orders yet", "No customers yet", "<dd>none</dd>"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
}

func TestApp_belongsToOneRegion(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		target string
		who    handoff.Identity
		status int
		home   string
	}{
		"another's name":            {"/us/app", apitest.User("acme"), 421, "us"},
		"another's name and tenant": {"/us/app", apitest.User("globex"), 421, "us"},
		"another's tenant":          {"/eu/app", apitest.User("globex"), 421, "us"},
		"nobody's name":             {"/mars/app", apitest.User("acme"), 404, ""},
		"nobody":                    {"/eu/app", handoff.Identity{}, 401, ""},
	} {
		resp, _ := ask(t, row.target, row.who, full)
		if resp.StatusCode != row.status || resp.Header.Get(handoff.HeaderHomeRegion) != row.home {
			t.Errorf("%s: %d, home %q", name, resp.StatusCode, resp.Header.Get(handoff.HeaderHomeRegion))
		}
	}
}

func TestApp_aFaultIsNoHalfPage(t *testing.T) {
	t.Parallel()
	resp, body := ask(t, "/app", apitest.User("acme"), func(context.Context, handoff.Identity) (View, error) {
		return View{}, errors.New("no database")
	})
	if resp.StatusCode != http.StatusInternalServerError || strings.Contains(body, "<html") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestLogin_carriesWhereToReturn(t *testing.T) {
	t.Parallel()
	for target, hidden := range map[string]string{
		"/login":                                  "",
		"/login?return_to=%2Fapp%3Fpage%3D2":      `name="return_to" value="/app?page=2"`,
		"/login?return_to=%2F%2Fevil.example":     "",
		"/login?return_to=https%3A%2F%2Fevil":     "",
		"/login?return_to=%2F%5Cevil.example":     "",
		"/login?return_to=javascript%3Aalert%281": "",
		"/login?return_to=%2Fa%22%3E%3Cscript%3E": `value="/a&#34;&gt;&lt;script&gt;"`,
	} {
		resp, body := ask(t, target, handoff.Identity{}, full)
		wantPage(t, resp, http.StatusOK, body)
		if hidden == "" && strings.Contains(body, "return_to") || !strings.Contains(body, hidden) {
			t.Errorf("%s: want %q in\n%s", target, hidden, body)
		}
		for _, field := range []string{"email", "password"} {
			if !strings.Contains(body, `<label for="`+field+`">`) || !strings.Contains(body, `<input id="`+field+`" name="`+field+`"`) {
				t.Errorf("%s has no label", field)
			}
		}
	}
	if resp, _ := ask(t, "/login?return_to=/a&return_to=/b", handoff.Identity{}, full); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("two addresses to return to: %d", resp.StatusCode)
	}
}

func TestShowLogin_saysWhatWasWrong(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	if err := ShowLogin(w, http.StatusUnauthorized, Login{Email: hostile, ReturnTo: "/app", Message: "Wrong. " + hostile}); err != nil {
		t.Fatal(err)
	}
	body := w.Body.String()
	wantPage(t, w.Result(), http.StatusUnauthorized, body)
	for _, want := range []string{`role="alert"`, "Wrong.", `aria-describedby="message"`, "<title>Error:"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
}
