package handoff_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// returnTargets are also the vectors of testdata/return_to.json.
var returnTargets = []struct {
	target string
	kept   bool
}{
	{"/", true},
	{"/app", true},
	{"/app/orders?cursor=abc&limit=20", true},
	{"/app?next=https://elsewhere.example/", true}, // data of the page
	{"/caf%C3%A9", true},
	{"/a:b", true},
	{"/@evil.example", true},
	{"/evil.example", true},
	{"/" + strings.Repeat("a", 2047), true},

	{"", false},
	{"app", false},
	{"?a", false},
	{"#", false},
	{".", false},
	{"//evil.example", false},
	{"///evil.example", false},
	{"////evil.example", false},
	{"/\\evil.example", false},
	{"\\\\evil.example", false},
	{"\\/evil.example", false},
	{"/\t/evil.example", false},
	{"/\n/evil.example", false},
	{"/\r/evil.example", false},
	{"\t//evil.example", false},
	{" //evil.example", false},
	{"/ /evil.example", false},
	{"/%09/evil.example", false},
	{"/%0a/evil.example", false},
	{"/%2f/evil.example", false},
	{"/%2fevil.example", false},
	{"/%5cevil.example", false},
	{"/.//evil.example", false},
	{"/..//evil.example", false},
	{"/./\\evil.example", false},
	{"/app/..//evil.example", false},
	{"/%2e%2e//evil.example", false},
	{"https://evil.example", false},
	{"https:evil.example", false},
	{"https:/evil.example", false},
	{"https://site.example@evil.example/", false},
	{"HTTPS://site.example/app", false},
	{"javascript:alert(1)", false},
	{"JaVaScRiPt:alert(1)", false},
	{"data:text/html,x", false},
	{"/javascript:alert(1)\n", false},
	{"/app#token", false},
	{"/app\x00", false},
	{"/app\r\nSet-Cookie: session=x", false},
	{"/app?a\\b", false},
	{"/app?a\tb", false},
	{"/\u2215evil.example", false},
	{"/\uff0fevil.example", false},
	{"/\u3002", false},
	{"/app?caf\u00e9", false},
	{"/\xff", false},
	{"/app;x", false},
	{"/" + strings.Repeat("a", 2048), false},
}

func TestReturnTo(t *testing.T) {
	t.Parallel()
	for _, row := range returnTargets {
		want := "/fallback"
		if row.kept {
			want = row.target
		}
		if got := handoff.ReturnTo(row.target, "/fallback"); got != want {
			t.Errorf("%.60q gives %.60q, want %.60q", row.target, got, want)
		}
	}
}

// FuzzReturnTo: however a browser reads the answer, it stays on the site.
func FuzzReturnTo(f *testing.F) {
	for _, row := range returnTargets {
		f.Add(row.target)
	}
	base, err := url.Parse("https://site.example/login")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		answer := handoff.ReturnTo(target, "/app")
		if answer != target && answer != "/app" {
			t.Fatalf("%q gives %q", target, answer)
		}
		for _, read := range []string{answer, whatwg(answer)} {
			u, err := base.Parse(read)
			if err != nil {
				t.Fatalf("%q: %v", read, err)
			}
			if u.Scheme != "https" || u.Host != "site.example" || u.User != nil || u.Opaque != "" {
				t.Fatalf("%q leads to %s", target, u)
			}
		}
		if strings.ContainsAny(answer, "\r\n\x00") {
			t.Fatalf("%q splits a header", answer)
		}
	})
}

// whatwg does to an address what a browser does before and while it parses one
// of an http scheme (WHATWG URL, section 4.4): controls and spaces at both ends
// and tabs and newlines anywhere are dropped, and a backslash is a slash.
func whatwg(s string) string {
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	return strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/").Replace(s)
}
