package cache

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestLanguage_isOneOfTheSites(t *testing.T) {
	t.Parallel()
	c := &Cache{Languages: []string{"en-US", "de", "fr-CH", "zh-Hant-TW"}}
	for sent, want := range map[string]string{
		"": "en-US", "de": "de", "DE-at": "de", "de-AT, en;q=0.9": "de", "en;q=0.5, de;q=0.8": "de", "en": "en-US", "en-GB": "en-US", "fr": "fr-CH", "fr-FR, de": "de",
		"es, de;q=0.1": "de", "*": "en-US", "de;q=0, fr": "fr-CH", "zh-Hant": "zh-Hant-TW", "zh-hant-tw-x-a": "zh-Hant-TW", "x": "en-US", "de;q=x": "de",
		"de; q=0.2 , fr-CH;q=0.3": "fr-CH", ",,de,": "de", "d\x00e": "en-US", "de-": "en-US", strings.Repeat("xx,", 100) + "de": "en-US", "de;q=NaN": "en-US", "de;q=Inf": "de",
	} {
		if got := c.language([]string{sent}); got != want {
			t.Errorf("%q: %q, want %q", sent, got, want)
		}
	}
	if got := c.language([]string{"es", "de"}); got != "de" {
		t.Errorf("two lines: %q", got)
	}
	if got := c.language(nil); got != "en-US" {
		t.Errorf("no line: %q", got)
	}
}

// FuzzLanguage: whatever is sent, it is one of the site's.
func FuzzLanguage(f *testing.F) {
	for _, seed := range []string{"", "de-AT, en;q=0.5", "*", "de;q=1e309", "a-b-c-d-e-f-g-h-i-j", "-", "en-", ";q=1"} {
		f.Add(seed)
	}
	c := &Cache{Languages: []string{"en-US", "de", "zh-Hant-TW"}}
	f.Fuzz(func(t *testing.T, sent string) {
		if got := c.language([]string{sent, "de"}); !slices.Contains(c.Languages, got) {
			t.Fatalf("%q: %q", sent, got)
		}
	})
}

func TestEncodings_eightClasses(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]string{
		"": "", "gzip": "gzip", "gzip, deflate, br, zstd": "br, gzip, zstd", "br;q=0, gzip": "gzip", "*": "br, gzip, zstd",
		"*;q=0": "", "identity": "", "GZIP": "gzip", "x-gzip": "gzip", "gzip;q=0.000": "", "gzip;q=0.001": "gzip", "*, br;q=0": "gzip, zstd",
		"deflate": "", "gzip;q=x": "gzip", "br , gzip": "br, gzip", ",,gzip,": "gzip", "gzipp": "",
	} {
		if got := encodings([]string{sent}); got != want {
			t.Errorf("%q: %q, want %q", sent, got, want)
		}
	}
	if got := encodings([]string{"br", "gzip"}); got != "br, gzip" {
		t.Errorf("two lines: %q", got)
	}
}

func FuzzEncodings(f *testing.F) {
	for _, seed := range []string{"gzip, br;q=0", "*;q=0, zstd", ";q=0", "gzip;Q=0.0", "\x00", "br;q=0;gzip"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		class := encodings([]string{sent})
		if !slices.Contains(classes[:], class) {
			t.Fatalf("%q is %q", sent, class)
		}
		if again := encodings([]string{class}); again != class {
			t.Fatalf("%q is %q, and that %q", sent, class, again)
		}
	})
}

// FuzzFilter: what is ignored is gone, all else stays in its order, byte for byte, and
// nothing is added.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"a=1&utm_source=x&b=2", "utm_=", "&&", "a=1;utm_x=1", "%75tm_source=1", "=", "utm_x", "a=&utm_a=&a="} {
		f.Add(seed)
	}
	c := &Cache{IgnoreQuery: []string{"utm_*", "fbclid"}}
	only := &Cache{Query: []string{"a", "b*"}}
	f.Fuzz(func(t *testing.T, query string) {
		kept, allowed := c.filter(query), only.filter(query)
		var want, few []string
		for pair := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(pair, "=")
			if !strings.HasPrefix(name, "utm_") && name != "fbclid" {
				want = append(want, pair)
			}
			if name == "a" || strings.HasPrefix(name, "b") {
				few = append(few, pair)
			}
		}
		if kept != strings.Join(want, "&") || allowed != strings.Join(few, "&") {
			t.Fatalf("%q: %q and %q", query, kept, allowed)
		}
	})
}

// FuzzCookie: whoever has a named cookie that counts is told from whoever has not, and
// the value is never another cookie's.
func FuzzCookie(f *testing.F) {
	for _, seed := range []string{"a=1; b=2", "b", "b=", " b =3", "b=1;b=2", "x=b=1", "b=1\x00", ";;b=;", "B=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		value, has := cookie([]string{line}, "b")
		if !has && value != "" || has && !strings.Contains(line, "b") {
			t.Fatalf("%q: %q, %v", line, value, has)
		}
		own := http.Header{"Cookie": {"b=unique-value; " + line}}
		if value, has := cookie(own["Cookie"], "b"); !has || !strings.HasPrefix(value, "unique-value") {
			t.Fatalf("%q: %q, %v", line, value, has)
		}
	})
}
