package region_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// Every size around the limit: what is kept is sent again whole, and what is not is
// sent nowhere else.
func TestReplay_everySizeAroundTheLimit(t *testing.T) {
	const limit = 100
	p := newPOP(t, site("edge_region", "replay_limit 100B"))
	p.eu.answers(readsFirst(sendsTo("us")))
	text := bytes.Repeat([]byte("0123456789"), 2*limit)
	for size := limit - 10; size <= limit+10; size++ {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = bytes.NewReader(text[:size])
			if chunked {
				body = unknownLength{body}
			}
			before := len(p.us.requests())
			res, said := p.ask(t, "PUT", "/", body)
			all := p.us.requests()[before:]
			if size > limit {
				got := problemIn(t, res, said)
				if res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || got.Outcome != "" || len(all) != 0 {
					t.Errorf("%d bytes, chunked %v: %d %s, us saw %d", size, chunked, res.StatusCode, said, len(all))
				}
				continue
			}
			if res.StatusCode != 200 || len(all) != 1 || !bytes.Equal(all[0].body, text[:size]) {
				t.Errorf("%d bytes, chunked %v: %d %s, us saw %d", size, chunked, res.StatusCode, said, len(all))
			}
		}
	}
}

// An upload that is over the limit already when the 421 comes is not followed.
func TestReplay_aStreamOverTheLimitIsNotFollowed(t *testing.T) {
	const limit = 1 << 10
	p := newPOP(t, site("edge_region", "replay_limit 1KiB"))
	reader, writer := io.Pipe()
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, limit+1)
		sendsTo("us")(w, r)
		// net/http sends no answer over HTTP/1.1 while a read of the body waits, so
		// that the upload has to end or to go on.
		_ = writer.Close()
	})
	go func() { _, _ = writer.Write(make([]byte, limit+1)) }() // its end is not known before
	res, text := p.ask(t, "POST", "/upload", reader, "Test-Tenant: acme", "Test-Home: eu")
	if got := problemIn(t, res, text); res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || got.Outcome != "" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	if n := len(p.us.requests()); n != 0 {
		t.Errorf("us saw %d", n)
	}
	// What it taught is remembered: the next upload goes right at once, whole.
	p.us.answers(nil)
	res, text = p.ask(t, "POST", "/upload", bytes.NewReader(make([]byte, 10*limit)), "Test-Tenant: acme", "Test-Home: eu")
	if d := decided(t, res); res.StatusCode != 200 || d.Replayed || d.Reason != decision.ReasonLearnt || text != fmt.Sprintf("us POST /upload %d", 10*limit) {
		t.Errorf("%d %s %+v", res.StatusCode, text, d)
	}
}

// Two regions that each send the other's requests back: each request is tried at
// both, once, and neither is believed.
func TestReplay_twoRegionsThatDisagree(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	for i, epochs := range [][2][]string{{nil, nil}, {{"7"}, {"8"}}, {{"8"}, {"7"}}, {{"7"}, {"7"}}, {{"9223372036854775807"}, nil}} {
		p.eu.answers(readsFirst(movesTo("us", epochs[0]...)))
		p.us.answers(readsFirst(movesTo("eu", epochs[1]...)))
		for _, method := range []string{"GET", "POST", "POST", "DELETE"} {
			eu, us := len(p.eu.requests()), len(p.us.requests())
			res, text := p.ask(t, method, "/", strings.NewReader("x"), fmt.Sprintf("Test-Tenant: t%d", i), "Test-Home: eu")
			if got := problemIn(t, res, text); res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || got.Outcome != "" || res.Header.Get("Retry-After") == "" {
				t.Errorf("%v %s: %d %s", epochs, method, res.StatusCode, text)
			}
			if a, b := len(p.eu.requests())-eu, len(p.us.requests())-us; a != 1 || b != 1 {
				t.Errorf("%v %s: eu saw %d, us %d", epochs, method, a, b)
			}
		}
		// When they agree again nothing stands in the way.
		p.eu.answers(nil)
		res, _ := p.ask(t, "POST", "/", nil, fmt.Sprintf("Test-Tenant: t%d", i), "Test-Home: eu")
		if d := decided(t, res); res.StatusCode != 200 || d.Home != "eu" {
			t.Errorf("%v: %d, %s because of %s", epochs, res.StatusCode, d.Home, d.Reason)
		}
	}
}

// No header that a client makes up chooses a region, counts as an attempt, or
// reaches one.
func TestReplay_whatAClientInvents(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	invented := []string{
		"X-Home-Region: us", "X_Home_Region: us", "X-Edge-Home-Epoch: 9223372036854775807", "X-Edge-Replay: 1", "X-Edge-Replayed: true",
		"X-Edge-Attempt: 2", "X-Edge-Assertion: e30.e30.e30", "X-Edge-Served-By: us", "X-Edge-Wrote: 0/1", "X-Tenant-Id: globex", "X.Tenant.Id: globex",
	}
	fields := append([]string{"Test-Tenant: acme", "Test-Home: eu"}, invented...)
	p.eu.answers(movesTo("us", "2"))
	for _, replayed := range []bool{true, false} {
		res, text := p.ask(t, "POST", "/", strings.NewReader("x"), fields...)
		if d := decided(t, res); res.StatusCode != 200 || text != "us POST / 1" || d.Replayed != replayed || d.ServedBy != "" || d.RecentWrite {
			t.Fatalf("%d %s %+v", res.StatusCode, text, d)
		}
	}
	eu, us := p.eu.requests(), p.us.requests()
	if len(eu) != 1 || len(us) != 2 || eu[0].claims.Replay || !us[0].claims.Replay || us[1].claims.Replay {
		t.Fatalf("eu saw %d, us %d", len(eu), len(us))
	}
	for _, s := range append(eu, us...) {
		if s.refused != nil || s.claims.Tenant != "acme" || len(s.header["X-Tenant-Id"]) != 1 || len(s.header["X-Home-Region"]) != 1 || s.header.Get("X-Home-Region") != s.claims.Home {
			t.Errorf("%v %+v", s.refused, s.header)
		}
		for field := range s.header {
			if strings.HasPrefix(field, "X-Edge-") && field != "X-Edge-Assertion" || strings.ContainsAny(field, "_.") {
				t.Errorf("%s reaches a region", field)
			}
		}
	}
	// Nor does an answer's.
	p.us.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Home-Region", "eu")
		w.Header().Set("X-Edge-Home-Epoch", "99")
		w.WriteHeader(http.StatusOK) // it is no 421
	})
	res, _ := p.ask(t, "GET", "/", nil, fields...)
	if d := decided(t, res); res.StatusCode != 200 || d.Home != "us" || res.Header.Get("X-Home-Region")+res.Header.Get("X-Edge-Home-Epoch") != "" {
		t.Errorf("%d %v %+v", res.StatusCode, res.Header, d)
	}
}
