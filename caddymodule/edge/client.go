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
// complete, here or at a proxy before us that says so by Early-Data (RFC 8470,
// section 5.1): anyone can send it again, and its address may be forged. Whatever
// the field holds, and whoever sent it, counts as its 1: who lies is refused more.
func InEarlyData(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete || len(r.Header[earlyData]) > 0
}

// earlyData is the field's name as net/http spells it.
const earlyData = "Early-Data"

// MarkEarlyData has the region know of a request in early data, as whoever passes
// one on must (RFC 8470, section 5.1). It may answer 425 then.
func MarkEarlyData(r *http.Request) { r.Header[earlyData] = []string{"1"} }
