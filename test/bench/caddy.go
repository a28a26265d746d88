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
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// options are the global options of a bench's Caddyfile, with the keys that
// writeKeys made in dir.
func options(dir, origin string, admin int) string {
	return fmt.Sprintf(`{
	admin 127.0.0.1:%d
	auto_https off
	persist_config off
	edge {
		pop bench
		default_region eu
		session_cookie session
		region eu {
			upstreams %s
		}
		assertion {
			key_file %s
		}
		issuer gatehouse:bench {
			key_file %s
			audience gatehouse
		}
	}
}
`, admin, origin, filepath.Join(dir, "assertion.pem"), filepath.Join(dir, "sessions.json"))
}

// runCaddy runs a Caddy with that Caddyfile on core 0, and waits until port is
// answered.
func runCaddy(ctx context.Context, caddy, dir, config string, port int) (*exec.Cmd, error) {
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", "0", caddy, "run", "--config", path, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "GOMAXPROCS=1")
	var log bytes.Buffer
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if !answers(port) {
		stop(cmd)
		return nil, fmt.Errorf("caddy does not answer:\n%s", log.String())
	}
	return cmd, nil
}

// answers waits until somebody listens on a port.
func answers(port int) bool {
	for range 100 {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			conn.Close()
			return true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

// metrics gives Caddy's metrics by name, each summed over its labels; of a
// histogram the number of observations.
func metrics(admin int) (map[string]float64, error) {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", admin))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for name, family := range families {
		for _, m := range family.Metric {
			sums[name] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sums, nil
}

// memory is what a Caddy holds once it has collected its garbage.
type memory struct {
	heap, rss, peak float64 // MiB
	goroutines      float64
}

func measure(admin, pid int) (m memory, err error) {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/heap?gc=1", admin))
	if err != nil {
		return m, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	sums, err := metrics(admin)
	if err != nil {
		return m, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(status)) { // proc(5)
		var kib float64
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "VmRSS":
			_, err = fmt.Sscan(value, &kib)
			m.rss = kib / 1024
		case "VmHWM":
			_, err = fmt.Sscan(value, &kib)
			m.peak = kib / 1024
		}
		if err != nil {
			return m, err
		}
	}
	m.heap, m.goroutines = sums["go_memstats_heap_alloc_bytes"]/(1<<20), sums["go_goroutines"]
	return m, nil
}
