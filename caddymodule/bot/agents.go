package bot

import "strings"

// known is the product tokens that crawlers and tools publish, in lower case, by what
// they are for. It is a courtesy: who wants to hide does not write its name.
var known = classify(map[string]string{
	ClassSearch: "googlebot googlebot-image googlebot-news googlebot-video googleother storebot-google adsbot-google bingbot msnbot " +
		"bingpreview applebot duckduckbot yandexbot yandeximages baiduspider seznambot qwantbot qwantify sogou slurp petalbot " +
		"mojeekbot coccocbot yeti naverbot daum exabot",
	ClassAITraining: "gptbot google-extended applebot-extended ccbot bytespider meta-externalagent facebookbot amazonbot diffbot " +
		"cohere-training-data-crawler ai2bot omgili omgilibot timpibot imagesiftbot webzio-extended pangubot img2dataset",
	ClassAISearch: "oai-searchbot perplexitybot youbot duckassistbot",
	ClassAIUser:   "chatgpt-user perplexity-user mistralai-user meta-externalfetcher cohere-ai google-cloudvertexbot",
	ClassPreview: "facebookexternalhit facebookcatalog twitterbot linkedinbot slackbot slackbot-linkexpanding slack-imgproxy discordbot " +
		"telegrambot whatsapp skypeuripreview pinterestbot pinterest redditbot embedly iframely mastodon bluesky cardyb vkshare " +
		"google-pagerenderer viber line-poker zoombot",
	ClassMonitor: "uptimerobot pingdom pingdom.com_bot statuscake site24x7 googlestackdrivermonitoring kube-probe elb-healthchecker " +
		"betteruptime freshping updown.io datadog datadogsynthetics newrelicpinger nodeping hetrixtools checkly blackbox-exporter " +
		"googlehc amazon-route53-health-check-service",
	ClassSEO: "ahrefsbot ahrefssiteaudit semrushbot mj12bot dotbot rogerbot blexbot dataforseobot serpstatbot seokicks barkrowler " +
		"screaming sitebulb linkdexbot megaindex zoominfobot",
	ClassArchive: "archive.org_bot ia_archiver heritrix arquivo-web-crawler wayback",
	ClassFeed: "feedly feedbin newsblur inoreader theoldreader freshrss tiny miniflux netnewswire feedburner feedfetcher-google " +
		"bazqux akregator liferea",
	ClassTool: "curl libcurl wget wget2 git jgit go-git httpie xh python-requests python-urllib python-httpx python aiohttp httpx urllib3 " +
		"go-http-client okhttp java apache-httpclient axios node-fetch node undici got superagent deno bun ruby faraday rest-client " +
		"libwww-perl lwp guzzlehttp php symfony postmanruntime insomnia bruno paw k6 vegeta wrk hey jmeter dart reqwest hyper ureq " +
		"restsharp powershell windowspowershell docker containerd terraform openbsd fetch lynx w3m links aws-sdk-go aws-cli",
	ClassHeadless: "headlesschrome headless phantomjs puppeteer playwright selenium webdriver slimerjs htmlunit scrapy nutch colly",
})

func classify(table map[string]string) map[string]string {
	classes := map[string]string{}
	for class, names := range table {
		for name := range strings.FieldsSeq(names) {
			classes[name] = class
		}
	}
	return classes
}

// maxAgent bounds how much of a User-Agent is read, in bytes.
const maxAgent = 1024

// reading is what a User-Agent says.
type reading struct {
	crawler *Crawler // of the book
	class   string   // by a name that is known; empty: none is
	name    string
	browser bool // it begins as a browser's does
}

// read looks a User-Agent's words up: first in the book, then among those known,
// and last for words that end as a bot's name does.
func read(agent string, book map[string]*Crawler) (found reading) {
	found.browser = strings.HasPrefix(agent, "Mozilla/5.0 (")
	var buffer [48]byte
	for i := 0; i < min(len(agent), maxAgent); {
		if !inName(agent[i]) {
			i++
			continue
		}
		n := 0
		for ; i < min(len(agent), maxAgent) && inName(agent[i]); i++ {
			if n < len(buffer) {
				buffer[n] = lower(agent[i])
			}
			n++
		}
		if n > len(buffer) {
			continue // nobody's name
		}
		word := buffer[:n]
		if c := book[string(word)]; c != nil {
			found.crawler = c
			return found
		}
		if found.class != "" && found.class != ClassOther {
			continue
		}
		if class, ok := known[string(word)]; ok {
			if class == ClassTool && found.browser {
				continue // a browser's words: "Linux", "Java"
			}
			found.class, found.name = class, string(word)
		} else if found.class == "" && endsLikeBot(word) {
			found.class, found.name = ClassOther, string(word)
		}
	}
	return found
}

func endsLikeBot(word []byte) bool {
	for _, end := range [...]string{"bot", "crawler", "spider", "scraper"} {
		if len(word) >= len(end) && string(word[len(word)-len(end):]) == end {
			return true
		}
	}
	return false
}

// inName reports whether c may stand in a product's name. A slash ends one: what
// follows is its version.
func inName(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}
