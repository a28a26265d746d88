package caddymodule_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/broker"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

// pop is a POP with a feed, and a region that publishes to it.
type pop struct {
	*broker.Broker
	config string
	key    any
}

func newPOP(t *testing.T) *pop {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	b, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Regions: []string{"eu"}, POPs: []string{"fra"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	p := &pop{Broker: b, key: edgetest.Key(t, "HS256")}
	p.config = fmt.Sprintf(`{
	%s
	storage file_system %s
	edge {
		pop fra
		default_region eu
		region eu {
			upstreams 127.0.0.1:9
		}
		assertion {
			key_file %s
		}
		issuer gatehouse:eu {
			secret_file %s
			audience shop
		}
		session_cookie session
		feed {
			url %s
			max_stale 10s
			max_stale_reads 10m
		}
	}
}
http://:0 {
	bind 127.0.0.1
	edge_guard
	edge_session
	respond "in as {http.auth.user.id}"
}
`, edgetest.Globals, t.TempDir(), edgetest.Write(t, "assertion.pem", edgetest.PEM(t, edgetest.Key(t, "EdDSA"))),
		edgetest.Write(t, "secret", p.key.([]byte)), b.URL("fra"))
	return p
}

func (p *pop) publish(t *testing.T, messages ...feed.Message) {
	t.Helper()
	for _, m := range messages {
		subject, document, err := feed.Encode("eu", m)
		if err != nil {
			t.Fatal(err)
		}
		p.raw(t, subject, string(document))
	}
}

// raw publishes whatever it is.
func (p *pop) raw(t *testing.T, subject, document string) {
	t.Helper()
	inbox, _ := link.Region("eu")
	conn, err := link.Dial(link.Server{URL: p.URL("eu")}, "eu", inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subject, []byte(document)); err != nil {
		t.Fatal(err)
	}
}

func (p *pop) token(t *testing.T, changes jwt.MapClaims) string {
	t.Helper()
	return edgetest.Token(t, "HS256", p.key, edgetest.Claims("gatehouse:eu", "shop", changes), nil)
}

func status(t *testing.T, address, method, token string, headers ...string) edgetest.Answer {
	t.Helper()
	return edgetest.Raw(t, address, method+" /app HTTP/1.1\nHost: pop.example\nCookie: session="+token+"\n"+strings.Join(append(headers, "\n"), "\n"))
}

func awaitStatus(t *testing.T, address, method, token string, want int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	got := 0
	for limit := time.After(15 * time.Second); ; {
		if got = status(t, address, method, token).StatusCode; got == want {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s answers %d, want %d", method, got, want)
		}
	}
}

func beat(ago time.Duration) feed.Heartbeat {
	return feed.Heartbeat{Region: "eu", At: time.Now().Add(-ago)}
}

func TestFeed_whatIsRevokedIsRefusedFromTheCacheToo(t *testing.T) {
	p := newPOP(t)
	p.publish(t, beat(0))
	address := edgetest.Run(t, p.config)
	now, exp := time.Now().Unix(), time.Now().Add(time.Hour).Unix()
	session := func(sid, sub, tenant string, authTime any) string {
		return p.token(t, jwt.MapClaims{"sid": sid, "sub": sub, "tenant_id": tenant, "auth_time": authTime})
	}
	for _, row := range []struct {
		name            string
		r               feed.Revocation
		refused, stands []string
	}{
		{"session", feed.Revocation{Issuer: "gatehouse:eu", Session: "s1", At: now, Expires: exp},
			[]string{session("s1", "u1", "acme", now)}, []string{session("s2", "u1", "acme", now)}},
		{"user", feed.Revocation{Issuer: "gatehouse:eu", Subject: "u2", Except: "kept", At: now, Expires: exp},
			[]string{session("a", "u2", "acme", now), session("b", "u2", "acme", now-3600), session("c", "u2", "acme", nil)},
			[]string{session("kept", "u2", "acme", now-5), session("new", "u2", "acme", now+1), session("a", "u3", "acme", now)}},
		{"tenant", feed.Revocation{Tenant: "globex", At: now, Expires: exp},
			[]string{session("d", "u4", "globex", now)}, []string{session("e", "u4", "globex", now+1), session("d", "u4", "other", now)}},
		{"another issuer's", feed.Revocation{Issuer: "gatehouse:us", Session: "s9", At: now, Expires: exp},
			nil, []string{session("s9", "u1", "acme", now)}},
	} {
		for _, token := range append(row.refused, row.stands...) {
			awaitStatus(t, address, "GET", token, http.StatusOK) // and is cached now
		}
		p.publish(t, row.r)
		for _, token := range row.refused {
			awaitStatus(t, address, "GET", token, http.StatusUnauthorized)
		}
		for i, token := range row.stands {
			if a := status(t, address, "GET", token); a.StatusCode != http.StatusOK {
				t.Errorf("%s: number %d of those that stand: %d %s", row.name, i, a.StatusCode, a.Body)
			}
		}
	}
	gone := session("s1", "u1", "acme", now)
	if a := status(t, address, "GET", gone); !strings.Contains(a.Header.Get("Www-Authenticate"), "invalid_token") || !strings.Contains(a.Body, "was ended") {
		t.Errorf("%v %s", a.Header, a.Body)
	}
	if a := status(t, address, "GET", gone, "Sec-Fetch-Mode: navigate"); a.StatusCode != http.StatusFound || a.Header.Get("Location") != "/login?return_to=%2Fapp" {
		t.Errorf("a navigation: %d %v", a.StatusCode, a.Header)
	}
	if a := edgetest.Raw(t, address, "GET /app HTTP/1.1\nHost: pop.example\nAuthorization: Bearer "+gone+"\n\n"); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a bearer: %d", a.StatusCode)
	}

	// What is known outlives a reload, and the server.
	p.Stop()
	for range 3 {
		if err := edgetest.Load(p.config); err != nil {
			t.Fatal(err)
		}
		if a := status(t, edgetest.Address(t), "GET", gone); a.StatusCode != http.StatusUnauthorized {
			t.Errorf("after a reload: %d", a.StatusCode)
		}
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.publish(t, beat(0), feed.Revocation{Issuer: "gatehouse:eu", Session: "s2", At: now, Expires: exp})
	awaitStatus(t, edgetest.Address(t), "GET", session("s2", "u1", "acme", now), http.StatusUnauthorized)
}

func TestFeed_aPOPThatIsCutOffReadsForAWhileAndDoesNotWrite(t *testing.T) {
	p := newPOP(t)
	token := p.token(t, nil)
	for _, row := range []struct {
		name         string
		heard        time.Duration
		read, write  int
		alsoWithHome any
	}{
		{"within max_stale", 2 * time.Second, http.StatusOK, http.StatusOK, "eu"},
		{"over max_stale", time.Minute, http.StatusOK, http.StatusServiceUnavailable, "eu"},
		{"over max_stale, no home named", time.Minute, http.StatusOK, http.StatusServiceUnavailable, nil},
		{"over max_stale_reads", time.Hour, http.StatusServiceUnavailable, http.StatusServiceUnavailable, "eu"},
	} {
		// A POP of its own each: a later heartbeat would stay.
		q := newPOP(t)
		q.publish(t, beat(row.heard))
		address := edgetest.Run(t, q.config)
		homed := q.token(t, jwt.MapClaims{"region": row.alsoWithHome})
		awaitStatus(t, address, "GET", homed, row.read)
		awaitStatus(t, address, "POST", homed, row.write)
		if row.write == http.StatusServiceUnavailable {
			a := status(t, address, "POST", homed)
			if a.Header.Get("Retry-After") == "" || !strings.Contains(a.Body, "sessions-unavailable") {
				t.Errorf("%s: %v %s", row.name, a.Header, a.Body)
			}
			if a := status(t, address, "GET", homed, "Upgrade: websocket", "Connection: upgrade"); a.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: an upgrade gets %d", row.name, a.StatusCode)
			}
		}
	}

	// Nothing was ever heard: no session can be believed.
	p.Stop()
	address := edgetest.Run(t, p.config)
	for _, method := range []string{"GET", "POST"} {
		if a := status(t, address, method, token); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s without any state: %d", method, a.StatusCode)
		}
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.publish(t, beat(0))
	awaitStatus(t, address, "POST", token, http.StatusOK)
}
