package caddymodule_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// said replaces what the site of a newPOP says after its session.
func (p *pop) said(site string) string {
	return strings.Replace(strings.Replace(p.config, `respond "in as {http.auth.user.id}"`, site, 1), "edge_session\n", "edge_session {\n\t\toptional\n\t}\n", 1)
}

func get(t *testing.T, address, path string, headers ...string) edgetest.Answer {
	t.Helper()
	return edgetest.Raw(t, address, "GET "+path+" HTTP/1.1\nHost: pop.example\n"+strings.Join(append(headers, "\n"), "\n"))
}

func awaitBody(t *testing.T, want string, ask func() edgetest.Answer) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var got edgetest.Answer
	for limit := time.After(20 * time.Second); ; {
		if got = ask(); got.Body == want {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("answered %d %q, want %q", got.StatusCode, got.Body, want)
		}
	}
}

func flagsOf(seq feed.Sequence, body string) feed.Definition {
	return feed.Definition{Sequence: seq, Kind: feed.Flags, Name: "web", Body: jsontext.Value(body)}
}

// Flags and experiments are those that the regions published last; one that this
// POP cannot use changes nothing, and what is in force outlives a restart without
// the broker.
func TestFeed_definitionsAreLive(t *testing.T) {
	p := newPOP(t)
	config := p.said(`edge_experiment {
		feed web
	}
	edge_flags {
		flag own {
			default on
		}
		feed web
	}
	respond "{edge.flag.own} {edge.flag.live} {edge.flag.hidden} {edge.variant.search}"`)
	p.publish(t, flagsOf(1, `{"flags":[{"key":"live","public":true,"default":"on"},{"key":"hidden","default":"on"}]}`),
		feed.Definition{Sequence: 1, Kind: feed.Experiments, Name: "web", Body: jsontext.Value(`{"experiments":[{"name":"search","by":"user","variants":[{"name":"old","weight":1},{"name":"new"}]}]}`)}, beat(0))
	address := edgetest.Run(t, config)
	session := "Cookie: session=" + p.token(t, nil)
	ask := func() edgetest.Answer { return get(t, address, "/", session) }
	awaitBody(t, "true true true old", ask)

	// Only what is public is a client's to see.
	ofrep := edgetest.Raw(t, address, "POST /ofrep/v1/evaluate/flags HTTP/1.1\nHost: pop.example\nContent-Type: application/json\nContent-Length: 2\n\n{}")
	if ofrep.StatusCode != http.StatusOK || !strings.Contains(ofrep.Body, `"live"`) || strings.Contains(ofrep.Body, "hidden") {
		t.Errorf("%d %s", ofrep.StatusCode, ofrep.Body)
	}

	p.publish(t, flagsOf(2, `{"flags":[{"key":"live","default":"off"}]}`))
	awaitBody(t, "true false  old", ask)
	// One that is well formed, and clashes with the configuration's own.
	p.publish(t, flagsOf(3, `{"flags":[{"key":"own"},{"key":"live","default":"on"}]}`))
	p.publish(t, feed.Definition{Sequence: 2, Kind: feed.Experiments, Name: "web", Body: jsontext.Value(`{"experiments":[{"name":"search","by":"user","variants":[{"name":"old"},{"name":"new","weight":1}]}]}`)})
	awaitBody(t, "true false  new", ask)

	p.publish(t, flagsOf(4, `{"flags":[{"key":"live","default":"on"}]}`))
	awaitBody(t, "true true  new", ask)
	p.Stop()
	if err := edgetest.Load(config + "# again\n"); err != nil { // another config: everything is begun anew
		t.Fatal(err)
	}
	address = edgetest.Address(t)
	if got := ask(); got.Body != "true true  new" {
		t.Errorf("after a reload without the broker: %q", got.Body)
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.publish(t, beat(0), feed.Definition{Sequence: 5, Kind: feed.Flags, Name: "web", Expires: time.Now().Add(time.Hour).Unix()})
	awaitBody(t, "true   new", ask)
}

// A definition that no POP could use, from a region that breaks the contract, is
// never in force, not after a restart either.
func TestFeed_aBadDefinitionIsNeverApplied(t *testing.T) {
	p := newPOP(t)
	p.publish(t, flagsOf(1, `{"flags":[{"key":"live","default":"on"}]}`), beat(0))
	config := p.said(`edge_flags {
		feed web
	}
	respond "{edge.flag.live}{edge.kv.b.after}"`)
	address := edgetest.Run(t, config)
	ask := func() edgetest.Answer { return get(t, address, "/") }
	awaitBody(t, "true", ask)
	for i, body := range []string{
		`{"flags":[{"key":"live","default":"gone"}]}`, `{"flags":[{"key":"LIVE"}]}`, `{"flags":[{"key":"live"},{"key":"live"}]}`,
		`{"flags":null,"more":1}`, `{"flags":[{"key":"live","variants":[{"name":"a","value":1},{"name":"b","value":"x"}],"default":"a"}]}`, `[]`,
	} {
		seq := feed.Sequence(i + 2)
		if _, _, err := feed.Encode("eu", flagsOf(seq, body)); err == nil {
			t.Errorf("%s would be published", body)
		}
		p.raw(t, "eu.gatehouse.definition.flags.web", string(feed.Stamp([]byte(`{"kind":"flags","name":"web","body":`+body+`}`), seq)))
	}
	p.publish(t, feed.KV{Sequence: 1, Bucket: "b", Key: "after", Value: "!"})
	awaitBody(t, "true!", ask)
	p.Stop()
	if err := edgetest.Load(config + "# again\n"); err != nil {
		t.Fatal(err)
	}
	address = edgetest.Address(t)
	if got := ask(); got.Body != "true!" {
		t.Errorf("after a reload: %q", got.Body)
	}
}

// Values are there for respond, templates and matchers; a tenant's own for that
// tenant's verified session alone, whatever a client says of itself.
func TestFeed_valuesInRespondTemplatesAndMatchers(t *testing.T) {
	p := newPOP(t)
	config := p.said(`@gold vars {edge.kv.plans.tier} gold
	@flagged expression ` + "`{edge.kv.plans.beta} == \"yes\"`" + `
	@named header_regexp name X-Name (\w+)
	templates {
		mime text/plain
	}
	handle /template {
		header Content-Type text/plain
		respond ` + "`{{placeholder \"edge.kv.greetings.hello\"}}|{{placeholder \"edge.kv.greetings.a.b\"}}`" + `
	}
	handle /gold {
		respond @gold "gold"
		respond "plain"
	}
	handle /beta {
		respond @flagged "beta"
		respond "stable"
	}
	handle {
		respond "{edge.kv.greetings.hello}, {http.request.header.X-Name}{edge.kv.greetings.none}{edge.kv.none.hello}{edge.kv.}{edge.kv.greetings}"
	}`)
	p.publish(t,
		feed.KV{Sequence: 1, Bucket: "greetings", Key: "hello", Value: "Hello"},
		feed.KV{Sequence: 1, Bucket: "greetings", Key: "a.b", Value: "dotted"},
		feed.KV{Sequence: 1, Bucket: "greetings", Tenant: "acme", Key: "hello", Value: "Welcome to acme"},
		feed.KV{Sequence: 1, Bucket: "plans", Tenant: "acme", Key: "tier", Value: "gold"},
		feed.KV{Sequence: 1, Bucket: "plans", Tenant: "acme", Key: "beta", Value: "yes"}, beat(0))
	address := edgetest.Run(t, config)
	of := func(tenant string) string {
		return "Cookie: session=" + p.token(t, jwt.MapClaims{"tenant_id": tenant, "sub": "u-" + tenant, "sid": "s-" + tenant})
	}
	forged := edgetest.Token(t, "HS256", []byte("another secret, of thirty-two bytes and more"), edgetest.Claims("gatehouse:eu", "shop", jwt.MapClaims{"tenant_id": "acme"}), nil)
	awaitBody(t, "Hello, you", func() edgetest.Answer { return get(t, address, "/", "X-Name: you") })
	for _, row := range []struct{ path, header, want string }{
		{"/", of("acme"), "Welcome to acme, "},
		{"/", of("globex"), "Hello, "},
		{"/", "X-Tenant-Id: acme", "Hello, "},
		{"/", "X-Edge-Tenant: acme", "Hello, "},
		{"/template", of("acme"), "Welcome to acme|dotted"},
		{"/template", "Accept: */*", "Hello|dotted"},
		{"/gold", of("acme"), "gold"},
		{"/gold", of("globex"), "plain"},
		{"/gold", "X-Tenant-Id: acme", "plain"},
		{"/beta", of("acme"), "beta"},
		{"/beta", of("globex"), "stable"},
	} {
		if got := get(t, address, row.path, row.header); got.Body != row.want {
			t.Errorf("%s %.40s: %q, want %q", row.path, row.header, got.Body, row.want)
		}
	}
	// A session that does not hold is nobody's.
	if got := get(t, address, "/", "Cookie: session="+forged); strings.Contains(got.Body, "acme") {
		t.Errorf("a forged session sees a tenant's value: %q", got.Body)
	}
	p.publish(t, feed.KV{Sequence: 2, Bucket: "plans", Tenant: "acme", Key: "tier", Value: "silver"})
	awaitBody(t, "plain", func() edgetest.Answer { return get(t, address, "/gold", of("acme")) })
}
