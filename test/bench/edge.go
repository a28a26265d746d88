package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// edgeBench runs wrk against one Caddy whose sites differ in the chain alone.
type edgeBench struct {
	Caddy   string        `default:"bin/caddy" help:"Caddy with the edge's modules."`
	Rounds  int           `default:"5" help:"How often every row takes its turn."`
	Time    time.Duration `default:"4s" help:"How long a turn lasts."`
	Clients int           `default:"32" help:"Connections held by wrk."`
	Profile string        `help:"Write a CPU profile of each row into this directory." type:"path"`
}

// edgeRow is one site of the bench's Caddy.
type edgeRow struct {
	name   string
	routes string // the site's directives; empty: HAProxy answers
	alg    string // of the session's token; empty: nobody signs in
	port   int
	rates  []float64 // requests per second, by round
	perCPU []float64 // requests per CPU-second of Caddy
	p99    []float64 // milliseconds
}

const proxied = `reverse_proxy {
		dynamic edge_region
		transport edge
	}`

const signedIn = "edge_guard\n\tedge_trace\n\tedge_session\n\tedge_region\n\t" + proxied

func rows() []*edgeRow {
	return []*edgeRow{
		{name: "Caddy `respond`", routes: `respond "ok"`},
		{name: "`edge_guard` + `respond`", routes: "edge_guard\n\trespond \"ok\""},
		{name: "Caddy `reverse_proxy`", routes: `reverse_proxy {$ORIGIN}`},
		{name: "whole chain, anonymous", routes: "edge_guard\n\tedge_trace\n\tedge_region {\n\t\tto eu\n\t}\n\t" + proxied},
		{name: "whole chain, signed in (EdDSA)", alg: "EdDSA", routes: signedIn},
		{name: "whole chain, signed in (RS256)", alg: "RS256", routes: signedIn},
		{name: "HAProxy `jwt_verify` (RS256)", alg: "RS256"},
	}
}

// Run prints the table.
func (b *edgeBench) Run(ctx context.Context) error {
	for _, tool := range []string{"wrk", "haproxy"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed: apt-get install %s", tool, tool)
		}
	}
	dir, err := os.MkdirTemp("", "gatehouse-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	origin, originAddr, err := startOrigin(ctx)
	if err != nil {
		return err
	}
	defer stop(origin)

	keys, err := writeKeys(dir)
	if err != nil {
		return err
	}
	all := rows()
	admin := freePort()
	caddy, err := b.startCaddy(ctx, dir, originAddr, admin, all)
	if err != nil {
		return err
	}
	defer stop(caddy)
	haproxy, err := startHAProxy(ctx, dir, originAddr, all[len(all)-1].port)
	if err != nil {
		return err
	}
	defer stop(haproxy)

	for round := range b.Rounds {
		for i := range all {
			row := all[(i+round)%len(all)] // another one first in every round
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, b.Rounds, row.name)
			pid := caddy.Process.Pid
			if row.routes == "" {
				pid = haproxy.Process.Pid
			}
			if err := b.turn(ctx, row, keys.tokens[row.alg], pid); err != nil {
				return fmt.Errorf("%s: %w", row.name, err)
			}
		}
	}
	if b.Profile != "" {
		for i, row := range all {
			if row.routes == "" {
				continue
			}
			if err := b.profile(ctx, row, i, keys.tokens[row.alg], admin); err != nil {
				return err
			}
		}
	}
	report(all)
	return nil
}

func report(all []*edgeRow) {
	base := median(all[2].rates)
	fmt.Println("| | requests/s | of `reverse_proxy` | requests per CPU-second | p99 ms |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	for _, r := range all {
		fmt.Printf("| %s | %.0f | %.2f | %.0f | %.1f |\n", r.name, median(r.rates), median(r.rates)/base, median(r.perCPU), median(r.p99))
	}
}

// turn runs wrk once, on the other core than Caddy.
func (b *edgeBench) turn(ctx context.Context, row *edgeRow, token string, pid int) error {
	before := cpuSeconds(pid)
	out, err := b.wrk(ctx, row, token, b.Time)
	if err != nil {
		return err
	}
	used := cpuSeconds(pid) - before
	total, err := strconv.ParseFloat(find(out, `(\d+) requests in`), 64)
	if err != nil {
		return fmt.Errorf("wrk said:\n%s", out)
	}
	rate, _ := strconv.ParseFloat(find(out, `Requests/sec:\s+([\d.]+)`), 64)
	p99, err := time.ParseDuration(find(out, `99%\s+([\d.]+[a-z]+)`))
	if err != nil || strings.Contains(out, "Non-2xx") {
		return fmt.Errorf("wrk said:\n%s", out)
	}
	row.rates = append(row.rates, rate)
	row.perCPU = append(row.perCPU, total/used)
	row.p99 = append(row.p99, float64(p99.Microseconds())/1000)
	return nil
}

func (b *edgeBench) wrk(ctx context.Context, row *edgeRow, token string, d time.Duration) (string, error) {
	args := []string{"-c", "1", "wrk", "-t1", "-c" + strconv.Itoa(b.Clients), "-d" + d.String(), "--latency"}
	if token != "" {
		args = append(args, "-H", "Cookie: session="+token)
	}
	args = append(args, fmt.Sprintf("http://127.0.0.1:%d/api/orders?limit=20", row.port))
	out, err := exec.CommandContext(ctx, "taskset", args...).CombinedOutput()
	return string(out), err
}

// profile writes DIR/N.prof for the row number N of the table, the first being 0.
func (b *edgeBench) profile(ctx context.Context, row *edgeRow, number int, token string, admin int) error {
	if err := os.MkdirAll(b.Profile, 0o755); err != nil {
		return err
	}
	loaded := make(chan error, 1)
	go func() {
		_, err := b.wrk(ctx, row, token, 12*time.Second)
		loaded <- err
	}()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile?seconds=10", admin))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(filepath.Join(b.Profile, strconv.Itoa(number)+".prof"))
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, resp.Body); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return <-loaded
}

// startCaddy runs one Caddy with a site for every row, on core 0.
func (b *edgeBench) startCaddy(ctx context.Context, dir, origin string, admin int, all []*edgeRow) (*exec.Cmd, error) {
	var file strings.Builder
	file.WriteString(options(dir, origin, admin))
	for _, r := range all {
		r.port = freePort()
		if r.routes == "" {
			continue
		}
		fmt.Fprintf(&file, "http://127.0.0.1:%d {\n\t%s\n}\n", r.port, strings.ReplaceAll(r.routes, "{$ORIGIN}", origin))
	}
	return runCaddy(ctx, b.Caddy, dir, file.String(), all[0].port)
}

// originCmd answers 1 KiB to everything.
type originCmd struct{}

// Run serves on a free port, and writes its address to standard output.
func (originCmd) Run(ctx context.Context) error {
	body := bytes.Repeat([]byte("x"), 1024)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })}
	go func() { <-ctx.Done(); _ = server.Close() }()
	_ = server.Serve(listener)
	return nil
}

func startOrigin(ctx context.Context) (*exec.Cmd, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", "1", self, "origin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	address := make([]byte, 64)
	n, err := out.Read(address)
	return cmd, strings.TrimSpace(string(address[:n])), err
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
}

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// cpuSeconds is the user and system time of a process (proc(5), stat).
func cpuSeconds(pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+2:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100 // USER_HZ
}

func find(text, pattern string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
