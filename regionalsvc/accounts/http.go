package accounts

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
)

// afterLogin is where a login form goes that came from nowhere in particular.
const afterLogin = "/app"

// maxForm bounds a login form in bytes: every byte of a password may take three.
const maxForm = 8 << 10

// Page shows the login form again, with what was typed and what was wrong.
type Page func(w http.ResponseWriter, status int, form Form) error

// Form is what a login form holds. The password is never shown again.
type Form struct {
	Email, ReturnTo, Message string
}

// Routes of this capability.
func (s *Service) Routes() []api.Route {
	return []api.Route{
		{Pattern: "POST /login", Access: api.Anyone, Handle: s.login},
		// Anyone, for somebody whose session is over still wants the cookie gone.
		{Pattern: "POST /logout", Access: api.Anyone, Handle: s.logout},
		{Pattern: "POST /session/renew", Handle: s.renew},
		{Pattern: "POST /api/account/password", Handle: s.changePassword},
	}
}

// loginInput is the body of a login by a program.
type loginInput struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// Validate implements [api.Validator].
func (in loginInput) Validate() (faults []problem.FieldError) {
	if in.Email == "" {
		faults = append(faults, problem.FieldError{Field: "/email", Message: "is required"})
	}
	if in.Password == "" {
		faults = append(faults, problem.FieldError{Field: "/password", Message: "is required"})
	}
	if len(in.Password) > MaxPassword {
		faults = append(faults, problem.FieldError{Field: "/password", Message: "is too long"})
	}
	return faults
}

// loginOutput says to a program what it has; the token is in the cookie alone.
type loginOutput struct {
	User    string    `json:"user"`
	Tenant  string    `json:"tenant"`
	Region  string    `json:"region"`
	Expires time.Time `json:"expiresAt"`
}

func (s *Service) login(w http.ResponseWriter, r *http.Request) error {
	if err := s.sameOrigin(r); err != nil {
		return err
	}
	if isForm(r) {
		return s.loginByForm(w, r)
	}
	in, err := api.Decode[loginInput](r)
	if err != nil {
		return err
	}
	session, err := s.Login(r.Context(), Credentials{in.Email, in.Password, from(r)})
	if err != nil {
		return elsewhere(r, err)
	}
	return s.hand(w, session)
}

// refusals are the problems that the form itself can tell of, in its words.
var refusals = map[string]string{
	problem.Unauthenticated: "E-mail address or password is wrong.",
	problem.TooManyAttempts: "Too many attempts to sign in. Try again in a minute.",
}

func (s *Service) loginByForm(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r, "email", "password", "return_to")
	if err != nil {
		return err
	}
	returnTo := handoff.ReturnTo(form.Get("return_to"), afterLogin)
	session, err := s.Login(r.Context(), Credentials{form.Get("email"), form.Get("password"), from(r)})
	var p *problem.Problem
	if errors.As(err, &p) && refusals[p.Name()] != "" {
		api.Note(r, handoff.FieldProblem, p.Name())
		p.SetHeader(w.Header())
		return s.page(w, p.Status, Form{Email: form.Get("email"), ReturnTo: returnTo, Message: refusals[p.Name()]})
	}
	if err != nil {
		return elsewhere(r, err)
	}
	http.SetCookie(w, s.sessions.cookie(session.Token, session.Expires))
	return seeOther(w, returnTo)
}

func (s *Service) logout(w http.ResponseWriter, r *http.Request) error {
	if err := s.sameOrigin(r); err != nil {
		return err
	}
	in, err := readLogout(r)
	if err != nil {
		return err
	}
	who := api.Who(r)
	if t, known := s.directory.Tenant(who.Tenant); known && t.State != handfeed.Closed {
		if t.Home != s.sessions.Region {
			return api.Misdirected(r, t.Home, t.Epoch)
		}
		if err := s.end(r.Context(), who, in); err != nil {
			return err
		}
	}
	if !in.KeepCurrent {
		http.SetCookie(w, s.sessions.cookie("", time.Time{}))
	}
	if isForm(r) || r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		return seeOther(w, "/login")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// logoutInput is the body of a logout, which may be empty: the session that it
// comes from ends.
type logoutInput struct {
	// Everywhere ends all of the user's sessions.
	Everywhere bool `json:"everywhere"`
	// KeepCurrent spares the one that the request comes from.
	KeepCurrent bool `json:"keepCurrent"`
}

// Validate implements [api.Validator].
func (in logoutInput) Validate() []problem.FieldError {
	if in.KeepCurrent && !in.Everywhere {
		return []problem.FieldError{{Field: "/keepCurrent", Message: "goes with everywhere: nothing would end"}}
	}
	return nil
}

// readLogout reads the body of a program; that of a form says nothing.
func readLogout(r *http.Request) (in logoutInput, err error) {
	if _, given := r.Header["Content-Type"]; !given || isForm(r) {
		return in, nil
	}
	body, err := api.Body(r)
	if err != nil || len(body) == 0 {
		return in, err
	}
	return api.Parse[logoutInput](body)
}

// end ends what a logout asks for.
func (s *Service) end(ctx context.Context, who handoff.Identity, in logoutInput) error {
	switch {
	case !in.Everywhere:
		return s.Logout(ctx, who)
	case in.KeepCurrent:
		return s.SignOutEverywhere(ctx, who, who.Session)
	}
	return s.SignOutEverywhere(ctx, who, "")
}

// sameOrigin refuses what another site made a browser send: a login too, which
// would make the user work in somebody else's account without knowing.
func (s *Service) sameOrigin(r *http.Request) error {
	if err := s.cross.Check(r); err != nil {
		return problem.New(http.StatusForbidden, problem.CrossOrigin, "").WithCause(err)
	}
	return nil
}

// elsewhere makes the 421 of a login that belongs to another region.
func elsewhere(r *http.Request, err error) error {
	var e *Elsewhere
	if errors.As(err, &e) {
		return api.Misdirected(r, e.Home, 0)
	}
	return err
}

// from is the address of whoever asks, as the POP says it: Caddy puts the peer's
// there and keeps what a proxy has said that it was told to trust. Where that one
// lets clients write into it, they can look like many; the bound on all of them
// together holds.
func from(r *http.Request) string { return strings.Join(r.Header.Values("X-Forwarded-For"), ",") }

func seeOther(w http.ResponseWriter, target string) error {
	w.Header().Set("Location", target)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

const formType = "application/x-www-form-urlencoded"

func isForm(r *http.Request) bool {
	values := r.Header["Content-Type"]
	if len(values) != 1 {
		return false
	}
	mediaType, _, err := mime.ParseMediaType(values[0])
	return err == nil && mediaType == formType
}

// readForm reads a form of the fields named, each at most once and no other.
func readForm(r *http.Request, fields ...string) (url.Values, error) {
	invalid := problem.New(http.StatusBadRequest, problem.InvalidBody, "")
	body, err := api.ReadAll(r.Body, maxForm)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalid.WithField("", "must be "+formType)
	}
	known := 0
	for _, field := range fields {
		values := form[field]
		if len(values) > 1 {
			invalid.WithField(field, "stands twice")
		}
		if len(values) > 0 {
			known++
		}
		if strings.ToValidUTF8(form.Get(field), "") != form.Get(field) {
			invalid.WithField(field, "must be UTF-8")
		}
	}
	if known != len(form) {
		invalid.WithField("", "only "+strings.Join(fields, ", ")+" are known here")
	}
	if len(invalid.Errors) > 0 {
		return nil, invalid
	}
	return form, nil
}
