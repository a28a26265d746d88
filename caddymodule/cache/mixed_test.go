package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// Everything at once: tenants, variants, ranges, validations, purges by answers,
// errors, bodies that break off, clients that leave, reloads. Whatever happens, a
// client gets the whole of an answer that is its tenant's and its variant's, or none;
// and in the end nothing is left running, and no byte is set apart. The race detector
// has this test to look at.
func TestMixed_everythingAtOnce(t *testing.T) {
	var version atomic.Int64
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h, n := w.Header(), version.Load()
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			version.Add(1)
			h.Set("Cache-Group-Invalidation", `"all"`)
			return
		}
		switch rand.IntN(20) {
		case 0:
			w.WriteHeader(500)
			return
		case 1:
			h.Set("Cache-Control", "private")
		default:
			h.Set("Cache-Control", []string{"max-age=60", "max-age=1, stale-while-revalidate=60, stale-if-error=60", "no-cache", "max-age=60, stale-if-error=60"}[rand.IntN(4)])
		}
		h.Set("Cache-Groups", `"all"`)
		h.Set("Vary", "Accept-Language")
		tag := fmt.Sprintf(`"%s %s %d"`, r.Header.Get("X-Seen-Tenant"), r.Header.Get("Accept-Language"), n)
		h.Set("Etag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(304)
			return
		}
		line := fmt.Sprintf("<%s %s %s %d>\n", r.URL.Path, r.Header.Get("X-Seen-Tenant"), r.Header.Get("Accept-Language"), n)
		lines := 1 + rand.IntN(400)
		h.Set("X-Lines", fmt.Sprint(lines))
		for i := range lines {
			if i == 50 && rand.IntN(20) == 0 {
				panic(http.ErrAbortHandler)
			}
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
			if rand.IntN(50) == 0 {
				_ = http.NewResponseController(w).Flush()
			}
		}
	})
	s := newSite(t, o, behind("edge_cache {\n\t\t\tpolicy tenant\n\t\t\tmax_object 16KiB\n\t\t}"))
	end := time.Now().Add(2 * time.Second)
	var wait sync.WaitGroup
	var whole, none atomic.Int64
	for range 16 {
		wait.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			for time.Now().Before(end) {
				who := []string{"ada", "alan", "grace"}[rand.IntN(3)]
				tenant := map[string]string{"ada": "acme", "alan": "acme", "grace": "globex"}[who]
				language, path := []string{"de", "en"}[rand.IntN(2)], fmt.Sprint("/page/", rand.IntN(4))
				method := "GET"
				if rand.IntN(40) == 0 {
					method = []string{"POST", "HEAD"}[rand.IntN(2)]
				}
				ctx, leave := context.WithCancel(context.Background())
				if rand.IntN(8) == 0 {
					time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, leave)
				}
				r, _ := http.NewRequestWithContext(ctx, method, "http://"+s.addressNow()+path, nil)
				r.Header.Set("Authorization", "Bearer "+s.tokens[who])
				r.Header.Set("Accept-Language", language)
				ranged := rand.IntN(10) == 0
				if ranged {
					r.Header.Set("Range", "bytes=0-9")
				}
				res, err := client.Do(r)
				if err != nil {
					none.Add(1)
					leave()
					continue
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				leave()
				if err != nil || method != "GET" || res.StatusCode >= 500 {
					none.Add(1)
					continue
				}
				want := fmt.Sprintf("<%s %s %s ", path, tenant, language)
				switch text := string(body); {
				case res.StatusCode == 206 && len(text) <= 10 && strings.HasPrefix(want, text[:min(len(text), len(want))]):
				case res.StatusCode != 200:
					t.Errorf("%d %.100q", res.StatusCode, text)
				default:
					first, _, _ := strings.Cut(text, "\n")
					if !strings.HasPrefix(text, want) || text != strings.Repeat(first+"\n", strings.Count(text, "\n")) || fmt.Sprint(strings.Count(text, "\n")) != res.Header.Get("X-Lines") {
						t.Errorf("asked for %q, got %d lines that begin with %.60q, X-Lines %s, %s", want, strings.Count(text, "\n"), text, res.Header.Get("X-Lines"), res.Header.Get("Cache-Status"))
					}
				}
				whole.Add(1)
			}
		})
	}
	for i := 0; time.Now().Before(end); i++ {
		time.Sleep(300 * time.Millisecond)
		if err := edgetest.Load(strings.Replace(s.config, "edge_guard", fmt.Sprintf("edge_guard\n\theader X-Load %d", i), 1)); err != nil {
			t.Error(err)
		}
		s.now.Store(ptr(edgetest.Address(t)))
	}
	wait.Wait()
	if whole.Load() < 50 {
		t.Errorf("only %d whole answers, %d others", whole.Load(), none.Load())
	}
	eventually(t, "the fetches to end", func() bool {
		var stacks bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		return !strings.Contains(stacks.String(), "cache.(*fill)")
	})
	t.Logf("%d whole answers, %d others, %d asked of the origin", whole.Load(), none.Load(), len(o.asked))
}

func ptr[T any](v T) *T { return &v }
