package signedurl

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

const testKeys = "new:bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE=\nold:b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZCE\n"

var (
	begun = time.Unix(1790000000, 0)
	now   = begun.Add(10 * time.Minute)
	ends  = begun.Add(time.Hour)
)

func parse(t testing.TB, text string) *Keys {
	t.Helper()
	k, err := ParseKeys([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, k *Keys, l Link) string {
	t.Helper()
	target, err := k.Sign(l)
	if err != nil {
		t.Fatalf("%+v: %v", l, err)
	}
	return target
}

// full is a link that uses everything, and the request that it is for.
func full() (Link, Request) {
	return Link{
			Target: "/films/42/caf%C3%A9.ts?quality=1080&w=3", Prefix: "/films/42/", Free: []string{"w", "h"}, Method: "PUT",
			Host: "files.example.com", Tenant: "acme", Network: netip.MustParsePrefix("192.0.2.0/24"), Expires: ends, NotBefore: begun,
		}, Request{
			Method: "PUT", Host: "Files.Example.com:8443", Tenant: "acme", Client: netip.MustParseAddr("::ffff:192.0.2.7"), Now: now,
		}
}

func TestSign_whatItMakesHolds(t *testing.T) {
	t.Parallel()
	k := parse(t, testKeys)
	l, r := full()
	get := Request{Method: "GET", Host: "any.example", Now: now}
	for name, row := range map[string]struct {
		link    Link
		request Request
	}{
		"everything": {l, r},
		"least":      {Link{Target: "/a", Expires: ends}, get},
		"head":       {Link{Target: "/a", Expires: ends}, Request{Method: "HEAD", Now: now}},
		"GET named":  {Link{Target: "/a", Method: "GET", Expires: ends}, get},
		"query":      {Link{Target: "/a?b=c&d", Expires: ends}, get},
		"odd query":  {Link{Target: "/a?b=%zz&d==/?", Expires: ends}, get},
		"all free":   {Link{Target: "/a?b=c", Free: []string{"b"}, Expires: ends}, get},
		"odd path":   {Link{Target: "/~a/%7Eb/ü%20x\"", Expires: ends}, get},
		"first byte": {Link{Target: "/a", NotBefore: now, Expires: ends}, get},
		"last":       {Link{Target: "/a", Expires: now.Add(time.Second)}, get},
		"root":       {Link{Target: "/a/b", Prefix: "/", Expires: ends}, get},
		"IPv6":       {Link{Target: "/a", Network: netip.MustParsePrefix("2001:db8::/64"), Expires: ends}, Request{Method: "GET", Client: netip.MustParseAddr("2001:db8::1%eth0"), Now: now}},
	} {
		row.request.Target = sign(t, k, row.link)
		grant, err := k.Verify(row.request)
		if err != nil || grant.KeyID != "new" || grant.Expires.Unix() != row.link.Expires.Unix() || grant.Bound != row.link.Network.IsValid() {
			t.Errorf("%s: %s: %+v, %v", name, row.request.Target, grant, err)
		}
		path, query, _ := strings.Cut(row.request.Target, "?")
		left := path
		if stripped := Strip(query); stripped != "" {
			left += "?" + stripped
		}
		if left != row.link.Target {
			t.Errorf("%s: Strip leaves %s of %s", name, left, row.link.Target)
		}
	}
}

func TestVerify_respelledPathIsTheSame(t *testing.T) {
	t.Parallel()
	k := parse(t, testKeys)
	target := sign(t, k, Link{Target: "/~a/caf%c3%a9", Expires: ends})
	path, query, _ := strings.Cut(target, "?")
	for _, spelling := range []string{path, "/%7ea/caf%C3%A9", "/~%61/café"} {
		if _, err := k.Verify(Request{Method: "GET", Target: spelling + "?" + query, Now: now}); err != nil {
			t.Errorf("%s: %v", spelling, err)
		}
	}
}

// TestVerify_everyChangeFails changes each signed part, each byte of the whole
// link, and each thing of the request that a link can be bound to.
func TestVerify_everyChangeFails(t *testing.T) {
	t.Parallel()
	k := parse(t, testKeys)
	l, r := full()
	target := sign(t, k, l)
	r.Target = target
	if _, err := k.Verify(r); err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(target, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, value string
		want        error
	}{
		{paramVersion, "2", ErrVersion}, {paramKey, "old", ErrSignature}, {paramKey, "none", ErrKey},
		{paramExpires, "1790003601", ErrSignature}, {paramNotBefore, "1789999999", ErrSignature}, {paramNotBefore, "", ErrSignature},
		{paramPrefix, "/films/", ErrSignature}, {paramPrefix, "/", ErrSignature}, {paramPrefix, "", ErrSignature}, {paramPrefix, "/films/4", ErrMalformed},
		{paramMethod, "DELETE", ErrSignature}, {paramMethod, "", ErrSignature}, {paramMethod, "GET", ErrMalformed}, {paramMethod, "put", ErrMalformed},
		{paramHost, "evil.example.com", ErrSignature}, {paramHost, "", ErrSignature}, {paramHost, "Files.example.com", ErrMalformed},
		{paramTenant, "globex", ErrSignature}, {paramTenant, "", ErrSignature}, {paramTenant, "a\nb", ErrMalformed},
		{paramNetwork, "192.0.0.0/16", ErrSignature}, {paramNetwork, "", ErrSignature}, {paramNetwork, "192.0.2.1/24", ErrMalformed}, {paramNetwork, "0.0.0.0/0", ErrSignature},
		{paramFree, "w,h,quality", ErrSignature}, {paramFree, "w", ErrSignature}, {paramFree, "", ErrSignature}, {paramFree, "w,w", ErrMalformed}, {paramFree, "w,edge-exp", ErrMalformed},
		{paramSignature, strings.Repeat("A", 43), ErrSignature}, {paramSignature, values.Get(paramSignature) + "=", ErrMalformed}, {paramSignature, "", ErrMalformed},
		{"quality", "720", ErrSignature}, {"quality", "", ErrSignature}, {"more", "1", ErrSignature}, {"edge-more", "1", ErrMalformed}, {"Edge-Exp", "1", ErrMalformed},
	} {
		changed := replace(query, row.name, row.value)
		request := r
		request.Target = "/films/42/caf%C3%A9.ts?" + changed
		if _, err := k.Verify(request); !errors.Is(err, row.want) {
			t.Errorf("%s=%q: %v, want %v", row.name, row.value, err, row.want)
		}
	}
	for i := range len(target) {
		for _, c := range []byte{'A', 'b', '1', '%', '&', '=', '/', '+', target[i] ^ 1, target[i] ^ 0x20} {
			request := r
			request.Target = target[:i] + string(c) + target[i+1:]
			if request.Target == target {
				continue
			}
			if _, err := k.Verify(request); err == nil && !harmless(target, request.Target) {
				t.Errorf("%q holds in place of %q", request.Target, target)
			}
		}
	}
	for name, row := range map[string]struct {
		change func(r *Request)
		want   error
	}{
		"expired":     {func(r *Request) { r.Now = ends }, ErrExpired},
		"not yet":     {func(r *Request) { r.Now = begun.Add(-1) }, ErrNotYet},
		"method":      {func(r *Request) { r.Method = "GET" }, ErrMethod},
		"host":        {func(r *Request) { r.Host = "evil.example" }, ErrHost},
		"host ends":   {func(r *Request) { r.Host = "files.example.com.evil.example" }, ErrHost},
		"tenant":      {func(r *Request) { r.Tenant = "globex" }, ErrTenant},
		"no tenant":   {func(r *Request) { r.Tenant = "" }, ErrTenant},
		"network":     {func(r *Request) { r.Client = netip.MustParseAddr("192.0.3.1") }, ErrNetwork},
		"no client":   {func(r *Request) { r.Client = netip.Addr{} }, ErrNetwork},
		"other path":  {func(r *Request) { r.Target = strings.Replace(r.Target, "/films/42/", "/films/43/", 1) }, ErrPath},
		"up":          {func(r *Request) { r.Target = strings.Replace(r.Target, "/films/42/", "/films/42/../", 1) }, ErrMalformed},
		"up, encoded": {func(r *Request) { r.Target = strings.Replace(r.Target, "/films/42/", "/films/42/%2e%2e/", 1) }, ErrMalformed},
		"no link":     {func(r *Request) { r.Target = "/films/42/caf%C3%A9.ts?quality=1080" }, ErrMissing},
		"long":        {func(r *Request) { r.Target += strings.Repeat("x", MaxTarget) }, ErrMalformed},
	} {
		request := r
		row.change(&request)
		grant, err := k.Verify(request)
		if !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
		if held := grant.KeyID != ""; held != (row.want != ErrMissing && row.want != ErrMalformed) {
			t.Errorf("%s: the grant is %+v", name, grant)
		}
	}
}

// replace gives query with the parameter changed, added or, without a value,
// taken out.
func replace(query, name, value string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if !strings.HasPrefix(pair, name+"=") {
			kept = append(kept, pair)
		}
	}
	if value != "" {
		kept = append(kept, name+"="+url.QueryEscape(value))
	}
	return strings.Join(kept, "&")
}

// harmless reports whether a link that differs by a byte says the same: another
// file below the prefix, another value of a free parameter, or the same byte in
// another spelling.
func harmless(a, b string) bool {
	pathA, queryA, _ := strings.Cut(a, "?")
	pathB, queryB, _ := strings.Cut(b, "?")
	if queryA == queryB {
		return strings.HasPrefix(pathB, "/films/42/") && pathA != pathB
	}
	va, errA := url.ParseQuery(replace(queryA, "w", ""))
	vb, errB := url.ParseQuery(replace(replace(queryB, "w", ""), "h", ""))
	return errA == nil && errB == nil && pathA == pathB && va.Encode() == vb.Encode()
}

func TestVerify_freeParametersMayChange(t *testing.T) {
	t.Parallel()
	k := parse(t, testKeys)
	l, r := full()
	target := sign(t, k, l)
	for _, changed := range []string{
		strings.Replace(target, "&w=3", "&w=900", 1), strings.Replace(target, "&w=3", "", 1), target + "&h=x%20y", strings.Replace(target, "&w=3", "&%77=3", 1),
	} {
		r.Target = changed
		if _, err := k.Verify(r); err != nil {
			t.Errorf("%s: %v", changed, err)
		}
	}
}

func TestVerify_duplicatesAreRefused(t *testing.T) {
	t.Parallel()
	k := parse(t, testKeys)
	l, r := full()
	target := sign(t, k, l)
	for _, more := range []string{
		"edge-exp=1790003600", "edge-sig=A", "edge-kid=old", "quality=1080", "quality=720", "w=1", "%71uality=1", "h=1&h=2",
	} {
		r.Target = target + "&" + more
		if _, err := k.Verify(r); !errors.Is(err, ErrDuplicate) {
			t.Errorf("%s: %v", more, err)
		}
	}
	for _, more := range []string{"%65dge-exp=1", "EDGE-exp=1", "edge%2dexp=1", "edge-exp", "edge-nbf=", "a;edge-exp=1", "", "=x", "%zz=1"} {
		r.Target = target + "&" + more
		if _, err := k.Verify(r); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", more, err)
		}
	}
	r.Target = target + strings.Repeat("&w", 100)
	if _, err := k.Verify(r); !errors.Is(err, ErrMalformed) {
		t.Errorf("many parameters: %v", err)
	}
}

func TestStrip_noSpellingOfAParameterTravelsOn(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"": "", "a=1": "a=1", "a=1&edge-sig=x": "a=1", "edge-sig=x&a=%zz": "a=%zz", "EDGE-sig=x": "", "%65dge-sig=x&b": "b", "edge%2Dsig=x": "",
		"edges=1&edge=2": "edges=1&edge=2", "a=edge-sig": "a=edge-sig", "edge-new=1": "", "a-b=1&&c": "a-b=1&&c",
	} {
		if got := Strip(query); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
}

func TestKeys_rotation(t *testing.T) {
	t.Parallel()
	before, after := parse(t, strings.Split(testKeys, "\n")[1]), parse(t, testKeys)
	target := sign(t, before, Link{Target: "/a", Expires: ends})
	if grant, err := after.Verify(Request{Method: "GET", Target: target, Now: now}); err != nil || grant.KeyID != "old" {
		t.Errorf("a link of before the change: %+v, %v", grant, err)
	}
	target = sign(t, after, Link{Target: "/a", Expires: ends})
	if _, err := before.Verify(Request{Method: "GET", Target: target, Now: now}); !errors.Is(err, ErrKey) {
		t.Errorf("a key that is not there yet: %v", err)
	}
	// A key of the same id with another secret, as after a mistaken change.
	other := parse(t, "new:b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXI=")
	if _, err := other.Verify(Request{Method: "GET", Target: target, Now: now}); !errors.Is(err, ErrSignature) {
		t.Errorf("another secret: %v", err)
	}
	if _, err := new(Keys).Verify(Request{Method: "GET", Target: target, Now: now}); !errors.Is(err, ErrKey) {
		t.Errorf("no key: %v", err)
	}
	joined, err := Join(other, before)
	if err != nil || strings.Join(joined.IDs(), " ") != "new old" {
		t.Errorf("%v, %v", joined.IDs(), err)
	}
	if _, err := Join(before, after); err == nil {
		t.Error("two secrets with one id are joined")
	}
}

func TestParseKeys_refusals(t *testing.T) {
	t.Parallel()
	secret := "bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE="
	for text, want := range map[string]string{
		"":                                      "holds no key",
		"# nothing\n\n":                         "holds no key",
		secret:                                  "line 1: a key is ID:SECRET",
		"a:" + secret + "\na:" + secret:         "line 2: key id a stands twice",
		"\n# c\nk 1:" + secret:                  `line 3: key id "k 1"`,
		":" + secret:                            `key id ""`,
		"a:bmV3":                                "key a has 3 bytes",
		"a:" + strings.Repeat("QUFB", 400):      "key a has 1200 bytes",
		"a:hunter2!hunter2!hunter2!hunter2!!":   `the secret of key "a" is not base64`,
		strings.Repeat("a", 33) + ":" + secret:  "it has 1 to 32",
		"a.b:" + secret:                         `key id "a.b"`,
		"a:" + secret[:len(secret)-2] + "F\n\n": "is not base64", // bits after the end
	} {
		_, err := ParseKeys([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), secret[:20]) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
	var many strings.Builder
	for i := range 17 {
		many.WriteString("k" + string(rune('a'+i)) + ":" + secret + "\r\n")
	}
	if _, err := ParseKeys([]byte(many.String())); err == nil || !strings.Contains(err.Error(), "over 16 keys") {
		t.Error(err)
	}
}

func TestSign_refusals(t *testing.T) {
	t.Parallel()
	k := parse(t, testKeys)
	for want, l := range map[string]Link{
		"not a path":             {Target: "a", Expires: ends},
		"empty segment":          {Target: "//evil.example/a", Expires: ends},
		"dot segment":            {Target: "/a/../b", Expires: ends},
		"no end":                 {Target: "/a"},
		"before it begins":       {Target: "/a", Expires: begun, NotBefore: begun},
		"the end":                {Target: "/a", Expires: time.Unix(0, 0)},
		"signed already":         {Target: "/a?edge-exp=1", Expires: ends},
		"stands twice":           {Target: "/a?x=1&x=2", Expires: ends},
		"malformed":              {Target: "/a?x;y", Expires: ends},
		"method":                 {Target: "/a", Method: "head", Expires: ends},
		"host":                   {Target: "/a", Host: "a:80", Expires: ends},
		"tenant":                 {Target: "/a", Tenant: "A", Expires: ends},
		"network":                {Target: "/a", Network: netip.MustParsePrefix("192.0.2.1/24"), Expires: ends},
		"does not begin":         {Target: "/a", Prefix: "/b/", Expires: ends},
		"is not a directory":     {Target: "/a", Prefix: "/a", Expires: ends},
		"prefix \"/a//\" is not": {Target: "/a", Prefix: "/a//", Expires: ends},
		"free parameters":        {Target: "/a", Free: []string{"edge-sig"}, Expires: ends},
		"over 8192":              {Target: "/" + strings.Repeat("a", MaxTarget), Expires: ends},
	} {
		if target, err := k.Sign(l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v", want, target, err)
		}
	}
	if _, err := new(Keys).Sign(Link{Target: "/a", Expires: ends}); err == nil {
		t.Error("signed with no key")
	}
}

func TestExpiresIn_isTheSameWithinAStep(t *testing.T) {
	t.Parallel()
	at := time.Unix(1790000100, 5)
	first := ExpiresIn(at, time.Hour, 5*time.Minute)
	for _, later := range []time.Duration{0, time.Second, time.Minute} {
		end := ExpiresIn(at.Add(later), time.Hour, 5*time.Minute)
		if !end.Equal(first) || end.Sub(at.Add(later)) < time.Hour || end.Sub(at) > time.Hour+5*time.Minute {
			t.Errorf("after %s: %s, at first %s", later, end, first)
		}
	}
	if end := ExpiresIn(at, time.Hour, 0); end.Nanosecond() != 0 || end.Sub(at) < time.Hour {
		t.Error(end)
	}
}

func FuzzVerify(f *testing.F) {
	k := parse(f, testKeys)
	l, r := full()
	f.Add(sign(f, k, l))
	f.Add(sign(f, k, Link{Target: "/a?b=c", Expires: ends}))
	f.Add("/a?edge-v=1&edge-kid=new&edge-exp=1790003600&edge-sig=" + strings.Repeat("A", 43))
	f.Add("/a?%65dge-v=1;b&&=")
	valid := map[string]bool{}
	for _, target := range []string{sign(f, k, l), sign(f, k, Link{Target: "/a?b=c", Expires: ends})} {
		_, query, _ := strings.Cut(target, "?")
		values, _ := url.ParseQuery(query)
		valid[values.Get(paramSignature)] = true
	}
	f.Fuzz(func(t *testing.T, target string) {
		r := r
		r.Target = target
		_, err := k.Verify(r)
		_, query, _ := strings.Cut(target, "?")
		if err == nil { // nobody makes a signature by chance
			values, _ := url.ParseQuery(query)
			if !valid[values.Get(paramSignature)] {
				t.Errorf("%q holds", target)
			}
		}
		stripped := Strip(query)
		for pair := range strings.SplitSeq(stripped, "&") {
			name, _, _ := strings.Cut(pair, "=")
			if plain, err := url.QueryUnescape(name); err == nil && isReserved(plain) {
				t.Errorf("%q is left of %q", stripped, query)
			}
		}
		if Strip(stripped) != stripped {
			t.Errorf("Strip(%q) is not done", query)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(testKeys))
	f.Add([]byte("a:b:c\n#\n:\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParseKeys(text)
		if err != nil {
			return
		}
		target := sign(t, k, Link{Target: "/a", Expires: ends})
		if _, err := k.Verify(Request{Method: "GET", Target: target, Now: now}); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	k := parse(b, testKeys)
	l, r := full()
	for _, row := range []struct {
		name string
		link Link
	}{{"least", Link{Target: "/downloads/report.pdf", Method: "PUT", Expires: ends}}, {"everything", l}} {
		r := r
		r.Target = sign(b, k, row.link)
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Verify(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("unsigned", func(b *testing.B) {
		r := r
		r.Target = "/downloads/report.pdf?a=b"
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Verify(r); !errors.Is(err, ErrMissing) {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	k := parse(b, testKeys)
	l := Link{Target: "/downloads/report.pdf", Expires: ends}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Sign(l); err != nil {
			b.Fatal(err)
		}
	}
}
