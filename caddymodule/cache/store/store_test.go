package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
)

// object is one of so many bytes.
func object(s *Store, size int, tags Tags) *Object {
	return &Object{
		Stored: rfc9111.Stored{Status: 200, Header: http.Header{"Content-Type": {"text/plain"}}},
		Body:   Body{Pieces: [][]byte{make([]byte, size)}, Size: int64(size)}, Tags: tags, Ticket: s.Begin(),
	}
}

func put(s *Store, key string, o *Object) bool {
	defer o.Ticket.End()
	return s.Put(key, o)
}

// consistent holds the books against what is there.
func consistent(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *Store) {
	t.Helper()
	var weight int64
	objects, resources := 0, 0
	s.Each(func(key string, all []*Object) bool {
		weight += resourceOverhead + 2*int64(len(key))
		for _, o := range all {
			weight += o.Weight()
		}
		objects += len(all)
		resources++
		return true
	})
	stats := s.Stats()
	if stats.Stored != weight || stats.Objects != objects || stats.Resources != resources {
		t.Fatalf("the books say %+v, there are %d bytes, %d objects, %d resources", stats, weight, objects, resources)
	}
	if stats.Stored+stats.Reserved > stats.Limit {
		t.Fatalf("over the limit: %+v", stats)
	}
}

// A model of the store: whatever is done, the books are right, the limit holds, and
// nothing that a purge has reached is valid.
func TestStore_modelHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := New(1 << 20)
		defer s.Close()
		type fact struct {
			o     *Object
			began int
		}
		known := map[string]fact{}
		purges := []struct {
			p    Purge
			step int
		}{}
		var held int64
		step := 0
		reached := func(p Purge, o *Object) bool {
			if !p.Everyone && p.Tenant != o.Tags.Tenant || p.Host != "" && p.Host != o.Tags.Host {
				return false
			}
			switch p.Reach {
			case Group:
				for _, g := range o.Tags.Groups {
					if g == p.Value {
						return true
					}
				}
				return false
			case URI:
				return p.Value == o.Tags.URI
			case Prefix:
				return strings.HasPrefix(o.Tags.URI, p.Value)
			}
			return true
		}
		name := rapid.StringMatching(`[ab]{1,2}`)
		tenant := rapid.SampledFrom([]string{"", "acme", "globex"})
		var open []*Object // fills that have begun
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				step++
				o := object(s, rapid.IntRange(0, 20<<10).Draw(t, "size"), Tags{
					Tenant: tenant.Draw(t, "tenant"), Host: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "host"),
					URI: "/" + name.Draw(t, "uri"), Groups: []string{name.Draw(t, "group")},
				})
				o.Extra = int64(step) // remembers when it began, and must not weigh on the books
				open = append(open, o)
			},
			"store": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing has begun")
				}
				step++
				o := open[0]
				open = open[1:]
				key := o.Tags.Tenant + " " + o.Tags.Host + o.Tags.URI
				if put(s, key, o) {
					known[key] = fact{o, int(o.Extra)}
				}
			},
			"purge": func(t *rapid.T) {
				step++
				p := Purge{
					Reach: rapid.SampledFrom([]Reach{All, Group, URI, Prefix}).Draw(t, "reach"), Tenant: tenant.Draw(t, "tenant"),
					Everyone: rapid.Bool().Draw(t, "everyone"), Host: rapid.SampledFrom([]string{"", "x"}).Draw(t, "host"),
					Soft: rapid.Bool().Draw(t, "soft"),
				}
				switch p.Reach {
				case Group:
					p.Value = name.Draw(t, "group")
				case URI, Prefix:
					p.Value = "/" + name.Draw(t, "uri")
				case All:
				}
				if p.Everyone {
					p.Tenant = ""
				}
				valid := func() (n int) {
					s.Each(func(_ string, objects []*Object) bool {
						for _, o := range objects {
							if s.Standing(o) != Invalid {
								n++
							}
						}
						return true
					})
					return n
				}
				counted, before := s.Reached(p), valid()
				s.Purge(p)
				if gone := before - valid(); !p.Soft && gone != counted {
					t.Fatalf("%+v: %d are reached, %d are gone", p, counted, gone)
				}
				purges = append(purges, struct {
					p    Purge
					step int
				}{p, step})
			},
			"sweep": func(*rapid.T) { s.Sweep() },
			"reserve": func(t *rapid.T) {
				if n := rapid.Int64Range(1, 100<<10).Draw(t, "bytes"); s.Reserve(n) {
					held += n
				}
			},
			"release": func(*rapid.T) { s.Release(held); held = 0 },
			"": func(t *rapid.T) {
				consistent(t, s)
				for key, f := range known {
					want := Valid
					for _, p := range purges {
						if p.step > f.began && reached(p.p, f.o) {
							if p.p.Soft {
								want = max(want, Stale)
							} else {
								want = Invalid
							}
						}
					}
					for _, o := range s.Get(key) {
						if got := s.Standing(o); o == f.o && got != want {
							t.Fatalf("%q is %d, want %d", key, got, want)
						}
					}
				}
			},
		})
	})
}

func TestStore_aCrawlerDisplacesNothing(t *testing.T) {
	t.Parallel()
	s := New(4 << 20)
	defer s.Close()
	for round := range 3 {
		for i := range 100 {
			key := fmt.Sprint("hot ", i)
			if s.Get(key) == nil {
				put(s, key, object(s, 10<<10, Tags{}))
			}
			_ = round
		}
	}
	for i := range 20_000 {
		put(s, fmt.Sprint("once ", i), object(s, 10<<10, Tags{}))
		if i%50 == 0 {
			s.Get(fmt.Sprint("hot ", i/50%100))
		}
	}
	left := 0
	for i := range 100 {
		if s.Get(fmt.Sprint("hot ", i)) != nil {
			left++
		}
	}
	if left < 95 {
		t.Errorf("%d of 100 that are asked for again and again are left", left)
	}
	consistent(t, s)
}

// What the books say is what the heap holds, within a tenth.
func TestStore_countsWhatItHolds(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, size := range []int{100, 1000, 20_000} {
		s := New(1 << 30)
		before := heap()
		for i := range 40_000_000 / (size + 2000) {
			key := fmt.Sprintf("a key of an ordinary length, for the object %d", i)
			o := object(s, size, Tags{URI: "/page", Groups: []string{"group"}})
			o.Header = http.Header{"Content-Type": {"text/plain"}, "Etag": {fmt.Sprint(i)}, "Cache-Control": {"max-age=60"}, "Date": {"x"}}
			put(s, key, o)
		}
		grown, says := heap()-before, s.Stats().Stored
		if ratio := float64(grown) / float64(says); ratio < 0.6 || ratio > 1.1 {
			t.Errorf("objects of %d bytes: the heap grew by %d, the books say %d: %.2f", size, grown, says, ratio)
		}
		runtime.KeepAlive(s)
		_ = s.Close()
	}
}

func TestPurge_aFillThatBeganBeforeIsTooLate(t *testing.T) {
	t.Parallel()
	s := New(1 << 20)
	defer s.Close()
	o := object(s, 10, Tags{Groups: []string{"product:coffee"}})
	s.Purge(Purge{Reach: Group, Value: "product:coffee"})
	s.Sweep() // forgets no purge that a fill under way began before
	if put(s, "key", o) {
		t.Error("stored what was asked for before the purge")
	}
	if !put(s, "key", object(s, 10, Tags{Groups: []string{"product:coffee"}})) || s.Standing(s.Get("key")[0]) != Valid {
		t.Error("what was asked for after it is not stored")
	}
}

func TestPurge_whatIsForgottenStaysPurged(t *testing.T) {
	t.Parallel()
	s := New(8 << 20)
	defer s.Close()
	for i := range 100 {
		put(s, fmt.Sprint(i), object(s, 10, Tags{URI: fmt.Sprint("/", i), Groups: []string{fmt.Sprint("g", i)}}))
	}
	for i := range maxTombs + 1000 { // more than are remembered
		s.Purge(Purge{Reach: Group, Value: fmt.Sprint("other ", i)})
	}
	s.Purge(Purge{Reach: Group, Value: "g7"})
	s.Sweep()
	valid := 0
	for i := range 100 {
		for _, o := range s.Get(fmt.Sprint(i)) {
			if s.Standing(o) == Valid {
				valid++
			}
		}
	}
	if valid != 0 {
		t.Errorf("%d objects are left: which purges were forgotten nobody knows", valid)
	}
	s.Purge(Purge{Reach: Group, Value: "x"})
	s.Sweep()
	if n := len(s.purges.tombs); n != 0 {
		t.Errorf("%d purges are remembered after a sweep", n)
	}
}

// Purges that never pause are swept all the same, and forgotten.
func TestPurge_aSteadyStreamIsSwept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(1 << 20)
		put(s, "kept", object(s, 10, Tags{Groups: []string{"kept"}}))
		put(s, "gone", object(s, 10, Tags{Groups: []string{"g0"}}))
		for i := range 20_000 {
			s.Purge(Purge{Reach: Group, Value: fmt.Sprint("g", i)})
			time.Sleep(time.Millisecond)
		}
		s.purges.RLock()
		remembered := len(s.purges.tombs)
		s.purges.RUnlock()
		if remembered > 3000 || s.Get("gone") != nil || s.Standing(s.Get("kept")[0]) != Valid {
			t.Errorf("%d purges are remembered, gone: %v", remembered, s.Get("gone"))
		}
		_ = s.Close()
	})
}

func TestStream_everyReaderGetsAll(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := New(64 << 20)
		defer s.Close()
		st := s.Stream()
		ctx := context.Background()
		var want []byte
		parts := rapid.SliceOfN(rapid.IntRange(1, 400<<10), 0, 12).Draw(t, "parts")
		cut := rapid.Bool().Draw(t, "cut")
		var wait sync.WaitGroup
		read := func() {
			r, ok := st.Read()
			if !ok {
				t.Error("no reader")
				return
			}
			defer r.Close()
			var got []byte
			for {
				p, err := r.Next(ctx, nil)
				if err != nil {
					if cut && !errors.Is(err, ErrCut) || !cut && (!errors.Is(err, io.EOF) || string(got) != string(want)) {
						t.Errorf("%v after %d bytes", err, len(got))
					}
					return
				}
				got = append(got, p...)
			}
		}
		for i, n := range parts {
			wait.Go(read)
			p := make([]byte, n)
			for j := range p {
				p[j] = byte(i*31 + j)
			}
			want = append(want, p...)
			if err := st.Write(ctx, p); err != nil {
				t.Fatal(err)
			}
			clear(p) // the writer's buffer is used again
		}
		if cut {
			st.Done(ErrCut)
		} else {
			body, ok := st.Body()
			if !ok || body.Size != int64(len(want)) {
				t.Fatalf("body of %d bytes, %v", body.Size, ok)
			}
			st.Done(nil)
		}
		wait.Wait()
		st.Free()
		if n := s.Stats().Reserved; n != 0 {
			t.Errorf("%d bytes stay reserved", n)
		}
	})
}

// A body that is not stored runs ahead of its reader by a window, and no more.
func TestStream_waitsForItsReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(1 << 20)
		defer s.Close()
		st := s.Stream()
		r, _ := st.Read()
		st.Pass()
		written := 0
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for {
				if err := st.Write(ctx, make([]byte, 32<<10)); err != nil {
					done <- err
					return
				}
				written += 32 << 10
			}
		}()
		synctest.Wait()
		if written < Window || written > Window+64<<10 {
			t.Errorf("%d bytes ahead", written)
		}
		for range 100 {
			if _, err := r.Next(ctx, nil); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if written < 2*Window {
			t.Errorf("only %d bytes were written", written)
		}
		r.Close()
		if err := <-done; !errors.Is(err, ErrUnread) {
			t.Errorf("the writer ends with %v", err)
		}
		cancel()
	})
}

// Of several readers of a body that cannot be kept, one that is slow is cut off; it
// holds neither the others nor memory.
func TestStream_aSlowReaderHoldsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(1 << 20)
		defer s.Close()
		st := s.Stream()
		fast, _ := st.Read()
		slow, _ := st.Read()
		if _, err := st.Read(); !err {
			t.Fatal("no reader")
		}
		total := 0
		go func() {
			for range 64 {
				if st.Write(t.Context(), make([]byte, 256<<10)) != nil {
					return
				}
			}
			st.Done(nil)
		}()
		for {
			p, err := fast.Next(t.Context(), nil)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				break
			}
			total += len(p)
		}
		if total != 16<<20 {
			t.Errorf("the fast one got %d bytes", total)
		}
		if _, err := slow.Next(t.Context(), nil); !errors.Is(err, ErrSlow) {
			t.Errorf("the slow one: %v", err)
		}
		st.mu.Lock()
		held := 0
		for _, p := range st.pieces {
			held += cap(p)
		}
		st.mu.Unlock()
		if held > lag+2*Window {
			t.Errorf("%d bytes are held", held)
		}
		if _, ok := st.Read(); ok {
			t.Error("a reader can begin where the beginning is gone")
		}
	})
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		s := New(8 << 30)
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf("a key of an ordinary length, for the object %d", i)
			put(s, keys[i], object(s, 64, Tags{URI: keys[i], Groups: []string{fmt.Sprint(i % 10)}}))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i += 7919
				if o := s.Get(keys[i%n]); s.Standing(o[0]) != Valid {
					b.Fatal("purged")
				}
			}
		})
		b.Run(fmt.Sprint(n, "/purge"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Purge(Purge{Reach: Group, Value: "nobody's"})
			}
		})
		_ = s.Close()
	}
}

// BenchmarkPurgedGroup is the purge of a group of 100,000, until their bytes are free.
func BenchmarkPurgedGroup(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := New(1 << 30)
		for i := range 100_000 {
			put(s, fmt.Sprint(i), object(s, 64, Tags{Groups: []string{"all"}}))
		}
		b.StartTimer()
		s.Purge(Purge{Reach: Group, Value: "all"})
		s.Sweep()
		b.StopTimer()
		if n := s.Stats().Objects; n != 0 {
			b.Fatal(n)
		}
		_ = s.Close()
		b.StartTimer()
	}
}

// BenchmarkZipf is what two cores make of 10,000 keys, some far more popular than
// others: looked up, stored again where they were purged, with so many purges among a
// hundred requests.
func BenchmarkZipf(b *testing.B) {
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("a key of an ordinary length, for the object %d", i)
	}
	for _, percent := range []int{0, 1} {
		b.Run(fmt.Sprint(percent, "% purges"), func(b *testing.B) {
			s := New(64 << 20)
			defer s.Close()
			b.ReportAllocs()
			var seed, missed atomic.Uint64
			b.RunParallel(func(pb *testing.PB) {
				random := rand.New(rand.NewPCG(1, seed.Add(1)))
				zipf := rand.NewZipf(random, 1.1, 1, uint64(len(keys)-1))
				for pb.Next() {
					i := zipf.Uint64()
					if percent > 0 && random.IntN(100) < percent {
						s.Purge(Purge{Reach: Group, Value: keys[i]})
					}
					if found := s.Get(keys[i]); len(found) > 0 && s.Standing(found[0]) == Valid {
						continue
					}
					missed.Add(1)
					put(s, keys[i], object(s, 1024, Tags{URI: keys[i], Groups: []string{keys[i]}}))
				}
			})
			b.ReportMetric(float64(missed.Load())/float64(b.N), "misses/op")
		})
	}
}

func BenchmarkPut(b *testing.B) {
	s := New(64 << 20)
	defer s.Close()
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = fmt.Sprint("key ", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		put(s, keys[rand.IntN(len(keys))], object(s, 4096, Tags{}))
	}
}
