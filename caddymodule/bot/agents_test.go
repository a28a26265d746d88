package bot

import (
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// TestClassify_realAgents names what programs really send.
func TestClassify_realAgents(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36":                               "browser user_agent:browser",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15":                         "browser user_agent:browser",
		"Mozilla/5.0 (X11; Debian; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0":                                                                "browser user_agent:browser",
		"Mozilla/5.0 (Linux; Android 9; CUBOT X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36":                        "browser user_agent:browser",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [Pinterest/iOS]":                 "browser user_agent:browser",
		"Lynx/2.8.9rel.1 libwww-FM/2.14 SSL-MM/1.4.1 OpenSSL/1.1.1":                                                                                     "browser user_agent:browser",
		"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)":                                                                      "search user_agent:googlebot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Googlebot/2.1; +http://www.google.com/bot.html) Chrome/131.0.0.0 Safari/537.36": "search user_agent:googlebot",
		"Googlebot-Image/1.0":                                "search user_agent:googlebot",
		"AdsBot-Google (+http://www.google.com/adsbot.html)": "search user_agent:google-special",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36":                          "search user_agent:bingbot",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.1.1 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)": "search user_agent:applebot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)":                                                                    "ai_crawler user_agent:gptbot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)":                                                                   "ai_crawler user_agent:claudebot",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot":                                                                 "ai_agent user_agent:chatgpt-user",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Perplexity-User/1.0; +https://perplexity.ai/perplexity-user)":                                               "ai_agent user_agent:perplexity-user",
		"CCBot/2.0 (https://commoncrawl.org/faq/)":                                              "ai_crawler user_agent:ccbot",
		"facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)":             "preview user_agent:facebook",
		"LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)": "preview user_agent:linkedinbot",
		"Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)":                            "preview user_agent:slackbot",
		"WhatsApp/2.23.20.0": "preview user_agent:whatsapp",
		"Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)":                    "seo user_agent:ahrefsbot",
		"Mozilla/5.0 (compatible; archive.org_bot +http://archive.org/details/archive.org_bot)": "archiver user_agent:internet-archive",
		"Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)":                "monitor user_agent:uptimerobot",
		"kube-probe/1.31": "monitor user_agent:kubernetes",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36": "headless user_agent:headless-chrome",
		"curl/8.11.0":                         "tool user_agent:curl",
		"Wget/1.21.4":                         "tool user_agent:wget",
		"Go-http-client/2.0":                  "tool user_agent:go",
		"python-requests/2.32.3":              "tool user_agent:python",
		"Python/3.12 aiohttp/3.10.5":          "tool user_agent:python",
		"axios/1.7.7":                         "tool user_agent:node",
		"PostmanRuntime/7.42.0":               "tool user_agent:postman",
		"git/2.47.0":                          "git user_agent:git",
		"git-lfs/3.5.1 (GitHub; linux amd64)": "git user_agent:git",
		"JGit/6.8.0":                          "git user_agent:git",
		"FreshRSS/1.24.3 (Linux; https://freshrss.org)":                   "feed_reader user_agent:freshrss",
		"Feedly/1.0 (+http://www.feedly.com/fetcher.html; 5 subscribers)": "feed_reader user_agent:feedly",
		"okhttp/4.12.0": "app user_agent:okhttp",
		"Shop/41 CFNetwork/1568.200.51 Darwin/24.1.0": "app user_agent:apple-app",
		"Mozilla/5.0 (compatible; NobodysBot/0.1)":    "crawler user_agent:says_bot",
		"tiny-crawler/1":                        "crawler user_agent:says_bot",
		"Chrome-ish Gecko-less":                 "unknown user_agent:unknown",
		"my_crawler 1":                          "crawler user_agent:says_bot",
		"Mozilla/5.0":                           "unknown user_agent:no_product",
		"x":                                     "unknown user_agent:unknown",
		"":                                      "empty user_agent:empty",
		" \t ":                                  "empty user_agent:empty",
		"a\x00b":                                "unknown user_agent:control_bytes",
		"curl\x7f/8":                            "unknown user_agent:control_bytes",
		strings.Repeat("Googlebot ", 200):       "unknown user_agent:oversize",
		strings.Repeat("x", 900) + " Googlebot": "search user_agent:googlebot",
		"see https://example.com/googlebot;curl/8": "tool user_agent:curl", // an address is nobody's name
		"NotGooglebot/1 mygooglebotx":              "crawler user_agent:says_bot",
		"\xff\xfe\xffcurl\xff":                     "tool user_agent:curl",
	} {
		k := everyday.classify(agent)
		if got := string(k.class) + " " + k.reason; got != want {
			t.Errorf("%.80q is %s, want %s", agent, got, want)
		}
	}
}

// TestTable_isConsistent holds the table to what its users rely on.
func TestTable_isConsistent(t *testing.T) {
	t.Parallel()
	names, words := map[string]bool{}, map[string]string{}
	for _, r := range table {
		if names[r.name] {
			t.Errorf("%s stands twice", r.name)
		}
		names[r.name] = true
		if scores[r.class] == 0 && r.class != decision.BotBrowser {
			t.Errorf("%s: class %q has no score", r.name, r.class)
		}
		for word := range strings.FieldsSeq(r.words) {
			if other := words[word]; other != "" {
				t.Errorf("%s is a word of %s and of %s", word, other, r.name)
			}
			words[word] = r.name
			if word != strings.ToLower(word) || len(word) > maxWord || strings.Contains(" "+browsers+" ", " "+word+" ") || word[0] <= '9' {
				t.Errorf("%s: word %q is never found", r.name, word)
			}
			if got := everyday.classify(strings.ToUpper(word) + "/1.0 (x)"); got.reason != "user_agent:"+r.name {
				t.Errorf("%s/1.0 is %s, want %s", word, got.reason, r.name)
			}
		}
	}
	for _, class := range decision.BotClasses {
		if _, ok := scores[class]; !ok {
			t.Errorf("class %s has no score", class)
		}
	}
}

// TestClassify_aNameThatCanBeProvenIsNotHiddenBehindAnother: who calls itself curl
// and Googlebot is held to being Googlebot, in whatever order.
func TestClassify_aNameThatCanBeProvenIsNotHiddenBehindAnother(t *testing.T) {
	t.Parallel()
	a := &agent{name: "googlebot", class: decision.BotSearch, words: []string{"googlebot"}}
	v := newVocabulary([]*agent{a})
	for _, text := range []string{"curl/8 Googlebot/2.1", "Googlebot/2.1 curl/8", "git (GOOGLEBOT-Image)", "Mozilla/5.0 (like bingbot; googlebot)"} {
		if k := v.classify(text); k.agent != a {
			t.Errorf("%q is %s", text, k.reason)
		}
	}
}

func FuzzAgent(f *testing.F) {
	for _, seed := range []string{
		"", " ", "curl/8.11.0", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "a://", "://", "x:// y", "http://a;b)c d",
		"git-", "-git", "\x00", "\xff", strings.Repeat("a", 2000), strings.Repeat("bot ", 255), "CUBOT", "Mozilla/5.0 Chrome://",
	} {
		f.Add(seed)
	}
	proven := newVocabulary([]*agent{{name: "g", class: decision.BotSearch, words: []string{"googlebot"}}})
	f.Fuzz(func(t *testing.T, text string) {
		k := everyday.classify(text)
		if k == nil || k.class == decision.BotNone || k.reason == "" || k.class == decision.BotImpostor {
			t.Fatalf("%q: %+v", text, k)
		}
		if len(text) > maxAgent && k != oversize {
			t.Fatalf("%d bytes are %s", len(text), k.reason)
		}
		printable := !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) // no field holds others
		if len(text)+10 <= maxAgent && printable && k != unprintable && !strings.Contains(text, "://") {
			if got := proven.classify(text + " Googlebot"); got.agent == nil {
				t.Fatalf("%q hides the name behind it: %s", text, got.reason)
			}
		}
		upper := strings.Map(func(r rune) rune { // ASCII alone, as a User-Agent's words are
			if 'a' <= r && r <= 'z' {
				return r - 32
			}
			return r
		}, text)
		if len(upper) == len(text) && everyday.classify(upper) != k {
			t.Fatalf("%q depends on its case", text)
		}
	})
}

// TestMemo_givesWhatTheWordsGive also where two share a place.
func TestMemo_givesWhatTheWordsGive(t *testing.T) {
	t.Parallel()
	var m memo
	for range 2 {
		for i := range 2000 {
			text := strings.Repeat("x ", i%400) + "curl/8." + strings.Repeat("1", i%7)
			if got, want := m.classify(everyday, text), everyday.classify(text); got != want {
				t.Fatalf("%q: %s, want %s", text, got.reason, want.reason)
			}
		}
	}
	if got := m.classify(everyday, strings.Repeat("a", maxAgent+1)); got != oversize {
		t.Errorf("%s", got.reason)
	}
	for i := range m {
		if r := m[i].Load(); r != nil && len(r.text) > maxAgent {
			t.Errorf("%d bytes are remembered", len(r.text))
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	for name, text := range map[string]string{
		"browser": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
		"curl":    "curl/8.11.0",
		"longest": strings.Repeat("abc-d ", maxAgent/6),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if everyday.classify(text) == nil {
					b.Fatal("nothing")
				}
			}
		})
	}
}
