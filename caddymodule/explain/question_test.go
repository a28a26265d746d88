package explain

import (
	"strings"
	"testing"
)

// What is read as a question is one request, of the target that was asked for, and
// an error repeats no header and no cookie.
func FuzzQuestion(f *testing.F) {
	f.Add("GET", "/app", "Accept: text/html", "session=x", "192.0.2.7")
	f.Add("POST", "https://shop.example/a?b#c", "X: y\r\nCookie: z", "a=b; c=d", "")
	f.Add("GET /x HTTP/1.1\r\nX", "http://a@b/", "Host: evil", "=", "::1")
	f.Add("GET", "http://[::1]:8080", "Transfer-Encoding: chunked", "a", "::1%lo")
	f.Add("CONNECT", "*", "Content-Length: 5", "a=\x00", "256.1.1.1")
	f.Fuzz(func(t *testing.T, method, url, header, cookie, from string) {
		a, err := (&Question{Method: method, URL: url, Header: []string{header}, Cookies: []string{cookie}, From: from}).read()
		if err != nil {
			if len(cookie) > 12 && strings.Contains(err.Error(), cookie) || len(header) > 12 && strings.Contains(err.Error(), header) {
				t.Errorf("a secret is repeated: %v", err)
			}
			return
		}
		if a.request.Method != method || a.request.RequestURI != a.target || a.request.RemoteAddr == "" {
			t.Errorf("%q became %s %s", url, a.request.Method, a.request.RequestURI)
		}
		for name, values := range a.request.Header {
			if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
				t.Errorf("header %q %q", name, values)
			}
		}
		if len(a.request.Header) > 2 {
			t.Errorf("one header and one cookie became %v", a.request.Header)
		}
	})
}
