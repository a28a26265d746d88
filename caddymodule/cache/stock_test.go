package cache

import (
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// What is read out of a key is what was put in, whatever the parts hold.
func TestParts_areThoseOfTheKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("r", 300) // its length takes two bytes
	for _, row := range []struct {
		policy string
		who    handoff.Identity
		want   parts
	}{
		{PolicyPublic, handoff.Identity{Tenant: "acme"}, parts{}},
		{PolicyTenant, handoff.Identity{Tenant: "acme", Subject: "ada"}, parts{tenant: "acme"}},
		{PolicyUser, handoff.Identity{Tenant: "acme", SubjectIssuer: "https://eu.example", Subject: "ada", Roles: []string{long, "b", "a"}},
			parts{tenant: "acme", issuer: "https://eu.example", subject: "ada"}},
		{PolicyUser, handoff.Identity{Tenant: "acme", SubjectIssuer: "i", Subject: "\x00\xff"}, parts{tenant: "acme", issuer: "i", subject: "\x00\xff"}},
	} {
		r := edgetest.Request("GET", "/a%2fb?x=%01", nil)
		r.Host = "Shop.example:80"
		q := &question{c: &Cache{Cookies: []string{"a"}}, d: &decision.Decision{Target: "/before"}, r: r, policy: row.policy, who: row.who}
		q.locate()
		want := row.want
		want.policy, want.scheme, want.host, want.uri = row.policy, "http", "shop.example", "/a%2fb?x=%01"
		key := q.makeKey()
		if got, ok := partsOf(key); !ok || got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		for i := range key { // what is no key is none, and harms nobody
			if _, ok := partsOf(key[:i]); ok && i < strings.Index(key, want.uri) {
				t.Errorf("%q is a key", key[:i])
			}
		}
	}
}

func FuzzParts(f *testing.F) {
	f.Add("\x00\x00\x06public\x04http\x01x\x00\x01/")
	f.Add("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Add("\x00\x00\x04user\x00\x00\x00\xff\xff\xff\xff\x0f")
	f.Fuzz(func(t *testing.T, key string) {
		if p, ok := partsOf(key); ok && !strings.Contains(key, p.uri) {
			t.Errorf("%q: %+v", key, p)
		}
	})
}

// FuzzTarget: what is read of a URL holds nothing that a terminal or a log would act
// upon, and reads again as the same.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"/", "/a?b", "http://x", "https://X:443/a%2F?", "//x/y", "http://a:b@x/", "/a\x00", "http://[::1]:80/", "/%zz", "http:/x", "/é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host, uri, err := readTarget(text)
		if err != nil {
			return
		}
		if !strings.HasPrefix(uri, "/") || strings.ContainsFunc(host+uri, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			t.Fatalf("%q is read as %q %q", text, host, uri)
		}
		again := uri
		if host != "" {
			again = "http://" + host + uri
		}
		if h, u, err := readTarget(again); err != nil || u != uri || h != strings.TrimSuffix(host, ":80") {
			t.Fatalf("%q is read as %q %q, and that as %q %q: %v", text, host, uri, h, u, err)
		}
	})
}
