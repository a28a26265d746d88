package session

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// FuzzCookies holds our reader of cookies against net/http's, which the region
// uses: where that finds a session we have found as many, and once ours has
// taken the cookie away that one finds none, and all the others as they were.
func FuzzCookies(f *testing.F) {
	for _, seed := range []string{
		"session=a.b.c", "a=1; session=a.b.c; b=2", "session=x; session=y", `session="q"; Session=z`, "session", "session =x",
		"=session=x", ";;session=;;", "a=1;session=x;b=2", "$Version=1; session=x", "\tsession\t=\tx\t", "session=a\x00b", "a=\xff; session=x",
	} {
		f.Add(seed, "b=2; session=z")
		f.Add(seed, "")
	}
	const name = "session"
	f.Fuzz(func(t *testing.T, one, two string) {
		h := http.Header{"Cookie": {one, two}}
		theirs := (&http.Request{Header: h}).CookiesNamed(name)
		var others []http.Cookie
		for _, c := range (&http.Request{Header: h}).Cookies() {
			if c.Name != name {
				others = append(others, *c)
			}
		}
		got := readCookie(h["Cookie"], name)
		switch {
		case len(theirs) > 1 && got.fault != decision.AuthDuplicate:
			t.Fatalf("%q: net/http finds %d, we say %+v", h, len(theirs), got)
		case len(theirs) == 1 && got.fault == decision.AuthMissing && theirs[0].Value != "":
			t.Fatalf("%q: net/http finds %q, we find none", h, theirs[0].Value)
		case len(theirs) == 1 && got.fault == "" && got.token != theirs[0].Value && !theirs[0].Quoted:
			t.Fatalf("%q: net/http finds %q, we find %q", h, theirs[0].Value, got.token)
		}
		dropCookie(h, name)
		if left := (&http.Request{Header: h}).CookiesNamed(name); len(left) > 0 {
			t.Fatalf("left: %q", left)
		}
		var kept []http.Cookie
		for _, c := range (&http.Request{Header: h}).Cookies() {
			kept = append(kept, *c)
		}
		if len(kept) != len(others) {
			t.Fatalf("%q: of %v are left %v", []string{one, two}, others, kept)
		}
		for i := range kept {
			if kept[i].Name != others[i].Name || kept[i].Value != others[i].Value {
				t.Fatalf("%v became %v", others[i], kept[i])
			}
		}
	})
}

func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"Bearer a.b.c", "bearer  x", "Bearer", "Basic x", "BearerX y", "Bearer\tx", " Bearer x", "Bearer a b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, found := readBearer([]string{line})
		scheme, rest, _ := strings.Cut(line, " ")
		bearer := strings.EqualFold(scheme, "Bearer")
		if bearer && !found {
			t.Fatalf("%q is passed over: a cookie could rescue it", line)
		}
		if found && c.fault == "" && (!bearer || c.token == "" || !strings.HasSuffix(rest, c.token)) {
			t.Fatalf("%q gives %q", line, c.token)
		}
		if !found && strings.HasPrefix(strings.ToLower(line), "bearer") && (len(line) == 6 || !isSchemeByte(line[6])) {
			t.Fatalf("%q is passed over", line)
		}
	})
}

func BenchmarkReadCookies(b *testing.B) {
	for name, line := range map[string]string{
		"one":     "session=" + strings.Repeat("a", 400),
		"five":    "_ga=GA1.1.1; theme=dark; session=" + strings.Repeat("a", 400) + "; lang=en; x=y",
		"hundred": strings.Repeat("c=1; ", 100) + "session=" + strings.Repeat("a", 400),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h := http.Header{"Cookie": {line}}
				if c := readCookie(h["Cookie"], "session"); c.token == "" {
					b.Fatal("not found")
				}
				dropCookie(h, "session")
			}
		})
	}
}
