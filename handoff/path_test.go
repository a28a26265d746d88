package handoff_test

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// pathRule is the rule in examples: also the vectors of testdata/paths.json.
var pathRule = []struct {
	target string
	want   error // nil: accepted
}{
	{"/", nil},
	{"/app", nil},
	{"/app/", nil},
	{"/api/orders?cursor=abc&limit=20", nil},
	{"/api/orders?", nil},
	{"/api/orders?path=//../%2f%2e;x\\y", nil}, // the query is data
	{"/a?b?c", nil},
	{"/assets/app.3f2a1b.css", nil},
	{"/.well-known/jwks.json", nil},
	{"/a/...", nil},
	{"/a/..b/c..", nil},
	{"/a/.b", nil},
	{"/caf%C3%A9", nil},
	{"/café", nil},
	{"/a%20b", nil},
	{"/a+b,c:d@e!f$g&h'i(j)k*l=m~n", nil},
	{"/c%23", nil},   // data: whoever splits before decoding reads one path
	{"/why%3F", nil}, // likewise
	{"/100%25", nil},
	{"/100%25/x", nil},
	{"/100%25zz", nil},
	{"/%E2%88%95", nil}, // U+2215 is no slash
	{"/a?%2e%2e", nil},

	{"", handoff.ErrPathForm},
	{"?a=b", handoff.ErrPathForm},
	{"*", handoff.ErrPathForm},
	{"app", handoff.ErrPathForm},
	{"http://site.example/app", handoff.ErrPathForm},
	{"site.example:443", handoff.ErrPathForm},

	{"//", handoff.ErrPathDoubleSlash},
	{"//app", handoff.ErrPathDoubleSlash},
	{"/app//", handoff.ErrPathDoubleSlash},
	{"/app//admin", handoff.ErrPathDoubleSlash},
	{"/public///app", handoff.ErrPathDoubleSlash},
	{"//evil.example/app", handoff.ErrPathDoubleSlash},
	{"/a.b//c", handoff.ErrPathDoubleSlash},

	{"/.", handoff.ErrPathDotSegment},
	{"/..", handoff.ErrPathDotSegment},
	{"/./app", handoff.ErrPathDotSegment},
	{"/public/../app", handoff.ErrPathDotSegment},
	{"/public/..", handoff.ErrPathDotSegment},
	{"/public/.?x", handoff.ErrPathDotSegment},

	{"/public/%2e%2e/app", handoff.ErrPathEncoded},
	{"/public/%2E%2E/app", handoff.ErrPathEncoded},
	{"/public/.%2e/app", handoff.ErrPathEncoded},
	{"/public/%2e./app", handoff.ErrPathEncoded},
	{"/file%2ejson", handoff.ErrPathEncoded},
	{"/public%2f..%2fapp", handoff.ErrPathEncoded},
	{"/public%2Fapp", handoff.ErrPathEncoded},
	{"/%2fapp", handoff.ErrPathEncoded},
	{"/public%5capp", handoff.ErrPathEncoded},
	{"/public%5C..%5Capp", handoff.ErrPathEncoded},
	{"/app%00", handoff.ErrPathEncoded},
	{"/app%00.css", handoff.ErrPathEncoded},
	{"/app%0a", handoff.ErrPathEncoded},
	{"/app%0D%0AX-Tenant-Id:%20acme", handoff.ErrPathEncoded},
	{"/app%1f", handoff.ErrPathEncoded},
	{"/app%7f", handoff.ErrPathEncoded},
	{"/app%09", handoff.ErrPathEncoded},
	{"/public%252fapp", handoff.ErrPathEncoded},
	{"/public%252e%252e%252fapp", handoff.ErrPathEncoded},
	{"/public%25252fapp", handoff.ErrPathEncoded},
	{"/public%25%32%66app", handoff.ErrPathEncoded},
	{"/public%25%32fapp", handoff.ErrPathEncoded},
	{"/public%252%66app", handoff.ErrPathEncoded},
	{"/public%2%35", handoff.ErrPathEncoded},
	{"/100%2541", handoff.ErrPathEncoded},
	{"/%", handoff.ErrPathEncoded},
	{"/%2", handoff.ErrPathEncoded},
	{"/%zz", handoff.ErrPathEncoded},
	{"/%u002fapp", handoff.ErrPathEncoded},
	{"/% 2f", handoff.ErrPathByte},

	{"/public\\app", handoff.ErrPathBackslash},
	{"/\\evil.example", handoff.ErrPathBackslash},
	{"/public\\..\\app", handoff.ErrPathBackslash},

	{"/app;jsessionid=1", handoff.ErrPathParameter},
	{"/public/..;/app", handoff.ErrPathParameter},
	{"/;/app", handoff.ErrPathParameter},
	{"/app%3b", handoff.ErrPathParameter},
	{"/app%3Bx=y", handoff.ErrPathParameter},

	{"/app#x", handoff.ErrPathFragment},
	{"/app#/../public", handoff.ErrPathFragment},
	{"/app?a#b", handoff.ErrPathFragment},

	{"/app x", handoff.ErrPathByte},
	{"/app\x00", handoff.ErrPathByte},
	{"/app\t", handoff.ErrPathByte},
	{"/app\r\nX: y", handoff.ErrPathByte},
	{"/app\x7f", handoff.ErrPathByte},
	{"/app\xff", handoff.ErrPathByte},
	{"/\xc0\xafapp", handoff.ErrPathByte},
	{"/%c0%afapp", handoff.ErrPathByte},
	{"/%e0%80%af", handoff.ErrPathByte},
	{"/%ff", handoff.ErrPathByte},
	{"/%ed%a0%80", handoff.ErrPathByte},
	{"/caf\xc3%A9", handoff.ErrPathByte}, // half of it raw
	{"/app?a b", handoff.ErrPathByte},
	{"/app?\x00", handoff.ErrPathByte},
	{"/app?\xff", handoff.ErrPathByte},
}

func TestCheckPath(t *testing.T) {
	t.Parallel()
	for _, row := range pathRule {
		if err := handoff.CheckPath(row.target); !errors.Is(err, row.want) || row.want == nil && err != nil {
			t.Errorf("%q: %v, want %v", row.target, err, row.want)
		}
	}
}

// FuzzCheckPath: an accepted path is one path to every reader, whether it
// decodes, cleans, decodes again or maps backslashes.
func FuzzCheckPath(f *testing.F) {
	for _, row := range pathRule {
		f.Add(row.target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if handoff.CheckPath(target) != nil {
			return
		}
		raw, _, _ := strings.Cut(target, "?")
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatalf("%q is accepted and net/url refuses it: %v", target, err)
		}
		decoded, err := url.PathUnescape(raw)
		if err != nil || u.Path != decoded {
			t.Fatalf("%q: net/url reads %q, decoding gives %q (%v)", target, u.Path, decoded, err)
		}
		if u.Host != "" || u.Scheme != "" || u.Fragment != "" || !utf8.ValidString(decoded) {
			t.Fatalf("%q is read as %+v", target, u)
		}
		if clean := path.Clean(decoded); clean != decoded && clean+"/" != decoded {
			t.Fatalf("%q is cleaned to %q", decoded, clean)
		}
		// A second decoding, by a reader that forgives what it cannot decode.
		if again := forgiving(decoded); again != decoded {
			t.Fatalf("%q decodes again to %q", decoded, again)
		}
		if strings.Count(raw, "/") != strings.Count(decoded, "/") || strings.ContainsAny(decoded, "\\;\x00\r\n\x7f") {
			t.Fatalf("%q decodes to %q", raw, decoded)
		}
		for segment := range strings.SplitSeq(decoded, "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q holds a dot segment", decoded)
			}
		}
		// What the edge sends on is accepted too, and a second proxy sends the
		// same, so that the assertion's pth holds.
		sent := u.RequestURI()
		if err := handoff.CheckPath(sent); err != nil {
			t.Fatalf("%q is accepted, as %q it is not: %v", target, sent, err)
		}
		if again, err := url.ParseRequestURI(sent); err != nil || again.RequestURI() != sent {
			t.Fatalf("%q is sent as %q and then as %q (%v)", target, sent, again.RequestURI(), err)
		}
	})
}

// forgiving decodes every escape that is one and leaves the others.
func forgiving(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := url.PathUnescape(s[i : i+3]); err == nil {
				b.WriteString(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
