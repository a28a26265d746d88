package region_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// fallbackSite has a route whose fallback is us, and one where us has a replica.
func fallbackSite(more string) string {
	return `edge_guard
test_session
handle /replica/* {
	edge_region {
		fallback us {
			replica
		}
		writes /replica/confirm
		reads {
			method POST
			path /replica/search
		}
	}
	` + proxyWith(more) + `
}
handle {
	@confirm path /confirm
	edge_region {
		fallback us
		writes @confirm
		reads /search
	}
	` + proxyWith(more) + `
}`
}

func proxyWith(more string) string {
	return "reverse_proxy {\ndynamic edge_region\ntransport edge\n" + more + "\n}"
}

func TestFallback_whoMayBeAnsweredElsewhereWhenHomeIsDown(t *testing.T) {
	_, source := keys(t)
	for _, more := range []string{"", "lb_retries 2\nlb_try_interval 1ms\nlb_retry_match {\nmethod GET POST PUT DELETE\n}"} {
		p := &pop{us: newRegion(t, "us", source)}
		forget(t)
		p.loadRegions(t, edgetest.Nobody(t), p.us.addr(), fallbackSite(more))
		const acme = "Test-Tenant: acme"
		for _, row := range []struct {
			method, target string
			fields         []string
			us             bool
		}{
			{"GET", "/", nil, true},
			{"HEAD", "/", nil, true},
			{"OPTIONS", "/", nil, true},
			{"GET", "/", []string{acme}, false},
			{"GET", "/replica/", []string{acme}, true},
			{"HEAD", "/replica/", []string{acme, "Test-Bearer: 1"}, true},
			{"POST", "/", nil, false},
			{"PUT", "/", []string{"Idempotency-Key: k"}, false},
			{"DELETE", "/replica/", []string{acme}, false},
			{"PATCH", "/replica/", nil, false},
			{"REPORT", "/replica/", nil, false},
			{"get", "/", nil, false},
			{"POST", "/replica/", []string{acme, "X-HTTP-Method-Override: GET"}, false},
			// by the configuration's word
			{"GET", "/confirm", nil, false},
			{"GET", "/replica/confirm", []string{acme}, false},
			{"HEAD", "/replica/confirm", nil, false},
			{"POST", "/search", nil, true},
			{"POST", "/search", []string{acme}, false},
			{"POST", "/replica/search", []string{acme}, true},
			{"PUT", "/replica/search", []string{acme}, false}, // its block names POST
			// what comes after an upgrade nobody sees
			{"GET", "/", []string{"Connection: Upgrade", "Upgrade: websocket"}, false},
			// nobody's word but the edge's
			{"GET", "/", []string{acme, "X-Edge-Served-By: us", "X-Edge-Wrote: 0/1"}, false},
		} {
			t.Run(fmt.Sprintf("%s %s %v, retries %v", row.method, row.target, row.fields, more != ""), func(t *testing.T) {
				before := len(p.us.requests())
				res, text := p.ask(t, row.method, row.target, strings.NewReader(""), append(row.fields, "Test-Home: eu")...)
				d := decided(t, res)
				if d.Home != "eu" {
					t.Errorf("home is %s because of %s", d.Home, d.Reason)
				}
				if !row.us {
					if row.method != "HEAD" {
						if got := problemIn(t, res, text); got.Name() != problem.RegionUnavailable || got.Outcome != "" {
							t.Errorf("%s", text)
						}
					}
					if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || res.Header.Get("X-Edge-Served-By") != "" || d.ServedBy != "" || d.Outcome != decision.OutcomeUnavailable {
						t.Errorf("%d %s, served by %q %q", res.StatusCode, text, res.Header.Get("X-Edge-Served-By"), d.ServedBy)
					}
					if n := len(p.us.requests()) - before; n != 0 {
						t.Errorf("us saw %d requests", n)
					}
					return
				}
				if res.StatusCode != 200 || res.Header.Get("X-Edge-Served-By") != "us" || d.ServedBy != "us" {
					t.Fatalf("%d %s, served by %q %q", res.StatusCode, text, res.Header.Get("X-Edge-Served-By"), d.ServedBy)
				}
				all := p.us.requests()
				if len(all) != before+1 {
					t.Fatalf("us saw %d requests", len(all)-before)
				}
				// It is told whose region it stands for, and may believe it.
				s := all[before]
				if s.refused != nil || s.claims.Home != "eu" || s.header.Get("X-Home-Region") != "eu" || s.claims.Audience[0] != "us" || s.claims.Replay {
					t.Errorf("%v %+v", s.refused, s.claims)
				}
			})
		}
	}
}

// A region that broke off may be followed by another for a read; one that takes too
// long has used up the client's patience, and one that answers has answered.
func TestFallback_afterSomethingWasSent(t *testing.T) {
	_, source := keys(t)
	var behave atomic.Value // func(net.Conn)
	eu := rawRegion(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		behave.Load().(func(net.Conn))(conn)
	})
	p := &pop{us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, eu, p.us.addr(), `edge_guard
test_session
edge_region {
	fallback us
	reads /search
}
reverse_proxy {
	dynamic edge_region
	transport edge {
		response_header_timeout 200ms
	}
}`)
	says := func(text string) func(net.Conn) {
		return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
	}
	for _, row := range []struct {
		name           string
		behave         func(net.Conn)
		method, target string
		body           string
		status         int
		us             int
	}{
		{"closes", says(""), "GET", "/", "", 200, 1},
		{"closes", says(""), "POST", "/search", "what", 200, 1},
		{"closes", says(""), "POST", "/", "what", 502, 0},
		{"breaks off in the header", says("HTTP/1.1 200 OK\r\nConte"), "GET", "/", "", 200, 1},
		{"hangs", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }, "GET", "/", "", 504, 0},
		{"answers 503", says("HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"), "GET", "/", "", 503, 0},
		{"answers 500", says("HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"), "GET", "/", "", 500, 0},
	} {
		t.Run(row.name+" "+row.method+" "+row.target, func(t *testing.T) {
			behave.Store(row.behave)
			before := len(p.us.requests())
			res, text := p.ask(t, row.method, row.target, strings.NewReader(row.body))
			if n := len(p.us.requests()) - before; res.StatusCode != row.status || n != row.us {
				t.Fatalf("%d %s, us saw %d", res.StatusCode, text, n)
			}
			if row.us == 1 && text != fmt.Sprintf("us %s %s %d", row.method, row.target, len(row.body)) {
				t.Error(text)
			}
		})
	}
}

// What is known of the home region's health spares the attempt, for a write too.
func TestFallback_byTheCircuitBreaker(t *testing.T) {
	_, source := keys(t)
	var dials atomic.Int32
	eu := rawRegion(t, func(net.Conn) { dials.Add(1) })
	p := &pop{us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, eu+"\nbreaker {\nfailures 1\nopen 10m\nmax_open 10m\n}", p.us.addr(), fallbackSite(""))
	if res, text := p.ask(t, "GET", "/", nil); res.StatusCode != 200 || res.Header.Get("X-Edge-Served-By") != "us" {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
	n := dials.Load()
	for range 3 {
		if res, text := p.ask(t, "GET", "/", nil); res.StatusCode != 200 || res.Header.Get("X-Edge-Served-By") != "us" {
			t.Errorf("%d %s", res.StatusCode, text)
		}
		if res, text := p.ask(t, "POST", "/", nil); res.StatusCode != 503 {
			t.Errorf("%d %s", res.StatusCode, text)
		}
	}
	if dials.Load() != n {
		t.Errorf("eu was dialled %d times more", dials.Load()-n)
	}
	for _, s := range p.us.requests() {
		if s.method != "GET" {
			t.Errorf("us saw a %s", s.method)
		}
	}
}

func TestFallback_thatSendsElsewhere(t *testing.T) {
	_, source := keys(t)
	p := &pop{us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, edgetest.Nobody(t), p.us.addr(), fallbackSite(""))
	for _, home := range []string{"eu", "us", "mars"} {
		p.us.answers(sendsTo(home))
		before := len(p.us.requests())
		res, text := p.ask(t, "GET", "/replica/", nil, "Test-Tenant: acme", "Test-Home: eu")
		if got := problemIn(t, res, text); res.StatusCode != 503 || got.Name() != problem.RegionUnavailable || len(p.us.requests()) != before+1 {
			t.Errorf("%s: %d %s, us saw %d", home, res.StatusCode, text, len(p.us.requests())-before)
		}
		if d := decided(t, res); d.Home != "eu" || d.ServedBy != "" {
			t.Errorf("%s: %+v", home, d)
		}
	}
}

// A read is answered at home for as long as home answers, whatever may be asked
// besides.
func TestFallback_isNotAskedWhileHomeAnswers(t *testing.T) {
	p := newPOP(t, fallbackSite(""))
	for range 3 {
		res, text := p.ask(t, "GET", "/", nil)
		if res.StatusCode != 200 || text != "eu GET / 0" || res.Header.Get("X-Edge-Served-By") != "" {
			t.Errorf("%d %s", res.StatusCode, text)
		}
	}
	// No region passes for another.
	p.eu.answers(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Edge-Served-By", "us") })
	if res, _ := p.ask(t, "GET", "/", nil); res.Header.Get("X-Edge-Served-By") != "" {
		t.Error("the region's own word is passed on")
	}
	if n := len(p.us.requests()); n != 0 {
		t.Errorf("us saw %d", n)
	}
}

// net/http sends a GET again, by itself, whose connection the region closes. Not
// one that writes.
func TestFallback_aGETThatWritesIsSentOnce(t *testing.T) {
	_, source := keys(t)
	var seen atomic.Int32
	eu := rawRegion(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
				t.Errorf("the GET has a body: %d, %v", r.ContentLength, r.TransferEncoding)
			}
			if r.URL.Path == "/confirm" {
				seen.Add(1)
				return // seen, and closed
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	p := &pop{us: newRegion(t, "us", source)}
	forget(t)
	p.loadRegions(t, eu, p.us.addr(), fallbackSite("lb_retries 3\nlb_try_interval 1ms"))
	for _, fields := range [][]string{nil, {"Idempotency-Key: k"}} {
		seen.Store(0)
		if res, text := p.ask(t, "GET", "/warm", nil); res.StatusCode != 200 {
			t.Fatal(res.StatusCode, text)
		}
		res, text := p.ask(t, "GET", "/confirm", nil, fields...)
		got := problemIn(t, res, text)
		if res.StatusCode != 502 || got.Outcome != problem.OutcomeUnknown || seen.Load() != 1 {
			t.Errorf("%d %s, the region saw it %d times", res.StatusCode, text, seen.Load())
		}
		if retry := res.Header.Get("Retry-After") != ""; retry != (fields != nil) {
			t.Errorf("Retry-After %q with %v", res.Header.Get("Retry-After"), fields)
		}
	}
	if n := len(p.us.requests()); n != 0 {
		t.Errorf("us saw %d", n)
	}
}

// What anyone can send again must not write, whatever its method.
func TestFallback_aGETThatWritesInEarlyDataIs425(t *testing.T) {
	p := newPOP(t, fallbackSite(""))
	for target, want := range map[string]int{"/confirm": http.StatusTooEarly, "/": http.StatusOK} {
		if res, text := p.ask(t, "GET", target, nil, "Early-Data: 1"); res.StatusCode != want {
			t.Errorf("%s: %d %s", target, res.StatusCode, text)
		}
	}
	for _, s := range p.eu.requests() {
		if s.target != "/" {
			t.Errorf("eu saw %s", s.target)
		}
	}
}
