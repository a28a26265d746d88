package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// fillBench shows what a cache takes of memory, and what a hit costs when it is full.
type fillBench struct {
	Caddy string `default:"bin/caddy" help:"Caddy with the edge's modules."`
}

// Run prints the tables.
func (b *fillBench) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := writeKeys(dir); err != nil {
		return err
	}
	for name, size := range map[string]int{"1MiB": 1 << 20, "1KiB": 1 << 10} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("x"), size), 0o644); err != nil {
			return err
		}
	}
	fmt.Println("| memory | sent through | RSS MiB | peak RSS MiB | heap MiB | last 20,000 hits, µs each |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	for _, row := range []struct {
		memory, file string
		count        int
		name         string
	}{
		{"256MiB", "1MiB", 2048, "2 GiB, in 2,048 answers"},
		{"4GiB", "1KiB", 10_000, "10,000 answers of 1 KiB"},
		{"4GiB", "1KiB", 100_000, "100,000 answers of 1 KiB"},
		{"4GiB", "1KiB", 1_000_000, "1,000,000 answers of 1 KiB"},
	} {
		if err := b.row(ctx, dir, row.memory, row.file, row.count, row.name); err != nil {
			return err
		}
	}
	return nil
}

func (b *fillBench) row(ctx context.Context, dir, memory, file string, count int, name string) error {
	admin, port := freePort(), freePort()
	config := options(dir, "127.0.0.1:1", admin)
	config = config[:len(config)-4] + "\t\tcache {\n\t\t\tmemory " + memory + "\n\t\t}\n\t}\n}\n" + fmt.Sprintf(
		"http://127.0.0.1:%d {\n\troot * %s\n\tedge_guard\n\tedge_cache {\n\t\tpolicy public\n\t\tttl 10h\n\t}\n\tfile_server\n}\n", port, dir)
	caddy, err := runCaddy(ctx, b.Caddy, dir, config, port)
	if err != nil {
		return err
	}
	defer stop(caddy)
	if err := ask(ctx, port, file, 0, count); err != nil {
		return err
	}
	hits := min(count, 20_000)
	if memory == "256MiB" {
		hits = 0 // most are gone by design
	}
	began := time.Now()
	if err := ask(ctx, port, file, count-hits, count); err != nil {
		return err
	}
	each := "-"
	if hits > 0 {
		each = fmt.Sprintf("%.0f", float64(time.Since(began).Microseconds())/float64(hits))
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", caddy.Process.Pid))
	if err != nil {
		return err
	}
	var peak float64
	_, _ = fmt.Sscan(find(string(status), `VmHWM:\s+(\d+)`), &peak)
	var now float64
	_, _ = fmt.Sscan(find(string(status), `VmRSS:\s+(\d+)`), &now)
	m, err := measure(admin, caddy.Process.Pid)
	if err != nil {
		return err
	}
	fmt.Printf("| %s | %s | %.0f | %.0f | %.0f | %s |\n", memory, name, now/1024, peak/1024, m.heap, each)
	return nil
}

// ask asks for the file under so many addresses, on one connection, a few at a time.
func ask(ctx context.Context, port int, file string, from, to int) error {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	in, out := bufio.NewReaderSize(conn, 1<<16), bufio.NewWriter(conn)
	for from < to && ctx.Err() == nil {
		batch := min(16, to-from)
		for i := range batch {
			fmt.Fprintf(out, "GET /%s?%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", file, from+i, port)
		}
		if err := out.Flush(); err != nil {
			return err
		}
		for range batch {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				return err
			}
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("answered %d", resp.StatusCode)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				return err
			}
		}
		from += batch
	}
	return ctx.Err()
}
