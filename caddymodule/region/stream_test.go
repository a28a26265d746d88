package region_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTransport_webSocketPasses(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(conn, rw) // echo
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, x-tenant-id\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nTest-Tenant: acme\r\n\r\n")
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	_, _ = io.WriteString(conn, "hello")
	echo := make([]byte, 5)
	if _, err := io.ReadFull(reader, echo); err != nil || string(echo) != "hello" {
		t.Errorf("%q %v", echo, err)
	}
	if s := p.eu.only(); s.header.Get("X-Tenant-Id") != "acme" {
		t.Errorf("%v", s.header)
	}
}

func TestTransport_eventsArriveOneByOne(t *testing.T) {
	p := newPOP(t, site("edge_region", "response_header_timeout 200ms"))
	next := make(chan struct{})
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	r, _ := http.NewRequestWithContext(t.Context(), "GET", p.url+"/events", nil)
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	reader := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := reader.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
			t.Fatalf("%q %v, want %q", line, err, want)
		}
		_, _ = reader.ReadString('\n')
		next <- struct{}{} // it does not go on before this one has arrived
	}
}

func TestTransport_http2ToTheRegion(t *testing.T) {
	h2c := func(s *httptest.Server) {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
	}
	p := newPOP(t, site("edge_region", "versions h2c 2\nreplay_limit 128KiB"), h2c)
	body := bytes.Repeat([]byte("x"), 100<<10)
	res, text := p.ask(t, "POST", "/a", bytes.NewReader(body), "Test-Tenant: acme", "Idempotency-Key: k")
	if res.StatusCode != 200 || text != fmt.Sprintf("eu POST /a %d", len(body)) {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	if s := p.eu.only(); s.header.Get("Idempotency-Key") != "k" {
		t.Errorf("%v", s.header)
	}
	for _, early := range []bool{false, true} {
		answer := sendsTo("us")
		if !early {
			answer = readsFirst(answer)
		}
		p.eu.answers(answer)
		res, text = p.ask(t, "POST", "/b", bytes.NewReader(body), fmt.Sprintf("Test-Tenant: early-%v", early))
		if res.StatusCode != 200 || text != fmt.Sprintf("us POST /b %d", len(body)) {
			t.Errorf("answered early %v: %d %s", early, res.StatusCode, text)
		}
	}
	for _, s := range p.us.requests() {
		if s.refused != nil || !s.claims.Replay {
			t.Errorf("%v %+v", s.refused, s.claims)
		}
	}
}

func TestTransport_informationalAnswersPass(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	answer := p.raw(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 103 ") || !strings.Contains(answer, "HTTP/1.1 200") {
		t.Error(answer)
	}
}

func TestTransport_tlsToTheRegion(t *testing.T) {
	_, source := keys(t)
	p := &pop{}
	tls := func(name string) *fakeRegion {
		f := &fakeRegion{name: name, t: t, verifier: verifierOf(name, source)}
		f.Server = httptest.NewTLSServer(f)
		t.Cleanup(f.Close)
		return f
	}
	p.eu, p.us = tls("eu"), tls("us")
	forget(t)
	p.load(t, site("edge_region", "tls_insecure_skip_verify"))
	if res, text := p.ask(t, "POST", "/", strings.NewReader("x")); res.StatusCode != 200 || text != "eu POST / 1" {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
	p.eu.only()
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != p.eu.addr() {
			t.Errorf("eu is asked as %s", r.Host)
		}
		sendsTo("us")(w, r)
	})
	p.us.answers(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != p.us.addr() {
			t.Errorf("us is asked as %s, it is %s", r.Host, p.us.addr())
		}
	})
	if res, text := p.ask(t, "POST", "/", strings.NewReader("x")); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	p.us.only()
}
