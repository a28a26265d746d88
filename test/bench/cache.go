package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cacheBench runs wrk against what answers from memory, by size of the answer.
type cacheBench struct {
	Caddy   string        `default:"bin/caddy" help:"Caddy with the edge's modules."`
	Rounds  int           `default:"5" help:"How often every row takes its turn."`
	Time    time.Duration `default:"3s" help:"How long a turn lasts."`
	Profile string        `help:"Write a CPU profile of each row into this directory." type:"path"`
}

// cacheRow is a row of one of the tables. base names the first of each.
type cacheRow struct {
	edgeRow
	size string
	cmd  func(context.Context, string, *cacheRow, string) (*exec.Cmd, error) // nil: Caddy
}

const cached = `edge_cache {
		policy %s
		ttl 1h
	}
	`

func cacheRows(caddy, files string) []*cacheRow {
	small := `respond "` + strings.Repeat("x", 1024) + `"`
	file := "root * " + files + "\n\trewrite * /%s\n\t%s\n\tfile_server"
	rows := []*cacheRow{
		{size: "1 KiB", edgeRow: edgeRow{name: "Caddy `respond`", routes: small}},
		{size: "1 KiB", edgeRow: edgeRow{name: "`edge_guard` + `respond`", routes: "edge_guard\n\t" + small}},
		{size: "1 KiB", edgeRow: edgeRow{name: "`edge_guard` + `edge_cache`, hit", routes: "edge_guard\n\troute {\n\t" + fmt.Sprintf(cached, "public") + small + "\n\t}"}},
		{size: "1 KiB", edgeRow: edgeRow{name: "with `edge_session`, policy tenant, hit", alg: "EdDSA", routes: "edge_guard\n\tedge_session\n\troute {\n\t" + fmt.Sprintf(cached, "tenant") + small + "\n\t}"}},
		{size: "1 KiB", cmd: nginx, edgeRow: edgeRow{name: "nginx `proxy_cache`, hit"}},
		{size: "1 KiB", cmd: varnish, edgeRow: edgeRow{name: "Varnish, hit"}},
	}
	for _, size := range []string{"100 KiB", "10 MiB"} {
		name := strings.ReplaceAll(size, " ", "")
		rows = append(rows,
			&cacheRow{size: size, edgeRow: edgeRow{name: "Caddy `file_server`", routes: fmt.Sprintf(file, name, "")}},
			&cacheRow{size: size, edgeRow: edgeRow{name: "`edge_guard` + `edge_cache`, hit", routes: fmt.Sprintf(file, name, "edge_guard\n\t"+fmt.Sprintf(cached, "public"))}},
			&cacheRow{size: size, cmd: withDisk(caddy), edgeRow: edgeRow{name: "the same, from the disk", routes: fmt.Sprintf(file, name, "edge_guard\n\t"+fmt.Sprintf(cached, "public"))}},
		)
	}
	return rows
}

// Run prints a table for each size.
func (b *cacheBench) Run(ctx context.Context) error {
	for _, tool := range []string{"wrk", "nginx", "varnishd"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed: apt-get install wrk nginx varnish", tool)
		}
	}
	dir, err := os.MkdirTemp("", "gatehouse-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's worker reads it
		return err
	}
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	for name, size := range map[string]int{"100KiB": 100 << 10, "10MiB": 10 << 20} {
		if err := os.WriteFile(filepath.Join(files, name), bytes.Repeat([]byte("x"), size), 0o644); err != nil {
			return err
		}
	}
	origin, originAddr, err := startOrigin(ctx)
	if err != nil {
		return err
	}
	defer stop(origin)
	keys, err := writeKeys(dir)
	if err != nil {
		return err
	}
	all := cacheRows(b.Caddy, files)
	admin := freePort()
	var config strings.Builder
	config.WriteString(options(dir, originAddr, admin))
	pids := make([]int, len(all))
	for i, r := range all {
		r.port = freePort()
		if r.cmd == nil {
			fmt.Fprintf(&config, "http://127.0.0.1:%d {\n\t%s\n}\n", r.port, r.routes)
			continue
		}
		cmd, err := r.cmd(ctx, dir, r, originAddr)
		if err != nil {
			return err
		}
		defer stop(cmd)
		pids[i] = cmd.Process.Pid
	}
	caddy, err := runCaddy(ctx, b.Caddy, dir, config.String(), all[0].port)
	if err != nil {
		return err
	}
	defer stop(caddy)
	turns := edgeBench{Rounds: b.Rounds, Time: b.Time, Clients: 32, Profile: b.Profile}
	for round := range b.Rounds {
		for i := range all {
			n := (i + round) % len(all) // another one first in every round
			row, pid := all[n], pids[n]
			if pid == 0 {
				pid = caddy.Process.Pid
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s %s\n", round+1, b.Rounds, row.size, row.name)
			if err := turns.turn(ctx, &row.edgeRow, keys.tokens[row.alg], pid); err != nil {
				return fmt.Errorf("%s: %w", row.name, err)
			}
		}
	}
	if b.Profile != "" {
		for i, row := range all {
			if row.cmd != nil {
				continue
			}
			if err := turns.profile(ctx, &row.edgeRow, i, keys.tokens[row.alg], admin); err != nil {
				return err
			}
		}
	}
	var base *cacheRow
	for _, r := range all {
		if base == nil || base.size != r.size {
			base = r
			fmt.Printf("\n| %s | requests/s | ratio | requests per CPU-second | p99 ms |\n| --- | --- | --- | --- | --- |\n", r.size)
		}
		perCPU := "-" // Varnish works in a child
		if cpu := median(r.perCPU); !math.IsInf(cpu, 1) {
			perCPU = fmt.Sprintf("%.0f", cpu)
		}
		fmt.Printf("| %s | %.0f | %.2f | %s | %.1f |\n", r.name, median(r.rates), median(r.rates)/median(base.rates), perCPU, median(r.p99))
	}
	return nil
}

// withDisk runs a Caddy of its own, whose large answers are on the disk.
func withDisk(caddy string) func(context.Context, string, *cacheRow, string) (*exec.Cmd, error) {
	return func(ctx context.Context, dir string, r *cacheRow, _ string) (*exec.Cmd, error) {
		own := filepath.Join(dir, strings.ReplaceAll(r.size, " ", "")+" on disk")
		if err := os.Mkdir(own, 0o755); err != nil {
			return nil, err
		}
		config := options(dir, "127.0.0.1:1", freePort())
		config = config[:len(config)-4] + fmt.Sprintf("\t\tcache {\n\t\t\tdisk \"%s/cache\" 1GiB\n\t\t\tdisk_from 64KiB\n\t\t}\n\t}\n}\nhttp://127.0.0.1:%d {\n\t%s\n}\n", own, r.port, r.routes)
		return runCaddy(ctx, caddy, own, config, r.port)
	}
}

// nginx runs an nginx that keeps what the origin says in memory's own file system, with
// one worker on core 0.
func nginx(ctx context.Context, dir string, r *cacheRow, origin string) (*exec.Cmd, error) {
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/nginx.pid; error_log stderr;
events { worker_connections 1024; }
http {
	access_log off;
	proxy_cache_path %[1]s/nginx keys_zone=k:10m;
	server {
		listen 127.0.0.1:%[2]d; keepalive_requests 1000000;
		location / { proxy_pass http://%[3]s; proxy_cache k; proxy_cache_valid any 1h; }
	}
}
`, dir, r.port, origin)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return onCore0(ctx, r.port, "nginx", "-c", path, "-p", dir, "-e", filepath.Join(dir, "nginx.log"))
}

// varnish runs a Varnish on core 0.
func varnish(ctx context.Context, dir string, r *cacheRow, origin string) (*exec.Cmd, error) {
	vcl := fmt.Sprintf("vcl 4.1;\nbackend default { .host = \"127.0.0.1\"; .port = \"%s\"; }\nsub vcl_backend_response { set beresp.ttl = 1h; }\n",
		origin[strings.LastIndexByte(origin, ':')+1:])
	path := filepath.Join(dir, "default.vcl")
	if err := os.WriteFile(path, []byte(vcl), 0o644); err != nil {
		return nil, err
	}
	return onCore0(ctx, r.port, "varnishd", "-F", "-j", "none", "-a", fmt.Sprintf("127.0.0.1:%d", r.port), "-f", path, "-n", filepath.Join(dir, "varnish"), "-s", "malloc,64m")
}

func onCore0(ctx context.Context, port int, name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", "0", name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if !answers(port) {
		stop(cmd)
		return nil, fmt.Errorf("%s does not answer:\n%s", name, log.String())
	}
	return cmd, nil
}
