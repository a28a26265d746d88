package feed

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Target reads the URL of a purge: a whole one, of which host is the lower-case host
// without the scheme's port, or a path with its query, of all hosts. uri is path and
// query as they are asked for. It has MaxTarget bytes at most, and no fragment.
func Target(text string) (host, uri string, err error) {
	if len(text) > MaxTarget {
		return "", "", fmt.Errorf("it has %d bytes, %d are the most", len(text), MaxTarget)
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c == 0x7f || c == '#' {
			return "", "", fmt.Errorf("byte %#02x is in no URL that a client asks for", c)
		}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", "", errors.New("it is no URL")
	case strings.HasPrefix(text, "/") && u.Host == "" && !strings.HasPrefix(text, "//"):
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil:
		host = strings.ToLower(u.Host)
		if port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]; strings.HasSuffix(host, port) {
			host = strings.TrimSuffix(host, port)
		}
	default:
		return "", "", errors.New("it is neither a whole one such as https://shop.example/products nor a path")
	}
	if uri = u.EscapedPath(); uri == "" {
		uri = "/"
	}
	if u.RawQuery != "" || u.ForceQuery {
		uri += "?" + u.RawQuery
	}
	if len(host)+len(uri) > MaxTarget { // it has grown: what is no ASCII is three bytes
		return "", "", fmt.Errorf("it has %d bytes as it is asked for, %d are the most", len(host)+len(uri), MaxTarget)
	}
	return host, uri, nil
}
