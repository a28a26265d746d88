package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

// revokeBench measures how long a session lives on after its log-out was
// answered, which is after the region has committed it.
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
	return nil
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
