package caddymodule_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// protocols runs a site over TLS, and gives a client for each version of HTTP.
func protocols(t *testing.T, body string) (clients map[string]http.RoundTripper, base, token string) {
	t.Helper()
	return protocolsTo(t, "127.0.0.1:9", body)
}

// protocolsTo has region eu at an address.
func protocolsTo(t *testing.T, region, body string) (clients map[string]http.RoundTripper, base, token string) {
	t.Helper()
	s, token := newSite(t, "")
	certificate, key := edgetest.Certificate(t)
	s.body = "tls " + certificate + " " + key + "\n\t" + body
	address := edgetest.Run(t, strings.NewReplacer("http://:0 {", "https://:0 {", "upstreams 127.0.0.1:9\n", "upstreams "+region+"\n").Replace(s.String()))
	insecure := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test's own certificate

	h1 := &http.Transport{TLSClientConfig: insecure.Clone(), DisableCompression: true}
	h2 := &http.Transport{TLSClientConfig: insecure.Clone(), ForceAttemptHTTP2: true, DisableCompression: true}
	port := edgetest.H3(t, h2, "https://"+address)
	h3 := &http3.Transport{
		TLSClientConfig: insecure.Clone(), DisableCompression: true,
		Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, "127.0.0.1:"+port, tc, qc)
		},
	}
	t.Cleanup(func() {
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
		_ = h3.Close()
	})
	return map[string]http.RoundTripper{"HTTP/1.1": h1, "HTTP/2.0": h2, "HTTP/3.0": h3}, "https://" + address, token
}

// request makes a request with a target as it stands.
func request(t *testing.T, method, target string) *http.Request {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	if path := target[len("https://")+len(u.Host):]; path != u.RequestURI() {
		u = &url.URL{Scheme: "https", Host: u.Host, Opaque: path}
	}
	r := &http.Request{Method: method, URL: u, Host: "pop.example", Header: http.Header{}}
	return r.WithContext(t.Context())
}

// What holds for HTTP/1.1 (TestCaddy_paths, TestCaddy_headersOfOursNeverComeFromAClient)
// holds for the versions whose header is read by other code.
func TestProtocols_theEdgeIsTheSameOverAllOfThem(t *testing.T) {
	o := newOrigin(t)
	clients, base, token := protocols(t, `edge_guard
	@gated path /app /app/*
	edge_session @gated
	request_header X-Tenant-Id {edge.tenant}
	reverse_proxy `+o.address())
	for version, client := range clients {
		t.Run(version, func(t *testing.T) {
			send := func(r *http.Request) *http.Response {
				t.Helper()
				res, err := client.RoundTrip(r)
				if err != nil {
					t.Fatalf("%s %s: %v", r.Method, r.URL, err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.Proto != version {
					t.Fatalf("%s, want %s", res.Proto, version)
				}
				if ids := res.Header["X-Request-Id"]; len(ids) != 1 || len(ids[0]) != 36 {
					t.Errorf("%s: X-Request-Id %q", r.URL, ids)
				}
				return res
			}
			for _, path := range []string{
				"/app//x", "//app", "/products/../app", "/products/./app", "/app%2fx", "/products%5C..%5Capp", "/products/%2e%2e/app",
				"/app;x", "/products/..;/app", "/app%00", "/app%252fx", "/products/%c0%af", "/products/%0d%0aX:y",
			} {
				for _, method := range []string{"GET", "POST"} {
					if res := send(request(t, method, base+path)); res.StatusCode != 400 || len(o.take()) != 0 {
						t.Errorf("%s %s: %d", method, path, res.StatusCode)
					}
				}
			}
			for path, want := range map[string]int{"/APP": 401, "/%61pp": 401, "/app?x=//": 401, "/products/x?y=../%2f": 200} {
				if res := send(request(t, "GET", base+path)); res.StatusCode != want || (len(o.take()) != 0) != (want == 200) {
					t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
				}
			}

			for _, names := range [][]string{
				{"X-Tenant-Id"}, {"x-tenant-id", "X-TENANT-ID"}, {"X_Tenant_Id"}, {"X.Tenant.Id"}, {"X-Tenant_Id"}, {"X~tenant~id"}, {"X-Edge-Assertion"}, {"x-edge-later"},
				{"X-Request-Id"}, {"X-Home-Region"}, {"Traceparent", "Tracestate", "Baggage"},
			} {
				r := request(t, "GET", base+"/app")
				r.Header["Cookie"] = []string{"a=1", "session=" + token, "b=2"} // over h2 and h3, three fields
				if version == "HTTP/1.1" {
					r.Header["Cookie"] = []string{"a=1; session=" + token + "; b=2"}
				}
				for _, name := range names {
					r.Header[name] = []string{"evil"}
				}
				res, got := send(r), o.take()
				if res.StatusCode != 200 || len(got) != 1 {
					t.Errorf("%q: %d", names, res.StatusCode)
					continue
				}
				if h := got[0].Header; !slices.Equal(h["X-Tenant-Id"], []string{"acme"}) || h.Get("Cookie") != "a=1; b=2" {
					t.Errorf("%q: tenant %q, cookies %q", names, h["X-Tenant-Id"], h["Cookie"])
				}
				for name, lines := range got[0].Header {
					if slices.Contains(lines, "evil") {
						t.Errorf("%q: the origin sees %s", names, name)
					}
				}
			}

			r := request(t, "GET", base+"/app")
			r.Header["Cookie"] = []string{"session=" + token, "session=" + token}
			if res := send(r); res.StatusCode != 401 {
				t.Errorf("two session cookies: %d", res.StatusCode)
			}
			r = request(t, "POST", base+"/products")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), -1
			r.Trailer = http.Header{"X-Tenant-Id": {"evil"}, "X-Checksum": {"c"}}
			send(r)
			if got := o.take(); len(got) != 1 || got[0].Trailer.Get("X-Tenant-Id") != "" {
				t.Errorf("trailers: %v", got)
			}
			if res := send(request(t, "TRACE", base+"/app")); res.StatusCode != 405 {
				t.Errorf("TRACE: %d", res.StatusCode)
			}
			o.take()
		})
	}
}

// A server of HTTP/3 offers WebSockets by extended CONNECT (RFC 9220), and
// Caddy's does so always: a browser that takes it up does not fall back. It is a
// tunnel to the origin of the request and to nowhere else, and is held to what an
// Upgrade is held to.
func TestProtocols_webSocketOverHTTP3(t *testing.T) {
	upgraded := make(chan *http.Request, 1)
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgraded <- r.Clone(context.Background())
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(conn, rw)
	}))
	t.Cleanup(echo.Close)
	clients, base, token := protocols(t, "edge_guard\n\tedge_session\n\trequest_header X-Tenant-Id {edge.tenant}\n\treverse_proxy "+strings.TrimPrefix(echo.URL, "http://"))
	for _, row := range []struct {
		name, protocol, cookie, origin string
		want                           int
	}{
		{"from this site", "websocket", "session=" + token, "https://pop.example", 200},
		{"from another", "websocket", "session=" + token, "https://evil.example", 403},
		{"without a session", "websocket", "", "https://pop.example", 401},
		{"another protocol", "connect-udp", "session=" + token, "https://pop.example", 405},
	} {
		t.Run(row.name, func(t *testing.T) {
			body, client := io.Pipe()
			defer client.Close()
			r := request(t, "CONNECT", base+"/ws")
			r.Proto, r.Body, r.ContentLength = row.protocol, body, -1
			r.Header = http.Header{"Cookie": {row.cookie}, "Origin": {row.origin}, "Sec-Websocket-Version": {"13"}, "X-Tenant-Id": {"evil"}}
			res, err := clients["HTTP/3.0"].RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != row.want || len(res.Header["X-Request-Id"]) != 1 {
				t.Fatalf("%d %v, want %d", res.StatusCode, res.Header, row.want)
			}
			if row.want != 200 {
				return
			}
			if got := <-upgraded; got.Method != "GET" || !slices.Equal(got.Header["X-Tenant-Id"], []string{"acme"}) || got.Header.Get("Cookie") != "" {
				t.Errorf("the origin sees %s %v", got.Method, got.Header)
			}
			_, _ = io.WriteString(client, "hello")
			answer := make([]byte, 5)
			if _, err := io.ReadFull(res.Body, answer); err != nil || string(answer) != "hello" {
				t.Errorf("%q %v", answer, err)
			}
		})
	}
}
