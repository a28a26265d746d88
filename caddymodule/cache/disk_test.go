package cache_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// large is a body of that many bytes, none of its parts like another.
func large(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%08d ", i)
	}
	return b.String()[:size]
}

// files are the bodies in a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "body-*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sized answers with as many bytes as the query says.
func sized(control string, asked *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		h := w.Header()
		h.Set("Cache-Control", control)
		h.Set("Content-Type", "text/plain")
		h.Set("Etag", `"`+r.URL.RawQuery+`"`)
		if r.Header.Get("If-None-Match") == h.Get("Etag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, large(size))
	}
}

func onDisk(dir, size string) string {
	return "cache {\n\t\t\tmemory 32MiB\n\t\t\tdisk " + dir + " " + size + "\n\t\t\tdisk_from 64KiB\n\t\t}"
}

const diskRoutes = "edge_cache {\n\t\tpolicy public\n\t\tmax_object 4MiB\n\t}\n\treverse_proxy ORIGIN"

// Whatever is asked of a large answer, it is the same from the disk as from memory.
func TestDisk_largeAnswers(t *testing.T) {
	var asked atomic.Int64
	o := newOrigin(t, sized("max-age=60", &asked))
	dir := filepath.Join(t.TempDir(), "not", "there")
	s := newSiteWith(t, o, onDisk(dir, "64MiB"), diskRoutes)
	const size = 1<<20 + 17
	body := large(size)
	s.get("/small?size=1000")
	s.get("/a?size="+fmt.Sprint(size)).is(t, 200, body, "fwd=uri-miss; fwd-status=200; stored")
	eventually(t, "the file", func() bool {
		return len(files(t, dir)) == 1 && strings.HasPrefix(s.get("/a?size="+fmt.Sprint(size)).cache(), "hit")
	})
	if info, err := os.Stat(files(t, dir)[0]); err != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	target := "/a?size=" + fmt.Sprint(size)
	s.get(target).is(t, 200, body, "hit")
	s.ask("HEAD", target, "").is(t, 200, "", "hit")
	s.get(target, "If-None-Match", `"size=`+fmt.Sprint(size)+`"`).is(t, 304, "", "hit")
	s.get(target, "Range", "bytes=65530-131080").is(t, 206, body[65530:131081], "hit")
	s.get(target, "Range", "bytes=-5").is(t, 206, body[size-5:], "hit")
	s.get(target, "Range", fmt.Sprint("bytes=", size)+"-").is(t, 416, "", "hit")
	several := s.get(target, "Range", "bytes=0-1,65535-65536")
	if several.StatusCode != 206 || !strings.Contains(several.body, "\r\n\r\n"+body[65535:65537]+"\r\n--") {
		t.Errorf("%d %s", several.StatusCode, several.body)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the origin was asked %d times", n)
	}
	s.ask("POST", target, "").is(t, 200, body, "fwd=method") // makes it invalid
	s.get(target).is(t, 200, body, "fwd=uri-miss")
	eventually(t, "the file of what is invalid to be gone", func() bool {
		runtime.GC()
		return len(files(t, dir)) == 1
	})
}

// A 304 leaves the body where it is.
func TestDisk_whatIsValidatedStays(t *testing.T) {
	var asked atomic.Int64
	o := newOrigin(t, sized("max-age=0, must-revalidate", &asked))
	dir := t.TempDir()
	s := newSiteWith(t, o, onDisk(dir, "64MiB"), diskRoutes)
	body := large(100_000)
	s.get("/a?size=100000").is(t, 200, body, "fwd=uri-miss")
	eventually(t, "it is stored", func() bool { return strings.HasPrefix(s.get("/a?size=100000").cache(), "fwd=stale; fwd-status=304") })
	file := files(t, dir)[0]
	for range 3 {
		s.get("/a?size=100000").is(t, 200, body, "fwd=stale; fwd-status=304")
		runtime.GC()
	}
	if got := files(t, dir); len(got) != 1 || got[0] != file {
		t.Errorf("%q, was %q", got, file)
	}
}

// What the disk does not hold as it was written is served by half at most, which no
// client takes for the whole, and is fetched again.
func TestDisk_damage(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"a byte": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{'x'}, 200_000)
			return errors.Join(err, f.Close())
		},
		"its end": func(path string) error { return os.Truncate(path, 150_000) },
		"all":     os.Remove,
	} {
		var asked atomic.Int64
		o := newOrigin(t, sized("max-age=60", &asked))
		dir := t.TempDir()
		s := newSiteWith(t, o, onDisk(dir, "64MiB"), diskRoutes)
		body := large(300_000)
		s.get("/a?size=300000")
		eventually(t, "the file", func() bool {
			return len(files(t, dir)) == 1 && strings.HasPrefix(s.ask("HEAD", "/a?size=300000", "").cache(), "hit")
		})
		if err := damage(files(t, dir)[0]); err != nil {
			t.Fatal(err)
		}
		asked.Store(0)
		res, err := s.client.Get("http://" + s.address + "/a?size=300000")
		if err == nil {
			read, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			// Where nothing was sent yet the client itself asks again.
			if !strings.HasPrefix(body, string(read)) || err == nil && (len(read) != len(body) || asked.Load() != 1) {
				t.Errorf("%s: %d bytes, %v, the origin was asked %d times", name, len(read), err, asked.Load())
			}
		}
		s.get("/a?size=300000").is(t, 200, body, "")
		if n := asked.Load(); n != 1 {
			t.Errorf("%s: the origin was asked %d times", name, n)
		}
	}
}

// More than there is room for is fetched again, and nothing goes wrong.
func TestDisk_isBounded(t *testing.T) {
	var asked atomic.Int64
	o := newOrigin(t, sized("max-age=60", &asked))
	dir := t.TempDir()
	s := newSiteWith(t, o, onDisk(dir, "1MiB"), diskRoutes)
	body := large(200_000)
	for range 3 {
		for i := range 20 {
			s.get(fmt.Sprint("/a/", i, "?size=200000")).is(t, 200, body, "*"[:0])
		}
		if got := len(files(t, dir)); got > 5 {
			t.Errorf("%d files of 200,000 bytes in 1 MiB", got)
		}
	}
	s.get("/b?size=2000000").is(t, 200, large(2_000_000), "fwd=uri-miss") // more than the disk's bound
	hits := func(target, body string) {                                   // until it is stored, who asks reads along
		t.Helper()
		eventually(t, "a hit of "+target, func() bool {
			a := s.get(target)
			a.is(t, 200, body, "")
			return strings.HasPrefix(a.cache(), "hit")
		})
	}
	hits("/b?size=2000000", large(2_000_000)) // is in memory
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.get("/c?size=300000").is(t, 200, large(300_000), "fwd=uri-miss") // cannot be written
	hits("/c?size=300000", large(300_000))
}

// A new configuration finds what is on the disk; one without it removes that.
func TestDisk_configurations(t *testing.T) {
	var asked atomic.Int64
	o := newOrigin(t, sized("max-age=60", &asked))
	dir := t.TempDir()
	s := newSiteWith(t, o, onDisk(dir, "64MiB"), diskRoutes)
	hit := func() bool { return strings.HasPrefix(s.get("/a?size=300000", "Host", "shop.example").cache(), "hit") }
	body := large(300_000)
	hit()
	eventually(t, "the file", func() bool { return len(files(t, dir)) == 1 && hit() })
	reload := func(config string) {
		t.Helper()
		if err := edgetest.Load(config); err != nil {
			t.Fatal(err)
		}
		s.address = edgetest.Address(t)
	}
	reload(s.config + "# again\n")
	if !hit() || asked.Load() != 1 {
		t.Error("it is not found again")
	}
	file := edgetest.Write(t, "file", []byte("x"))
	bad := strings.Replace(s.config, "disk "+dir, "disk "+file, 1)
	if err := edgetest.Load(bad); err == nil || !strings.Contains(err.Error(), "edge: cache: disk: ") {
		t.Errorf("a file in place of a directory: %v", err)
	}
	if s.address = edgetest.Address(t); !hit() {
		t.Error("what was refused did something")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	without := strings.Replace(s.config, onDisk(dir, "64MiB"), "", 1)
	if err := edgetest.Load(without + "http://" + taken.Addr().String() + " {\n\tbind 127.0.0.1\n\trespond x\n}\n"); err == nil {
		t.Error("a port that is taken was taken")
	}
	s.address = edgetest.Address(t)
	s.get("/b?size=300000", "Host", "shop.example")
	eventually(t, "the disk of the configuration that stands", func() bool { return hit() && len(files(t, dir)) == 2 })
	reload(without)
	eventually(t, "the files of a disk that is none any more to be gone", func() bool { return len(files(t, dir)) == 0 })
	for _, cache := range []string{"fwd=uri-miss", "hit"} {
		s.get("/a?size=300000", "Host", "shop.example").is(t, 200, body, cache)
	}
}
