package region

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

func BenchmarkChoose(b *testing.B) {
	p := newBench(b, "")
	for _, row := range []struct {
		name  string
		setUp func(*http.Request, *decision.Decision)
	}{
		{"learnt", func(_ *http.Request, d *decision.Decision) {
			sessionOf(d, "acme")
			p.region.learnt.remember("acme", "eu", lesson{home: "us", epoch: 1})
		}},
		{"claim", func(_ *http.Request, d *decision.Decision) { sessionOf(d, "globex") }},
		{"country", func(r *http.Request, _ *decision.Decision) { r.Header.Set("Country", "US") }},
		{"POP", func(*http.Request, *decision.Decision) {}},
	} {
		b.Run(row.name, func(b *testing.B) {
			r, d := request("GET", "/app")
			row.setUp(r, d)
			b.ReportAllocs()
			for b.Loop() {
				p.region.choose(r, d)
			}
		})
	}
}

func BenchmarkServeHTTP(b *testing.B) {
	for _, rewrite := range []string{"", "/{edge.region}{uri}"} {
		b.Run("rewrite="+rewrite, func(b *testing.B) {
			p := newBench(b, rewrite)
			r, d := request("GET", "/app/orders?x=1")
			sessionOf(d, "globex")
			u, next := *r.URL, nothing{}
			b.ReportAllocs()
			for b.Loop() {
				*r.URL = u
				_ = p.region.ServeHTTP(nil, r, next)
			}
		})
	}
}

type nothing struct{}

func (nothing) ServeHTTP(http.ResponseWriter, *http.Request) error { return nil }

func BenchmarkUpstreams(b *testing.B) {
	p := newBench(b, "")
	r, d := request("GET", "/app")
	d.Region("eu", decision.ReasonPOP)
	beginExchange(d)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = p.upstreams.GetUpstreams(r)
	}
}

func BenchmarkAssertion(b *testing.B) {
	for name, method := range map[string]string{"shared": "GET", "bound": "POST"} {
		b.Run(name, func(b *testing.B) {
			p := newBench(b, "")
			_, d := request(method, "/app")
			sessionOf(d, "acme")
			d.Region("eu", decision.ReasonPOP)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.transport.assertion(&exchange{d: d}, method, "/api/orders?x=1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// stub is a region that answers at once.
type stub struct{ answer *http.Response }

func (s stub) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	return s.answer, nil
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, row := range []struct{ name, method, body string }{
		{"GET", "GET", ""},
		{"POST", "POST", `{"customerId":"c-1","totalCents":1299}`},
		{"POST 64KiB", "POST", strings.Repeat("x", 64<<10)},
	} {
		b.Run(row.name, func(b *testing.B) {
			p := newBench(b, "")
			p.transport.next = stub{&http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}}
			r, d := request(row.method, "/api/orders?x=1")
			sessionOf(d, "acme")
			d.Region("eu", decision.ReasonPOP)
			for _, field := range []string{"Accept", "Accept-Encoding", "Accept-Language", "User-Agent", "Referer", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"} {
				r.Header.Set(field, "some ordinary value")
			}
			r.Header.Set("Cookie", "theme=dark; session=secret; lang=en")
			b.ReportAllocs()
			for b.Loop() {
				out := dialled(r)
				if row.body != "" {
					out.Body, out.ContentLength = io.NopCloser(strings.NewReader(row.body)), int64(len(row.body))
				}
				beginExchange(d)
				if _, err := p.transport.RoundTrip(out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
