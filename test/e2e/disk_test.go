package e2e

import (
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
	"testing"
)

// A POP that is killed leaves the bodies of large answers on its disk. The next one
// answers from none of them, removes them, and begins anew.
func TestDisk_outlivesNoCrash(t *testing.T) {
	dir := t.TempDir()
	asked := 0
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	origin := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = io.WriteString(w, strings.Repeat(fmt.Sprint(asked), 3<<20))
	})}
	go func() { _ = origin.Serve(l) }()
	t.Cleanup(func() { _ = origin.Close() })
	socket := filepath.Join(dir, "site.sock")
	config := filepath.Join(dir, "Caddyfile")
	cache := filepath.Join(dir, "cache")
	if err := os.WriteFile(config, fmt.Appendf(nil, `{
	admin off
	persist_config off
	edge {
		pop crash
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
		}
		assertion {
			key_file %s
		}
		cache {
			disk %s 64MiB
		}
	}
}
http:// {
	bind unix/%s
	edge_guard
	edge_cache
	reverse_proxy %s
}
`, filepath.Join(stateDir, "keys", "pop-fra.pem"), cache, socket, l.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	ask := func() (status, body string) {
		t.Helper()
		res, err := client.Get("http://shop.example/large")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		read, err := io.ReadAll(res.Body)
		if err != nil || len(read) != 3<<20 || strings.Trim(string(read), string(read[:1])) != "" {
			t.Fatalf("%d bytes: %v", len(read), err)
		}
		return res.Header.Get("Cache-Status"), string(read[:1])
	}
	files := func() []string {
		all, err := filepath.Glob(filepath.Join(cache, "body-*"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	start := func() *exec.Cmd {
		t.Helper()
		_ = os.Remove(socket)
		caddy := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "caddy"), "run", "--config", config, "--adapter", "caddyfile")
		caddy.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		if err := caddy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = caddy.Process.Kill()
			_ = caddy.Wait()
		})
		await(t, "the POP", func() bool {
			conn, err := net.Dial("unix", socket)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
		return caddy
	}

	first := start()
	ask()
	await(t, "a hit from the disk", func() bool {
		status, _ := ask()
		return strings.HasPrefix(status, "gatehouse; hit") && len(files()) == 1
	})
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "caddy"), "validate", "--config", config, "--adapter", "caddyfile").CombinedOutput()
	if err != nil || len(files()) != 1 {
		t.Errorf("to validate the configuration that runs: %v\n%s", err, out)
	}
	second := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "caddy"), "run", "--config", config, "--adapter", "caddyfile")
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "is the cache of another process") || len(files()) != 1 {
		t.Errorf("another process of the same directory: %v\n%s", err, out)
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	if len(files()) != 1 {
		t.Fatalf("a process that was killed has left %q", files())
	}
	again := start()
	// Caddy may listen a moment before the edge is started.
	await(t, "the removal of what was left", func() bool { return len(files()) == 0 })
	if status, body := ask(); !strings.HasPrefix(status, "gatehouse; fwd=uri-miss") || body != "2" {
		t.Errorf("after the crash: %s, %s", status, body)
	}
	if err := again.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = again.Wait()
	if len(files()) != 0 {
		t.Errorf("a process that ended has left %q", files())
	}
}
