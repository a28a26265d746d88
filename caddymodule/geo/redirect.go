package geo

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// remembered is how long a choice is.
const remembered = 365 * 24 * time.Hour

// redirect gives the address that a request is redirected to, empty for none,
// and whether the rules looked at it: whether another visitor's could have been
// redirected.
func (g *Geo) redirect(w http.ResponseWriter, r *http.Request, d *decision.Decision) (location string, looked bool) {
	if len(g.Redirects) == 0 || r.Method != http.MethodGet && r.Method != http.MethodHead || g.arrived(r) {
		return "", false
	}
	if !handoff.IsNavigation(r) {
		return "", true
	}
	country := d.Country
	chosen, rest := g.override(r.URL.RawQuery)
	switch {
	case chosen != "":
		country = chosen
		if fromHere(r.Header) {
			g.remember(w, r, chosen)
		}
	default:
		if kept := g.kept(r); kept != "" {
			country = kept
		}
	}
	i := slices.IndexFunc(g.Redirects, func(rule *Redirect) bool { return slices.Contains(rule.Countries, country) })
	if i < 0 || isCrawler(r.UserAgent()) {
		return "", true
	}
	u := *r.URL
	u.RawQuery = rest
	return g.Redirects[i].target.Of(&u), true
}

// arrived reports whether a request is for the target of a rule already.
func (g *Geo) arrived(r *http.Request) bool {
	for _, rule := range g.Redirects {
		if rule.target.Holds(r.Host, r.URL.EscapedPath()) {
			return true
		}
	}
	return false
}

// override gives the choice that a query makes, in upper case, and the query
// without it. A choice that is no country, or made twice, is none.
func (g *Geo) override(query string) (chosen, rest string) {
	if !strings.Contains(query, g.Override+"=") {
		return "", query
	}
	var kept []string
	found := 0
	for pair := range strings.SplitSeq(query, "&") {
		value, ours := strings.CutPrefix(pair, g.Override+"=")
		if !ours {
			kept = append(kept, pair)
			continue
		}
		found++
		chosen = value
	}
	if found == 0 {
		return "", query
	}
	chosen = strings.ToUpper(chosen)
	if found > 1 || !isCountry(chosen) {
		chosen = ""
	}
	return chosen, strings.Join(kept, "&")
}

// fromHere reports whether this site, or the user, made the request (Fetch
// Metadata, section 2.3): another site's link decides about one page, not about
// a year.
func fromHere(h http.Header) bool {
	switch h.Get("Sec-Fetch-Site") {
	case "", "same-origin", "same-site", "none":
		return true
	}
	return false
}

func (g *Geo) remember(w http.ResponseWriter, r *http.Request, country string) {
	http.SetCookie(w, &http.Cookie{
		Name: g.Cookie, Value: country, Path: "/", MaxAge: int(remembered / time.Second),
		Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// kept gives the choice that was remembered, empty where there is none. Two
// choices are none.
func (g *Geo) kept(r *http.Request) string {
	if cookies := r.CookiesNamed(g.Cookie); len(cookies) == 1 && isCountry(cookies[0].Value) {
		return cookies[0].Value
	}
	return ""
}

// crawlers are words of the names by which crawlers and programs that make
// previews call themselves, in lower case. Whoever lies gets the page that it would
// get without the rules.
var crawlers = [...]string{
	"googlebot", "google-inspectiontool", "googleother", "google-extended", "adsbot-google", "mediapartners-google", "apis-google", "storebot-google",
	"bingbot", "adidxbot", "bingpreview", "duckduckbot", "yandex", "baiduspider", "sogou", "applebot", "petalbot", "bytespider", "seznambot", "qwantify", "slurp",
	"facebookexternalhit", "facebookcatalog", "meta-externalagent", "twitterbot", "linkedinbot", "pinterest", "slackbot", "discordbot", "telegrambot", "whatsapp", "redditbot",
	"gptbot", "oai-searchbot", "chatgpt-user", "claudebot", "claude-user", "perplexitybot", "ccbot", "amazonbot", "ia_archiver", "archive.org_bot",
	"ahrefsbot", "semrushbot", "mj12bot", "dotbot", "rogerbot", "screaming frog", "lighthouse", "w3c_validator",
}

// isCrawler reports whether a program that does not stand for one visitor asks.
func isCrawler(agent string) bool {
	if agent == "" {
		return false
	}
	agent = strings.ToLower(agent)
	for _, word := range crawlers {
		if strings.Contains(agent, word) {
			return true
		}
	}
	return false
}
