package command_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/command"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// listing is "caddy edge cache ls".
func listing() *cobra.Command {
	for _, c := range command.Cache().Commands() {
		if c.Name() == "ls" {
			c.Parent().RemoveCommand(c)
			return c
		}
	}
	return nil
}

// newCache is a POP whose pages come from memory: /t… for the session's tenant, the
// others for everybody.
func newCache(t *testing.T) *pop {
	t.Helper()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=600")
		switch {
		case r.URL.Path == "/cookie":
			h.Set("Set-Cookie", "a=the-cookie-of-one")
		case r.URL.Path == "/fresh":
			h.Set("Cache-Control", "no-store")
		case strings.HasPrefix(r.URL.Path, "/t"):
			h.Set("Cache-Groups", `"shell"`)
		default:
			h.Set("Cache-Groups", `"product:coffee", "all of them"`)
			h.Set("Vary", "Accept-Language")
		}
		_, _ = io.WriteString(w, strings.Repeat("x", len(r.URL.Path)))
	}))
	t.Cleanup(origin.Close)
	p := newPOP(t, false)
	p.config = strings.Replace(p.config, "edge_session\n\trespond \"in as {http.auth.user.id}\"", fmt.Sprintf(`edge_session /t*
	edge_cache /t* {
		policy tenant
	}
	@pages not path /t*
	edge_cache @pages {
		policy public
	}
	reverse_proxy %s`, strings.TrimPrefix(origin.URL, "http://")), 1)
	p.run(t)
	// What explain makes of a file stays in this process, and keeps what is stored.
	if _, err := typed(t, command.Purge, "--all", "--address", p.admin); err != nil {
		t.Fatal(err)
	}
	for range 500 { // what is purged is gone at once, and its memory a moment later
		if p.list(t).Summary.Objects == 0 {
			return p
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("what was purged stays in memory")
	return nil
}

// fetch asks for a page, of a tenant's session where that is named, and gives our
// member of Cache-Status.
func (p *pop) fetch(t *testing.T, path, tenant string, header ...string) string {
	t.Helper()
	request := "GET " + path + " HTTP/1.1\nHost: Shop.example:80\n"
	if tenant != "" {
		request += "Cookie: session=" + p.token(t, jwt.MapClaims{"tenant_id": tenant, "sub": "u-" + tenant, "sid": "s-" + tenant}) + "\n"
	}
	a := edgetest.Raw(t, p.site, request+strings.Join(header, "\n")+"\n")
	if a.StatusCode != 200 {
		t.Fatalf("%s: %d %s", path, a.StatusCode, a.Body)
	}
	return strings.TrimPrefix(a.Header.Get("Cache-Status"), "gatehouse; ")
}

// fill has four answers stored, each used once. An answer is at its client a moment
// before it is stored: who asks within it is told that he waited with the one before.
func (p *pop) fill(t *testing.T) {
	t.Helper()
	for path, tenant := range map[string]string{"/page?x=1": "", "/pages/long": "", "/t": "acme", "/t/x": "globex"} {
		p.fetch(t, path, tenant)
		got := p.fetch(t, path, tenant)
		for range 100 {
			if !strings.HasSuffix(got, "collapsed") {
				break
			}
			time.Sleep(10 * time.Millisecond)
			got = p.fetch(t, path, tenant)
		}
		if !strings.HasPrefix(got, "hit") {
			t.Fatalf("%s is not stored: %s", path, got)
		}
	}
}

// listed is what programs are promised of ls.
type listed struct {
	POP     string
	Found   int
	Summary struct {
		Stored, Limit int64
		Objects       int
		Purges        uint64
	}
	Items []struct {
		Host, URI, Policy, Tenant, User string
		Status                          int
		Age, TTL, Size, Memory, Hits    int64
		Groups                          []string
	}
}

func (p *pop) list(t *testing.T, args ...string) (l listed) {
	t.Helper()
	out, err := typed(t, listing, append(args, "--json", "--address", p.admin)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &l, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCache_listsWhatIsStored(t *testing.T) {
	p := newCache(t)
	if out, err := typed(t, listing, "--address", p.admin); err != nil || !strings.Contains(out, "POP fra stores 0 answers in 0 B of 192 MiB; 0 were evicted for room, ") {
		t.Fatalf("%v %s", err, out)
	}
	p.fill(t)
	for range 5 {
		p.fetch(t, "/t", "acme")
	}
	out, err := typed(t, listing, "--address", p.admin, "--by", "hits", "--limit", "2")
	lines := strings.Split(out, "\n")
	if err != nil || len(lines) < 5 || strings.Join(strings.Fields(lines[0]), " ") != "URL FOR STATUS AGE TTL SIZE HITS GROUPS" {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := strings.Fields(lines[1]); len(got) != 10 || got[0] != "shop.example/t" || got[1]+" "+got[2] != "tenant acme" || got[3] != "200" || got[8] != "6" || got[9] != "shell" {
		t.Errorf("the most used: %q", got)
	}
	if !strings.Contains(out, "POP fra stores 4 answers in ") || !strings.Contains(out, " 2 of 4 are shown.") {
		t.Error(out)
	}
	l := p.list(t, "--prefix", "http://shop.example/page")
	if l.POP != "fra" || l.Found != 2 || len(l.Items) != 2 || l.Summary.Objects != 4 || l.Summary.Stored <= l.Items[0].Memory || l.Summary.Limit <= l.Summary.Stored {
		t.Fatalf("%+v", l)
	}
	if i := l.Items[0]; i.URI != "/pages/long" || i.Size != 11 || i.Memory < l.Items[1].Memory || i.TTL < 1 || i.Hits != 1 || len(i.Groups) != 2 || i.Tenant != "" || i.Policy != "public" {
		t.Errorf("the largest: %+v", i)
	}
	if l := p.list(t, "--tenant", "globex"); l.Found != 1 || l.Items[0].Tenant != "globex" || l.Items[0].User != "" {
		t.Errorf("%+v", l)
	}
	if l := p.list(t, "--prefix", "http://other.example/"); l.Found != 0 {
		t.Errorf("%+v", l)
	}
	for _, args := range [][]string{{"--limit", "0"}, {"--limit", "5000"}, {"--by", "luck"}, {"--prefix", "/a\x00"}, {"--prefix", "ftp://x/"}, {"--tenant", "../x"}, {"more"}} {
		if out, err := typed(t, listing, append(args, "--address", p.admin)...); err == nil || out != "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q %v", args, out, err)
		}
	}
}

func TestCache_showsTheVariantsOfAURL(t *testing.T) {
	p := newCache(t)
	p.fill(t)
	p.fetch(t, "/page?x=1", "", "Accept-Language: de", "")
	out, err := typed(t, command.Cache, "show", "http://SHOP.example:80/page?x=1", "--address", p.admin)
	if err != nil || strings.Count(out, "shop.example/page?x=1 for public: 200, 5 B, age ") != 2 || strings.Count(out, "  Vary: Accept-Language\n") != 2 ||
		!strings.Contains(out, "  Cache-Control: max-age=600\n") || !strings.Contains(out, ", used once\n") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = typed(t, command.Cache, "show", "/t", "--tenant", "acme", "--json", "--address", p.admin)
	if err != nil || strings.Count(out, `"uri": "/t"`) != 1 || !strings.Contains(out, `"tenant": "acme"`) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := typed(t, command.Cache, "show", "/t", "--tenant", "globex", "--address", p.admin); err != nil || out != "POP fra stores nothing for /t.\n" {
		t.Errorf("another tenant's: %v %q", err, out)
	}
	for _, target := range []string{"/a\x1b[31m", "/a b", "shop.example/", "//shop.example/", "http://ada:secret@shop.example/", "/a#b", "/%zz", "", "/" + strings.Repeat("a", 9000)} {
		if out, err := typed(t, command.Cache, "show", target, "--address", p.admin); err == nil || out != "" || strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %q %v", target, out, err)
		}
	}
}

func TestCache_saysWhyNothingIsStored(t *testing.T) {
	p := newCache(t)
	for path, why := range map[string]string{"/cookie": "set-cookie", "/fresh": "no-store"} {
		p.fetch(t, path, "")
		for _, json := range []string{"--json=false", "--json"} {
			out, err := typed(t, command.Cache, "show", "http://shop.example"+path, json, "--address", p.admin)
			if err != nil || !strings.Contains(out, why) || strings.Contains(out, "the-cookie") {
				t.Errorf("%s: %v\n%s", path, err, out)
			}
		}
	}
	if out, err := typed(t, command.Cache, "show", "http://shop.example/never", "--address", p.admin); err != nil || out != "POP fra stores nothing for http://shop.example/never.\n" {
		t.Errorf("%v %q", err, out)
	}
	if out, err := typed(t, command.Cache, "show", "http://shop.example/cookie", "--tenant", "acme", "--address", p.admin); err != nil || strings.Contains(out, "set-cookie") {
		t.Errorf("to another: %v %q", err, out)
	}
}

func TestPurge_actsOnThePOPItAsks(t *testing.T) {
	p := newCache(t)
	all := map[string]string{"/page?x=1": "", "/pages/long": "", "/t": "acme", "/t/x": "globex"}
	for _, row := range []struct {
		args []string
		gone string // paths, in order
		says string
	}{
		{[]string{"--url", "http://Shop.example/page?x=1"}, "/page?x=1", "POP fra has purged http://Shop.example/page?x=1: 1 answer is gone. No other POP was told.\n"},
		{[]string{"--url", "/page"}, "", "POP fra has purged /page: 0 answers are gone. No other POP was told.\n"},
		{[]string{"--url", "https://other.example/t"}, "", "POP fra has purged https://other.example/t: 0 answers are gone. No other POP was told.\n"},
		{[]string{"--prefix", "/page"}, "/page?x=1 /pages/long", "POP fra has purged what begins with /page: 2 answers are gone. No other POP was told.\n"},
		{[]string{"--prefix", "/t", "--tenant", "globex"}, "/t/x", "POP fra has purged what begins with /t of tenant globex: 1 answer is gone. No other POP was told.\n"},
		{[]string{"--group", "all of them"}, "/page?x=1 /pages/long", "POP fra has purged group all of them: 2 answers are gone. No other POP was told.\n"},
		{[]string{"--group", "shell"}, "/t /t/x", "POP fra has purged group shell: 2 answers are gone. No other POP was told.\n"},
		{[]string{"--group", "shell", "--tenant", "acme"}, "/t", "POP fra has purged group shell of tenant acme: 1 answer is gone. No other POP was told.\n"},
		{[]string{"--all", "--tenant", "umbrella"}, "", "POP fra has purged all that is stored of tenant umbrella: 0 answers are gone. No other POP was told.\n"},
		{[]string{"--all"}, "/page?x=1 /pages/long /t /t/x", "POP fra has purged all that is stored: 4 answers are gone. No other POP was told.\n"},
		{[]string{"--all", "--soft"}, "/page?x=1 /pages/long /t /t/x", "POP fra has purged all that is stored: 4 answers are stale by now. No other POP was told.\n"},
	} {
		p.fill(t)
		out, err := typed(t, command.Purge, append(row.args, "--address", p.admin)...)
		if err != nil || out != row.says {
			t.Errorf("%q: %v %q", row.args, err, out)
		}
		var gone []string
		for _, path := range []string{"/page?x=1", "/pages/long", "/t", "/t/x"} {
			if !strings.HasPrefix(p.fetch(t, path, all[path]), "hit") {
				gone = append(gone, path)
			}
		}
		if got := strings.Join(gone, " "); got != row.gone {
			t.Errorf("%q: %q are gone, want %q", row.args, got, row.gone)
		}
	}
	out, err := typed(t, command.Cache, "purge", "--all", "--json", "--address", p.admin)
	if err != nil || !strings.Contains(out, `"scope": "pop"`) || !strings.Contains(out, `"reached": 4`) || !strings.Contains(out, `"all": true`) {
		t.Errorf("%v %s", err, out)
	}
}

func TestPurge_refuses(t *testing.T) {
	p := newCache(t)
	p.fill(t)
	before := p.list(t).Summary
	for _, row := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"nothing", "purge", `{}`, 400, "names 0 of"},
		{"null", "purge", `null`, 400, "names 0 of"},
		{"two at once", "purge", `{"url":"/t","all":true}`, 400, "names 2 of"},
		{"a control byte", "purge", `{"url":"/t\u0000"}`, 400, "byte 0x00"},
		{"a line break", "purge", `{"prefix":"/t\r\nHost: x"}`, 400, "byte 0x0d"},
		{"no URL", "purge", `{"url":"shop.example/t"}`, 400, "neither a whole one"},
		{"a password", "purge", `{"url":"http://a:b@shop.example/t"}`, 400, "neither a whole one"},
		{"an opaque one", "purge", `{"url":"http:t"}`, 400, "neither a whole one"},
		{"a URL too long", "purge", `{"url":"/` + strings.Repeat("t", 9000) + `"}`, 400, "8192 are the most"},
		{"a group too long", "purge", `{"group":"` + strings.Repeat("g", 300) + `"}`, 400, "1 to 255 bytes"},
		{"all as a group", "purge", `{"group":"*"}`, 400, "stands for all"},
		{"a group with a control byte", "purge", `{"group":"\u0007"}`, 400, "byte 0x07"},
		{"no tenant's name", "purge", `{"all":true,"tenant":"*"}`, 400, "no tenant's name"},
		{"an unknown member", "purge", `{"everyone":true}`, 400, "everyone"},
		{"an answer of no URL", "show", `{"url":"\u001b"}`, 400, "byte 0x1b"},
		{"a list without end", "", `{"limit":100000}`, 400, "1 to 1000"},
		{"a list of less than nothing", "", `{"limit":-1}`, 400, "1 to 1000"},
	} {
		path := "/edge/cache"
		if row.path != "" {
			path += "/" + row.path
		}
		if status, _, body := p.api(t, "POST", path, row.body, asJSON); status != row.status || !strings.Contains(body, row.says) {
			t.Errorf("%s: %d %s", row.name, status, body)
		}
	}
	if status, _, body := p.api(t, "POST", "/edge/cache/purge", `{"all":true}`, "Content-Type: text/plain"); status != 415 {
		t.Errorf("another site's page: %d %s", status, body)
	}
	if status, _, body := p.api(t, "GET", "/edge/cache/purge", ""); status != 405 {
		t.Errorf("by GET: %d %s", status, body)
	}
	if after := p.list(t).Summary; after != before || after.Objects != 4 {
		t.Errorf("something that was refused was done: %+v, before %+v", after, before)
	}
	for _, args := range [][]string{
		nil, {"--url", "/t", "--all"}, {"--url", ""}, {"--group", ""}, {"--all", "--tenant", ""}, {"--all", "more"}, {"--all", "--region", "http://127.0.0.1:1"}, {"--all", "--token-file", "x"},
	} {
		if out, err := typed(t, command.Purge, append(args, "--address", "127.0.0.1:1")...); err == nil || out != "" || strings.Contains(err.Error(), "127.0.0.1:1:") {
			t.Errorf("%q: %q %v", args, out, err)
		}
	}
}

func TestCache_saysThatThereIsNone(t *testing.T) {
	p := newPOP(t, false).run(t)
	for name, run := range map[string]func() (string, error){
		"ls":    func() (string, error) { return typed(t, listing, "--address", p.admin) },
		"show":  func() (string, error) { return typed(t, command.Cache, "show", "/", "--address", p.admin) },
		"purge": func() (string, error) { return typed(t, command.Purge, "--all", "--address", p.admin) },
	} {
		if out, err := run(); err == nil || out != "" || !strings.Contains(err.Error(), "no edge_cache") {
			t.Errorf("%s: %q %v", name, out, err)
		}
	}
}

// What a region does with it is tested beside it, and both together in test/e2e.
func TestPurge_everywhereAsksTheRegion(t *testing.T) {
	t.Setenv("GATEHOUSE_OPERATOR_TOKEN", "")
	var got, sent, answer string
	region := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, sent = r.Method+" "+r.URL.Path+" "+string(body), r.Header.Get("Authorization")
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(region.Close)
	file := edgetest.Write(t, "token", []byte(token+"\n"))
	at := time.Now().UTC().Format(time.RFC3339)
	args := []string{"--everywhere", "--region", region.URL, "--token-file", file}
	for _, row := range []struct {
		args              []string
		asked, says, name string
	}{
		{[]string{"--group", "g"}, `{"group":"g"}`, "Region eu has purged group g of everybody's answers, and tells every POP. What is one tenant's stays.\n", "a group"},
		{[]string{"--group", "g", "--tenant", "acme"}, `{"tenant":"acme","group":"g"}`, "Region eu has purged group g of tenant acme, and tells every POP.\n", "a tenant's"},
		{[]string{"--all"}, `{"group":"*"}`, "Region eu has purged all of everybody's answers, and tells every POP. What is one tenant's stays.\n", "all"},
		{[]string{"--all", "--tenant", "acme"}, `{"tenant":"acme","group":"*"}`, "Region eu has purged all of tenant acme, and tells every POP.\n", "a tenant's all"},
		{[]string{"--url", "/t?x=1"}, `{"url":"/t?x=1"}`, "Region eu has purged /t?x=1 of everybody's answers, and tells every POP. What is one tenant's stays.\n", "a URL"},
		{[]string{"--prefix", "https://shop.example/t", "--tenant", "acme", "--soft"}, `{"tenant":"acme","prefix":"https://shop.example/t","soft":true}`,
			"Region eu has softly purged what begins with https://shop.example/t of tenant acme, and tells every POP.\n", "a prefix, softly"},
	} {
		answer = `{"region":"eu","purged":` + row.asked + `,"at":"` + at + `","scope":"everywhere"}`
		out, err := typed(t, command.Purge, append(row.args, args...)...)
		if err != nil || out != row.says || got != "POST /purges "+row.asked || sent != "Bearer "+token {
			t.Errorf("%s: %v %q, asked %q with %q", row.name, err, out, got, sent)
		}
	}
	got = ""
	for _, row := range []struct {
		name string
		args []string
		says string
	}{
		{"no URL", append([]string{"--url", "shop.example/t"}, args...), "url: it is neither a whole one"},
		{"a prefix with a password", append([]string{"--prefix", "http://a:b@x/"}, args...), "prefix: it is neither a whole one"},
		{"a group too long", append([]string{"--group", strings.Repeat("g", 256)}, args...), "1 to 255 bytes"},
		{"all as a group", append([]string{"--group", "*"}, args...), "stands for all"},
		{"an empty tenant", append([]string{"--all", "--tenant", ""}, args...), "names nobody"},
		{"no region", []string{"--everywhere", "--all"}, "needs --region"},
		{"no token", []string{"--everywhere", "--region", region.URL, "--all"}, "give --token-file"},
		{"a token for everybody", []string{"--everywhere", "--region", "http://192.0.2.1:9191", "--token-file", file, "--all"}, "no https address"},
		{"a POP too", append([]string{"--all", "--address", "127.0.0.1:1"}, args...), "address"},
		{"nobody there", []string{"--everywhere", "--region", "http://127.0.0.1:1", "--token-file", file, "--all"}, "no region answers"},
	} {
		out, err := typed(t, command.Purge, row.args...)
		if err == nil || out != "" || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q %v", row.name, out, err)
		}
	}
	if got != "" {
		t.Errorf("what was refused was sent: %s", got)
	}
}

// What runs says what is stored; a file whom it would be for.
func TestExplain_saysWhatTheCacheWouldDo(t *testing.T) {
	p := newCache(t)
	_, port, _ := strings.Cut(p.site, ":")
	url := "http://shop.example:" + port + "/page?x=1"
	explained := func() string {
		out, err := typed(t, command.Explain, "GET", url, "--address", p.admin)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := explained(); !strings.Contains(out, "cache_policy=public: passes it on; its key is public, http://shop.example:"+port+"/page?x=1; nothing is stored; it is fetched in nobody's name\n") {
		t.Error(out)
	}
	edgetest.Raw(t, p.site, "GET /page?x=1 HTTP/1.1\nHost: shop.example:"+port+"\n\n")
	for range 2 {
		if out := explained(); !strings.Contains(out, "cache=hit cache_policy=public: answers; its key is public, ") || !strings.Contains(out, "; what is stored is ") ||
			!strings.Contains(out, "edge_cache answers with 200; no region sees the request.\n  Cache-Control: max-age=600\n") {
			t.Error(out)
		}
	}
	if l := p.list(t); l.Found != 1 || l.Items[0].Hits != 0 {
		t.Errorf("it is counted: %+v", l)
	}
	out, err := typed(t, command.Explain, "POST", url, "--address", p.admin)
	if err != nil || !strings.Contains(out, "cache=pass cache_policy=public cache_why=method: passes it on\n") {
		t.Errorf("%v\n%s", err, out)
	}

	file := edgetest.Write(t, "Caddyfile", []byte(writeBoundary(t, p)))
	out, err = typed(t, command.Explain, "GET", "http://shop.example:0/products/coffee", "--config", file, "--adapter", "caddyfile")
	if err != nil || strings.Contains(out, "nothing is stored") || !strings.Contains(out, "cache_policy=public: passes it on; its key is public, http://shop.example:0/products/coffee; what is stored is not known here; it is fetched in nobody's name\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
