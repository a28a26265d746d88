package purges_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/purges"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/regiontest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	token      = "the-token-of-the-operator-32-bytes-and-more"
	asOperator = "Authorization: Bearer " + token
)

type world struct {
	*regiontest.Region
	operator http.Handler
}

// newWorld is region eu, where acme is at home, and globex is not.
func newWorld(t *testing.T, outbox *feed.Outbox, token string) *world {
	t.Helper()
	w := &world{Region: regiontest.New(t)}
	known, err := directory.New(directory.File{Tenants: map[string]directory.Tenant{"acme": {Home: "eu"}, "globex": {Home: "us"}}}, make([]byte, directory.MinKey))
	if err != nil {
		t.Fatal(err)
	}
	w.operator = purges.New("eu", w.DB, w.Pool, known, outbox, zap.NewNop()).Operator(token)
	return w
}

func (w *world) ask(t *testing.T, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/purges", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	rec := httptest.NewRecorder()
	w.operator.ServeHTTP(rec, r)
	return rec
}

// told are the purges that POPs will hear of, and written what is in acme's audit.
func (w *world) told(t *testing.T) (told, written string) {
	t.Helper()
	err := w.Pool.QueryRow(t.Context(), `select coalesce(string_agg(coalesce(message::jsonb->>'tenant', '') || '/' || ((message::jsonb - 'tenant' - 'seq' - 'exp')::text), ' ' order by seq), '')
 from feed_state where subject like '%.purge.%'`).Scan(&told)
	if err != nil {
		t.Fatal(err)
	}
	err = w.DB.Read(t.Context(), "acme", func(tx *tenancy.Tx) error {
		tx.Queue("select coalesce(string_agg(actor || ' ' || action || ' ' || subject, ', ' order by id), '') from audit_entries").
			Row(func(row pgx.Row) error { return row.Scan(&written) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return told, written
}

func TestOperator_tellsPOPsAndWritesItDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, feed.NewOutbox("eu", time.Hour), token)
	long := "/" + strings.Repeat("0123456789abcdef", 500)
	for _, body := range []string{`{"group":"product:coffee"}`, `{"group":"*"}`, `{"tenant":"acme","group":"shell"}`, `{"tenant":"acme","group":"*"}`,
		`{"url":"https://shop.example/a?b"}`, `{"tenant":"acme","prefix":"/app/","soft":true}`, `{"tenant":"acme","url":"` + long + `"}`} {
		rec := w.ask(t, body, asOperator)
		if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"scope":"everywhere"`) || !strings.Contains(rec.Body.String(), `"region":"eu"`) || rec.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	told, written := w.told(t)
	if told != `/{"group": "product:coffee"} /{"group": "*"} acme/{"group": "shell"} acme/{"group": "*"} /{"url": "https://shop.example/a?b"} acme/{"soft": true, "prefix": "/app/"} acme/{"url": "`+long+`"}` ||
		written != "operator operator.purged shell, operator operator.purged *, operator operator.purged /app/, operator operator.purged "+long[:255] {
		t.Errorf("POPs are told %q, the audit says %q", told, written)
	}
}

func TestOperator_refuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, feed.NewOutbox("eu", time.Hour), token)
	all := `{"group":"*"}`
	for _, row := range []struct {
		name, body string
		header     []string
		status     int
		says       string
	}{
		{"nobody", all, nil, 401, "operator's token"},
		{"a wrong token", all, []string{asOperator + "x"}, 401, "operator's token"},
		{"two of them", all, []string{asOperator, asOperator}, 401, "operator's token"},
		{"another scheme", all, []string{"Authorization: Basic " + token}, 401, "operator's token"},
		{"in a cookie", all, []string{"Cookie: session=" + token}, 401, "operator's token"},
		{"another type", all, []string{asOperator, "Content-Type: text/plain"}, 415, ""},
		{"nothing", ``, []string{asOperator}, 400, ""},
		{"nothing named", `{}`, []string{asOperator}, 400, "names 0 of group, url and prefix"},
		{"an empty group of a tenant", `{"tenant":"acme","group":""}`, []string{asOperator}, 400, "names 0 of"},
		{"two at once", `{"group":"g","url":"/x"}`, []string{asOperator}, 400, "names 2 of"},
		{"a group too long", `{"group":"` + strings.Repeat("g", 256) + `"}`, []string{asOperator}, 400, "/group"},
		{"a control byte", `{"group":"g\u0000"}`, []string{asOperator}, 400, "/group"},
		{"a line break", `{"group":"g\r\nx: y"}`, []string{asOperator}, 400, "/group"},
		{"what no header could name", `{"group":"caf\u00e9"}`, []string{asOperator}, 400, "/group"},
		{"no tenant's name", `{"tenant":"../acme","group":"g"}`, []string{asOperator}, 400, "/tenant"},
		{"no URL", `{"url":"shop.example/x"}`, []string{asOperator}, 400, "/url"},
		{"a URL with a line break", `{"url":"/x\r\ny"}`, []string{asOperator}, 400, "/url"},
		{"a prefix too long", `{"prefix":"/` + strings.Repeat("x", 8192) + `"}`, []string{asOperator}, 400, "/prefix"},
		{"a prefix with a password", `{"prefix":"http://a:b@x/"}`, []string{asOperator}, 400, "/prefix"},
		{"softly, in words", `{"group":"g","soft":"yes"}`, []string{asOperator}, 400, "/soft"},
		{"a name twice", `{"group":"g","group":"h"}`, []string{asOperator}, 400, ""},
		{"an unknown tenant", `{"tenant":"umbrella","group":"g"}`, []string{asOperator}, 404, "no such tenant"},
		{"a tenant of another region", `{"tenant":"globex","group":"g"}`, []string{asOperator}, 421, "at home in us"},
	} {
		rec := w.ask(t, row.body, row.header...)
		if rec.Code != row.status || !strings.Contains(rec.Body.String(), row.says) || strings.Contains(rec.Body.String(), token) {
			t.Errorf("%s: %d %s", row.name, rec.Code, rec.Body)
		}
		if home := rec.Header().Get(handoff.HeaderHomeRegion); (home == "us") != (row.status == 421) {
			t.Errorf("%s: home region %q", row.name, home)
		}
	}
	if told, written := w.told(t); told != "" || written != "" {
		t.Errorf("something that was refused was done: %q, %q", told, written)
	}
}

func TestOperator_needsAFeedAndAToken(t *testing.T) {
	t.Parallel()
	if rec := newWorld(t, nil, token).ask(t, `{"group":"g"}`, asOperator); rec.Code != http.StatusConflict || !strings.Contains(rec.Body.String(), "no feed") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := newWorld(t, feed.NewOutbox("eu", time.Hour), "").ask(t, `{"group":"g"}`, "Authorization: Bearer "); rec.Code != http.StatusForbidden || !strings.Contains(rec.Body.String(), "--operator-token") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
