package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
)

// addressesBench shows what a flood of client addresses does to the memory of a POP
// whose limits count each of them.
type addressesBench struct {
	Caddy string `default:"bin/caddy" help:"Caddy with the edge's modules."`
	Many  int    `default:"1000000" help:"How many distinct addresses ask: IPv6 networks, each once."`
}

// Run prints the table.
func (b *addressesBench) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := writeKeys(dir); err != nil {
		return err
	}
	admin, port := freePort(), freePort()
	trusting := strings.Replace(options(dir, "127.0.0.1:1", admin), "persist_config off",
		"persist_config off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}", 1)
	config := trusting + fmt.Sprintf(`http://127.0.0.1:%d {
	edge_guard {
		rate_limit client {
			rate 60/1m
			burst 30
		}
		rate_limit slow {
			rate 5/1h
			dry_run
		}
	}
	respond ok
}
`, port)
	caddy, err := runCaddy(ctx, b.Caddy, dir, config, port)
	if err != nil {
		return err
	}
	defer stop(caddy)

	fmt.Println("| distinct addresses | heap MiB | RSS MiB | peak RSS MiB | refused |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	refused := 0
	row := func(n int) error {
		m, err := measure(admin, caddy.Process.Pid)
		if err == nil {
			fmt.Printf("| %d | %.1f | %.0f | %.0f | %d |\n", n, m.heap, m.rss, m.peak, refused)
		}
		return err
	}
	if err := row(0); err != nil {
		return err
	}
	asked := 0
	for _, upTo := range []int{b.Many / 10, b.Many / 2, b.Many} {
		n, err := askFrom(ctx, port, asked, upTo)
		if err != nil {
			return err
		}
		refused, asked = refused+n, upTo
		if err := row(asked); err != nil {
			return err
		}
	}
	return nil
}

// askFrom asks once from each of the addresses, in batches on one connection, and
// counts how many were refused.
func askFrom(ctx context.Context, port, from, to int) (refused int, err error) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
	for from < to && ctx.Err() == nil {
		batch := min(64, to-from)
		for i := range batch {
			n := from + i
			fmt.Fprintf(out, "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Forwarded-For: 2001:db8:%x:%x::1\r\n\r\n", port, n>>16, n&0xffff)
		}
		if err := out.Flush(); err != nil {
			return refused, err
		}
		for range batch {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				return refused, err
			}
			switch resp.StatusCode {
			case http.StatusOK:
			case http.StatusTooManyRequests:
				refused++
			default:
				return refused, fmt.Errorf("answered %d", resp.StatusCode)
			}
			if _, err := in.Discard(int(resp.ContentLength)); err != nil {
				return refused, err
			}
		}
		from += batch
	}
	return refused, ctx.Err()
}
