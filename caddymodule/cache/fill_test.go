package cache_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// herd sends n requests at once, and gives their answers.
func (s *site) herd(n int, target string, header ...string) []got {
	s.t.Helper()
	answers := make([]got, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { answers[i] = s.get(target, header...) })
	}
	wait.Wait()
	return answers
}

// gate lets handlers through when it is opened.
type gate chan struct{}

func (g gate) wait(r *http.Request) {
	select {
	case <-g:
	case <-r.Context().Done():
	case <-time.After(20 * time.Second):
	}
}

func TestFill_oneFetchForAllWhoWait(t *testing.T) {
	first, rest := make(gate), make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "first half, ")
		_ = http.NewResponseController(w).Flush()
		close(first)
		rest.wait(r)
		_, _ = io.WriteString(w, "second half")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	const clients = 500
	var halves, done sync.WaitGroup
	results := make(chan string, clients)
	halves.Add(clients)
	for range clients {
		done.Go(func() {
			var once sync.Once
			defer once.Do(halves.Done)
			res, err := s.client.Get("http://" + s.address + "/page")
			if err != nil {
				results <- err.Error()
				return
			}
			defer res.Body.Close()
			half := make([]byte, len("first half, "))
			if _, err := io.ReadFull(res.Body, half); err != nil {
				results <- err.Error()
				return
			}
			once.Do(halves.Done) // it has what there is, while the origin is not done
			more, err := io.ReadAll(res.Body)
			results <- fmt.Sprint(string(half), string(more), err)
		})
	}
	<-first
	halves.Wait()
	close(rest)
	done.Wait()
	close(results)
	for got := range results {
		if got != "first half, second half<nil>" {
			t.Errorf("a client got %q", got)
		}
	}
	if n := o.count("/page"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
	s.get("/page").is(t, 200, "first half, second half", "hit")
}

func TestFill_outlivesTheClientWhoCausedIt(t *testing.T) {
	asked, answer := make(gate), make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "one ")
		_ = http.NewResponseController(w).Flush()
		close(asked)
		answer.wait(r)
		if r.Context().Err() != nil {
			return
		}
		_, _ = io.WriteString(w, "two")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	res, err := s.client.Get("http://" + s.address + "/page")
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	_ = res.Body.Close() // the client leaves
	s.client.CloseIdleConnections()
	close(answer)
	eventually(t, "the answer is stored", func() bool { return strings.HasPrefix(s.get("/page").cache(), "hit") })
	s.get("/page").is(t, 200, "one two", "hit")
	if n := o.count("/page"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// An answer that is not stored releases all who wait at once, and those who come after
// do not wait at all.
func TestFill_whatIsNotStoredHoldsNobody(t *testing.T) {
	const clients = 40
	var inside, most atomic.Int64
	all := make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			w.Header().Set("Cache-Control", "private")
			return
		}
		if n := inside.Add(1); n == clients {
			close(all)
		} else if n > most.Load() {
			most.Store(n)
		}
		all.wait(r) // deadlock, unless all are asked for at the same time
		w.Header().Set("Cache-Control", "private")
		_, _ = io.WriteString(w, "yours")
	})
	s := newSite(t, o, "edge_cache {\n\t\twait 500ms\n\t}\n\treverse_proxy ORIGIN")
	for _, a := range s.herd(clients, "/private") {
		a.is(t, 200, "yours", `fwd=uri-miss; fwd-status=200; detail="private"`)
	}
	if n := o.count("/private"); n != clients {
		t.Errorf("the origin was asked %d times", n)
	}
	s.get("/first").is(t, 200, "", "fwd=uri-miss")
	again := s.herd(20, "/first")
	for _, a := range again {
		a.is(t, 200, "", "fwd=uri-miss")
	}
	if n := o.count("/first"); n != 21 {
		t.Errorf("the origin was asked %d times", n)
	}
}

func TestFill_whatBreaksOffIsNeverWhole(t *testing.T) {
	for name, write := range map[string]func(http.ResponseWriter){
		"short of Content-Length": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, strings.Repeat("x", 500))
		},
		"in the midst of chunks": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, strings.Repeat("x", 500))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"chunked garbage": func(w http.ResponseWriter) {
			conn, out, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = out.WriteString("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
			_ = out.Flush()
			_ = conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Bool
			broken.Store(true)
			o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				if broken.Load() {
					write(w)
					return
				}
				_, _ = io.WriteString(w, "whole")
			})
			s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
			var wait sync.WaitGroup
			for range 5 {
				wait.Go(func() {
					res, err := s.client.Get("http://" + s.address + "/page")
					if err != nil {
						return // before the header: as good
					}
					defer res.Body.Close()
					if body, err := io.ReadAll(res.Body); err == nil && res.StatusCode == 200 {
						t.Errorf("%d bytes look like the whole", len(body))
					}
				})
			}
			wait.Wait()
			broken.Store(false)
			s.get("/page").is(t, 200, "whole", "fwd=uri-miss")
		})
	}
}

func TestFill_errorsAreEachClientsOwn(t *testing.T) {
	s := newSite(t, newOrigin(t, nil), "edge_cache\n\treverse_proxy "+edgetest.Nobody(t))
	ids := map[string]bool{}
	for _, a := range s.herd(10, "/page") {
		if a.StatusCode != 502 || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d %v", a.StatusCode, a.Header)
		}
		ids[a.Header.Get("X-Request-Id")] = true
	}
	if len(ids) != 10 {
		t.Errorf("%d request ids for 10 answers", len(ids))
	}
}

func TestFill_anOriginThatHangs(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		switch r.URL.Path {
		case "/header":
			<-r.Context().Done()
		case "/body":
			_, _ = io.WriteString(w, "some")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			_, _ = io.WriteString(w, "well")
		}
	})
	s := newSite(t, o, "edge_cache {\n\t\tidle 300ms\n\t}\n\treverse_proxy ORIGIN")
	s.get("/header").is(t, 504, "*", "fwd=uri-miss")
	res, err := s.client.Get("http://" + s.address + "/body")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%q looks like the whole", body)
	}
	s.get("/well").is(t, 200, "well", "fwd=uri-miss")
}

func TestFill_largerThanMayBeStored(t *testing.T) {
	const size = 3 << 20
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		for range size / 1024 {
			_, _ = io.WriteString(w, strings.Repeat("x", 1024))
		}
	})
	s := newSite(t, o, "edge_cache {\n\t\tmax_object 1MiB\n\t}\n\treverse_proxy ORIGIN")
	for _, path := range []string{"/length", "/unknown"} {
		for range 2 {
			if a := s.get(path); len(a.body) != size || strings.HasPrefix(a.cache(), "hit") {
				t.Errorf("%s: %d bytes, %s", path, len(a.body), a.cache())
			}
		}
	}
}

// A configuration that comes while an answer arrives changes nothing for those who
// read it, nor for those who ask afterwards.
func TestFill_outlivesAReload(t *testing.T) {
	asked, answer := make(gate), make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "one ")
		_ = http.NewResponseController(w).Flush()
		close(asked)
		answer.wait(r)
		_, _ = io.WriteString(w, "two")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	done := make(chan got, 1)
	go func() { done <- s.get("/page", "Host", "shop.example") }()
	<-asked
	loaded := make(chan error, 1)
	go func() {
		loaded <- edgetest.Load(strings.Replace(s.config, "edge_guard", "edge_guard\n\theader X-New yes", 1))
	}()
	time.Sleep(50 * time.Millisecond) // the new one is there, or soon will be
	close(answer)
	(<-done).is(t, 200, "one two", "fwd=uri-miss")
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	s.address = edgetest.Address(t)
	a := s.get("/page", "Host", "shop.example")
	a.is(t, 200, "one two", "hit")
	if a.Header.Get("X-New") != "yes" {
		t.Error("the new configuration does not answer")
	}
	// A policy that would not have stored it does not find it.
	if err := edgetest.Load(strings.Replace(s.config, "edge_cache", "edge_cache {\n\t\tmax_ttl 1s\n\t}", 1)); err != nil {
		t.Fatal(err)
	}
	s.address = edgetest.Address(t)
	o.answer = counted("Cache-Control", "max-age=60")
	s.get("/page", "Host", "shop.example").is(t, 200, "answer 1", "fwd=uri-miss")
}

func TestStale_isServedWhileItIsFetchedOnce(t *testing.T) {
	var n atomic.Int64
	slow := make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		if i == 2 {
			slow.wait(r)
		}
		w.Header().Set("Cache-Control", "max-age=1, stale-while-revalidate=60")
		fmt.Fprint(w, "version ", i)
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	s.get("/page").is(t, 200, "version 1", "fwd=uri-miss")
	eventually(t, "it is stale", func() bool { return strings.HasPrefix(s.get("/page").cache(), "hit; ttl=-") })
	for _, a := range s.herd(30, "/page") {
		a.is(t, 200, "version 1", "hit; ttl=-")
	}
	if got := n.Load(); got != 2 {
		t.Errorf("the origin was asked %d times", got)
	}
	close(slow)
	eventually(t, "the new version", func() bool { return s.get("/page").body == "version 2" })
}

func TestStale_standsInForAnOriginThatFails(t *testing.T) {
	var mode atomic.Value
	mode.Store("well")
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch mode.Load() {
		case "500":
			w.WriteHeader(500)
			return
		case "cut":
			panic(http.ErrAbortHandler)
		}
		control := "max-age=1"
		if r.URL.Path == "/kept" {
			control += ", stale-if-error=60"
		}
		w.Header().Set("Cache-Control", control)
		_, _ = io.WriteString(w, "page")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	s.get("/kept").is(t, 200, "page", "fwd=uri-miss")
	s.get("/bare").is(t, 200, "page", "fwd=uri-miss")
	time.Sleep(1100 * time.Millisecond) // freshness is in whole seconds
	for _, how := range []string{"500", "cut"} {
		mode.Store(how)
		for _, a := range s.herd(5, "/kept") {
			a.is(t, 200, "page", "hit; ttl=-")
			if !strings.Contains(a.cache(), "origin-") {
				t.Errorf("not marked: %s", a.cache())
			}
		}
		if a := s.get("/bare"); a.StatusCode < 500 {
			t.Errorf("%s: /bare is %d", how, a.StatusCode)
		}
	}
}

func TestValidation_a304FreshensWhatIsStored(t *testing.T) {
	var tag atomic.Value
	tag.Store(`"one"`)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/always" {
			w.Header().Set("Cache-Control", "no-cache")
		}
		w.Header().Set("Etag", tag.Load().(string))
		w.Header().Set("X-Asked", r.Header.Get("If-None-Match"))
		if r.Header.Get("If-None-Match") == tag.Load() {
			w.WriteHeader(304)
			return
		}
		_, _ = io.WriteString(w, "body of "+tag.Load().(string))
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	s.get("/always").is(t, 200, `body of "one"`, "fwd=uri-miss")
	a := s.get("/always", "If-None-Match", `"other"`)
	a.is(t, 200, `body of "one"`, "fwd=stale; fwd-status=304")
	if a.Header.Get("X-Asked") != `"one"` || a.Header.Get("Etag") != `"one"` {
		t.Errorf("%v", a.Header)
	}
	s.get("/always", "If-None-Match", `"one"`).is(t, 304, "", "fwd=stale; fwd-status=304")
	tag.Store(`"two"`)
	s.get("/always", "If-None-Match", `"one"`).is(t, 200, `body of "two"`, "fwd=stale; fwd-status=200")
}

func TestInterim_earlyHintsReachAllWhoWait(t *testing.T) {
	hinted, go_ := make(gate), make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Del("Link")
		close(hinted)
		go_.wait(r)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "page")
		w.Header().Set("X-Sum", "42")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	var hints atomic.Int64
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
		if status == 103 && h.Get("Link") != "" {
			hints.Add(1)
		}
		return nil
	}})
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.address+"/page", nil)
			res, err := s.client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); err != nil || string(body) != "page" || res.Trailer.Get("X-Sum") != "42" {
				t.Errorf("%q, %v, trailers %v", body, err, res.Trailer)
			}
		})
	}
	<-hinted
	eventually(t, "the hints", func() bool { return hints.Load() == 3 })
	close(go_)
	wait.Wait()
	second := s.get("/page")
	second.is(t, 200, "page", "hit")
	if second.Header.Get("Link") != "" || second.Trailer.Get("X-Sum") != "" || second.Header.Get("X-Sum") != "" {
		t.Errorf("stored with the answer: %v %v", second.Header, second.Trailer)
	}
}

func TestFill_theFirstLeavesBeforeTheHeader(t *testing.T) {
	asked, answer := make(gate), make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		answer.wait(r)
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "page")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.address+"/page", nil)
	left := make(chan error, 1)
	go func() {
		res, err := s.client.Do(r)
		if err == nil {
			_ = res.Body.Close()
		}
		left <- err
	}()
	<-asked
	second := make(chan got, 1)
	go func() { second <- s.get("/page") }()
	leave()
	if err := <-left; err == nil {
		t.Error("the first client got an answer")
	}
	time.Sleep(50 * time.Millisecond) // the server sees that it has gone
	close(answer)
	if a := <-second; a.StatusCode != 200 || a.body != "page" {
		t.Errorf("%d %s %s", a.StatusCode, a.body, a.cache())
	}
	s.get("/page").is(t, 200, "page", "hit")
}

// Variants of one page are a fetch each, however many ask for them at once.
func TestFill_oneFetchForEachVariant(t *testing.T) {
	go_ := make(gate)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Language") == "" {
			go_.wait(r)
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		_, _ = io.WriteString(w, "in "+r.Header.Get("Accept-Language"))
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	first := make(chan got, 1)
	go func() { first <- s.get("/page") }()
	eventually(t, "the first is asked for", func() bool { return o.count("/page") == 1 })
	var wait, begun sync.WaitGroup
	for i := range 60 {
		language := []string{"de", "en", "fr"}[i%3]
		begun.Add(1)
		wait.Go(func() {
			begun.Done()
			s.get("/page", "Accept-Language", language).is(t, 200, "in "+language, "")
		})
	}
	begun.Wait()
	close(go_)
	wait.Wait()
	(<-first).is(t, 200, "in ", "fwd=uri-miss")
	if n := o.count("/page"); n != 4 {
		t.Errorf("the origin was asked %d times for 4 variants", n)
	}
	s.get("/page?url=http://x").is(t, 200, "*", "fwd=uri-miss")
}

// A 304 about nothing that is stored: the origin is asked again, without a condition,
// by the same routes.
func TestValidation_a304AboutNothing(t *testing.T) {
	var n atomic.Int64
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Etag", fmt.Sprintf(`"%d"`, n.Add(1)))
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(304)
			return
		}
		_, _ = io.WriteString(w, "body of "+w.Header().Get("Etag")+" at "+r.URL.Path)
	})
	s := newSite(t, o, "edge_cache\n\thandle_path /a/* {\n\t\treverse_proxy ORIGIN\n\t}\n\thandle {\n\t\trespond nothing\n\t}")
	s.get("/a/page").is(t, 200, `body of "1" at /page`, "fwd=uri-miss")
	s.get("/a/page").is(t, 200, `body of "3" at /page`, "fwd=stale; fwd-status=200")
}
