package rfc9111

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func FuzzParseResponse(f *testing.F) {
	for _, seed := range []string{"max-age=60", `private="a, b", no-cache`, `x="\"`, "s-maxage = 1", ",,=,;", "max-age=99999999999999999999", `max-age="6\0"`} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		d := ParseResponse(http.Header{"Cache-Control": {a, b}})
		for _, s := range []Seconds{d.MaxAge, d.SMaxAge, d.StaleIfError, d.StaleWhileRevalidate} {
			if s.Value < 0 || s.Value > maxSeconds*time.Second || s.Valid && !s.Given {
				t.Fatalf("%+v", s)
			}
		}
		// Lines are one list, unless a quoted string goes over the end of one.
		if strings.Count(a, `"`) == 0 {
			one := ParseResponse(http.Header{"Cache-Control": {a + "," + b}})
			if one.MaxAge != d.MaxAge || one.NoStore != d.NoStore || one.Private != d.Private || one.NoCache != d.NoCache {
				t.Fatalf("two lines %+v, one %+v", d, one)
			}
		}
	})
}

func FuzzTargeted(f *testing.F) {
	for _, seed := range []string{"max-age=60", "max-age=60;x=?1, a=(1 \"b\" c);d", "a=1.5, b=:aGk=:, c=@1659578233, d=%\"x\"", "max-age=-1", "a=", "&"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := Targeted(http.Header{"Cdn-Cache-Control": {text}, "Cache-Control": {"no-store"}}, []string{"Cdn-Cache-Control"})
		if d.Targeted == (d.NoStore && !strings.Contains(text, "no-store")) {
			t.Fatalf("%q decides and does not: %+v", text, d)
		}
		if d.MaxAge.Value > maxSeconds*time.Second {
			t.Fatal(d.MaxAge)
		}
	})
}

func FuzzParseDate(f *testing.F) {
	f.Add("Thu, 18 Aug 2050 02:01:18 GMT")
	f.Add("Thursday, 18-Aug-50 02:01:18 GMT")
	f.Add("Thu Aug  8 02:01:18 2050")
	f.Fuzz(func(t *testing.T, text string) {
		date, ok := ParseDate(text, noon)
		if !ok {
			return
		}
		if again, ok := ParseDate(FormatDate(date), noon); !ok || !again.Equal(date) {
			t.Fatalf("%q is %v, and then %v", text, date, again)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-4", "bytes=-3,0-0", "bytes=9-, 99-", "bytes=0-9223372036854775807"} {
		f.Add(seed, int64(10))
	}
	f.Fuzz(func(t *testing.T, text string, size int64) {
		if size < 0 {
			return
		}
		spans, is := ParseRange(http.Header{"Range": {text}}, size)
		total := int64(0)
		for _, s := range spans {
			if s.First < 0 || s.First > s.Last || s.Last >= size {
				t.Fatalf("%v of %d", s, size)
			}
			total += s.Length()
		}
		if total > size || (is == Parts) != (len(spans) > 0) || len(spans) > maxSpans {
			t.Fatalf("%v of %d is %v", spans, size, is)
		}
	})
}

func FuzzIfNoneMatch(f *testing.F) {
	f.Add(`"a", W/"b"`, `"b"`)
	f.Add(`*`, ``)
	f.Fuzz(func(t *testing.T, named, own string) {
		s := response("Etag", own)
		held := s.NotModified(http.Header{"If-None-Match": {named}}, noon)
		if held && trim(named) != "*" && !strings.Contains(named, "*") && !strings.Contains(named, strings.Trim(trim(own), "W/")) {
			t.Fatalf("%q matches %q", named, own)
		}
	})
}

// No two lists of parts have the same key, or a response would answer for another.
func FuzzKey(f *testing.F) {
	f.Add("a", "bc", "ab", "c")
	f.Add("", "a", "a", "")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		if (Key(a, b) == Key(c, d)) != (a == c && b == d) {
			t.Fatalf("%q %q and %q %q", a, b, c, d)
		}
		if Key(a, b) == Key(a) || Key(a, b) == Key(a, b, c) {
			t.Fatalf("%q %q", a, b)
		}
	})
}

// The letter of section 4.2: a response only gets staler, and is never used as fresh
// when it is not, or against the directives that forbid it.
func TestDecide_onlyGetsStaler(t *testing.T) {
	directive := rapid.SampledFrom([]string{"max-age=10", "max-age=0", "s-maxage=20", "no-cache", "must-revalidate", "proxy-revalidate",
		"stale-while-revalidate=15", "stale-if-error=30", "public", "max-age=x", "immutable"})
	asks := rapid.SampledFrom([]string{"", "no-cache", "max-age=5", "max-stale", "max-stale=7", "min-fresh=3"})
	rapid.Check(t, func(t *rapid.T) {
		control := strings.Join(rapid.SliceOfN(directive, 0, 4).Draw(t, "control"), ", ")
		s := response("Cache-Control", control, "Age", rapid.SampledFrom([]string{"0", "5", "x"}).Draw(t, "age"))
		request := ParseRequest(header("Cache-Control", asks.Draw(t, "ask")))
		before, leftBefore := Fresh, maxSeconds*time.Second
		for second := range 60 {
			now := noon.Add(time.Duration(second) * time.Second)
			use, left := s.Decide(request, now, time.Hour)
			if left > leftBefore {
				t.Fatalf("%s: %s left after %s", control, left, leftBefore)
			}
			if use == Fresh && (before != Fresh || left <= 0 && !request.MinFresh.Given) {
				t.Fatalf("%s: fresh again after %d s", control, second)
			}
			if use != MustValidate && (s.Directives.NoCache || request.NoCache) {
				t.Fatalf("%s: used against no-cache", control)
			}
			if use == Stale || use == StaleWhileRevalidate {
				if s.Directives.MustRevalidate || s.Directives.ProxyRevalidate || left > 0 {
					t.Fatalf("%s: %v with %s left", control, use, left)
				}
			}
			before, leftBefore = use, left
		}
	})
}

func TestSecondary_isEqualForEqualListsAlone(t *testing.T) {
	member := rapid.StringMatching(`[a-c;=*"]{1,3}`)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) ([]string, http.Header) {
			members := rapid.SliceOfN(member, 0, 3).Draw(t, name)
			members = slices.DeleteFunc(members, func(m string) bool { return strings.Contains(m, `"`) })
			return members, http.Header{"Foo": {strings.Join(members, rapid.SampledFrom([]string{",", " , ", ", "}).Draw(t, "sep"))}}
		}
		a, x := draw("a")
		b, y := draw("b")
		if (Secondary([]string{"Foo"}, x, nil) == Secondary([]string{"Foo"}, y, nil)) != slices.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	s := response("Cache-Control", "public, s-maxage=60, stale-while-revalidate=600", "Date", "Sat, 28 Nov 2026 12:00:00 GMT", "Age", "1")
	b.ReportAllocs()
	for b.Loop() {
		s.Decide(Request{}, noon.Add(time.Second), 0)
	}
}
