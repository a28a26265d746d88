package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

const (
	ada   = "ada@acme.example"     // at home in eu
	grace = "grace@globex.example" // at home in us
	alan  = "alan@acme.example"    // may not approve
)

// answer is a response that was read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string {
	return fmt.Sprintf("%d %v\n%s", a.status, a.header, a.body)
}

// decode reads the answer's JSON.
func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("not the JSON expected: %v\n%s", err, a)
	}
	return v
}

// problemDocument is what every error is (RFC 9457).
type problemDocument struct {
	Type      string               `json:"type"`
	Title     string               `json:"title"`
	Status    int                  `json:"status"`
	Detail    string               `json:"detail"`
	Instance  string               `json:"instance"`
	RequestID string               `json:"requestId"`
	Outcome   string               `json:"outcome"`
	Errors    []problem.FieldError `json:"errors"`
}

// is fails unless a is a problem of that status and name. An empty name is any.
func (a answer) is(t *testing.T, status int, name string) {
	t.Helper()
	if a.status != status {
		t.Errorf("answered %s, want %d", a, status)
		return
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q, want application/problem+json: %s", got, a)
		return
	}
	p := decode[problemDocument](t, a)
	if p.Status != status || name != "" && !strings.HasSuffix(p.Type, ":"+name) || p.Title == "" {
		t.Errorf("problem %+v, want %d %s", p, status, name)
	}
	if ids := a.header.Values("X-Request-Id"); len(ids) != 1 || ids[0] != p.RequestID || p.RequestID == "" {
		t.Errorf("request ids %q, requestId %q: want one, and the same", ids, p.RequestID)
	}
}

// browser asks one POP, with a session's cookie once it has logged in. It does
// not follow redirects.
type browser struct {
	base   string
	cookie string
	client *http.Client
}

func visit(p *demo.POP) *browser { return &browser{base: p.URL, client: newClient()} }

// newClient has connections of its own.
func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}
}

// login opens a session at a POP.
func login(t *testing.T, p *demo.POP, email string) *browser {
	t.Helper()
	b := visit(p)
	a := b.post(t, "/login", map[string]string{"email": email, "password": demo.Password})
	if a.status != http.StatusOK {
		t.Fatalf("login of %s at %s: %s", email, p.Name, a)
	}
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.Name == "session" && c.Value != "" {
			b.cookie = c.Name + "=" + c.Value
		}
	}
	if b.cookie == "" {
		t.Fatalf("login of %s at %s sets no session: %s", email, p.Name, a)
	}
	return b
}

// at is the same browser at another POP.
func (b *browser) at(p *demo.POP) *browser {
	return &browser{base: p.URL, cookie: b.cookie, client: b.client}
}

// try sends a request. headers are names and values in turn.
func (b *browser) try(method, path string, body []byte, headers ...string) (answer, error) {
	r, err := http.NewRequest(method, b.base+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if b.cookie != "" {
		r.Header.Set("Cookie", b.cookie)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := b.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, read}, err
}

func (b *browser) do(t *testing.T, method, path string, body []byte, headers ...string) answer {
	t.Helper()
	a, err := b.try(method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (b *browser) get(t *testing.T, path string, headers ...string) answer {
	t.Helper()
	return b.do(t, http.MethodGet, path, nil, headers...)
}

func (b *browser) post(t *testing.T, path string, body any, headers ...string) answer {
	t.Helper()
	return b.do(t, http.MethodPost, path, encode(body), append([]string{"Content-Type", "application/json"}, headers...)...)
}

func encode(body any) []byte {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // a fault of the test
	}
	return text
}

// order and page are what the API answers.
type order struct {
	ID         string `json:"id"`
	CustomerID string `json:"customerId"`
	TotalCents int64  `json:"totalCents"`
	Currency   string `json:"currency"`
	Status     string `json:"status"`
	CreatedAt  string `json:"createdAt"`
}

type newOrder struct {
	CustomerID string `json:"customerId"`
	TotalCents int64  `json:"totalCents"`
}

type page[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

type customer struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// customer gives one of the tenant's customers.
func (b *browser) customer(t *testing.T) string {
	t.Helper()
	a := b.get(t, "/api/customers?limit=1")
	if a.status != http.StatusOK {
		t.Fatalf("customers: %s", a)
	}
	found := decode[page[customer]](t, a)
	if len(found.Items) != 1 {
		t.Fatalf("customers: %s", a)
	}
	return found.Items[0].ID
}

// place places an order, which must succeed.
func (b *browser) place(t *testing.T, totalCents int64) order {
	t.Helper()
	a := b.post(t, "/api/orders", newOrder{b.customer(t), totalCents})
	if a.status != http.StatusCreated {
		t.Fatalf("order: %s", a)
	}
	return decode[order](t, a)
}

// orders lists all of the tenant's orders.
func (b *browser) orders(t *testing.T) []order {
	t.Helper()
	var all []order
	for cursor := ""; ; {
		a := b.get(t, "/api/orders?limit=100"+cursor)
		if a.status != http.StatusOK {
			t.Fatalf("orders: %s", a)
		}
		found := decode[page[order]](t, a)
		all = append(all, found.Items...)
		if found.Next == nil {
			return all
		}
		cursor = "&cursor=" + url.QueryEscape(*found.Next)
	}
}
