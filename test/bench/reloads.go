package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// reloadsBench shows what reloads of the configuration cost while clients ask.
type reloadsBench struct {
	Caddy   string `default:"bin/caddy" help:"Caddy with the edge's modules."`
	Times   int    `default:"50" help:"How often the configuration is replaced."`
	Clients int    `default:"8" help:"Connections that ask without pause."`
}

// askers counts what the clients met.
type askers struct {
	answered, wrong, cut atomic.Int64
}

// Run prints the figures.
func (b *reloadsBench) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	keys, err := writeKeys(dir)
	if err != nil {
		return err
	}
	origin, originAddr, err := startOrigin(ctx)
	if err != nil {
		return err
	}
	defer stop(origin)
	admin, port := freePort(), freePort()
	config := func(n int) string {
		return options(dir, originAddr, admin) +
			fmt.Sprintf("http://127.0.0.1:%d {\n\theader X-Configuration %d\n\t%s\n}\n", port, n, signedIn)
	}
	caddy, err := runCaddy(ctx, b.Caddy, dir, config(0), port)
	if err != nil {
		return err
	}
	defer stop(caddy)

	asking, halt := context.WithCancel(ctx)
	defer halt()
	var met askers
	var clients sync.WaitGroup
	for range b.Clients {
		clients.Go(func() { met.ask(asking, port, keys.tokens["EdDSA"]) })
	}
	settled := func(n int) (memory, error) { // the last reload's own work is over when nobody asks
		time.Sleep(2 * time.Second)
		m, err := measure(admin, caddy.Process.Pid)
		fmt.Printf("| %d | %.0f | %.1f | %.0f |\n", n, m.goroutines, m.heap, m.rss)
		return m, err
	}
	fmt.Println("| reloads | goroutines | heap MiB | RSS MiB |")
	fmt.Println("| --- | --- | --- | --- |")
	if _, err := settled(0); err != nil {
		return err
	}
	before, err := metrics(admin)
	if err != nil {
		return err
	}
	fell := 0
	for n := range b.Times {
		if err := load(admin, config(n+1)); err != nil {
			return err
		}
		after, err := metrics(admin)
		if err != nil {
			return err
		}
		fell += fallen(before, after)
		before = after
	}
	if _, err := settled(b.Times); err != nil {
		return err
	}
	halt()
	clients.Wait()
	sums, err := metrics(admin)
	if err != nil {
		return err
	}
	read := int64(sums["gatehouse_edge_request_duration_seconds"])
	fmt.Printf("\n%d requests answered rightly, %d wrongly; %d read by Caddy and not answered; %d connections closed between requests; %d counters fell\n",
		met.answered.Load(), met.wrong.Load(), read-met.answered.Load()-met.wrong.Load(), met.cut.Load(), fell)
	return nil
}

// ask asks without pause. A connection that ends where an answer would begin is
// opened anew: whether its request was read is told by the server's count.
func (a *askers) ask(ctx context.Context, port int, token string) {
	for ctx.Err() == nil {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			a.cut.Add(1)
			continue
		}
		in := bufio.NewReader(conn)
		for ctx.Err() == nil {
			fmt.Fprintf(conn, "GET /api/orders HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nCookie: session=%s\r\n\r\n", port, token)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				a.cut.Add(1)
				break
			}
			n, err := io.Copy(io.Discard, resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK || n != 1024 {
				a.wrong.Add(1)
				break
			}
			a.answered.Add(1)
			if resp.Close { // RFC 9112, section 9.6
				break
			}
		}
		conn.Close()
	}
}

// load replaces the configuration.
func load(admin int, config string) error {
	resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/load", admin), "text/caddyfile", strings.NewReader(config))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(resp.Body)
		return errors.New(string(said))
	}
	return nil
}

// fallen counts the edge's counters that are lower than before.
func fallen(before, after map[string]float64) (n int) {
	for name, value := range before {
		if strings.HasPrefix(name, "gatehouse_edge_") && (strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_seconds")) && after[name] < value {
			fmt.Fprintln(os.Stderr, name, "fell from", value, "to", after[name])
			n++
		}
	}
	return n
}
