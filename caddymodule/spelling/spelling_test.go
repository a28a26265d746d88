package spelling

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

var gate = Gate{Prefixes: []string{"/app", "/eu/app", "/api"}, Locales: []string{"en", "pt-BR"}}

func holds(t testing.TB, g *Gate, target string) bool {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	return g.Holds(u)
}

func TestGate_holdsEverySpelling(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"/app", "/app/", "/app/x", "/app?x", "/app/x/y.png", "/APP", "/aPp/x", "/%61pp", "/a%70p/x", "/eu/app", "/EU/App/x", "/api/orders",
		"/app.rsc", "/app.rsc?_rsc=1abc", "/app/orders.rsc", "/app.prefetch.rsc", "/app.segments/_tree.segment.rsc",
		"/app.segments/app/__PAGE__.segment.rsc", "/app/orders.segments/_full.segment.rsc", "/app/index", "/app/index.rsc", "/app.html", "/app.json",
		"/app.txt", "/app.action", "/app%20", "/app,x", "/app:80", "/app~", "/app$", "/app@2x", "/app!", "/app(x)", "/app*", "/app%3f", "/app%23", "/app+x",
		"/_next/data/abc123/app.json", "/_next/data/abc123/app/orders.json", "/_next/data/x/app", "/_NEXT/DATA/x/APP.json", "/_next/data/a-b_c/en/app.json",
		"/docs/_next/data/x/app.json", "/eu/_next/data/x/app.json", "/_ne%78t/data/x/%61pp.json", "/_next/data/x/eu/app/y.json",
		"/en/app", "/en/app.rsc", "/pt-BR/app/x", "/PT-br/app", "/en/eu/app", "/_next/data/x/en/api/x.json",
		"/_next/image?url=%2Fapp%2Fsecret.png&w=64&q=75", "/_next/image/?w=64&url=/app/x.png", "/_next/image?url=%2fen%2Fapp%2Fx.png", "/_next/image?url=/products/../app/x.png",
		"/_next/image?url=https%3A%2F%2Fpop.example%2Fapp%2Fx.png", "/_next/image?url=/products.png&url=/app/x.png", "/_next/image?URL=/app/x.png", "/_next/image?url=/%2561pp",
		"/_next/image?url=%zz", "/_next/image?url=//app/x.png", "/_next/image?u%72l=/app/x.png",
		"/%EF%BD%81pp", "/a%EF%BD%90p/x", "/app%C2%A0", "/app%E2%80%8B", "/app%EF%BC%8Fx", "/_next/data/x/%EF%BD%81pp.json", "/\uff3fnext/data/x/app.json",
	} {
		if target == "/_next/image?url=/%2561pp" { // twice encoded: what the server asks for is /%61pp, which it decodes
			target = "/_next/image?url=%2F%2561pp%2Fx.png"
		}
		if !holds(t, &gate, target) {
			t.Errorf("%s passes the gate", target)
		}
	}
	folded := Gate{Prefixes: []string{"/settings", "/bank"}}
	for _, target := range []string{"/%C5%BFettings", "/ban%E2%84%AA", "/SETTINGS.RSC"} { // long s, the sign of kelvins
		if !holds(t, &folded, target) {
			t.Errorf("%s passes the gate", target)
		}
	}
}

func TestGate_letsOtherPagesThrough(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"/", "/products/app", "/products/coffee", "/application", "/app-store", "/app_1", "/apps", "/apples/x", "/ap", "/a", "/pp", "/fr/app", "/english/app", "/enapp",
		"/products?x=/app", "/_next/static/app/x.js", "/_next/data/abc/products.json", "/_next/data/app", "/_next/data/", "/_next/data",
		"/_next/image?url=/products/x.png", "/_next/image", "/_next/image?w=/app", "/us/app", "/login", "/products.rsc", "/products/app.rsc", "/caf%C3%A9",
	} {
		if holds(t, &gate, target) {
			t.Errorf("%s is held", target)
		}
	}
	exact := Gate{Prefixes: []string{"/app"}, CaseSensitive: true}
	if holds(t, &exact, "/APP") || !holds(t, &exact, "/app.rsc") {
		t.Error("case_sensitive")
	}
}

var (
	segments = regexp.MustCompile(`(?i)\.segments(/.*)?$`)
	suffixes = regexp.MustCompile(`(?i)(\.prefetch)?\.(rsc|json|html|txt|action)$`)
	data     = regexp.MustCompile(`(?i)/_next/data/[^/]+/`)
	locales  = regexp.MustCompile(`(?i)^/(en|pt-br)(/|$)`)
)

// serves is what a generous framework would serve for a decoded path: written apart
// from the gate, by taking away what frameworks put on.
func serves(decoded string) string {
	page := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, decoded)
	if at := data.FindStringIndex(page); at != nil {
		page = page[:at[0]] + "/" + page[at[1]:]
	}
	page = locales.ReplaceAllString(page, "/")
	page = segments.ReplaceAllString(page, "")
	page = suffixes.ReplaceAllString(page, "")
	page = strings.TrimSuffix(strings.TrimRight(page, "/ "), "/index")
	return path.Clean("/" + page)
}

func gated(page string) bool {
	for _, p := range gate.Prefixes {
		if page == p || strings.HasPrefix(page, p+"/") {
			return true
		}
	}
	return false
}

// check fails where a target passes the path rule and the gate, and a framework would
// serve a gated page for it.
func check(t interface {
	Fatalf(string, ...any)
}, target string) {
	u, err := url.ParseRequestURI(target)
	if err != nil || handoff.CheckPath(target) != nil {
		return
	}
	if page := serves(u.Path); gated(page) && !gate.Holds(u) {
		t.Fatalf("%q passes the gate and is served as %s", target, page)
	}
}

// TestGate_noSpellingPassesAndReachesThePage makes spellings of gated pages in every
// way that frameworks know, on top of each other.
func TestGate_noSpellingPassesAndReachesThePage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(gate.Prefixes).Draw(t, "prefix") + rapid.SampledFrom([]string{"", "/orders", "/orders/7", "/index", "/a b"}).Draw(t, "page")
		if rapid.Bool().Draw(t, "locale") {
			p = "/" + rapid.SampledFrom(gate.Locales).Draw(t, "which") + p
		}
		p += rapid.SampledFrom([]string{"", "/", ".rsc", ".prefetch.rsc", ".segments/_tree.segment.rsc", ".segments/a/__PAGE__.segment.rsc", ".json", ".html", ".txt", "/index", " "}).Draw(t, "suffix")
		if rapid.Bool().Draw(t, "data") {
			p = "/_next/data/" + rapid.SampledFrom([]string{"build", "development", "a.b-c_d", "app"}).Draw(t, "build") + p
		}
		var b strings.Builder
		for i := range len(p) {
			c := p[i]
			switch rapid.IntRange(0, 5).Draw(t, "spell") {
			case 0:
				c = strings.ToUpper(string(c))[0]
			case 1:
				if c != '/' && c != '.' {
					fmt.Fprintf(&b, "%%%02x", c)
					continue
				}
			}
			if c == ' ' {
				b.WriteString("%20")
				continue
			}
			b.WriteByte(c)
		}
		target := b.String()
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatalf("%q: %v", target, err)
		}
		if !gated(serves(u.Path)) {
			t.Fatalf("the test is wrong: %q is served as %s", target, serves(u.Path))
		}
		if handoff.CheckPath(target) == nil && !gate.Holds(u) {
			t.Fatalf("%q passes the gate and is served as %s", target, serves(u.Path))
		}
	})
}

func FuzzGate(f *testing.F) {
	for _, seed := range []string{
		"/app", "/APP.rsc", "/en/app", "/_next/data/x/app.json", "/%61pp/", "/app.segments/x", "/products", "/eu/_next/data/b/app.json", "/_next/image?url=/app",
		"/\u017fettings", "/app\u00a0", "/pt-br/api.json", "/_next/data//app", "/a\u200bpp", "/\uff0fapp",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		check(t, target)
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		open := Gate{Prefixes: []string{"/app"}, CaseSensitive: true}
		if open.Holds(u) && !gate.Holds(u) {
			t.Fatalf("%q is held by the narrower gate alone", target)
		}
	})
}

func BenchmarkGate(b *testing.B) {
	for _, target := range []string{"/app/orders", "/products/coffee", "/_next/data/build/app/orders.json"} {
		u, _ := url.Parse(target)
		b.Run(strings.Trim(strings.ReplaceAll(target, "/", "_"), "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				gate.Holds(u)
			}
		})
	}
}
