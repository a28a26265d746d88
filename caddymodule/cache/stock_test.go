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
