package edge

import (
	"net/http"
	"net/netip"
	"strings"

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

// FromTrustedProxy reports whether a request came from a proxy that Caddy's option
// trusted_proxies names: its X-Forwarded-* fields are to be believed.
func FromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// Scheme is the scheme of what the client asked for: the connection's, or the one that
// X-Forwarded-Proto of a trusted proxy says, where that is http or https.
func Scheme(r *http.Request) string {
	if lines := r.Header["X-Forwarded-Proto"]; len(lines) == 1 && FromTrustedProxy(r) {
		first, _, _ := strings.Cut(lines[0], ",") // the proxy that is nearest to the client
		switch first = strings.TrimSpace(first); {
		case strings.EqualFold(first, "https"):
			return "https"
		case strings.EqualFold(first, "http"):
			return "http"
		}
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
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
