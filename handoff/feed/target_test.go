package feed_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

func TestTarget(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/": " /", "/a?b=c": " /a?b=c", "/a?": " /a?", "http://x": "x /", "https://Shop.Example:443/a%2Fb?c": "shop.example /a%2Fb?c",
		"http://x:443/": "x:443 /", "https://x:80/": "x:80 /", "http://[::1]:80/": "[::1] /", "/é": " /%C3%A9",
	} {
		if host, uri, err := feed.Target(text); err != nil || host+" "+uri != want {
			t.Errorf("%q: %q %q %v, want %q", text, host, uri, err, want)
		}
	}
	for _, text := range []string{"", "x", "//x/y", "ftp://x/", "http:///a", "http:a", "http://a:b@x/", "/a#b", "/a b", "/a\x00", "/a\n", "/%zz", "/" + strings.Repeat("a", feed.MaxTarget), "/" + strings.Repeat("é", feed.MaxTarget/3)} {
		if host, uri, err := feed.Target(text); err == nil {
			t.Errorf("%.60q is read as %q %q", text, host, uri)
		}
	}
}

// FuzzTarget: what is read of a URL holds nothing that a terminal or a log would act
// upon, and reads again as the same.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"/", "/a?b", "http://x", "https://X:443/a%2F?", "//x/y", "http://a:b@x/", "/a\x00", "http://[::1]:80/", "/%zz", "http:/x", "/é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host, uri, err := feed.Target(text)
		if err != nil {
			return
		}
		if !strings.HasPrefix(uri, "/") || strings.ContainsFunc(host+uri, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			t.Fatalf("%.200q is read as %.200q %.200q", text, host, uri)
		}
		if host == "" && strings.HasPrefix(uri, "//") { // of "/%2F\"", as Caddy has it: no path that can be written so
			return
		}
		again := uri
		if host != "" {
			if again = "http://" + host + uri; len(again) > feed.MaxTarget {
				return
			}
		}
		if h, u, err := feed.Target(again); err != nil || u != uri || h != strings.TrimSuffix(host, ":80") {
			t.Fatalf("%.200q is read as %.200q %.200q, and that as %.200q %.200q: %v", text, host, uri, h, u, err)
		}
	})
}
