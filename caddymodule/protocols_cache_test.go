package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// One answer is stored, whichever version of HTTP it was asked for with, and each
// version has what breaks off break off.
func TestProtocols_oneAnswerForAllOfThem(t *testing.T) {
	var asked atomic.Int64
	o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/broken" {
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "answer ", asked.Add(1))
	}))
	t.Cleanup(o.Close)
	clients, base, _ := protocols(t, "edge_guard\n\tedge_cache\n\treverse_proxy "+strings.TrimPrefix(o.URL, "http://"))
	hits := 0
	for version, client := range clients {
		ask := func(method, path string, header ...string) (*http.Response, string, error) {
			r := request(t, method, base+path)
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			res, err := client.RoundTrip(r)
			if err != nil {
				return nil, "", err
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			return res, string(body), err
		}
		for range 2 {
			res, body, err := ask("GET", "/page")
			if err != nil || body != "answer 1" || res.Proto != version {
				t.Fatalf("%s: %q, %v", version, body, err)
			}
			if strings.HasPrefix(res.Header.Get("Cache-Status"), "gatehouse; hit") {
				hits++
			}
		}
		for _, row := range []struct {
			method, name, value string
			status              int
			body                string
		}{{"HEAD", "X-A", "b", 200, ""}, {"GET", "Range", "bytes=0-5", 206, "answer"}, {"GET", "If-None-Match", "*", 304, ""}} {
			if res, body, err := ask(row.method, "/page", row.name, row.value); err != nil || res.StatusCode != row.status || body != row.body {
				t.Errorf("%s: %s %s: %v %q, %v", version, row.method, row.name, res, body, err)
			}
		}
		if _, body, err := ask("GET", "/broken"); err == nil {
			t.Errorf("%s: %d bytes look like the whole", version, len(body))
		}
	}
	if hits != 5 || asked.Load() != 1 {
		t.Errorf("%d hits of 6 requests, the origin was asked %d times", hits, asked.Load())
	}
}
