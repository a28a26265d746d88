package cache_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// An origin that takes longer than others wait for it: who waits no more goes alone,
// and the slow answer is stored all the same.
func TestFault_anOriginThatIsSlow(t *testing.T) {
	slow := make(gate)
	var n atomic.Int64
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		if i == 1 {
			slow.wait(r)
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("X-Answer", fmt.Sprint(i))
		_, _ = io.WriteString(w, "page")
	})
	s := newSite(t, o, "edge_cache {\n\t\twait 100ms\n\t}\n\treverse_proxy ORIGIN")
	first := make(chan got, 1)
	go func() { first <- s.get("/page") }()
	eventually(t, "the first is asked for", func() bool { return n.Load() == 1 })
	s.get("/page").is(t, 200, "page", "fwd=uri-miss") // after 100ms, alone
	s.get("/page").is(t, 200, "page", "hit")          // by then it is stored
	close(slow)
	(<-first).is(t, 200, "page", "fwd=uri-miss")
	if n := n.Load(); n != 2 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// A body that is many times the memory passes through it: to a client that is fast and
// one that is slow, of known length and of unknown.
func TestFault_aBodyLargerThanTheMemory(t *testing.T) {
	const size = 128 << 20
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		for range size / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	s := newSiteWith(t, o, "cache {\n\t\t\tmemory 8MiB\n\t\t}", "edge_cache {\n\t\tmax_object 1GiB\n\t}\n\treverse_proxy ORIGIN")
	for _, path := range []string{"/length", "/unknown"} {
		runtime.GC()
		var before, during runtime.MemStats
		runtime.ReadMemStats(&before)
		res, err := s.client.Get("http://" + s.address + path)
		if err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 256<<10)
		var read, most int64
		for {
			n, err := res.Body.Read(buffer)
			for i, b := range buffer[:n] {
				if at := read + int64(i); i%997 == 0 && b != chunk[at%16] {
					t.Fatalf("%s: byte %d is %q", path, at, b)
				}
			}
			if read>>25 != (read+int64(n))>>25 { // each 32 MiB
				runtime.GC()
				runtime.ReadMemStats(&during)
				most = max(most, int64(during.HeapInuse)-int64(before.HeapInuse))
			}
			read += int64(n)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: after %d bytes: %v", path, read, err)
			}
		}
		_ = res.Body.Close()
		if read != size || most > size/4 {
			t.Errorf("%s: %d bytes, for which the heap grew by %d", path, read, most)
		}
	}
	eventually(t, "nothing is set apart", func() bool { return counts(t, "gatehouse_edge_cache_")["gatehouse_edge_cache_reserved_bytes"] == 0 })
	if stored := counts(t, "gatehouse_edge_cache_")["gatehouse_edge_cache_objects"]; stored != 0 {
		t.Errorf("%v objects are stored", stored)
	}
}

// Thousands of variants of one page take the room of sixteen.
func TestFault_thousandsOfVariants(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "X-Theme")
		_, _ = io.WriteString(w, r.Header.Get("X-Theme")+strings.Repeat(" ", 1000))
	})
	s := newSite(t, o, "edge_cache {\n\t\theader X-Theme\n\t}\n\treverse_proxy ORIGIN")
	const clients, each = 8, 500
	var wait sync.WaitGroup
	for c := range clients {
		wait.Go(func() {
			for i := range each {
				theme := fmt.Sprint(c, "-", i)
				if a := s.get("/page", "X-Theme", theme); strings.TrimSpace(a.body) != theme {
					t.Errorf("%s got %s", theme, a.body)
				}
			}
		})
	}
	wait.Wait()
	now := counts(t, "gatehouse_edge_cache_")
	if now["gatehouse_edge_cache_objects"] > 16 || now["gatehouse_edge_cache_stored_bytes"] > 64<<10 {
		t.Errorf("%v", now)
	}
}

// A 304 with other validators than the one that was asked with is about something else,
// and the page is asked for anew; one with the same, or with none, is about the page.
func TestFault_a304WithOtherValidators(t *testing.T) {
	for name, row := range map[string]struct {
		stored, answered [2]string // ETag, Last-Modified
		anew             bool
	}{
		"the same tag":         {[2]string{`"a"`}, [2]string{`"a"`}, false},
		"another tag":          {[2]string{`"a"`}, [2]string{`"b"`}, true},
		"another weak tag":     {[2]string{`"a"`}, [2]string{`W/"b"`}, true},
		"its tag, weak":        {[2]string{`"a"`}, [2]string{`W/"a"`}, false},
		"a weak tag, strong":   {[2]string{`W/"a"`}, [2]string{`"a"`}, true},
		"a weak tag":           {[2]string{`W/"a"`}, [2]string{`W/"a"`}, false},
		"none":                 {[2]string{`"a"`}, [2]string{}, false},
		"its date":             {[2]string{"", "Mon, 02 Jan 2006 15:04:05 GMT"}, [2]string{"", "Mon, 02 Jan 2006 15:04:05 GMT"}, false},
		"another date":         {[2]string{"", "Mon, 02 Jan 2006 15:04:05 GMT"}, [2]string{"", "Mon, 02 Jan 2006 15:04:06 GMT"}, true},
		"another tag, a date":  {[2]string{`"a"`, "Mon, 02 Jan 2006 15:04:05 GMT"}, [2]string{`"b"`, "Mon, 02 Jan 2006 15:04:05 GMT"}, true},
		"a tag where none was": {[2]string{"", "Mon, 02 Jan 2006 15:04:05 GMT"}, [2]string{`"b"`, "Mon, 02 Jan 2006 15:04:05 GMT"}, true},
		"no tag at all":        {[2]string{`"a"`}, [2]string{"b"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			set := func(h http.Header, v [2]string) {
				for i, field := range [...]string{"Etag", "Last-Modified"} {
					if v[i] != "" {
						h.Set(field, v[i])
					}
				}
			}
			var n atomic.Int64
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "no-cache")
				if len(r.Header["If-None-Match"])+len(r.Header["If-Modified-Since"]) > 0 {
					set(w.Header(), row.answered)
					w.WriteHeader(304)
					return
				}
				set(w.Header(), row.stored)
				fmt.Fprint(w, "page ", n.Add(1))
			})
			s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
			s.get("/page").is(t, 200, "page 1", "fwd=uri-miss")
			if row.anew {
				s.get("/page").is(t, 200, "page 2", "fwd=stale; fwd-status=200")
			} else {
				s.get("/page").is(t, 200, "page 1", "fwd=stale; fwd-status=304")
			}
		})
	}
}

// What a 304 has for one client alone is not for those who waited for it.
func TestFault_a304ForOneClient(t *testing.T) {
	for name, h := range map[string][2]string{"a cookie": {"Set-Cookie", "basket=1"}, "private": {"Cache-Control", "private"}, "no-store": {"Cache-Control", "no-store"}} {
		t.Run(name, func(t *testing.T) {
			validated, answer := make(gate), make(gate)
			var n atomic.Int64
			var once sync.Once
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Etag", `"a"`)
				w.Header().Set("Cache-Control", "no-cache")
				if r.Header.Get("If-None-Match") != "" {
					once.Do(func() { close(validated) })
					answer.wait(r)
					w.Header().Set(h[0], h[1])
					w.Header().Set("X-For", fmt.Sprint(n.Add(1)))
					w.WriteHeader(304)
					return
				}
				_, _ = io.WriteString(w, "page")
			})
			s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
			s.get("/page").is(t, 200, "page", "fwd=uri-miss")
			answers := make(chan got, 5)
			go func() { answers <- s.get("/page") }()
			<-validated
			for range 4 {
				go func() { answers <- s.get("/page") }()
			}
			waitFor(t, "follow", 4)
			close(answer)
			seen := map[string]bool{}
			for range 5 {
				a := <-answers
				a.is(t, 200, "page", "")
				if to := a.Header.Get("X-For"); to != "" {
					if seen[to] {
						t.Errorf("%s was given to two clients", to)
					}
					seen[to] = true
				}
			}
			if a := s.get("/page"); strings.HasPrefix(a.cache(), "hit") {
				t.Errorf("stored: %s", a.cache())
			}
		})
	}
}

// waitFor waits until n goroutines are in a method of the cache.
func waitFor(t testing.TB, method string, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " in ", method), func() bool { return inside(method) >= n })
}

// inside is how many goroutines are in a method of the cache.
func inside(method string) (n int) {
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 2)
	for stack := range strings.SplitSeq(stacks.String(), "\n\n") {
		if strings.Contains(stack, "gatehouse/caddymodule/cache.") && strings.Contains(stack, ")."+method+"(") {
			n++
		}
	}
	return n
}

// Errors of the origin: whoever has something stale to stand in gets that; the others
// wait for one fetch at a time, and get its error, unless it is for one alone.
func TestFault_aStormOfErrors(t *testing.T) {
	const clients = 60
	var mode atomic.Value
	var begun gate
	mode.Store("")
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch how := mode.Load().(string); how {
		case "":
			h.Set("Cache-Control", "max-age=0, stale-if-error=60")
			_, _ = io.WriteString(w, "page")
			return
		case "a cookie":
			h.Set("Set-Cookie", "a=b")
		case "no-store":
			h.Set("Cache-Control", "no-store")
		}
		begun.wait(r)
		w.WriteHeader(503)
		_, _ = io.WriteString(w, "closed")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	storm := func(path string) []got {
		begun = make(gate)
		answers := make(chan got, clients)
		for range clients {
			go func() { answers <- s.get(path) }()
		}
		waitFor(t, "fetch", clients)
		close(begun)
		all := make([]got, clients)
		for i := range all {
			all[i] = <-answers
		}
		return all
	}
	s.get("/kept").is(t, 200, "page", "fwd=uri-miss")
	mode.Store("503")
	for _, a := range storm("/kept") {
		a.is(t, 200, "page", "hit; ttl=")
	}
	if n := o.count("/kept"); n > 3 {
		t.Errorf("with a stale answer the origin was asked %d times", n)
	}
	for _, a := range storm("/none") {
		a.is(t, 503, "closed", "fwd=uri-miss")
	}
	if n := o.count("/none"); n > 2 {
		t.Errorf("without one the origin was asked %d times", n)
	}
	s.get("/none").is(t, 503, "closed", `fwd=uri-miss; fwd-status=503; detail="`)
	for _, how := range []string{"a cookie", "no-store"} {
		mode.Store(how)
		path := "/" + strings.ReplaceAll(how, " ", "-")
		for _, a := range storm(path) {
			a.is(t, 503, "closed", "fwd=uri-miss")
		}
		if n := o.count(path); n != clients {
			t.Errorf("%s: the origin was asked %d times", how, n)
		}
	}
}

// Clocks that are wrong make nothing fresh for longer than it says, and harm nobody.
func TestFault_clocksThatAreWrong(t *testing.T) {
	now := time.Now().UTC()
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for name, values := range r.URL.Query() {
			w.Header()[name] = values
		}
		_, _ = io.WriteString(w, "page")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	date := func(d time.Duration) string {
		return strings.ReplaceAll(now.Add(d).Format(http.TimeFormat), " ", "%20")
	}
	for name, row := range map[string]struct {
		query string
		ttl   string // what is left at first; "": it is stale, or not stored
	}{
		"Date an hour ahead":       {"Date=" + date(time.Hour), "60"},
		"Date a year ahead":        {"Date=" + date(365*24*time.Hour), "60"},
		"Date half a minute ago":   {"Date=" + date(-30*time.Second), "3"}, // thirty or so
		"Date an hour ago":         {"Date=" + date(-time.Hour), "-"},
		"Date of 1970":             {"Date=Thu,%2001%20Jan%201970%2000:00:00%20GMT", "-"},
		"Date that is none":        {"Date=yesterday", "60"},
		"Age of an hour":           {"Age=3600", "-354"},
		"Age beyond all bounds":    {"Age=99999999999999999999999", "-"},
		"Age below zero":           {"Age=-5", "60"},
		"two of Age":               {"Age=10&Age=3600", "50"},
		"max-age beyond all":       {"Cache-Control=max-age%3D99999999999999999999999", "2147483648"},
		"Expires ahead of its own": {"Cache-Control=public&Date=" + date(time.Hour) + "&Expires=" + date(time.Hour+time.Minute), "60"},
		"Expires, both in 1980":    {"Cache-Control=public&Date=Tue,%2001%20Jan%201980%2000:00:00%20GMT&Expires=Tue,%2001%20Jan%201980%2000:01:00%20GMT", "-"},
	} {
		a := s.get("/page?" + row.query)
		_, ttl, ok := strings.Cut(a.cache(), "ttl=")
		if row.ttl == "-" && !ok { // not worth to be stored
			continue
		}
		if !strings.HasPrefix(ttl, row.ttl) {
			t.Errorf("%s: %s, want a ttl of %s", name, a.cache(), row.ttl)
		}
		if b := s.get("/page?" + row.query); strings.HasPrefix(b.cache(), "hit") == strings.HasPrefix(row.ttl, "-") {
			t.Errorf("%s: then %s", name, b.cache())
		}
	}
}

// The cache takes no coding apart: what says gzip and is none passes as it is.
func TestFault_aCodingThatIsNone(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, strings.Repeat("text ", 100))
	_ = z.Close()
	bodies := map[string]string{"/plain": strings.Repeat("plain text ", 100), "/cut": packed.String()[:packed.Len()/2], "/well": packed.String(), "/empty": ""}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Vary", "Accept-Encoding")
		_, _ = io.WriteString(w, bodies[r.URL.Path])
	})
	for _, outside := range []string{"", "encode\n\t"} {
		s := newSite(t, o, outside+"edge_cache\n\treverse_proxy ORIGIN")
		for path, body := range bodies {
			for _, cache := range []string{"fwd=uri-miss", "hit"} {
				a := s.get(path, "Accept-Encoding", "gzip")
				a.is(t, 200, body, cache)
				if a.Header.Get("Content-Encoding") != "gzip" || a.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
					t.Errorf("%s: %v", path, a.Header)
				}
			}
		}
	}
}

// An object that grows while its parts are asked for: parts of two states are never put
// together, and a 206 that is not what it says is nobody's.
func TestFault_rangesOfAnObjectThatGrows(t *testing.T) {
	var state atomic.Value // what the origin has, and its tag
	type content struct{ body, tag string }
	state.Store(content{"0123456789", `"one"`})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		c := state.Load().(content)
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		if c.tag != "" {
			h.Set("Etag", c.tag)
		}
		var first, last int
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); n != 2 {
			_, _ = io.WriteString(w, c.body)
			return
		}
		part := c.body[first : last+1]
		switch r.URL.Path {
		case "/short":
			h.Set("Content-Length", strconv.Itoa(len(part)))
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(c.body)))
			w.WriteHeader(206)
			_, _ = io.WriteString(w, part[1:])
			return
		case "/other-length":
			h.Set("Content-Length", strconv.Itoa(len(part)-1))
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(c.body)))
			w.WriteHeader(206)
			_, _ = io.WriteString(w, part[1:])
			return
		case "/other-part":
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first+1, last+1, len(c.body)))
		case "/backwards":
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", last, first, len(c.body)))
		case "/beyond":
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, last))
		case "/unknown":
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", first, last))
		default:
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(c.body)))
		}
		h.Set("Content-Length", strconv.Itoa(len(part)))
		w.WriteHeader(206)
		_, _ = io.WriteString(w, part)
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	part := func(path, span string) got { return s.get(path, "Range", "bytes="+span) }
	stored := func(path, span string) bool {
		a := part(path, span)
		return strings.HasPrefix(a.cache(), "hit")
	}

	// Two that meet are the whole.
	part("/same", "0-4").is(t, 206, "01234", "fwd=uri-miss")
	part("/same", "5-9").is(t, 206, "56789", "fwd=partial")
	a := s.get("/same")
	a.is(t, 200, "0123456789", "hit")
	if a.Header.Get("Content-Length") != "10" || a.Header.Get("Content-Range") != "" {
		t.Errorf("%v", a.Header)
	}
	s.ask("HEAD", "/same", "").is(t, 200, "", "hit")
	part("/same", "3-6").is(t, 206, "3456", "hit")

	// They overlap, they are out of order, one is within the other.
	part("/overlap", "4-9").is(t, 206, "456789", "fwd=uri-miss")
	part("/overlap", "0-6").is(t, 206, "0123456", "fwd=partial")
	s.get("/overlap").is(t, 200, "0123456789", "hit")
	part("/within", "1-8").is(t, 206, "12345678", "fwd=uri-miss")
	part("/within", "2-3").is(t, 206, "23", "hit")
	part("/within", "0-8").is(t, 206, "012345678", "fwd=partial")
	s.get("/within").is(t, 200, "0123456789", "fwd=partial")

	// Another state.
	for path, next := range map[string]content{
		"/new-tag":     {"abcdefghij", `"two"`},
		"/new-size":    {"0123456789ab", `"one"`},
		"/weak":        {"0123456789", `W/"one"`},
		"/without-tag": {"abcdefghij", ""},
	} {
		state.Store(content{"0123456789", `"one"`})
		part(path, "0-4").is(t, 206, "01234", "fwd=uri-miss")
		state.Store(next)
		part(path, "5-9").is(t, 206, next.body[5:10], "fwd=partial")
		if a := s.get(path); a.body != next.body {
			t.Errorf("%s: %q", path, a.body)
		}
		for _, span := range []string{"0-4", "5-9", "3-6"} {
			var first, last int
			_, _ = fmt.Sscanf(span, "%d-%d", &first, &last)
			if a := part(path, span); a.StatusCode != 206 || a.body != next.body[first:last+1] {
				t.Errorf("%s %s: %d %q", path, span, a.StatusCode, a.body)
			}
		}
	}

	// Not what it says.
	state.Store(content{"0123456789", `"one"`})
	for _, path := range []string{"/other-length", "/backwards", "/beyond", "/unknown"} {
		part(path, "2-5")
		if path != "/unknown" && stored(path, "2-5") {
			t.Errorf("%s is stored", path)
		}
		part(path, "0-1")
		part(path, "6-9")
		s.get(path).is(t, 200, "0123456789", "fwd=")
	}
	if res, err := s.client.Do(withRange(t, "http://"+s.address+"/short", "bytes=2-5")); err == nil {
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err == nil {
			t.Errorf("%q looks like four bytes", body)
		}
	}
	s.get("/short").is(t, 200, "0123456789", "fwd=uri-miss")
	part("/other-part", "2-5")
	part("/other-part", "3-6").is(t, 206, "*", "hit") // as it says
}

func withRange(t testing.TB, target, span string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Range", span)
	return r
}

// A range that the origin refuses is one client's, and has nobody else go alone.
func TestFault_aRangeBeyondTheEnd(t *testing.T) {
	first, go_ := make(gate), make(gate)
	var once sync.Once
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", "bytes */4")
			w.WriteHeader(416)
			return
		}
		once.Do(func() { close(first) })
		go_.wait(r)
		_, _ = io.WriteString(w, "page")
	})
	s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
	s.get("/page", "Range", "bytes=1000-").is(t, 416, "", "fwd=uri-miss")
	answers := make(chan got, 20)
	for range 20 {
		go func() { answers <- s.get("/page") }()
	}
	<-first
	waitFor(t, "fetch", 20)
	close(go_)
	for range 20 {
		(<-answers).is(t, 200, "page", "")
	}
	if n := o.count("/page"); n != 2 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// A configuration that has no cache any more, and the end of all, while answers arrive
// that would be stored: what is for the store alone ends, though its origin does not,
// and whoever reads reads on.
func TestFault_theEndOfTheConfiguration(t *testing.T) {
	for name, end := range map[string]func(s *site) error{
		"without the cache": func(s *site) error { return edgetest.Load(strings.Replace(s.config, "edge_cache", "", 1)) },
		"stopped":           func(*site) error { return caddy.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			answer := make(gate)
			var asked atomic.Int64
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				if r.URL.Path == "/header" {
					<-r.Context().Done()
					return
				}
				w.Header().Set("Cache-Control", "max-age=60")
				_, _ = io.WriteString(w, "one ")
				_ = http.NewResponseController(w).Flush()
				if r.URL.Path == "/body" || r.URL.Path == "/left" {
					<-r.Context().Done()
					return
				}
				answer.wait(r)
				_, _ = io.WriteString(w, "two")
			})
			s := newSite(t, o, "edge_cache\n\treverse_proxy ORIGIN")
			begin := func(path string) (leave func()) {
				ctx, cancel := context.WithCancel(t.Context())
				r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.address+path, nil)
				left, before := make(chan struct{}), asked.Load()
				go func() {
					defer close(left)
					if res, err := s.client.Do(r); err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
					}
				}()
				eventually(t, path+" is asked for", func() bool { return asked.Load() > before })
				return func() { cancel(); <-left }
			}
			begin("/header")() // they leave, and the fetches go on for the store
			begin("/body")()
			eventually(t, "the clients have left", func() bool { return inside("lead") == 0 && inside("run") == 2 })
			leave := begin("/left")
			done := make(chan got, 1)
			go func() { done <- s.get("/page") }()
			eventually(t, "all are asked for", func() bool { return asked.Load() == 4 && inside("stream") == 2 })
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			eventually(t, "those that are read go on", func() bool { return inside("run") == 2 })
			leave()
			eventually(t, "the one that is read goes on", func() bool { return inside("run") == 1 })
			close(answer)
			(<-done).is(t, 200, "one two", "fwd=uri-miss")
			eventually(t, "nothing goes on", func() bool { return inside("run") == 0 })
		})
	}
}
