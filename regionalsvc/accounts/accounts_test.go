package accounts

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/telemetry"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const password = "correct horse battery staple"

// world is the region eu, where acme with ada and alan is at home. grace is in us.
// eve's name is in the directory and her row was never written.
type world struct {
	*Service
	api  *api.API
	pop  *apitest.POP
	pool *pgxpool.Pool
	ada  string // id

	superuser string // connection string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	database := pgtest.NewDatabase(t)
	pool := pgtest.Open(t, database.URL)
	db := tenancy.New(pool).Waiting(pgtest.Patience)
	if err := db.Enroll(t.Context(), tenancy.Tenant{ID: "acme", Name: "Acme", Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	ada, err := Create(t.Context(), db, NewUser{Tenant: "acme", Email: " Ada@Acme.example", Password: password, Roles: []string{"approver"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), db, NewUser{Tenant: "acme", Email: "alan@acme.example", Password: password}); err != nil {
		t.Fatal(err)
	}
	key := make([]byte, directory.MinKey)
	login := func(tenant, home string) directory.Login { return directory.Login{Tenant: tenant, Home: home} }
	known, err := directory.New(directory.File{
		Tenants: map[string]directory.Tenant{"acme": {Home: "eu"}, "globex": {Home: "us"}},
		Logins: map[string]directory.Login{
			directory.LoginHash(key, "ada@acme.example"):     login("acme", "eu"),
			directory.LoginHash(key, "alan@acme.example"):    login("acme", "eu"),
			directory.LoginHash(key, "eve@acme.example"):     login("acme", "eu"),
			directory.LoginHash(key, "grace@globex.example"): login("globex", "us"),
		},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	sessions := newSessions(t, Sessions{Cookie: "session"})
	w := &world{pool: pool, superuser: database.Superuser, ada: ada, pop: apitest.NewPOP(t, "fra", "eu")}
	w.Service = New(db, known, sessions, func(w http.ResponseWriter, status int, form Form) error {
		w.WriteHeader(status)
		_, err := io.WriteString(w, "form:"+form.Email+":"+form.ReturnTo+":"+form.Message)
		return err
	}, feed.NewOutbox("eu", time.Hour))
	w.api, err = api.New(api.Config{
		Region: "eu", Directory: known, Keys: w.pop.Keys(t), SessionKeys: sessions,
		Metrics: telemetry.NewMetrics(prometheus.NewRegistry()),
	}, w.Routes()...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newSessions(t *testing.T, s Sessions) *Sessions {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.Issuer, s.Audience, s.Region = "https://eu.example", "https://shop.example", "eu"
	sessions, err := NewSessions(key, s)
	if err != nil {
		t.Fatal(err)
	}
	return sessions
}

// post sends a body as a POP passes it on; header are names and values.
func (w *world) post(t *testing.T, target, contentType, body string, who handoff.Identity, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Host = "shop.example"
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w.pop.Sign(t, r, who)
	return w.send(r)
}

// enter is Login from an address of its own.
func (w *world) enter(ctx context.Context, email, password string) (Session, error) {
	return w.Login(ctx, Credentials{Email: email, Password: password, From: rand.Text()})
}

func (w *world) send(r *http.Request) (*http.Response, string) {
	recorder := httptest.NewRecorder()
	w.api.ServeHTTP(recorder, r)
	body, _ := io.ReadAll(recorder.Result().Body)
	return recorder.Result(), string(body)
}

func (w *world) loginJSON(t *testing.T, email, password string, header ...string) (*http.Response, string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"email": email, "password": password})
	if err != nil {
		t.Fatal(err)
	}
	return w.post(t, "/login", "application/json", string(body), handoff.Identity{}, header...)
}

// force does what the service itself must not.
func (w *world) force(t *testing.T, sql string, arguments ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.superuser)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql, arguments...); err != nil {
		t.Fatal(err)
	}
}

// row reads of acme's rows.
func (w *world) row(t *testing.T, sql string, into ...any) {
	t.Helper()
	err := w.tenancy.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue(sql).Row(func(row pgx.Row) error { return row.Scan(into...) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLogin_opensASessionThatTheEdgeCanVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp, body := w.loginJSON(t, "Ada@ACME.example ", password)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	cookie := resp.Cookies()[0]
	if cookie.Name != "session" || !cookie.HttpOnly || cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge > 60*60 || cookie.MaxAge < 60*60-10 {
		t.Errorf("cookie %q", resp.Header.Get("Set-Cookie"))
	}
	if strings.Contains(body, cookie.Value) {
		t.Error("the token is in the body, where a script could read it")
	}

	published, set := w.send(httptest.NewRequest(http.MethodGet, handoff.SessionJWKSPath, nil))
	if got := published.Header.Get("Cache-Control"); got != "public, max-age=300" {
		t.Errorf("keys with Cache-Control %q", got)
	}
	keys, err := jwks.Parse([]byte(set))
	if err != nil {
		t.Fatal(err)
	}
	var claims Claims
	_, err = strictjwt.Verify(cookie.Value, &claims, strictjwt.Policy{Audience: "https://shop.example"}, func(issuer string, h strictjwt.Header) (jwks.Key, error) {
		key, ok := keys.Find(h.KeyID)
		if issuer != "https://eu.example" || !ok || h.KeyID == "" {
			t.Errorf("issuer %q, kid %q", issuer, h.KeyID)
		}
		return key, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if claims.Subject != w.ada || claims.Tenant != "acme" || claims.Region != "eu" || !slices.Equal(claims.Roles, []string{"approver"}) ||
		claims.Session == "" || claims.AuthTime != claims.IssuedAt.Unix() || claims.ExpiresAt.Sub(claims.IssuedAt.Time) != time.Hour {
		t.Errorf("claims %+v", claims)
	}
	var user string
	var revoked bool
	w.row(t, "select user_id::text, revoked_at is not null from sessions where id = '"+claims.Session+"'", &user, &revoked)
	if user != w.ada || revoked {
		t.Errorf("session of %s, revoked %t", user, revoked)
	}
}

func TestLogin_someoneWithoutRolesHasNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp, body := w.loginJSON(t, "alan@acme.example", password)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	payload := strings.Split(resp.Cookies()[0].Value, ".")[1]
	decoded, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || !bytes.Contains(decoded, []byte(`"roles":[]`)) {
		t.Errorf("claims %s, %v", decoded, err)
	}
}

// TestLogin_wrongIsOneAnswerAtOnePrice: whoever tries names learns nothing, from
// what is answered or from how long it takes.
func TestLogin_wrongIsOneAnswerAtOnePrice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type price struct {
		hashes     int64
		roundTrips int
	}
	var first string
	for i, row := range []struct{ name, email, password string }{
		{"wrong password", "ada@acme.example", "wrong horse battery staple"},
		{"unknown name", "nobody@acme.example", password},
		{"name without a row", "eve@acme.example", password},
		{"no name at all", "no name at all", password},
		{"NUL in the name", "ada@acme.example\x00", password},
		{"NUL in the password", "ada@acme.example", password + "\x00"},
		{"prefix of the password", "ada@acme.example", password[:len(password)-1]},
		{"other case of the password", "ada@acme.example", strings.ToUpper(password)},
	} {
		before := w.hasher.made.Load()
		ctx, stats := postgres.WithStats(t.Context())
		_, err := w.enter(ctx, row.email, row.password)
		var p *problem.Problem
		if !errors.As(err, &p) || p.Status != http.StatusUnauthorized {
			t.Fatalf("%s: %v", row.name, err)
		}
		got := price{w.hasher.made.Load() - before, stats.RoundTrips()}
		if want := (price{1, 1}); got != want {
			t.Errorf("%s: %+v, want %+v", row.name, got, want)
		}
		resp, body := w.loginJSON(t, row.email, row.password)
		if len(resp.Cookies()) != 0 {
			t.Errorf("%s: a cookie was set", row.name)
		}
		id := resp.Header.Get(handoff.HeaderRequestID)
		body = strings.ReplaceAll(body, id, "ID")
		if i == 0 {
			first = body
		}
		if resp.StatusCode != http.StatusUnauthorized || body != first || resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s, want %s", row.name, resp.StatusCode, body, first)
		}
	}
	// And by the clock, with room for a busy machine: what is to be seen is a
	// factor of tens.
	median := func(email string) time.Duration {
		var took []time.Duration
		for range 7 {
			start := time.Now()
			_, _ = w.enter(t.Context(), email, "wrong horse battery staple")
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	known, unknown := median("ada@acme.example"), median("nobody@acme.example")
	t.Logf("wrong password %s, unknown name %s", known, unknown)
	if ratio := float64(known) / float64(unknown); ratio < 0.25 || ratio > 4 {
		t.Errorf("a wrong password takes %s, an unknown name %s", known, unknown)
	}
}

func TestLogin_goesHomeBeforeAnyQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.hasher.made.Load()
	w.pool.Close() // a query would fail
	for _, password := range []string{password, "wrong"} {
		resp, body := w.loginJSON(t, "Grace@globex.example", password)
		if resp.StatusCode != http.StatusMisdirectedRequest || resp.Header.Get(handoff.HeaderHomeRegion) != "us" {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	}
	resp, _ := w.post(t, "/login", formType, "email=grace@globex.example&password=x", handoff.Identity{})
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("by form: %d", resp.StatusCode)
	}
	if made := w.hasher.made.Load(); made != before {
		t.Errorf("%d hashes were made for another region", made-before)
	}
	r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(`{"email":"grace@globex.example","password":"x"}`))
	r.Header.Set("Content-Type", "application/json")
	w.pop.Sign(t, r, handoff.Identity{}, func(c *handoff.Claims) { c.Replay = true })
	if resp, _ := w.send(r); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a replay: %d", resp.StatusCode)
	}
}

func TestLogin_byForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := url.Values{"email": {"ada@acme.example"}, "password": {password}}
	for returnTo, want := range map[string]string{
		"": "/app", "/app?page=2": "/app?page=2", "//evil.example": "/app", "https://evil.example": "/app",
		`/\evil.example`: "/app", "/a\r\nSet-Cookie: x=y": "/app", "/%2e%2e/x": "/app", "javascript:alert(1)": "/app",
	} {
		good.Set("return_to", returnTo)
		resp, body := w.post(t, "/login", formType, good.Encode(), handoff.Identity{}, "Sec-Fetch-Site", "same-origin")
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != want || len(resp.Cookies()) != 1 {
			t.Errorf("return_to %q: %d, Location %q, %s", returnTo, resp.StatusCode, resp.Header.Get("Location"), body)
		}
	}
	resp, body := w.post(t, "/login", formType, "email=ada%40acme.example&password=wrong&return_to=%2Fapp%2Fx", handoff.Identity{})
	if resp.StatusCode != http.StatusUnauthorized || body != "form:ada@acme.example:/app/x:E-mail address or password is wrong." || len(resp.Cookies()) != 0 {
		t.Errorf("wrong password: %d %s", resp.StatusCode, body)
	}
	if resp.Header.Get("WWW-Authenticate") == "" {
		t.Error("wrong password: a 401 without WWW-Authenticate (RFC 9110, section 15.5.2)")
	}
}

func TestLogin_refusesBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, row := range map[string]struct {
		contentType, body string
		status            int
		field             string
	}{
		"no type":               {"", `{}`, 415, "Content-Type"},
		"multipart":             {"multipart/form-data; boundary=x", "--x--", 415, "Content-Type"},
		"text":                  {"text/plain", `{"email":"a","password":"b"}`, 415, "Content-Type"},
		"nothing":               {"application/json", `{}`, 400, "/email"},
		"unknown member":        {"application/json", `{"email":"a","password":"b","admin":true}`, 400, "/admin"},
		"two passwords":         {"application/json", `{"email":"a","password":"b","password":"c"}`, 400, "/password"},
		"long password":         {"application/json", `{"email":"a@b","password":"` + strings.Repeat("a", MaxPassword+1) + `"}`, 400, "/password"},
		"over 1 MiB":            {"application/json", `{"email":"` + strings.Repeat("a", api.MaxBody) + `"}`, 413, ""},
		"form, two passwords":   {formType, "email=a&password=b&password=c", 400, "password"},
		"form, unknown field":   {formType, "email=a&password=b&admin=1", 400, ""},
		"form, broken escape":   {formType, "email=%zz", 400, ""},
		"form, semicolon":       {formType, "email=a;password=b", 400, ""},
		"form, not UTF-8":       {formType, "email=%ff&password=b", 400, "email"},
		"form, over the limit":  {formType, "email=" + strings.Repeat("a", maxForm), 413, ""},
		"form, another charset": {formType + "; charset", "email=a", 415, "Content-Type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body := w.post(t, "/login", row.contentType, row.body, handoff.Identity{})
			var p problem.Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != row.status {
				t.Fatalf("%d %s, %v, want %d", resp.StatusCode, body, err, row.status)
			}
			if row.field != "" && (len(p.Errors) == 0 || p.Errors[0].Field != row.field) {
				t.Errorf("errors %+v, want one of %q", p.Errors, row.field)
			}
		})
	}
}

// TestForms_anotherSiteCannotPost: a login too, which would put the user into
// somebody else's account.
func TestForms_anotherSiteCannotPost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := url.Values{"email": {"ada@acme.example"}, "password": {password}}.Encode()
	for name, row := range map[string]struct {
		header  []string
		allowed bool
	}{
		"same origin":             {[]string{"Sec-Fetch-Site", "same-origin", "Origin", "https://shop.example"}, true},
		"typed":                   {[]string{"Sec-Fetch-Site", "none"}, true},
		"no browser":              {nil, true},
		"old browser, own origin": {[]string{"Origin", "https://shop.example"}, true},
		"cross site":              {[]string{"Sec-Fetch-Site", "cross-site"}, false},
		"same site":               {[]string{"Sec-Fetch-Site", "same-site"}, false},
		"invented":                {[]string{"Sec-Fetch-Site", "SAME-ORIGIN"}, false},
		"old browser, other":      {[]string{"Origin", "https://evil.example"}, false},
		"old browser, null":       {[]string{"Origin", "null"}, false},
		"old browser, port":       {[]string{"Origin", "https://shop.example:8443"}, false},
	} {
		for _, target := range []string{"/login", "/logout"} {
			resp, answer := w.post(t, target, formType, body, handoff.Identity{}, row.header...)
			if allowed := resp.StatusCode == http.StatusSeeOther; allowed != row.allowed {
				t.Errorf("%s, %s: %d %s", name, target, resp.StatusCode, answer)
			}
			if !row.allowed && (resp.StatusCode != http.StatusForbidden || !strings.Contains(answer, problem.CrossOrigin) || len(resp.Cookies()) != 0) {
				t.Errorf("%s, %s: %d %s", name, target, resp.StatusCode, answer)
			}
		}
	}
}

func TestLogout_revokesTheSessionAndTakesTheCookie(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session, err := w.enter(t.Context(), "ada@acme.example", password)
	if err != nil {
		t.Fatal(err)
	}
	var claims Claims
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(session.Token, ".")[1])
	if err := json.Unmarshal(payload, &claims, json.RejectUnknownMembers(false)); err != nil {
		t.Fatal(err)
	}
	who := handoff.Identity{Tenant: "acme", Subject: claims.Subject, SubjectIssuer: claims.Issuer, Session: claims.Session}
	// The other issuer chose these ids, to end a session that it did not open.
	stranger := who
	stranger.SubjectIssuer = "https://idp.example"
	if resp, body := w.post(t, "/logout", "", "", stranger); resp.StatusCode != http.StatusNoContent {
		t.Errorf("another issuer's session: %d %s", resp.StatusCode, body)
	}
	var revoked bool
	w.row(t, "select revoked_at is not null from sessions where id = '"+claims.Session+"'", &revoked)
	if revoked {
		t.Error("another issuer ended the session")
	}
	for name, row := range map[string]struct {
		who         handoff.Identity
		contentType string
		header      []string
		status      int
		location    string
	}{
		"program":            {who, "", nil, 204, ""},
		"again":              {who, "", nil, 204, ""},
		"browser":            {who, formType, []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin"}, 303, "/login"},
		"nobody":             {handoff.Identity{}, "", nil, 204, ""},
		"another's session":  {handoff.Identity{Tenant: "acme", Subject: "x", SubjectIssuer: "https://idp.example", Session: "not-a-uuid"}, "", nil, 204, ""},
		"a tenant elsewhere": {handoff.Identity{Tenant: "globex", Subject: "x", SubjectIssuer: "i", Session: claims.Session}, "", nil, 421, ""},
	} {
		resp, body := w.post(t, "/logout", row.contentType, "", row.who, row.header...)
		if resp.StatusCode != row.status || resp.Header.Get("Location") != row.location {
			t.Errorf("%s: %d to %q, %s", name, resp.StatusCode, resp.Header.Get("Location"), body)
		}
		cookies := resp.Cookies()
		if row.status != 421 && (len(cookies) != 1 || cookies[0].Name != "session" || cookies[0].Value != "" || cookies[0].MaxAge != -1) {
			t.Errorf("%s: the cookie stays: %q", name, resp.Header.Values("Set-Cookie"))
		}
	}
	w.row(t, "select revoked_at is not null from sessions where id = '"+claims.Session+"'", &revoked)
	if !revoked {
		t.Error("the session goes on")
	}
	var entries string
	w.row(t, `select string_agg(action || ' by ' || actor_issuer || ' ' || actor || ' on ' || subject || ': ' || detail, ', ' order by id) from audit_entries`, &entries)
	one := func(action string) string {
		return "account." + action + " by https://eu.example " + w.ada + " on " + w.ada + `: {"session":"` + claims.Session + `"}`
	}
	if want := one("logged_in") + ", " + one("logged_out"); entries != want {
		t.Errorf("audit entries %s, want %s", entries, want)
	}
}

func TestLogin_takesOverSessionsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.tenancy.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("insert into sessions (id, user_id, expires_at) values (gen_random_uuid(), $1, now() - interval '1 second')", w.ada)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.enter(t.Context(), "ada@acme.example", password); err != nil {
		t.Fatal(err)
	}
	var n int
	w.row(t, "select count(*) from sessions", &n)
	if n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestLogin_rehashesWhatIsOutdated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := cost{memory: 8 << 10, time: 1, threads: 1}
	salt := random(saltBytes)
	if err := w.tenancy.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("update users set password_hash = $2 where id = $1", w.ada, encode(old, salt, derive(old, password, salt, hashBytes)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.enter(t.Context(), "ada@acme.example", "wrong"); err == nil {
		t.Fatal("a wrong password was taken")
	}
	stored := func() (s string) {
		w.row(t, "select password_hash from users where id = '"+w.ada+"'", &s)
		return s
	}
	if !strings.Contains(stored(), "m=8192,t=1") {
		t.Error("a wrong password changed the hash")
	}
	for range 2 {
		if _, err := w.enter(t.Context(), "ada@acme.example", password); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(stored(), "$m=19456,t=2,p=1$") {
			t.Errorf("the hash is still %s", stored())
		}
	}
}

// TestLogin_aFreshHashReplacesOnlyTheOneThatWasChecked: the password may have been
// changed while a login with the old one was hashing.
func TestLogin_aFreshHashReplacesOnlyTheOneThatWasChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u, err := w.find(t.Context(), "acme", "ada@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	changed := u.hash
	u.hash = encode(current, random(saltBytes), random(hashBytes)) // what was there when the login began
	if _, err := w.open(t.Context(), u, encode(current, random(saltBytes), random(hashBytes))); !errors.Is(err, errOvertaken) {
		t.Errorf("a login with the old password: %v", err)
	}
	var hash string
	w.row(t, "select password_hash from users where id = '"+w.ada+"'", &hash)
	if hash != changed {
		t.Error("a login put the old password back")
	}
}

func TestLogin_onlySoManyHashesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hasher.slots = api.NewSlots(1, time.Millisecond)
	release, err := w.hasher.slots.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	resp, body := w.loginJSON(t, "ada@acme.example", password)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	release()
	if resp, body := w.loginJSON(t, "ada@acme.example", password); resp.StatusCode != http.StatusOK {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestCreate_refuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, row := range map[string]struct {
		user NewUser
		want string
	}{
		"no address":     {NewUser{Tenant: "acme", Email: "bob", Password: password}, "e-mail address"},
		"short password": {NewUser{Tenant: "acme", Email: "bob@acme.example", Password: "1234567"}, "at least 8 bytes"},
		"long password":  {NewUser{Tenant: "acme", Email: "bob@acme.example", Password: strings.Repeat("a", MaxPassword+1)}, "at most 1024 bytes"},
		"no tenant":      {NewUser{Email: "bob@acme.example", Password: password}, "tenant"},
		"unknown tenant": {NewUser{Tenant: "initech", Email: "bob@acme.example", Password: password}, "bob@acme.example"},
		"exists":         {NewUser{Tenant: "acme", Email: "ADA@acme.example", Password: "another password"}, ErrExists.Error()},
	} {
		if _, err := Create(t.Context(), w.tenancy, row.user); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q in it", name, err, row.want)
		}
	}
	if _, err := w.enter(t.Context(), "ada@acme.example", password); err != nil {
		t.Errorf("ada was changed: %v", err)
	}
}

func TestEmail_isReadInTheTenantAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const us = "https://eu.example"
	for name, row := range map[string]struct {
		who  handoff.Identity
		want string
	}{
		"ada":                     {handoff.Identity{Tenant: "acme", Subject: w.ada, SubjectIssuer: us}, "ada@acme.example"},
		"other tenant":            {handoff.Identity{Tenant: "globex", Subject: w.ada, SubjectIssuer: us}, ""},
		"other issuer's":          {handoff.Identity{Tenant: "acme", Subject: "auth0|7", SubjectIssuer: "https://idp.example"}, ""},
		"other issuer's of an id": {handoff.Identity{Tenant: "acme", Subject: w.ada, SubjectIssuer: "https://idp.example"}, ""},
	} {
		if got, err := w.Email(t.Context(), row.who); err != nil || got != row.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestLogin_manyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			_, err := w.enter(context.Background(), "ada@acme.example", password)
			var p *problem.Problem
			if err != nil && (!errors.As(err, &p) || p.Status != http.StatusServiceUnavailable) {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}
