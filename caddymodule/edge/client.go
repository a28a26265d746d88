package edge

import (
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Client gives the client's address as Caddy knows it: the peer's, or what a
// trusted proxy said. The zero value: unknown.
func Client(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// InEarlyData reports whether a request came before its TLS handshake was
// complete (RFC 8470): anyone can send it again, and its address may be forged.
func InEarlyData(r *http.Request) bool { return r.TLS != nil && !r.TLS.HandshakeComplete }
