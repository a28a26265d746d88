package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

// ordersBench places orders against a whole Gatehouse: through its POP, and past
// it with assertions that the bench signs itself with the POP's key.
type ordersBench struct {
	Caddy       string        `default:"bin/caddy" help:"Caddy with the edge's modules."`
	Regionalsvc string        `default:"bin/regionalsvc" help:"The regional service."`
	Caddyfile   string        `default:"Caddyfile.example" help:"What the POPs run."`
	Rounds      int           `default:"5" help:"How often every row takes its turn."`
	Time        time.Duration `default:"4s" help:"How long a turn lasts."`
	Clients     []int         `default:"1,16" help:"Requests under way at once, a pair of rows for each."`
}

type ordersRow struct {
	name     string
	clients  int
	target   vegeta.Targeter
	rates    []float64
	p50, p99 []float64
}

// Run prints the table.
func (b *ordersBench) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user
		return err
	}
	ports, err := demo.FreePorts()
	if err != nil {
		return err
	}
	d, err := demo.Start(ctx, demo.Options{
		Dir: dir, Ports: ports, Caddy: b.Caddy, Regionalsvc: b.Regionalsvc, Caddyfile: b.Caddyfile,
		Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	})
	if err != nil {
		return err
	}
	defer d.Stop() //nolint:errcheck // the figures are out, and the processes die with this one

	all, err := b.rows(d, dir)
	if err != nil {
		return err
	}
	for round := range b.Rounds {
		for i := range all {
			row := all[(i+round)%len(all)]
			fmt.Fprintf(os.Stderr, "round %d of %d: %s, %d at once\n", round+1, b.Rounds, row.name, row.clients)
			if err := row.turn(ctx, b.Time); err != nil {
				return err
			}
		}
	}
	fmt.Println("| | at once | orders/s | p50 ms | p99 ms |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	for _, r := range all {
		fmt.Printf("| %s | %d | %.0f | %.1f | %.1f |\n", r.name, r.clients, median(r.rates), median(r.p50), median(r.p99))
	}
	return nil
}

func (b *ordersBench) rows(d *demo.Demo, dir string) ([]*ordersRow, error) {
	pop, region := d.POPs[0].URL, d.Regions[0].URL
	cookie, err := login(pop)
	if err != nil {
		return nil, err
	}
	body, err := orderBody(pop, cookie)
	if err != nil {
		return nil, err
	}
	direct, err := signedTargeter(filepath.Join(dir, "keys", "pop-fra.pem"), region, cookie, body)
	if err != nil {
		return nil, err
	}
	through := vegeta.NewStaticTargeter(vegeta.Target{
		Method: http.MethodPost, URL: pop + "/api/orders", Body: body,
		Header: http.Header{"Content-Type": {"application/json"}, "Cookie": {cookie}},
	})
	var all []*ordersRow
	for _, clients := range b.Clients {
		all = append(all,
			&ordersRow{name: "through the POP", clients: clients, target: through},
			&ordersRow{name: "direct to the region", clients: clients, target: direct})
	}
	return all, nil
}

// turn keeps the row's clients busy for d.
func (r *ordersRow) turn(ctx context.Context, d time.Duration) error {
	attacker := vegeta.NewAttacker(vegeta.Workers(uint64(r.clients)), vegeta.MaxWorkers(uint64(r.clients)), vegeta.Timeout(10*time.Second))
	defer attacker.Stop()
	var m vegeta.Metrics
	for result := range attacker.Attack(r.target, vegeta.Rate{}, d, r.name) {
		m.Add(result)
	}
	m.Close()
	if m.Success < 1 {
		return fmt.Errorf("%s: not every order was placed: %v %v", r.name, m.StatusCodes, m.Errors)
	}
	r.rates = append(r.rates, m.Throughput)
	r.p50 = append(r.p50, ms(m.Latencies.P50))
	r.p99 = append(r.p99, ms(m.Latencies.P99))
	return ctx.Err()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// signedTargeter does what the edge would have done for each request.
func signedTargeter(keyFile, region, cookie string, body []byte) (vegeta.Targeter, error) {
	data, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: not PEM", keyFile)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, err := handoff.NewSigner(key.(ed25519.PrivateKey))
	if err != nil {
		return nil, err
	}
	who, err := identityOf(cookie)
	if err != nil {
		return nil, err
	}
	return func(t *vegeta.Target) error {
		id := uuid.NewString()
		claims := handoff.NewClaims("fra", "eu", "eu", who, time.Now())
		claims.Bind(id, http.MethodPost, "/api/orders")
		assertion, err := signer.Sign(claims)
		if err != nil {
			return err
		}
		t.Method, t.URL, t.Body = http.MethodPost, region+"/api/orders", body
		t.Header = http.Header{
			"Content-Type":           {"application/json"},
			handoff.HeaderRequestID:  {id},
			handoff.HeaderTenant:     {who.Tenant},
			handoff.HeaderHomeRegion: {"eu"},
			handoff.HeaderAssertion:  {assertion},
		}
		return nil
	}, nil
}

// identityOf reads the session's claims. Nothing here depends on its signature.
func identityOf(cookie string) (handoff.Identity, error) {
	_, token, _ := strings.Cut(cookie, "=")
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		return handoff.Identity{}, err
	}
	text := func(name string) string { s, _ := claims[name].(string); return s }
	return handoff.Identity{Tenant: text("tenant_id"), Subject: text("sub"), SubjectIssuer: text("iss"), Session: text("sid")}, nil
}

func login(pop string) (cookie string, err error) {
	resp, err := http.Post(pop+"/login", "application/json",
		strings.NewReader(`{"email":"ada@acme.example","password":"correct horse battery staple"}`))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == "session" {
			return c.Name + "=" + c.Value, nil
		}
	}
	return "", fmt.Errorf("login: %s and no session", resp.Status)
}

// orderBody is an order for the tenant's first customer.
func orderBody(pop, cookie string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, pop+"/api/customers?limit=1", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Cookie", cookie)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var page struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return nil, err
	}
	if len(page.Items) == 0 {
		return nil, errors.New("the tenant has no customer")
	}
	var body bytes.Buffer
	fmt.Fprintf(&body, `{"customerId":%q,"totalCents":1299}`, page.Items[0].ID)
	return body.Bytes(), nil
}
