// Package portal shows a tenant's people their shop: plain pages that need no
// script, but for the one that keeps a session alive.
package portal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
)

//go:embed templates/*.html
var files embed.FS

//go:embed templates/style.css
var style string

//go:embed templates/renew.js
var renew string

var pages = template.Must(template.New("").Option("missingkey=error").Funcs(template.FuncMap{
	"style": func() template.CSS { return template.CSS(style) },
	"renew": func() template.JS { return template.JS(renew) },
	"money": money,
	"when":  func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") },
	"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}).ParseFS(files, "templates/*.html"))

// policy lets a page use its own style and script and post to its own site, and
// nothing else: whatever got into a page could load, run or send nothing.
var policy = fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; script-src 'sha256-%s'; connect-src 'self'; "+
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'", hash(style), hash(renew))

func hash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// View is what the first page shows.
type View struct {
	// Email of who is signed in; empty when another issuer vouches for them.
	Email     string
	Customers []Customer
	// Orders, the latest first.
	Orders []Order
}

// Customer is a line of the customers.
type Customer struct{ ID, Name string }

// Order is a line of the orders.
type Order struct {
	ID         string
	CustomerID string
	TotalCents int64
	Currency   string
	Status     string
	CreatedAt  time.Time
}

// Overview gives a few customers and the latest orders of who's tenant.
type Overview func(ctx context.Context, who handoff.Identity) (View, error)

// Portal is the capability.
type Portal struct {
	// Region is this region's name. Required.
	Region string
	// Regions are the names under which pages may be asked for.
	Regions []string
	// Overview is what the first page shows. Required.
	Overview Overview
	// RenewEvery is how often a page that is open has its session renewed, in whole
	// seconds: a fraction of a token's life. Default: never.
	RenewEvery time.Duration
}

// Routes of this capability. Pages are served under this region's name, as the
// edge asks for them; a page under another's name is that region's, so that no
// address shows one tenant's pages in two places.
func (p *Portal) Routes() []api.Route {
	routes := []api.Route{
		{Pattern: "GET /login", Access: api.Anyone, Handle: p.login},
		{Pattern: "GET /app", Handle: p.app},
		{Pattern: "GET /" + p.Region + "/app", Handle: p.app},
		{Pattern: "GET /app/shell", Handle: p.shell},
		{Pattern: "GET /" + p.Region + "/app/shell", Handle: p.shell},
	}
	for _, region := range p.Regions {
		if region == p.Region {
			continue
		}
		elsewhere := func(_ http.ResponseWriter, r *http.Request) error { return api.Misdirected(r, region, 0) }
		routes = append(routes, api.Route{Pattern: "GET /" + region + "/app", Handle: elsewhere},
			api.Route{Pattern: "GET /" + region + "/app/shell", Handle: elsewhere})
	}
	return routes
}

func (p *Portal) login(w http.ResponseWriter, r *http.Request) error {
	returnTo, err := api.Param(r, "return_to")
	if err != nil {
		return err
	}
	return ShowLogin(w, http.StatusOK, Login{ReturnTo: handoff.ReturnTo(returnTo, "")})
}

// Login is what the login page shows.
type Login struct {
	// Email is what was typed before.
	Email string
	// ReturnTo is where the user wanted to go. Empty: nowhere in particular. It
	// must have passed [handoff.ReturnTo].
	ReturnTo string
	// Message says what was wrong. Empty: nothing yet.
	Message string
}

// ShowLogin answers with the login page.
func ShowLogin(w http.ResponseWriter, status int, view Login) error {
	return show(w, status, "login.html", view)
}

func (p *Portal) app(w http.ResponseWriter, r *http.Request) error {
	who := api.Who(r)
	view, err := p.Overview(r.Context(), who)
	if err != nil {
		return err
	}
	return show(w, http.StatusOK, "app.html", struct {
		View
		User, Tenant, Region string
		Roles                []string
		RenewEvery           int
	}{view, who.Subject, who.Tenant, p.Region, who.Roles, int(p.RenewEvery / time.Second)})
}

// shell is the frame of a page, the same for everybody in a tenant: it shows nothing
// of who asks, not even that somebody does. The POPs keep it for the tenant; a browser
// asks each time.
func (p *Portal) shell(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cdn-Cache-Control", "max-age=60, stale-while-revalidate=600, stale-if-error=86400")
	w.Header().Set("Cache-Groups", `"shell"`)
	return show(w, http.StatusOK, "shell.html", struct{ Tenant, Region string }{api.Who(r).Tenant, p.Region})
}

// show executes a page as a whole before it answers: half a page is no answer.
func show(w http.ResponseWriter, status int, name string, view any) error {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, view); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	h.Set("Cache-Control", "private, no-store") // a POP goes by Cdn-Cache-Control, where it is there
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client went away: there is nobody to tell
	return nil
}

// money writes hundredths.
func money(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }
