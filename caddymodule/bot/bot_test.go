package bot

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

const browserAgent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"

// crawling is a knowledge of Googlebot by its networks.
func crawling(t testing.TB) *knowledge {
	t.Helper()
	k := newKnowledge(&edge.Bots{Agents: []*edge.BotAgent{{Name: "googlebot",
		Ranges: []string{edgetest.Write(t, "googlebot.json", []byte(googlebotJSON)), edgetest.Write(t, "more.txt", []byte("192.0.2.7"))}}}})
	if err := k.follow(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// from is a request of an address.
func from(address string, header http.Header) *http.Request {
	r := edgetest.Request("GET", "/", header)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, address)
	return r
}

func TestTag_holdsTheNameAgainstTheAddress(t *testing.T) {
	t.Parallel()
	k := crawling(t)
	const googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
	for name, row := range map[string]struct {
		address, agent string
		want           decision.Bot
	}{
		"published":         {"66.249.64.40", googlebot, decision.Bot{Class: decision.BotSearch, Reason: "address", Verified: "googlebot"}},
		"in the other file": {"192.0.2.7", googlebot, decision.Bot{Class: decision.BotSearch, Reason: "address", Verified: "googlebot"}},
		"mapped":            {"::ffff:66.249.64.40", googlebot, decision.Bot{Class: decision.BotSearch, Reason: "address", Verified: "googlebot"}},
		"IPv6":              {"2001:4860:4801:10::7", googlebot, decision.Bot{Class: decision.BotSearch, Reason: "address", Verified: "googlebot"}},
		"elsewhere":         {"203.0.113.9", googlebot, decision.Bot{Class: decision.BotImpostor, Score: 100, Reason: "address_not_published"}},
		"hidden":            {"203.0.113.9", "curl/8 googlebot-image", decision.Bot{Class: decision.BotImpostor, Score: 100, Reason: "address_not_published"}},
		"unknown":           {"@", googlebot, decision.Bot{Class: decision.BotSearch, Score: 30, Reason: "address_unknown"}},
		"nobody's claim":    {"66.249.64.40", "curl/8.11.0", decision.Bot{Class: decision.BotTool, Score: 15, Reason: "user_agent:curl"}},
		"not configured":    {"66.249.64.40", "bingbot/2.0", decision.Bot{Class: decision.BotSearch, Score: 30, Reason: "user_agent:bingbot"}},
		"too long":          {"66.249.64.40", strings.Repeat(googlebot, 30), decision.Bot{Class: decision.BotUnknown, Score: 80, Reason: "user_agent:oversize"}},
	} {
		if got := k.tagged(from(row.address, http.Header{"User-Agent": {row.agent}})); got != row.want {
			t.Errorf("%s: %+v, want %+v", name, got, row.want)
		}
	}
}

func TestTag_namesTheClient(t *testing.T) {
	t.Parallel()
	k := crawling(t)
	for want, r := range map[string]*http.Request{
		"googlebot search":   from("192.0.2.7", http.Header{"User-Agent": {"Googlebot/2.1"}}),
		"googlebot impostor": from("203.0.113.7", http.Header{"User-Agent": {"Googlebot/2.1"}}),
		"curl tool":          from("203.0.113.7", http.Header{"User-Agent": {"curl/8"}}),
		" unknown":           from("203.0.113.7", http.Header{"User-Agent": {"x"}}),
	} {
		d := &decision.Decision{}
		if k.tag(d, r); d.Bot.Name+" "+string(d.Bot.Class) != want {
			t.Errorf("%+v, want %s", d.Bot, want)
		}
	}
}

func TestTag_headersThatNoBrowserSends(t *testing.T) {
	t.Parallel()
	k := newKnowledge(nil)
	for name, row := range map[string]struct {
		header http.Header
		want   decision.Bot
	}{
		"browser":     {http.Header{"User-Agent": {browserAgent}, "Accept-Language": {"de"}}, decision.Bot{Class: decision.BotBrowser, Reason: "user_agent:browser"}},
		"no language": {http.Header{"User-Agent": {browserAgent}}, decision.Bot{Class: decision.BotBrowser, Score: 40, Reason: "browser_without_accept_language"}},
		"two":         {http.Header{"User-Agent": {browserAgent, "curl/8"}}, decision.Bot{Class: decision.BotUnknown, Score: 80, Reason: "user_agent:several"}},
		"none":        {http.Header{}, decision.Bot{Class: decision.BotEmpty, Score: 60, Reason: "user_agent:empty"}},
		"a signature where nobody signs": {http.Header{"User-Agent": {"curl/8"}, "Signature-Input": {`a=();tag="web-bot-auth"`}},
			decision.Bot{Class: decision.BotTool, Score: 15, Reason: "user_agent:curl"}},
	} {
		if got := k.tagged(from("203.0.113.9", row.header)); got != row.want {
			t.Errorf("%s: %+v, want %+v", name, got, row.want)
		}
	}
}

// TestTag_aSignatureOfOneUnderTheNameOfAnother: a key proves one agent, and the
// name of one that can be proven otherwise is a lie beside it.
func TestTag_aSignatureOfOneUnderTheNameOfAnother(t *testing.T) {
	t.Parallel()
	s := newSigner('a', "https://shopper.example")
	k := signing(t, s)
	google := newAgent(&edge.BotAgent{Name: "googlebot", Ranges: []string{"unused"}})
	k.agents = append(k.agents, google)
	k.words = newVocabulary(k.agents)
	s.header = http.Header{"User-Agent": {"Googlebot/2.1"}}
	if got := k.tagged(s.request()); got.Class != decision.BotImpostor || got.Reason != "signature_of_another_agent" {
		t.Errorf("%+v", got)
	}
	s.header, s.nonce = http.Header{"User-Agent": {"Googlebot/2.1"}, "Signature-Input": nil}, "n-9"
	r := s.request()
	r.Header.Del("Signature-Input")
	if got := k.tagged(r); got.Reason != "address_unknown" && got.Reason != "ranges_not_read" {
		t.Errorf("before its files are read: %+v", got)
	}
}

// TestTag_anAddressProvesWhatASignatureDoesNot: an agent whose signature has
// expired is still where it publishes to be.
func TestTag_anAddressProvesWhatASignatureDoesNot(t *testing.T) {
	t.Parallel()
	s := newSigner('a', "https://shopper.example")
	k := signing(t, s)
	k.agents[0].config.Ranges = []string{""}
	k.agents[0].ranges = append(k.agents[0].ranges, new(edge.Definitions[networks]))
	n, err := parseNetworks([]byte("192.0.2.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	k.agents[0].ranges[0].Set(&n)
	s.created, s.expires = noon.Unix()-100, noon.Unix()-1
	s.header = http.Header{"User-Agent": {"agent0/1"}}
	for address, want := range map[string]string{"192.0.2.9": "ai_agent address", "198.51.100.9": "impostor address_not_published"} {
		r := s.request()
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, address)
		if got := k.tagged(r); string(got.Class)+" "+got.Reason != want {
			t.Errorf("%s: %+v, want %s", address, got, want)
		}
	}
}

func TestKnowledge_aBadFileAtFirstIsRefused(t *testing.T) {
	t.Parallel()
	for name, agent := range map[string]*edge.BotAgent{
		"ranges":   {Name: "googlebot", Ranges: []string{edgetest.Write(t, "a", []byte("nonsense"))}},
		"keys":     {Name: "googlebot", SignatureAgent: "https://a.example", Keys: edgetest.Write(t, "a", []byte("{}"))},
		"no file":  {Name: "googlebot", Ranges: []string{t.TempDir() + "/none"}},
		"a folder": {Name: "googlebot", Ranges: []string{t.TempDir()}},
	} {
		k := newKnowledge(&edge.Bots{Agents: []*edge.BotAgent{{Name: "bingbot", Ranges: []string{edgetest.Write(t, "b", []byte("192.0.2.0/24"))}}, agent}})
		if err := k.follow(); err == nil || !strings.Contains(err.Error(), "agent googlebot: ") {
			t.Errorf("%s: %v", name, err)
		}
		if len(k.files) != 0 {
			t.Errorf("%s: %d files are followed still", name, len(k.files))
		}
	}
	open := edgetest.Write(t, "open", []byte("192.0.2.0/24"))
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := newKnowledge(&edge.Bots{Agents: []*edge.BotAgent{{Name: "googlebot", Ranges: []string{open}}}}).follow(); err == nil {
		t.Error("a file that anybody may write was read")
	}
}

// serve has a handler answer a request whose session became auth, if any edge_session
// stood there.
func serve(t testing.TB, b *Bot, r *http.Request, before, session decision.Auth) (*decision.Decision, int) {
	t.Helper()
	rec := httptest.NewRecorder()
	d, w := decision.Begin(rec, r, "id", decision.Options{POP: "fra"})
	d.Auth = before
	err := b.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if session != decision.AuthNone { // as edge_session does
			d.Auth = session
			if passes, err := d.SessionSettled(w, r); !passes {
				return err
			}
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	if err := d.Finish(r, err); err != nil {
		t.Error(err)
	}
	return d, rec.Code
}

func TestBot_refusesWhatIsConfiguredAndNothingElse(t *testing.T) {
	t.Parallel()
	app := edgetest.App(t)
	page := http.Header{"Accept": {"text/html"}}
	with := func(h http.Header, pairs ...string) http.Header {
		h = h.Clone()
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	gptbot := with(page, "User-Agent", "GPTBot/1.2")
	refuse := Bot{Refuse: []decision.BotClass{decision.BotAICrawler, decision.BotTool, decision.BotEmpty}, Enforce: true}
	shadow := refuse
	shadow.Enforce = false
	for name, row := range map[string]struct {
		bot             Bot
		method          string
		header          http.Header
		before, session decision.Auth
		action          decision.BotAction
		status          int
	}{
		"no rule":                     {Bot{}, "GET", gptbot, "", "", "", 204},
		"another class":               {refuse, "GET", with(page, "User-Agent", "Googlebot/2.1"), "", "", "", 204},
		"a browser":                   {refuse, "GET", with(page, "User-Agent", browserAgent), "", "", "", 204},
		"named":                       {refuse, "GET", gptbot, "", "", decision.BotRefused, 403},
		"named, on an API":            {refuse, "POST", http.Header{"User-Agent": {"GPTBot/1.2"}, "Accept": {"application/json"}}, "", "", decision.BotRefused, 403},
		"shadow":                      {shadow, "GET", gptbot, "", "", decision.BotWouldRefuse, 204},
		"score":                       {Bot{RefuseScore: 60, Enforce: true}, "GET", page, "", "", decision.BotRefused, 403},
		"below the score":             {Bot{RefuseScore: 61, Enforce: true}, "GET", page, "", "", "", 204},
		"curl on an API":              {refuse, "GET", http.Header{"User-Agent": {"curl/8"}, "Accept": {"*/*"}}, "", "", decision.BotProgramOnAPI, 204},
		"curl that writes":            {refuse, "POST", http.Header{"User-Agent": {"curl/8"}}, "", "", decision.BotProgramOnAPI, 204},
		"curl that asks for a page":   {refuse, "GET", with(page, "User-Agent", "curl/8"), "", "", decision.BotRefused, 403},
		"git":                         {Bot{RefuseScore: 1, Enforce: true}, "GET", http.Header{"User-Agent": {"git/2.47"}, "Accept": {"*/*"}}, "", "", decision.BotProgramOnAPI, 204},
		"signed in by cookie":         {refuse, "GET", with(gptbot, "Cookie", "a=b; session=x"), "", decision.AuthSession, decision.BotSignedIn, 204},
		"signed in by bearer":         {refuse, "GET", with(gptbot, "Authorization", "Bearer x"), "", decision.AuthBearer, decision.BotSignedIn, 204},
		"signed in, in shadow":        {shadow, "GET", with(gptbot, "Cookie", "session=x"), "", decision.AuthSession, decision.BotSignedIn, 204},
		"signed in before":            {refuse, "GET", gptbot, decision.AuthSession, "", decision.BotSignedIn, 204},
		"a cookie that does not hold": {refuse, "GET", with(gptbot, "Cookie", "session=x"), "", decision.AuthExpired, decision.BotRefused, 403},
		"the same, in shadow":         {shadow, "GET", with(gptbot, "Cookie", "session=x"), "", decision.AuthExpired, decision.BotWouldRefuse, 204},
		"failed before":               {refuse, "GET", with(gptbot, "Cookie", "session=x"), decision.AuthExpired, "", decision.BotRefused, 403},
		"nobody looks at the cookie":  {refuse, "GET", with(gptbot, "Cookie", "session=x"), "", "", decision.BotUnsettled, 204},
		"another cookie":              {refuse, "GET", with(gptbot, "Cookie", "xsession=x; sessionx=y; a=session=z"), "", "", decision.BotRefused, 403},
	} {
		b := row.bot
		if err := b.use(app); err != nil {
			t.Fatal(err)
		}
		d, status := serve(t, &b, edgetest.Request(row.method, "/", row.header.Clone()), row.before, row.session)
		if d.Bot.Action != row.action || status != row.status {
			t.Errorf("%s: %d %q, want %d %q", name, status, d.Bot.Action, row.status, row.action)
		}
		if refused := row.action == decision.BotRefused; refused != (d.Problem == "bot-refused") || refused != (d.Outcome == decision.OutcomeRefused) || refused != (d.ShortCircuit == "edge_bot") {
			t.Errorf("%s: problem %q, outcome %q, by %q", name, d.Problem, d.Outcome, d.ShortCircuit)
		}
	}
}

// TestBot_aProvenAgentIsRefusedByItsClassAlone: a score speaks of what is not
// believed.
func TestBot_aProvenAgentIsRefusedByItsClassAlone(t *testing.T) {
	t.Parallel()
	app := edgetest.App(t)
	for _, row := range []struct {
		bot    Bot
		status int
	}{
		{Bot{RefuseScore: 1, Enforce: true}, 204},
		{Bot{Refuse: []decision.BotClass{decision.BotSearch}, Enforce: true}, 403},
	} {
		b := row.bot
		if err := b.use(app); err != nil {
			t.Fatal(err)
		}
		b.known = crawling(t)
		r := from("192.0.2.7", http.Header{"User-Agent": {"Googlebot/2.1"}})
		if d, status := serve(t, &b, r, "", ""); status != row.status || d.Bot.Verified != "googlebot" {
			t.Errorf("%+v: %d %+v", row.bot, status, d.Bot)
		}
	}
}

func BenchmarkBot(b *testing.B) {
	app := edgetest.App(b)
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	header := http.Header{"User-Agent": {browserAgent}, "Accept-Language": {"de"}, "Accept": {"text/html"}}
	run := func(name string, h *Bot, k *knowledge, header http.Header) {
		if err := h.use(app); err != nil {
			b.Fatal(err)
		}
		if k != nil {
			h.known = k
		}
		b.Run(name, func(b *testing.B) {
			r := from("66.249.64.40", header)
			d, w := decision.Begin(httptest.NewRecorder(), r, "id", decision.Options{})
			b.ReportAllocs()
			for b.Loop() {
				d.Bot = decision.Bot{}
				if err := h.ServeHTTP(w, r, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	rules := Bot{Refuse: []decision.BotClass{decision.BotImpostor}, Enforce: true}
	run("tag", new(Bot), nil, header)
	run("rules", &rules, nil, header)
	run("address", &rules, crawling(b), http.Header{"User-Agent": {"Googlebot/2.1"}})
}
