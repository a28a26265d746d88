package rfc9111

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"
)

// noon is when the tests' responses are received.
var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// header makes a header of pairs, each on a line of its own.
func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// response is a stored 200, received at noon at once.
func response(pairs ...string) *Stored {
	s := &Stored{Status: 200, Header: header(pairs...), Requested: noon, Received: noon}
	s.Directives = Targeted(s.Header, []string{"Cdn-Cache-Control"})
	return s
}

func TestParseDate_takesTheThreeFormsToTheLetter(t *testing.T) {
	want := time.Date(2050, 8, 18, 2, 1, 18, 0, time.UTC)
	for text, ok := range map[string]bool{
		"Thu, 18 Aug 2050 02:01:18 GMT":    true,
		"thu, 18 aug 2050 02:01:18 gMT":    true,
		"Thursday, 18-Aug-50 02:01:18 GMT": true,
		"Thu Aug 18 02:01:18 2050":         true,
		"Thu, 18  Aug  2050 02:01:18 GMT":  false,
		"Thu, 18 Aug 2050 2:01:18 GMT":     false,
		"Thu, 18 Aug 2050 02:01:18 UTC":    false,
		"Thu, 18 Aug 2050 02:01:18 +0000":  false,
		"Fri, 18 Aug 2050 02:01:18 GMT":    true, // it was a Thursday
		"Fri Aug 18 02:01:18 2050":         true,
		"Fre, 18 Aug 2050 02:01:18 GMT":    false,
		"Thu, 18 Aug 50 02:01:18 GMT":      false,
		"Thu, 32 Aug 2050 02:01:18 GMT":    false,
		"2050-08-18T02:01:18Z":             false,
		"0":                                false,
		"":                                 false,
	} {
		got, valid := ParseDate(text, noon)
		if valid != ok || ok && !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, valid)
		}
	}
	if got, ok := ParseDate("Sunday, 06-Nov-94 08:49:37 GMT", noon); !ok || got.Year() != 1994 {
		t.Errorf("a year of two digits: %v, %v", got, ok)
	}
	if got := FormatDate(want); got != "Thu, 18 Aug 2050 02:01:18 GMT" {
		t.Error(got)
	}
}

func TestLifetime(t *testing.T) {
	const date = "Sat, 28 Nov 2026 12:00:00 GMT"
	for _, row := range []struct {
		name     string
		header   http.Header
		seconds  int64
		explicit bool
	}{
		{"max-age", header("Cache-Control", "max-age=3600"), 3600, true},
		{"in any case, between others", header("Cache-Control", "foo, MaX-aGe=3600, bar=\"1, 2\""), 3600, true},
		{"on lines of their own", header("Cache-Control", "public", "Cache-Control", "max-age=3600"), 3600, true},
		{"quoted", header("Cache-Control", `max-age="3600"`), 3600, true},
		{"leading zeros", header("Cache-Control", "max-age=003600"), 3600, true},
		{"s-maxage before max-age", header("Cache-Control", "max-age=1, s-maxage=3600"), 3600, true},
		{"max-age before Expires", header("Cache-Control", "max-age=0", "Expires", "Sat, 28 Nov 2026 13:00:00 GMT", "Date", date), 0, true},
		{"the first of two", header("Cache-Control", "max-age=1, max-age=3600"), 1, true},
		{"in a quoted string it is text", header("Cache-Control", `extension="max-age=3600", max-age=1`), 1, true},
		{"more than fits", header("Cache-Control", "max-age=99999999999999999999"), maxSeconds, true},
		{"a decimal", header("Cache-Control", "max-age=3600.0"), 0, true},
		{"letters", header("Cache-Control", "max-age=3600a"), 0, true},
		{"apostrophes", header("Cache-Control", "max-age='3600'"), 0, true},
		{"negative", header("Cache-Control", "max-age=-3600"), 0, true},
		{"nothing", header("Cache-Control", "max-age"), 0, true},
		{"a space before the sign", header("Cache-Control", "max-age =3600"), 0, true},
		{"a space behind it", header("Cache-Control", "max-age= 3600"), 0, true},
		{"Expires", header("Expires", "Sat, 28 Nov 2026 13:00:00 GMT", "Date", date), 3600, true},
		{"Expires less a Date ahead", header("Expires", "Sat, 28 Nov 2026 12:00:20 GMT", "Date", "Sat, 28 Nov 2026 12:00:10 GMT"), 10, true},
		{"Expires without Date", header("Expires", "Sat, 28 Nov 2026 13:00:00 GMT"), 3600, true},
		{"Expires that is none", header("Expires", "0"), 0, true},
		{"Expires twice", header("Expires", "Sat, 28 Nov 2026 13:00:00 GMT", "Expires", "Sat, 28 Nov 2026 13:00:00 GMT"), 0, true},
		{"a tenth of the time since Last-Modified", header("Last-Modified", "Sat, 28 Nov 2026 02:00:00 GMT", "Date", date), 3600, false},
		{"at most a day of it", header("Last-Modified", "Sat, 28 Nov 2020 02:00:00 GMT", "Date", date), 86400, false},
		{"Last-Modified ahead", header("Last-Modified", "Sat, 28 Nov 2026 13:00:00 GMT", "Date", date), 0, false},
		{"nothing at all", header(), 0, false},

		{"a target's", header("Cdn-Cache-Control", "max-age=3600", "Cache-Control", "max-age=1"), 3600, true},
		{"a target's alone, whatever Expires is", header("Cdn-Cache-Control", "public", "Expires", "Sat, 28 Nov 2026 13:00:00 GMT", "Cache-Control", "max-age=1"), 0, false},
		{"an empty target's", header("Cdn-Cache-Control", "", "Cache-Control", "max-age=3600"), 3600, true},
		{"a target's that is no dictionary", header("Cdn-Cache-Control", "max-age=1, &&&&&", "Cache-Control", "max-age=3600"), 3600, true},
		{"a target's with a string", header("Cdn-Cache-Control", `max-age="1"`, "Cache-Control", "max-age=3600"), 3600, true},
		{"a target's in capitals", header("Cdn-Cache-Control", "Max-Age=1", "Cache-Control", "max-age=3600"), 3600, true},
		{"a target's with parameters", header("Cdn-Cache-Control", "max-age=3600;x=1, unknown=(1 2);y", "Cache-Control", "max-age=1"), 3600, true},
		{"the last of two in a target's", header("Cdn-Cache-Control", "max-age=1, max-age=3600"), 3600, true},
		{"a target's below zero", header("Cdn-Cache-Control", "max-age=-1", "Cache-Control", "max-age=3600"), 0, true},
	} {
		got, explicit := response(pairs(row.header)...).Lifetime(24 * time.Hour)
		if got != time.Duration(row.seconds)*time.Second || explicit != row.explicit {
			t.Errorf("%s: %s, explicit %v", row.name, got, explicit)
		}
	}
}

func pairs(h http.Header) (list []string) {
	for field, lines := range h {
		for _, line := range lines {
			list = append(list, field, line)
		}
	}
	return list
}

func TestAge(t *testing.T) {
	for _, row := range []struct {
		name string
		s    *Stored
		want time.Duration
	}{
		{"since it was received", response(), time.Minute},
		{"and what it had", response("Age", "30"), 90 * time.Second},
		{"and how long it took", &Stored{Header: header("Age", "30"), Requested: noon.Add(-10 * time.Second), Received: noon}, 100 * time.Second},
		{"or how old its Date is", response("Date", "Sat, 28 Nov 2026 11:58:00 GMT", "Age", "30"), 3 * time.Minute},
		{"a Date ahead is none", response("Date", "Sat, 28 Nov 2026 13:00:00 GMT"), time.Minute},
		{"the first of a list", response("Age", "30, 3000"), 90 * time.Second},
		{"the first line", response("Age", "30", "Age", "3000"), 90 * time.Second},
		{"a decimal is none", response("Age", "7200.0"), time.Minute},
		{"a negative one is none", response("Age", "-7200"), time.Minute},
		{"more than fits", response("Age", "99999999999999999999999"), maxSeconds*time.Second + time.Minute},
	} {
		if got := row.s.Age(noon.Add(time.Minute)); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
	if left, fresh := response("Cache-Control", "max-age=10").Fresh(noon.Add(10*time.Second), 0); fresh || left != 0 {
		t.Error("a response is fresh at the end of its lifetime") // section 4.2: greater than
	}
	if got := response().Age(noon.Add(-time.Hour)); got != 0 {
		t.Errorf("a clock that was put back makes an age of %s", got)
	}
}

func TestMayStore(t *testing.T) {
	asked := func(method string, pairs ...string) *http.Request {
		r := httptest.NewRequest(method, "http://pop.example/p", nil)
		for i := 0; i < len(pairs); i += 2 {
			r.Header.Add(pairs[i], pairs[i+1])
		}
		return r
	}
	get := asked("GET")
	status := func(code int, pairs ...string) *Stored { s := response(pairs...); s.Status = code; return s }
	for _, row := range []struct {
		name string
		r    *http.Request
		s    *Stored
		want Refusal
	}{
		{"fresh", get, response("Cache-Control", "max-age=60"), Storable},
		{"HEAD", asked("HEAD"), response("Cache-Control", "max-age=60"), Storable},
		{"to be validated each time", get, response("Cache-Control", "no-cache"), Storable},
		{"no freshness, but a status that may have one", get, response(), Storable},
		{"no freshness, another status", get, status(302), RefusedNoFreshness},
		{"no freshness, another status, public", get, status(302, "Cache-Control", "public"), Storable},
		{"any final status", get, status(599, "Cache-Control", "max-age=60"), Storable},
		{"an informational one", get, status(103, "Cache-Control", "max-age=60"), RefusedStatus},
		{"304", get, status(304, "Cache-Control", "max-age=60"), RefusedStatus},
		{"a part that says which", get, status(206, "Cache-Control", "max-age=60", "Content-Range", "bytes 0-4/10"), Storable},
		{"a part that does not", get, status(206, "Cache-Control", "max-age=60"), RefusedPartial},
		{"no-store", get, response("Cache-Control", "max-age=60, no-store"), RefusedNoStore},
		{"no-store for who does not understand", get, response("Cache-Control", "max-age=60, no-store, must-understand"), Storable},
		{"must-understand, and we do not", get, status(599, "Cache-Control", "max-age=60, must-understand"), RefusedNotUnderstood},
		{"private", get, response("Cache-Control", "max-age=60, private"), RefusedPrivate},
		{"private in capitals, spaced", get, response("Cache-Control", "max-age=60 ,  PRIVATE"), RefusedPrivate},
		{"some fields private", get, response("Cache-Control", `max-age=60, private="X-A"`), Storable},
		{"the request's no-store", asked("GET", "Cache-Control", "no-store"), response("Cache-Control", "max-age=60"), RefusedRequestNoStore},
		{"Vary: *", get, response("Cache-Control", "max-age=60", "Vary", "Accept, *"), RefusedVary},
		{"with Authorization", asked("GET", "Authorization", "Basic eA=="), response("Cache-Control", "max-age=60"), RefusedAuthorization},
		{"with Authorization, public", asked("GET", "Authorization", "Basic eA=="), response("Cache-Control", "max-age=60, public"), Storable},
		{"with Authorization, s-maxage", asked("GET", "Authorization", "Basic eA=="), response("Cache-Control", "s-maxage=60"), Storable},
		{"with Authorization, must-revalidate", asked("GET", "Authorization", "Basic eA=="), response("Cache-Control", "max-age=60, must-revalidate"), Storable},
		{"POST", asked("POST"), response("Cache-Control", "max-age=60"), RefusedMethod},
		{"POST about itself", asked("POST"), response("Cache-Control", "max-age=60", "Content-Location", "/p"), Storable},
		{"POST about another", asked("POST"), response("Cache-Control", "max-age=60", "Content-Location", "/q"), RefusedMethod},
		{"POST about itself, no freshness", asked("POST"), response("Content-Location", "/p"), RefusedMethod},
		{"PUT", asked("PUT"), response("Cache-Control", "max-age=60", "Content-Location", "/p"), RefusedMethod},
		{"a target's no-store", get, response("Cdn-Cache-Control", "no-store", "Cache-Control", "max-age=60"), RefusedNoStore},
		{"a target's word against no-store", get, response("Cdn-Cache-Control", "max-age=60", "Cache-Control", "no-store"), Storable},
		{"a target's private", get, response("Cdn-Cache-Control", "private, max-age=60"), RefusedPrivate},
	} {
		if got := MayStore(row.r, ParseRequest(row.r.Header), row.s); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

func TestDecide(t *testing.T) {
	const ask = "Cache-Control"
	for _, row := range []struct {
		name    string
		control string // of the response
		request http.Header
		after   time.Duration
		want    Use
	}{
		{"fresh", "max-age=60", nil, 59 * time.Second, Fresh},
		{"stale", "max-age=60", nil, 60 * time.Second, MustValidate},
		{"no-cache", "max-age=60, no-cache", nil, 0, MustValidate},
		{"fields that no-cache names", `max-age=60, no-cache="x"`, nil, 0, Fresh},
		{"asked past the cache", "max-age=60", header(ask, "no-cache"), 0, MustValidate},
		{"Pragma", "max-age=60", header("Pragma", "no-cache"), 0, MustValidate},
		{"Pragma beside Cache-Control", "max-age=60", header("Pragma", "no-cache", ask, "x"), 0, Fresh},
		{"unknown words", "max-age=60", header("Pragma", "foo", ask, "nothing-to-see-here"), 0, Fresh},
		{"older than asked for", "max-age=60", header(ask, "max-age=5"), 6 * time.Second, MustValidate},
		{"as young as asked for", "max-age=60", header(ask, "max-age=5"), 5 * time.Second, Fresh},
		{"not fresh for long enough", "max-age=60", header(ask, "min-fresh=10"), 51 * time.Second, MustValidate},
		{"fresh for long enough", "max-age=60", header(ask, "min-fresh=10"), 50 * time.Second, Fresh},
		{"stale, and the client allows it", "max-age=60", header(ask, "max-stale"), time.Hour, Stale},
		{"a little stale", "max-age=60", header(ask, "max-stale=10"), 70 * time.Second, Stale},
		{"more than a little", "max-age=60", header(ask, "max-stale=10"), 71 * time.Second, MustValidate},
		{"the origin forbids it", "max-age=60, must-revalidate", header(ask, "max-stale"), time.Hour, MustValidate},
		{"s-maxage forbids it", "s-maxage=60", header(ask, "max-stale"), time.Hour, MustValidate},
		{"while revalidating", "max-age=60, stale-while-revalidate=30", nil, 90 * time.Second, StaleWhileRevalidate},
		{"no longer", "max-age=60, stale-while-revalidate=30", nil, 91 * time.Second, MustValidate},
		{"beside s-maxage", "s-maxage=60, stale-while-revalidate=30", nil, 90 * time.Second, StaleWhileRevalidate},
		{"against must-revalidate", "max-age=60, stale-while-revalidate=30, must-revalidate", nil, 61 * time.Second, MustValidate},
		{"a window that is none", "max-age=60, stale-while-revalidate=x", nil, 61 * time.Second, MustValidate},
	} {
		if got, _ := response("Cache-Control", row.control).Decide(ParseRequest(row.request), noon.Add(row.after), 0); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

func TestMayUseOnError(t *testing.T) {
	for _, row := range []struct {
		control string
		request http.Header
		after   time.Duration
		want    bool
	}{
		{"max-age=60", nil, 2 * time.Minute, true}, // cut off, within the limit
		{"max-age=60", nil, time.Hour, false},      // over it
		{"max-age=60, stale-if-error=3600", nil, time.Hour, true},
		{"max-age=60, stale-if-error=3600", nil, 2 * time.Hour, false},
		{"max-age=60, stale-if-error=0", nil, 61 * time.Second, false}, // it says so
		{"max-age=60", header("Cache-Control", "stale-if-error=0"), 61 * time.Second, false},
		{"s-maxage=60", nil, 61 * time.Second, false},
		{"s-maxage=60, stale-if-error=3600", nil, 61 * time.Second, true},
		{"max-age=60, must-revalidate, stale-if-error=3600", nil, 61 * time.Second, false},
		{"max-age=60, proxy-revalidate", nil, 61 * time.Second, false},
		{"no-cache", nil, time.Second, false},
	} {
		if got := response("Cache-Control", row.control).MayUseOnError(ParseRequest(row.request), noon.Add(row.after), 0, 10*time.Minute); got != row.want {
			t.Errorf("%s after %s: %v", row.control, row.after, got)
		}
	}
}

func TestSecondary(t *testing.T) {
	vary := VaryFields(header("Vary", " accept-language ,Foo", "Vary", "foo"))
	if want := []string{"Accept-Language", "Foo"}; !reflect.DeepEqual(vary, want) {
		t.Fatal(vary)
	}
	same := func(a, b http.Header) bool { return Secondary(vary, a, nil) == Secondary(vary, b, nil) }
	for _, row := range []struct {
		name string
		a, b http.Header
		want bool
	}{
		{"equal", header("Foo", "1"), header("Foo", "1"), true},
		{"other", header("Foo", "1"), header("Foo", "2"), false},
		{"absent on both", header(), header("Bar", "1"), true},
		{"absent and empty", header(), header("Foo", ""), false},
		{"lines are a list", header("Foo", "1", "Foo", "2"), header("Foo", "1,2"), true},
		{"space around members", header("Foo", "1 ,  2"), header("Foo", "1, 2"), true},
		{"space in a string", header("Foo", `"1,  2"`), header("Foo", `"1, 2"`), false},
		{"order counts", header("Foo", "1, 2"), header("Foo", "2, 1"), false},
		{"one field cannot be the other's", header("Foo", "a\x01\x01b"), header("Foo", "a", "Accept-Language", "b"), false},
	} {
		if got := same(row.a, row.b); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
	classes := func(string, string) string { return "all alike" }
	if Secondary(vary, header("Foo", "1"), classes) != Secondary(vary, header("Foo", "2"), classes) {
		t.Error("normalize is not asked")
	}
	if !VariesOnAll(header("Vary", "Foo", "Vary", ", *")) || VariesOnAll(header("Vary", `x, "*"`)) {
		t.Error("Vary: * on any line is for nobody else")
	}
}

func TestNotModified(t *testing.T) {
	const modified = "Sat, 28 Nov 2026 10:00:00 GMT"
	s := response("Etag", `"a"`, "Last-Modified", modified, "Date", "Sat, 28 Nov 2026 12:00:00 GMT")
	for _, row := range []struct {
		request http.Header
		want    bool
	}{
		{header("If-None-Match", `"a"`), true},
		{header("If-None-Match", `W/"a"`), true}, // the weak comparison
		{header("If-None-Match", `"b", "a"`), true},
		{header("If-None-Match", `"b"`, "If-None-Match", `"a"`), true},
		{header("If-None-Match", `"b","c"`), false},
		{header("If-None-Match", `"a, b"`), false},
		{header("If-None-Match", `*`), true},
		{header("If-None-Match", `a`), false},
		{header("If-None-Match", `"b"`, "If-Modified-Since", modified), false}, // the first counts
		{header("If-Modified-Since", modified), true},
		{header("If-Modified-Since", "Sat, 28 Nov 2026 11:00:00 GMT"), true},
		{header("If-Modified-Since", "Saturday, 28-Nov-26 11:00:00 GMT"), true},
		{header("If-Modified-Since", "Sat, 28 Nov 2026 09:59:59 GMT"), false},
		{header("If-Modified-Since", "yesterday"), false},
		{header(), false},
	} {
		if got := s.NotModified(row.request, noon); got != row.want {
			t.Errorf("%v: %v", row.request, got)
		}
	}
	if response().NotModified(header("If-None-Match", `""`), noon) {
		t.Error("no tag matches an empty one")
	}
}

func TestConditional_asksForWhatIsStored(t *testing.T) {
	h := header("If-None-Match", `"the client's"`, "Range", "bytes=0-1", "If-Range", `"x"`, "Accept", "text/html")
	ok := Conditional(h, response("Etag", `"a"`, "Last-Modified", "Sat, 28 Nov 2026 10:00:00 GMT"), response("Etag", `W/"b"`), response("Etag", "none"))
	want := header("If-None-Match", `"a", W/"b"`, "If-Modified-Since", "Sat, 28 Nov 2026 10:00:00 GMT", "Accept", "text/html")
	if !ok || !reflect.DeepEqual(h, want) {
		t.Errorf("%v, %v", h, ok)
	}
	if h = header("If-Modified-Since", "x"); Conditional(h, response()) || len(h) != 0 {
		t.Errorf("nothing to validate by became %v", h)
	}
}

func TestFreshened(t *testing.T) {
	a, weak, dated, bare := response("Etag", `"a"`, "Last-Modified", "x"), response("Etag", `W/"a"`), response("Last-Modified", "x"), response()
	young := response("Etag", `W/"a"`, "Date", "Sat, 28 Nov 2026 13:00:00 GMT")
	for _, row := range []struct {
		name   string
		answer http.Header
		stored []*Stored
		want   []*Stored
	}{
		{"a strong tag", header("Etag", `"a"`), []*Stored{weak, a, bare}, []*Stored{a}},
		{"a weak tag, the newest", header("Etag", `W/"a"`), []*Stored{weak, young}, []*Stored{young}},
		{"a date", header("Last-Modified", "x"), []*Stored{dated, bare}, []*Stored{dated}},
		{"another's tag", header("Etag", `"z"`), []*Stored{a}, nil},
		{"no validator, one stored", header(), []*Stored{bare}, []*Stored{bare}},
		{"no validator, two stored", header(), []*Stored{bare, a}, nil},
	} {
		if got := Freshened(row.answer, row.stored); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %d", row.name, len(got))
		}
	}
}

func TestUpdated_leavesTheLength(t *testing.T) {
	got := Updated(
		header("Content-Length", "5", "Content-Type", "text/html", "X-A", "1", "X-B", "1", "Cache-Control", "max-age=1"),
		header("Content-Length", "0", "Content-Type", "text/plain", "X-A", "2", "Cache-Control", "max-age=60", "Connection", "X-C", "X-C", "1"),
		&Response{})
	want := header("Content-Length", "5", "Content-Type", "text/plain", "X-A", "2", "X-B", "1", "Cache-Control", "max-age=60")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func TestStorables_dropsOneHopAndWhatIsKeptFromOthers(t *testing.T) {
	got := Storables(header("Connection", "X-Hop, Cache-Control", "X-Hop", "1", "Keep-Alive", "5", "Cache-Control", "max-age=1",
		"Transfer-Encoding", "chunked", "X-Secret", "1", "Set-Cookie", "a=1", "X-Unknown", "1"),
		&Response{PrivateFields: []string{"X-Secret"}, NoCacheFields: []string{"Set-Cookie"}})
	if want := header("Cache-Control", "max-age=1", "X-Unknown", "1"); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func TestParseRange(t *testing.T) {
	for _, row := range []struct {
		text string
		size int64
		want []Span
		is   Ranged
	}{
		{"bytes=0-4", 10, []Span{{0, 4}}, Parts},
		{"bytes=4-", 10, []Span{{4, 9}}, Parts},
		{"bytes=-3", 10, []Span{{7, 9}}, Parts},
		{"bytes=-30", 10, []Span{{0, 9}}, Parts},
		{"bytes=4-400", 10, []Span{{4, 9}}, Parts},
		{"BYTES=0-0,9-9", 10, []Span{{0, 0}, {9, 9}}, Parts},
		{"bytes=0-0, 99-", 10, []Span{{0, 0}}, Parts},
		{"bytes=10-", 10, nil, Unsatisfiable},
		{"bytes=-0", 10, nil, Unsatisfiable},
		{"bytes=0-", 0, nil, Unsatisfiable},
		{"bytes=4-3", 10, nil, Whole},
		{"bytes=0-5,5-9", 10, nil, Whole}, // overlapping
		{"bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8", 10, nil, Whole},
		{"bytes=99999999999999999999-", 10, nil, Unsatisfiable},
		{"bytes=a-b", 10, nil, Whole},
		{"bytes=+1-2", 10, nil, Whole},
		{"bytes=", 10, nil, Whole},
		{"items=0-4", 10, nil, Whole},
	} {
		got, is := ParseRange(header("Range", row.text), row.size)
		if is != row.is || !reflect.DeepEqual(got, row.want) {
			t.Errorf("%q of %d: %v, %v", row.text, row.size, got, is)
		}
	}
}

func TestRangeHolds(t *testing.T) {
	strong := response("Etag", `"a"`, "Last-Modified", "Sat, 28 Nov 2026 10:00:00 GMT", "Date", "Sat, 28 Nov 2026 12:00:00 GMT")
	weak := response("Etag", `W/"a"`, "Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT", "Date", "Sat, 28 Nov 2026 12:00:00 GMT")
	for _, row := range []struct {
		s    *Stored
		text string
		want bool
	}{
		{strong, `"a"`, true}, {strong, `"b"`, false}, {strong, `W/"a"`, false}, {weak, `W/"a"`, false}, {weak, `"a"`, false},
		{strong, "Sat, 28 Nov 2026 10:00:00 GMT", true}, {strong, "Sat, 28 Nov 2026 11:00:00 GMT", false},
		{weak, "Sat, 28 Nov 2026 12:00:00 GMT", false}, // changed within the second, for all we know
	} {
		if got := row.s.RangeHolds(header("If-Range", row.text), noon); got != row.want {
			t.Errorf("%s: %v", row.text, got)
		}
	}
	if !strong.RangeHolds(header(), noon) {
		t.Error("without If-Range the range counts")
	}
}

func TestContentRange(t *testing.T) {
	for text, want := range map[string]bool{
		"bytes 0-4/10": true, "bytes 0-4/*": true, "BYTES 4-9/10": true,
		"bytes 4-10/10": false, "bytes 4-3/10": false, "bytes */10": false, "bytes 0-4": false, "items 0-4/10": false, "bytes 0-4/x": false,
	} {
		c, ok := ParseContentRange([]string{text})
		if ok != want {
			t.Errorf("%q: %v", text, ok)
		}
		if again, _ := ParseContentRange([]string{c.String()}); ok && again != c {
			t.Errorf("%q became %q", text, c)
		}
	}
	if !Combinable(header("Etag", `"a"`), header("Etag", `"a"`)) || Combinable(header("Etag", `W/"a"`), header("Etag", `W/"a"`)) || Combinable(header(), header()) {
		t.Error("parts of one representation have the same strong tag")
	}
}

func TestInvalidation(t *testing.T) {
	for method, want := range map[string]bool{"GET": false, "HEAD": false, "OPTIONS": false, "TRACE": false, "POST": true, "PUT": true, "DELETE": true, "PATCH": true, "M-SEARCH": true} {
		if Invalidates(method, 201) != want || Invalidates(method, 302) != want || Invalidates(method, 404) || Invalidates(method, 500) {
			t.Error(method)
		}
	}
	r := httptest.NewRequest("POST", "http://pop.example/orders?x=1", nil)
	for location, want := range map[string][]string{
		"/orders/1": {"/orders/1"}, "2": {"/2"}, "http://POP.example:80/a?b": {"/a?b"},
		"http://other.example/a": nil, "https://pop.example/a": nil, "//other.example/a": nil, "/orders?x=1": nil, "http://[": nil,
	} {
		if got := AlsoInvalid(r, header("Location", location)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", location, got)
		}
	}
}

func TestGroups(t *testing.T) {
	for text, want := range map[string][]string{
		`"product:coffee", "b"`: {"product:coffee", "b"}, `"a";x=1`: {"a"}, `"", "a"`: {"a"}, `"a\"b"`: {`a"b`},
		`a, b`: nil, `"a", 1`: nil, `"a",`: nil, `("a")`: nil, ``: nil, `"é"`: nil,
	} {
		if got := Groups(header("Cache-Groups", text), "Cache-Groups"); len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q", text, got)
		}
	}
}
