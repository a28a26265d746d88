package region_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// What a region says to the edge, and what only the edge may say, is not for the
// client: neither in an answer nor in one that comes before it.
func TestTransport_aRegionsWordToTheEdgeStaysThere(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, field := range []string{"X-Home-Region", "X-Edge-Wrote", "X-Edge-Served-By", "X-Edge-Assertion", "X-Tenant-Id", "X-Request-Id", "X_Tenant_Id", "Traceparent"} {
			h.Set(field, "from-the-region")
		}
		h["x-edge-lower"] = []string{"from-the-region"}
		h.Set("X-Other", "kept")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "body")
	})
	answer := p.raw(t, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	if strings.Contains(answer, "from-the-region") {
		t.Errorf("the client sees it:\n%s", answer)
	}
	if !strings.HasPrefix(answer, "HTTP/1.1 103 ") || strings.Count(answer, "X-Other: kept") != 2 || !strings.Contains(answer, "body") {
		t.Errorf("the rest is lost:\n%s", answer)
	}
}

// An answer that carries a session is nobody else's, whatever the region says of
// it and of how it may be kept.
func TestTransport_anAnswerWithASessionIsStoredByNobody(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	for _, row := range []struct {
		name    string
		cookies []string
		private bool
	}{
		{"a session", []string{"session=eyJ.x.y; Path=/; HttpOnly"}, true},
		{"a session taken away", []string{"session=; Max-Age=0"}, true},
		{"the second of two", []string{"theme=dark", " session =x"}, true},
		{"another cookie", []string{"theme=dark; Path=/session=x"}, false},
		{"another name", []string{"sessions=x", "Session=x", "x=session=y"}, false},
		{"none", nil, false},
	} {
		for _, method := range []string{"GET", "POST"} {
			p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
				h := w.Header()
				h.Set("Cache-Control", "public, max-age=60")
				h.Set("CDN-Cache-Control", "max-age=600")
				h.Set("Surrogate-Control", "max-age=600")
				h.Set("Expires", "Thu, 01 Jan 2099 00:00:00 GMT")
				for _, c := range row.cookies {
					h.Add("Set-Cookie", c)
				}
			})
			res, _ := p.ask(t, method, "/", nil)
			said := res.Header.Get("Cache-Control")
			shared := res.Header.Get("CDN-Cache-Control") + res.Header.Get("Surrogate-Control") + res.Header.Get("Expires")
			if (said == "no-store" && shared == "") != row.private || !row.private && said != "public, max-age=60" {
				t.Errorf("%s, %s: Cache-Control %q and %q", row.name, method, said, shared)
			}
			if len(res.Header.Values("Set-Cookie")) != len(row.cookies) {
				t.Errorf("%s: cookies %q", row.name, res.Header.Values("Set-Cookie"))
			}
		}
	}
}

// Caddy can retry for the sake of an answer too (lb_retry_match with
// {rp.status_code}). A region that answered a write may have done it.
func TestFailure_aWriteThatWasAnsweredIsNotSentAgain(t *testing.T) {
	p := newPOP(t, `edge_guard
test_session
edge_region
reverse_proxy {
	dynamic edge_region
	lb_retries 3
	lb_try_interval 1ms
	lb_retry_match {
		expression "{rp.status_code} == 503"
	}
	transport edge
}`)
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	for _, row := range []struct {
		method string
		seen   int
	}{{"POST", 1}, {"DELETE", 1}, {"GET", 4}} {
		before := len(p.eu.requests())
		res, text := p.ask(t, row.method, "/", strings.NewReader("x"))
		if seen := len(p.eu.requests()) - before; seen != row.seen {
			t.Errorf("%s: the region saw it %d times, want %d", row.method, seen, row.seen)
		}
		if row.method == "GET" {
			continue
		}
		if got := problemIn(t, res, text); res.StatusCode != 502 || got.Name() != problem.RegionFailed || got.Outcome != problem.OutcomeUnknown {
			t.Errorf("%s: %d %s", row.method, res.StatusCode, text)
		}
	}
}

// A region is told who the user is by the assertion: it needs no token, on a
// route without edge_session either.
func TestTransport_bearerTokenTravelsWhereAsked(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	for _, row := range []struct{ sent, forward, want string }{
		{"Bearer a.b.c", "", ""},
		{"bearer\ta", "", ""},
		{"BEARER", "", ""},
		{"Bearer a.b.c", "1", "Bearer a.b.c"},
		{"Basic YTpi", "", "Basic YTpi"},
		{"Bearerish x", "", "Bearerish x"},
	} {
		before := len(p.eu.requests())
		fields := []string{"Authorization: " + row.sent}
		if row.forward != "" {
			fields = append(fields, "Test-Forward: 1")
		}
		p.ask(t, "GET", "/", nil, fields...)
		if got := p.eu.requests()[before].header.Get("Authorization"); got != row.want {
			t.Errorf("%q (asked for: %q): the region sees %q, want %q", row.sent, row.forward, got, row.want)
		}
	}
}

// A key that the client named in Connection has not reached the region: with it
// no retry is safe.
func TestFailure_onlyAKeyThatTheRegionSawMakesARetrySafe(t *testing.T) {
	p := newPOP(t, site("edge_region", ""))
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	for connection, want := range map[string]bool{"close": true, "close, idempotency-key": false} {
		answer := p.raw(t, "POST / HTTP/1.1\r\nHost: x\r\nConnection: "+connection+"\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 502") || strings.Contains(answer, "\r\nRetry-After: ") != want {
			t.Errorf("Connection: %s: retry is to be said safe: %v\n%s", connection, want, answer)
		}
	}
}
