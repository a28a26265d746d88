package caddymodule_test

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// A purge in the feed reaches what is stored, once: a reload, by which it is heard
// again, purges nothing, and another tenant's is another's.
func TestCacheFeed_aPurgeReachesWhatIsStored(t *testing.T) {
	p := newPOP(t)
	config := strings.Replace(p.config, "\tedge_session\n\trespond \"in as {http.auth.user.id}\"", `	edge_session {
		optional
	}
	route {
		@public path /public*
		edge_cache @public {
			policy public
		}
		@tenant path /tenant*
		edge_cache @tenant {
			policy tenant
		}
		header Cache-Control max-age=600
		header Cache-Groups "\"product:coffee\", \"shop\""
		respond {http.request.uuid}
	}`, 1)
	p.publish(t, beat(0))
	address := edgetest.Run(t, config)
	acme, globex := p.token(t, nil), p.token(t, jwt.MapClaims{"tenant_id": "globex", "sid": "s-9"})
	ask := func(path, token string) edgetest.Answer {
		header := "GET " + path + " HTTP/1.1\nHost: pop.example\n"
		if token != "" {
			header += "Cookie: session=" + token + "\n"
		}
		return edgetest.Raw(t, address, header+"\n")
	}
	eventually(t, "sessions", func() bool { return ask("/tenant", acme).StatusCode == 200 })
	stored := map[string]string{}
	all := map[string]struct{ path, token string }{"public": {"/public", ""}, "acme": {"/tenant", acme}, "globex": {"/tenant", globex}}
	settle := func() {
		for name, who := range all {
			stored[name] = ask(who.path, who.token).Body
			if again := ask(who.path, who.token); again.Body != stored[name] || !strings.HasPrefix(again.Header.Get("Cache-Status"), "gatehouse; hit") {
				t.Fatalf("%s is not stored: %v", name, again.Header)
			}
		}
	}
	sequence := feed.Sequence(time.Now().UnixMicro())
	drop := func(what feed.Purge, gone ...string) {
		t.Helper()
		settle()
		sequence++
		what.Sequence, what.Expires = sequence, time.Now().Add(time.Hour).Unix()
		p.publish(t, what)
		for _, name := range gone {
			eventually(t, "purge of "+name, func() bool { return ask(all[name].path, all[name].token).Body != stored[name] })
		}
		for name, who := range all {
			if now := ask(who.path, who.token).Body; now == stored[name] == strings.Contains(strings.Join(gone, " "), name) {
				t.Errorf("purge of %+v: %s is gone: %v", what, name, now != stored[name])
			}
		}
	}
	purge := func(tenant, group string, gone ...string) {
		t.Helper()
		drop(feed.Purge{Tenant: tenant, Group: group}, gone...)
	}
	purge("", "product:coffee", "public")
	purge("acme", "shop", "acme")
	purge("", "*", "public")
	purge("globex", "*", "globex")
	purge("globex", "product:tea")
	drop(feed.Purge{URL: "/public"}, "public")
	drop(feed.Purge{URL: "http://pop.example/public", Soft: true}, "public")
	drop(feed.Purge{URL: "http://pop.example/public", Soft: true}, "public") // the same again is another
	drop(feed.Purge{URL: "http://other.example/public"})
	drop(feed.Purge{URL: "/tenant"}) // is nobody's
	drop(feed.Purge{Tenant: "acme", URL: "/tenant"}, "acme")
	drop(feed.Purge{Tenant: "globex", Prefix: "/t"}, "globex")
	drop(feed.Purge{Prefix: "/"}, "public")

	settle()
	if err := edgetest.Load(config + "# again\n"); err != nil {
		t.Fatal(err)
	}
	address = edgetest.Address(t)
	eventually(t, "the feed", func() bool { return ask("/tenant", acme).StatusCode == 200 })
	for name, who := range all {
		if a := ask(who.path, who.token); a.Body != stored[name] {
			t.Errorf("%s is gone after a reload: %v", name, a.Header)
		}
	}
	purge("", "product:coffee", "public") // the new configuration hears too
}

// A POP that is cut off says that it may not know of a purge.
func TestCacheFeed_aPOPThatIsCutOffSaysSo(t *testing.T) {
	for ago, stale := range map[time.Duration]bool{0: false, time.Minute: true} {
		p := newPOP(t)
		p.publish(t, beat(ago))
		address := edgetest.Run(t, strings.Replace(p.config, "\tedge_session\n\trespond", "\tedge_cache {\n\t\tttl 1h\n\t}\n\trespond", 1))
		ask := func() string {
			return edgetest.Raw(t, address, "GET /page HTTP/1.1\nHost: pop.example\n\n").Header.Get("Cache-Status")
		}
		ask()
		eventually(t, "what is said of the feed", func() bool {
			status := ask()
			return strings.HasPrefix(status, "gatehouse; hit") && strings.HasSuffix(status, `detail="feed-stale"`) == stale
		})
	}
}
