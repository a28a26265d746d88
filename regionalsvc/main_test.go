package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/accounts"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/customers"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/products"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// asProgram makes the test binary be the program itself: see command.
const asProgram = "REGIONALSVC_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	pgtest.Main(m)
}

const password = "correct horse battery staple"

// setup is what a region is started with: a database with acme in it, keys,
// the directory.
type setup struct {
	pop      *apitest.POP
	db       *tenancy.DB
	args     []string
	customer string
	ada      handoff.Identity
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	database := pgtest.NewDatabase(t)
	s := &setup{pop: apitest.NewPOP(t, "fra", "eu"), db: tenancy.New(pgtest.Open(t, database.URL)).Waiting(pgtest.Patience)}
	if err := s.db.Enroll(t.Context(), tenancy.Tenant{ID: "acme", Name: "Acme", Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	id, err := accounts.Create(t.Context(), s.db, accounts.NewUser{Tenant: "acme", Email: "ada@acme.example", Password: password, Roles: []string{"approver"}})
	if err != nil {
		t.Fatal(err)
	}
	s.ada = handoff.Identity{Tenant: "acme", Subject: id, SubjectIssuer: "gatehouse:eu", Session: "s", Roles: []string{"approver"}}
	customer, err := customers.New(s.db).Add(t.Context(), s.ada, "Analytical Engines")
	if err != nil {
		t.Fatal(err)
	}
	s.customer = customer.ID
	if err := products.New(s.db, "acme", nil).Add(t.Context(), "coffee", "Coffee", 450); err != nil {
		t.Fatal(err)
	}

	key := make([]byte, directory.MinKey)
	_, _ = rand.Read(key)
	known, err := json.Marshal(directory.File{
		Tenants: map[string]directory.Tenant{"acme": {Home: "eu"}, "globex": {Home: "us"}},
		Logins:  map[string]directory.Login{directory.LoginHash(key, "ada@acme.example"): {Home: "eu", Tenant: "acme"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, session, _ := ed25519.GenerateKey(rand.Reader)
	der, err := x509.MarshalPKCS8PrivateKey(session)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s.args = []string{
		"serve", "--region=eu", "--listen=127.0.0.1:0", "--operator-listen=127.0.0.1:0",
		"--database-url=" + database.URL,
		"--directory=" + file("directory.json", known),
		"--directory-key=file:" + file("directory.key", []byte(hex.EncodeToString(key)+"\n")),
		"--session-key=" + file("session.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"--session-issuer=gatehouse:eu", "--session-audience=shop", "--session-cookie=session",
		"--edge-keys=fra=" + file("fra.jwks.json", s.pop.JWKS()),
		"--storefront-tenant=acme", "--drain-delay=0s", "--acquire-timeout=5s",
	}
	return s
}

// region is one that runs.
type region struct {
	*setup
	url, operator string
	log           *logged
}

// logged keeps what was logged.
type logged struct {
	mu    sync.Mutex
	lines []map[string]any
	more  chan struct{} // closed and made anew with each line
}

// read takes lines until out ends.
func (l *logged) read(t *testing.T, out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Errorf("%q is no line of JSON: %v", lines.Bytes(), err)
		}
		l.mu.Lock()
		l.lines = append(l.lines, line)
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
	}
}

// wait gives the first line with that field's value, now or when it comes.
func (l *logged) wait(t *testing.T, field, value string) map[string]any {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		for _, line := range l.lines {
			if line[field] == value {
				l.mu.Unlock()
				return line
			}
		}
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("nothing with %s %q was logged: %v", field, value, l.lines)
		}
	}
}

// start runs a region in this process. end is its exit status, once.
func (s *setup) start(t *testing.T, ctx context.Context, args ...string) (g *region, end <-chan int) {
	t.Helper()
	read, write := io.Pipe()
	var stderr bytes.Buffer
	done := make(chan int, 1)
	go func() {
		status := run(ctx, append(append([]string{}, s.args...), args...), write, &stderr)
		if status != 0 {
			t.Errorf("status %d: %s", status, stderr.String())
		}
		_ = write.Close()
		done <- status
	}()
	return s.watch(t, read), done
}

// watch waits until the region whose output is given serves.
func (s *setup) watch(t *testing.T, out io.Reader) *region {
	t.Helper()
	g := &region{setup: s, log: &logged{more: make(chan struct{})}}
	go g.log.read(t, out)
	line := g.log.wait(t, "msg", "serving")
	g.url, g.operator = "http://"+line["listen"].(string), "http://"+line["operator_listen"].(string)
	return g
}

// running starts a region that ends with the test.
func running(t *testing.T, args ...string) *region {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g, end := newSetup(t).start(t, ctx, args...)
	t.Cleanup(func() {
		cancel()
		<-end
	})
	return g
}

// ask sends a request as the POP would, and reads the whole answer.
func (g *region) ask(t *testing.T, method, path, body string, who handoff.Identity, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, g.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	g.pop.Sign(t, r, who)
	return do(t, r)
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, r)
}

var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       20 * time.Second,
}

func do(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// order is a good body of POST /api/orders.
func (s *setup) order() string { return `{"customerId":"` + s.customer + `","totalCents":1299}` }
