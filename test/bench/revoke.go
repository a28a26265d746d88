package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

// revokeBench measures how long a session lives on after its log-out was
// answered, and how long a stored page after the change that purges it: both from
// after the region's commit.
type revokeBench struct {
	Caddy       string `default:"bin/caddy" help:"Caddy with the edge's modules."`
	Regionalsvc string `default:"bin/regionalsvc" help:"The regional service."`
	Caddyfile   string `default:"Caddyfile.example" help:"What the POPs run."`
	Times       int    `default:"100" help:"How many sessions are ended."`
}

// Run prints the table.
func (b *revokeBench) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user
		return err
	}
	for name, value := range map[string]string{"EDGE_LOGIN_RATE": "100000/1m", "EDGE_LOGIN_BURST": "10000"} { // all from one address
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	ports, err := demo.FreePorts()
	if err != nil {
		return err
	}
	d, err := demo.Start(ctx, demo.Options{Dir: dir, Ports: ports, Caddy: b.Caddy, Regionalsvc: b.Regionalsvc, Caddyfile: b.Caddyfile})
	if err != nil {
		return err
	}
	defer d.Stop() //nolint:errcheck // the figures are out, and the processes die with this one
	fmt.Println("| refused at | p50 ms | p99 ms | longest ms |")
	fmt.Println("| --- | --- | --- | --- |")
	for _, pop := range d.POPs {
		var took []float64
		for range b.Times {
			lived, err := afterlife(ctx, d.POPs[0].URL, pop.URL)
			if err != nil {
				return err
			}
			took = append(took, ms(lived))
		}
		slices.Sort(took)
		fmt.Printf("| %s | %.1f | %.1f | %.1f |\n", pop.POP, median(took), took[len(took)*99/100], took[len(took)-1])
	}
	cookie, err := login(d.POPs[0].URL) // ada may change products
	if err != nil {
		return err
	}
	fmt.Println("\n| purged at | p50 ms | p99 ms | longest ms |")
	fmt.Println("| --- | --- | --- | --- |")
	for _, pop := range d.POPs {
		var took []float64
		for i := range b.Times {
			lived, err := outdated(ctx, d.POPs[0].URL, pop.URL, cookie, fmt.Sprintf("Coffee, number %s%d", pop.POP, i))
			if err != nil {
				return err
			}
			took = append(took, ms(lived))
		}
		slices.Sort(took)
		fmt.Printf("| %s | %.1f | %.1f | %.1f |\n", pop.POP, median(took), took[len(took)*99/100], took[len(took)-1])
	}
	return nil
}

// outdated changes the product at a POP, and asks for its page at another, where it is
// stored, until it has the new name.
func outdated(ctx context.Context, at, asked, cookie, name string) (time.Duration, error) {
	page := func() (string, string, error) {
		response, err := http.Get(asked + "/products/coffee")
		if err != nil {
			return "", "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), response.Header.Get("Cache-Status"), err
	}
	for range 2 {
		if _, _, err := page(); err != nil {
			return 0, err
		}
	}
	if _, status, err := page(); err != nil || !strings.HasPrefix(status, "gatehouse; hit") {
		return 0, fmt.Errorf("the page is not stored: %s, %w", status, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, at+"/api/products/coffee", strings.NewReader(fmt.Sprintf(`{"name":%q,"priceCents":450}`, name)))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Cookie", cookie)
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("change of the product: %d", response.StatusCode)
	}
	for began := time.Now(); ; {
		body, _, err := page()
		if err != nil || strings.Contains(body, name) {
			return time.Since(began), err
		}
		if time.Since(began) > 10*time.Second {
			return 0, fmt.Errorf("still the old page after 10 s")
		}
	}
}

// afterlife opens a session at a POP, has it cached at another, ends it, and asks
// that other until it refuses.
func afterlife(ctx context.Context, at, asked string) (time.Duration, error) {
	cookie, err := login(at)
	if err != nil {
		return 0, err
	}
	ask := func(method, url string) (int, error) {
		r, err := http.NewRequestWithContext(ctx, method, url, nil)
		if err != nil {
			return 0, err
		}
		r.Header.Set("Cookie", cookie)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}
	if status, err := ask(http.MethodGet, asked+"/api/customers"); err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("a good session: %d, %w", status, err)
	}
	if status, err := ask(http.MethodPost, at+"/logout"); err != nil || status != http.StatusNoContent {
		return 0, fmt.Errorf("log-out: %d, %w", status, err)
	}
	for began := time.Now(); ; {
		status, err := ask(http.MethodGet, asked+"/api/customers")
		if err != nil || status == http.StatusUnauthorized {
			return time.Since(began), err
		}
		if time.Since(began) > 10*time.Second {
			return 0, fmt.Errorf("still good after 10 s: %d", status)
		}
	}
}
