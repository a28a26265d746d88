package explain

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Question is a request that somebody asks about.
type Question struct {
	// Method such as GET. Required.
	Method string `json:"method"`
	// URL is what is asked for: with scheme and host, or a path alone, which is for
	// the only server there is. Required.
	URL string `json:"url"`
	// Header are the request's, as "Name: value".
	Header []string `json:"header,omitempty"`
	// Cookies are sent with it, as "name=value".
	Cookies []string `json:"cookies,omitempty"`
	// Body is the request's content. Default: none.
	Body string `json:"body,omitempty"`
	// From is the client's address. Default: 127.0.0.1.
	From string `json:"from,omitempty"`
	// FromCountry is an ISO 3166-1 alpha-2 code that the client is supposed to be in,
	// whatever its address says to edge_geo.
	FromCountry string `json:"fromCountry,omitempty"`
}

// Bounds of a question.
const (
	maxURL    = 8 << 10
	maxHeader = 64 << 10
)

// Errors say what is wrong with a question in words for whoever asked it. They
// quote no header and no cookie: those hold secrets.
var (
	errMethod = errors.New("the method is no HTTP method, such as GET")
	errHeader = errors.New(`a header is no "Name: value"`)
	errCookie = errors.New(`a cookie is no "name=value"`)
	errFrom   = errors.New("from is no address such as 192.0.2.7")
	errURL    = errors.New("the URL is neither one such as https://shop.example/app nor a path such as /app")
)

// asked is a question that was read.
type asked struct {
	scheme, host string // empty: only a path was given
	port         string
	target       string // as in the request line
	request      *http.Request
}

// read makes the request as net/http's server would: what that refuses is refused
// here, and what it tidies is tidied.
func (q *Question) read() (*asked, error) {
	a, err := q.readURL()
	if err != nil {
		return nil, err
	}
	if q.Method == "" || strings.ContainsFunc(q.Method, func(r rune) bool { return !httpguts.IsTokenRune(r) }) {
		return nil, errMethod
	}
	header, err := q.header()
	if err != nil {
		return nil, err
	}
	host := a.host
	if host == "" {
		host = "localhost"
	}
	var wire strings.Builder
	fmt.Fprintf(&wire, "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", q.Method, a.target, host, header)
	if a.request, err = http.ReadRequest(bufio.NewReader(strings.NewReader(wire.String()))); err != nil {
		return nil, errors.New("net/http's server answers 400 before the edge sees such a request")
	}
	if !httpguts.ValidHostHeader(a.request.Host) {
		return nil, errURL
	}
	a.request.Body, a.request.ContentLength, a.request.TransferEncoding = http.NoBody, int64(len(q.Body)), nil
	if q.Body != "" {
		a.request.Body = http.NoBody
		a.request.Body = readCloser{strings.NewReader(q.Body)}
	}
	if a.request.RemoteAddr, err = q.remote(); err != nil {
		return nil, err
	}
	if a.scheme == "https" {
		a.request.TLS = &tls.ConnectionState{HandshakeComplete: true, ServerName: hostname(a.host), Version: tls.VersionTLS13}
	}
	if q.FromCountry != "" && !isCountry(q.FromCountry) {
		return nil, errors.New("fromCountry is no ISO 3166-1 alpha-2 code such as DE")
	}
	return a, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func isCountry(code string) bool {
	return len(code) == 2 && 'A' <= code[0] && code[0] <= 'Z' && 'A' <= code[1] && code[1] <= 'Z'
}

// readURL splits the URL without reading its path: how that is read is the edge's
// to decide, and to refuse.
func (q *Question) readURL() (*asked, error) {
	if len(q.URL) > maxURL || strings.ContainsFunc(q.URL, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, errURL
	}
	if strings.HasPrefix(q.URL, "/") || q.URL == "*" {
		return &asked{target: q.URL}, nil
	}
	scheme, rest, found := strings.Cut(q.URL, "://")
	a := &asked{scheme: strings.ToLower(scheme)}
	if !found || a.scheme != "http" && a.scheme != "https" {
		return nil, errURL
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	a.host, a.target = rest[:end], rest[end:]
	a.target, _, _ = strings.Cut(a.target, "#") // no client sends a fragment
	if a.target == "" || a.target[0] == '?' {
		a.target = "/" + a.target
	}
	u, err := url.Parse(a.scheme + "://" + a.host)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Host != a.host {
		return nil, errURL
	}
	if a.port = u.Port(); a.port == "" {
		a.port = map[string]string{"http": "80", "https": "443"}[a.scheme]
	}
	return a, nil
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// header writes the header lines, with nothing in them that could begin another.
func (q *Question) header() (string, error) {
	var b strings.Builder
	for _, line := range q.Header {
		name, value, found := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return "", errHeader
		}
		switch strings.ToLower(name) {
		case "host":
			return "", errors.New("the host is the URL's: write it there")
		case "content-length", "transfer-encoding":
			return "", errors.New("the length is the body's: it is counted")
		}
		b.WriteString(name + ": " + value + "\r\n")
	}
	if len(q.Cookies) > 0 {
		for _, pair := range q.Cookies {
			name, _, found := strings.Cut(pair, "=")
			if !found || !httpguts.ValidHeaderFieldName(name) || strings.Contains(pair, ";") || !httpguts.ValidHeaderFieldValue(pair) {
				return "", errCookie
			}
		}
		b.WriteString("Cookie: " + strings.Join(q.Cookies, "; ") + "\r\n")
	}
	if b.Len() > maxHeader {
		return "", fmt.Errorf("the header has %d bytes at most", maxHeader)
	}
	return b.String(), nil
}

// remote is the client's address as net/http writes it. The port is one that no
// client has.
func (q *Question) remote() (string, error) {
	if q.From == "" {
		return "127.0.0.1:0", nil
	}
	address, err := netip.ParseAddr(q.From)
	if err != nil || address.Zone() != "" {
		return "", errFrom
	}
	return netip.AddrPortFrom(address, 0).String(), nil
}
