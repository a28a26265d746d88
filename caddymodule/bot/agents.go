package bot

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// Limits on a User-Agent. Real ones have 60 to 250 bytes; those of in-app browsers
// come to 600.
const (
	maxAgent = 1024
	maxWord  = 63
)

// Scores of what a client says of itself, by class: how much speaks against it.
// See the table of docs/CADDYFILE.md, which has the reasons.
var scores = map[decision.BotClass]int{
	decision.BotBrowser:   0,
	decision.BotApp:       5,
	decision.BotGit:       5,
	decision.BotFeed:      10,
	decision.BotMonitor:   10,
	decision.BotTool:      15,
	decision.BotPreview:   20,
	decision.BotAIAgent:   25,
	decision.BotSearch:    30,
	decision.BotArchiver:  30,
	decision.BotAICrawler: 35,
	decision.BotSEO:       35,
	decision.BotCrawler:   40,
	decision.BotUnknown:   50,
	decision.BotEmpty:     60,
	decision.BotHeadless:  70,
	decision.BotImpostor:  100,
}

// Scores of what a request is, whatever its client says of itself.
const (
	scoreOdd       = 40 // a browser that sends what none does
	scoreMalformed = 80 // no client that means well sends such a User-Agent
)

// row is one known client: what it is called, of which class it is, and the words
// of its User-Agent, in lower case.
type row struct {
	name  string
	class decision.BotClass
	words string
}

// table is what is known of clients by name. A word is matched as a whole, or else
// up to its first hyphen: "googlebot" is Googlebot-Image too. The first word of a
// User-Agent that is here decides, so that what a crawler says to be compatible
// with does not.
var table = [...]row{
	{"googlebot", decision.BotSearch, "googlebot"},
	{"google-special", decision.BotSearch, "adsbot-google adsbot-google-mobile mediapartners-google apis-google storebot-google google-inspectiontool googleother google-safety"},
	{"google-fetcher", decision.BotPreview, "feedfetcher-google google-read-aloud google-site-verification googlemessages googleproducer"},
	{"bingbot", decision.BotSearch, "bingbot adidxbot bingpreview msnbot"},
	{"duckduckbot", decision.BotSearch, "duckduckbot"},
	{"yandex", decision.BotSearch, "yandexbot yandeximages yandexmobilebot yandexaccessibilitybot yandexrenderresourcesbot"},
	{"baiduspider", decision.BotSearch, "baiduspider"},
	{"applebot", decision.BotSearch, "applebot"},
	{"petalbot", decision.BotSearch, "petalbot"},
	{"seznambot", decision.BotSearch, "seznambot"},
	{"naver", decision.BotSearch, "yeti"},
	{"sogou", decision.BotSearch, "sogou"},
	{"qwant", decision.BotSearch, "qwantify qwantbot"},
	{"mojeek", decision.BotSearch, "mojeekbot"},
	{"yahoo", decision.BotSearch, "slurp"},

	{"gptbot", decision.BotAICrawler, "gptbot"},
	{"claudebot", decision.BotAICrawler, "claudebot anthropic-ai"},
	{"ccbot", decision.BotAICrawler, "ccbot"},
	{"bytespider", decision.BotAICrawler, "bytespider tiktokspider"},
	{"amazonbot", decision.BotAICrawler, "amazonbot"},
	{"meta-ai", decision.BotAICrawler, "meta-externalagent facebookbot"},
	{"cohere", decision.BotAICrawler, "cohere-ai cohere-training-data-crawler"},
	{"diffbot", decision.BotAICrawler, "diffbot"},
	{"ai2bot", decision.BotAICrawler, "ai2bot"},
	{"omgili", decision.BotAICrawler, "omgili omgilibot webzio-extended"},
	{"timpibot", decision.BotAICrawler, "timpibot"},
	{"img2dataset", decision.BotAICrawler, "img2dataset"},
	{"pangubot", decision.BotAICrawler, "pangubot"},

	{"oai-searchbot", decision.BotSearch, "oai-searchbot"},
	{"claude-searchbot", decision.BotSearch, "claude-searchbot"},
	{"perplexitybot", decision.BotSearch, "perplexitybot"},
	{"youbot", decision.BotSearch, "youbot"},
	{"chatgpt-user", decision.BotAIAgent, "chatgpt-user"},
	{"claude-user", decision.BotAIAgent, "claude-user claude-web"},
	{"perplexity-user", decision.BotAIAgent, "perplexity-user"},
	{"mistral-user", decision.BotAIAgent, "mistralai-user"},
	{"meta-user", decision.BotAIAgent, "meta-externalfetcher"},
	{"duckassist", decision.BotAIAgent, "duckassistbot"},
	{"gemini-user", decision.BotAIAgent, "gemini-deep-research google-notebooklm"},

	{"facebook", decision.BotPreview, "facebookexternalhit facebookcatalog facebot"},
	{"twitterbot", decision.BotPreview, "twitterbot"},
	{"linkedinbot", decision.BotPreview, "linkedinbot"},
	{"slackbot", decision.BotPreview, "slackbot slack-imgproxy"},
	{"discordbot", decision.BotPreview, "discordbot"},
	{"telegrambot", decision.BotPreview, "telegrambot"},
	{"whatsapp", decision.BotPreview, "whatsapp"},
	{"pinterest", decision.BotPreview, "pinterestbot"},
	{"redditbot", decision.BotPreview, "redditbot"},
	{"mastodon", decision.BotPreview, "mastodon bluesky cardyb pleroma misskey"},
	{"skype", decision.BotPreview, "skypeuripreview"},
	{"embedly", decision.BotPreview, "embedly iframely"},

	{"ahrefsbot", decision.BotSEO, "ahrefsbot ahrefssiteaudit"},
	{"semrushbot", decision.BotSEO, "semrushbot siteauditbot splitsignalbot"},
	{"mj12bot", decision.BotSEO, "mj12bot"},
	{"moz", decision.BotSEO, "dotbot rogerbot"},
	{"dataforseo", decision.BotSEO, "dataforseobot"},
	{"barkrowler", decision.BotSEO, "barkrowler"},
	{"serpstat", decision.BotSEO, "serpstatbot"},
	{"screaming-frog", decision.BotSEO, "screaming"},
	{"blexbot", decision.BotSEO, "blexbot"},

	{"internet-archive", decision.BotArchiver, "archive.org_bot ia_archiver heritrix"},
	{"arquivo", decision.BotArchiver, "arquivo-web-crawler"},

	{"uptimerobot", decision.BotMonitor, "uptimerobot"},
	{"pingdom", decision.BotMonitor, "pingdom.com_bot_version_1.4 pingdomtms pingdompagespeed"},
	{"statuscake", decision.BotMonitor, "statuscake"},
	{"datadog", decision.BotMonitor, "datadog datadogsynthetics"},
	{"newrelic", decision.BotMonitor, "newrelicpinger"},
	{"site24x7", decision.BotMonitor, "site24x7"},
	{"prometheus", decision.BotMonitor, "prometheus blackbox blackbox_exporter"},
	{"kubernetes", decision.BotMonitor, "kube-probe"},
	{"load-balancer", decision.BotMonitor, "elb-healthchecker googlehc haproxy"},
	{"nagios", decision.BotMonitor, "check_http nagios"},
	{"uptime-kuma", decision.BotMonitor, "uptime-kuma"},
	{"lighthouse", decision.BotMonitor, "chrome-lighthouse"},

	{"feedly", decision.BotFeed, "feedly feedlybot"},
	{"newsblur", decision.BotFeed, "newsblur"},
	{"inoreader", decision.BotFeed, "inoreader.com inoreader"},
	{"feedbin", decision.BotFeed, "feedbin"},
	{"miniflux", decision.BotFeed, "miniflux"},
	{"freshrss", decision.BotFeed, "freshrss"},
	{"netnewswire", decision.BotFeed, "netnewswire"},
	{"newsboat", decision.BotFeed, "newsboat newsbeuter"},
	{"feed-libraries", decision.BotFeed, "universalfeedparser feedparser simplepie rss2email liferea"},

	{"git", decision.BotGit, "git git-lfs jgit libgit2 go-git isomorphic-git"},

	{"curl", decision.BotTool, "curl libcurl"},
	{"wget", decision.BotTool, "wget wget2"},
	{"httpie", decision.BotTool, "httpie xh curlie hurl"},
	{"go", decision.BotTool, "go-http-client go-resty fasthttp"},
	{"python", decision.BotTool, "python python-requests python-urllib python-urllib3 python-httpx aiohttp scrapy"},
	{"node", decision.BotTool, "node-fetch axios got undici node bun deno superagent"},
	{"java", decision.BotTool, "java java-http-client apache-httpclient apache-httpasyncclient reactornetty jersey"},
	{"dotnet", decision.BotTool, "httpclient restsharp powershell windowspowershell"},
	{"ruby", decision.BotTool, "ruby faraday httparty"},
	{"php", decision.BotTool, "guzzlehttp php symfony"},
	{"perl", decision.BotTool, "libwww-perl lwp"},
	{"rust", decision.BotTool, "reqwest hyper ureq"},
	{"postman", decision.BotTool, "postmanruntime insomnia bruno-runtime"},
	{"load-generator", decision.BotTool, "apachebench k6 vegeta wrk hey siege"},
	{"package-manager", decision.BotTool, "npm yarn pnpm pip cargo apt composer docker containerd helm terraform"},

	{"headless-chrome", decision.BotHeadless, "headlesschrome chrome-headless-shell"},
	{"phantomjs", decision.BotHeadless, "phantomjs slimerjs"},
	{"automation", decision.BotHeadless, "puppeteer playwright selenium cypress"},

	{"okhttp", decision.BotApp, "okhttp"},
	{"apple-app", decision.BotApp, "cfnetwork alamofire"},
	{"android-app", decision.BotApp, "dalvik"},
	{"dart", decision.BotApp, "dart"},
	{"mail-reader", decision.BotApp, "thunderbird outlook"},
}

// browsers are words of browsers. They decide only where no word of the table does:
// crawlers say that they are compatible with them.
const browsers = "chrome chromium firefox safari edg edga edgios opr opera crios fxios samsungbrowser vivaldi brave ucbrowser yabrowser " +
	"gecko trident msie lynx links w3m elinks dillo netsurf ladybird applewebkit presto silk duckduckgo konqueror epiphany"

// known is what a word of a User-Agent says.
type known struct {
	class  decision.BotClass
	name   string // empty: none is known
	score  int
	reason string
	agent  *agent // who can prove that it is meant; nil: nobody
}

func (k *known) bot() decision.Bot {
	return decision.Bot{Class: k.class, Name: k.name, Score: k.score, Reason: k.reason}
}

// vocabulary is the words that are known.
type vocabulary map[string]*known

// everyday is the vocabulary of a POP without agents of its own.
var everyday = newVocabulary(nil)

// newVocabulary makes a vocabulary of the table and, before it, of agents.
func newVocabulary(agents []*agent) vocabulary {
	v := vocabulary{"mozilla": bareBrowser}
	for word := range strings.FieldsSeq(browsers) {
		v[word] = plainBrowser
	}
	for _, r := range table {
		k := &known{class: r.class, name: r.name, score: scores[r.class], reason: "user_agent:" + r.name}
		for word := range strings.FieldsSeq(r.words) {
			v[word] = k
		}
	}
	for _, a := range agents {
		k := &known{class: a.class, name: a.name, score: scores[a.class], reason: "user_agent:" + a.name, agent: a}
		for _, word := range a.words {
			v[word] = k
		}
	}
	return v
}

// rowOf gives the row of that name, nil where there is none.
func rowOf(name string) *row {
	for i := range table {
		if table[i].name == name {
			return &table[i]
		}
	}
	return nil
}

// What is said of clients that no word names.
var (
	namesItself  = &known{class: decision.BotCrawler, score: scores[decision.BotCrawler], reason: "user_agent:says_bot"}
	bareBrowser  = &known{class: decision.BotUnknown, score: scores[decision.BotUnknown], reason: "user_agent:no_product"}
	plainBrowser = &known{class: decision.BotBrowser, score: scores[decision.BotBrowser], reason: "user_agent:browser"}
	nobodyKnown  = &known{class: decision.BotUnknown, score: scores[decision.BotUnknown], reason: "user_agent:unknown"}
	saysNothing  = &known{class: decision.BotEmpty, score: scores[decision.BotEmpty], reason: "user_agent:empty"}
	oversize     = &known{class: decision.BotUnknown, score: scoreMalformed, reason: "user_agent:oversize"}
	several      = &known{class: decision.BotUnknown, score: scoreMalformed, reason: "user_agent:several"}
	unprintable  = &known{class: decision.BotUnknown, score: scoreMalformed, reason: "user_agent:control_bytes"}
	noLanguage   = &known{class: decision.BotBrowser, score: scoreOdd, reason: "browser_without_accept_language"}
)

// memo remembers what the last User-Agents were: a few are sent all the time. One
// in 256 places, which another takes over.
type memo [256]atomic.Pointer[remembered]

type remembered struct {
	text string
	says *known
}

var memoSeed = maphash.MakeSeed()

// classify is that of words, remembered.
func (m *memo) classify(words vocabulary, text string) *known {
	if len(text) > maxAgent {
		return oversize
	}
	place := &m[maphash.String(memoSeed, text)%uint64(len(m))]
	if last := place.Load(); last != nil && last.text == text {
		return last.says
	}
	says := words.classify(text)
	place.Store(&remembered{strings.Clone(text), says})
	return says
}

// classify reads a User-Agent (RFC 9110, section 10.1.5). A word that an agent can
// prove goes before those that nobody can: what it takes to be an impostor is
// not hidden behind another name.
//
// It allocates nothing, and looks at each byte once.
func (v vocabulary) classify(text string) *known {
	switch {
	case len(text) > maxAgent:
		return oversize
	case strings.TrimSpace(text) == "":
		return saysNothing
	}
	var first *known
	var browser, crawler, mozilla bool // what it says besides
	var word [maxWord + 1]byte
	size := 0
	for i := 0; i <= len(text); i++ {
		var c byte = ' '
		if i < len(text) {
			c = text[i]
		}
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		case c < ' ' && c != '\t', c == 0x7f:
			return unprintable
		default: // the word ends
			if size > 0 && size <= maxWord {
				switch k := v.word(word[:size]); {
				case k == nil:
					crawler = crawler || saysBot(word[:size])
				case k == bareBrowser:
					mozilla = true
				case k == plainBrowser:
					browser = true
				case k.agent != nil:
					return k
				case first == nil:
					first = k
				}
			}
			size = 0
			if c == ':' && strings.HasPrefix(text[i:], "://") { // an address names whom it likes
				if end := strings.IndexAny(text[i:], " );"); end >= 0 {
					i += end
				} else {
					i = len(text)
				}
			}
			continue
		}
		if size <= maxWord {
			word[min(size, maxWord)] = c
			size++
		}
	}
	switch {
	case first != nil:
		return first
	case crawler:
		return namesItself
	case browser:
		return plainBrowser
	case mozilla:
		return bareBrowser
	}
	return nobodyKnown
}

// word looks a word up: as a whole, or up to its first hyphen.
func (v vocabulary) word(w []byte) *known {
	if w[0] <= '9' { // a version: no word here begins so
		return nil
	}
	if k := v[string(w)]; k != nil {
		return k
	}
	for i, c := range w {
		if c == '-' {
			if k := v[string(w[:i])]; k != plainBrowser && k != bareBrowser {
				return k
			}
			return nil
		}
	}
	return nil
}

// saysBot reports whether a program calls itself one. Cubot makes telephones.
func saysBot(w []byte) bool {
	s := string(w) // does not escape
	return (strings.HasSuffix(s, "bot") && s != "cubot") || strings.HasSuffix(s, "spider") ||
		strings.HasSuffix(s, "crawler") || strings.HasSuffix(s, "scraper") || s == "bots" || s == "crawl"
}
