package caddymodule_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// withheld is a client's socket that keeps the end of its handshake back, so that
// all the server has of it is early data: what an eavesdropper could send again.
type withheld struct {
	net.PacketConn
	heard atomic.Bool // the server has answered

	mu   sync.Mutex
	open bool
}

func (w *withheld) ReadFrom(p []byte) (int, net.Addr, error) {
	n, addr, err := w.PacketConn.ReadFrom(p)
	w.heard.Store(true)
	return n, addr, err
}

// WriteTo passes the first flight and 0-RTT packets (RFC 9000, section 17.2), and
// loses the rest, which quic-go sends again.
func (w *withheld) WriteTo(p []byte, addr net.Addr) (int, error) {
	const longForm, kind, zeroRTT = 0x80, 0x30, 0x10
	w.mu.Lock()
	defer w.mu.Unlock()
	early := p[0]&longForm != 0 && p[0]&kind == zeroRTT
	if w.open || early || !w.heard.Load() {
		return w.PacketConn.WriteTo(p, addr)
	}
	return len(p), nil
}

func (w *withheld) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = true
}

// TestProtocols_earlyData sends requests in a real 0-RTT handshake that is not
// complete: one that changes something is refused, another goes on, and the region
// is told.
func TestProtocols_earlyData(t *testing.T) {
	o := newOrigin(t)
	clients, base, token := protocols(t, "edge_guard\n\tedge_session /app\n\treverse_proxy "+o.address())
	port := edgetest.H3(t, clients["HTTP/2.0"], base)
	server, err := net.ResolveUDPAddr("udp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig := &tls.Config{
		InsecureSkipVerify: true, ServerName: "127.0.0.1", NextProtos: []string{http3.NextProtoH3}, //nolint:gosec // the test's own certificate
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	config := &quic.Config{TokenStore: quic.NewLRUTokenStore(1, 4)}

	// ask opens a connection and sends one request, as early as it may. Where it was
	// to be early and the server's first word was faster, the request was not, and
	// early is false.
	ask := func(method string, early bool) (status int, wasEarly bool) {
		t.Helper()
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		w := &withheld{PacketConn: udp, open: !early}
		transport := &quic.Transport{Conn: w}
		defer func() { _ = transport.Close(); _ = udp.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		conn, err := transport.DialEarly(ctx, server, tlsConfig, config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseWithError(0, "")
		if !early {
			<-conn.HandshakeComplete()
		}
		client := (&http3.Transport{}).NewClientConn(conn)
		stream, err := client.OpenRequestStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SetDeadline(time.Now().Add(20 * time.Second))
		r := request(t, method, base+"/app")
		r.Header.Set("Cookie", "session="+token)
		if err := stream.SendRequestHeader(r); err != nil {
			t.Fatal(err)
		}
		_ = stream.Close()
		withholding := time.AfterFunc(time.Second, w.release)
		res, err := stream.ReadResponse()
		wasEarly = withholding.Stop() && early
		w.release()
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		<-conn.HandshakeComplete()
		if !early { // the ticket comes after the handshake
			next, err := client.RoundTrip(request(t, http.MethodGet, base+"/app"))
			if err == nil {
				_ = next.Body.Close()
			}
		}
		return res.StatusCode, wasEarly && conn.ConnectionState().Used0RTT
	}

	for _, row := range []struct {
		method string
		early  bool
		want   int
		told   string
	}{
		{"POST", false, 200, ""}, {"POST", true, 425, ""}, {"DELETE", true, 425, ""}, {"GET", true, 200, "1"}, {"POST", false, 200, ""},
	} {
		o.take()
		status, early := ask(row.method, row.early)
		for try := 0; row.early && !early && try < 20; try++ {
			o.take()
			status, early = ask(row.method, row.early)
		}
		if status != row.want || early != row.early {
			t.Errorf("%s, early %v: %d, early %v; want %d", row.method, row.early, status, early, row.want)
		}
		for _, seen := range o.take() {
			if seen.Method == row.method && (row.want != 200 || seen.Header.Get("Early-Data") != row.told) {
				t.Errorf("%s, early %v: the region sees it, Early-Data %q", row.method, row.early, seen.Header.Get("Early-Data"))
			}
		}
	}
}
