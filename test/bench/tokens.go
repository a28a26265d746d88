package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokensBench shows what a flood of distinct tokens does to the memory of a POP.
type tokensBench struct {
	Caddy string `default:"bin/caddy" help:"Caddy with the edge's modules."`
	Many  int    `default:"1000000" help:"How many distinct tokens are sent, valid and then invalid."`
}

// Run prints the table.
func (b *tokensBench) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	keys, err := writeKeys(dir)
	if err != nil {
		return err
	}
	admin, port := freePort(), freePort()
	config := options(dir, "127.0.0.1:1", admin) +
		fmt.Sprintf("http://127.0.0.1:%d {\n\tedge_guard\n\tedge_session\n\trespond ok\n}\n", port)
	caddy, err := runCaddy(ctx, b.Caddy, dir, config, port)
	if err != nil {
		return err
	}
	defer stop(caddy)

	fmt.Println("| distinct tokens | heap MiB | RSS MiB | peak RSS MiB |")
	fmt.Println("| --- | --- | --- | --- |")
	row := func(name string) error {
		m, err := measure(admin, caddy.Process.Pid)
		if err == nil {
			fmt.Printf("| %s | %.1f | %.0f | %.0f |\n", name, m.heap, m.rss, m.peak)
		}
		return err
	}
	if err := row("none"); err != nil {
		return err
	}
	tenth := b.Many / 10
	for _, f := range []struct {
		name     string
		from, to int
		status   int
		valid    bool
	}{
		{fmt.Sprintf("%d valid", tenth), 0, tenth, http.StatusOK, true},
		{fmt.Sprintf("%d valid", b.Many), tenth, b.Many, http.StatusOK, true},
		{fmt.Sprintf("and %d invalid", b.Many), 0, b.Many, http.StatusUnauthorized, false},
	} {
		fmt.Fprintln(os.Stderr, f.name)
		if err := flood(ctx, port, f.from, f.to, f.status, func(i int) string { return distinct(keys.private, i, f.valid) }); err != nil {
			return err
		}
		if err := row(f.name); err != nil {
			return err
		}
	}
	return nil
}

// distinct gives the token of session i; an invalid one has another's signature.
func distinct(key ed25519.PrivateKey, i int, valid bool) string {
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": "gatehouse:bench", "aud": "gatehouse", "sub": "ada", "sid": fmt.Sprint("s-", i), "tenant_id": "acme",
		"region": "eu", "roles": []string{"approver"}, "auth_time": now.Unix(), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	t.Header["kid"] = "ed"
	if valid {
		token, _ := t.SignedString(key) // Ed25519 signs everything
		return token
	}
	text, _ := t.SigningString() // plain claims have JSON
	return text + "." + strings.Repeat("A", 86)
}

// flood asks once with each of the tokens, in batches on one connection (RFC
// 9112, section 9.3.2), and holds each answer to status.
func flood(ctx context.Context, port, from, to, status int, token func(int) string) error {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
	for from < to && ctx.Err() == nil {
		batch := min(64, to-from)
		for i := range batch {
			fmt.Fprintf(out, "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nCookie: session=%s\r\n\r\n", port, token(from+i))
		}
		if err := out.Flush(); err != nil {
			return err
		}
		for range batch {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				return err
			}
			if resp.StatusCode != status {
				return fmt.Errorf("answered %d, want %d", resp.StatusCode, status)
			}
			if _, err := in.Discard(int(resp.ContentLength)); err != nil {
				return err
			}
		}
		from += batch
	}
	return ctx.Err()
}
