// Package bot says what kind of program sent a request, as far as can be told.
//
// It tags and refuses nothing: what a tag leads to is configured, and decided
// elsewhere. The package knows no Caddy but for its matcher.
package bot

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// Classes of clients. They label a metric, so that they are a small fixed set.
const (
	// ClassBrowser: a person's browser, as far as can be told.
	ClassBrowser = "browser"
	// ClassSearch, ClassAITraining, ClassAISearch and ClassAIUser: crawlers that fill a
	// search engine, that collect what models learn from, that fill an assistant's
	// search, and that fetch a page because a person asked for it.
	ClassSearch     = "search"
	ClassAITraining = "ai_training"
	ClassAISearch   = "ai_search"
	ClassAIUser     = "ai_user"
	// ClassPreview: makes the preview of a link in a chat or a social network.
	ClassPreview = "preview"
	// ClassMonitor: asks whether a site is up.
	ClassMonitor = "monitor"
	// ClassSEO: measures sites for others.
	ClassSEO = "seo"
	// ClassArchive: keeps old pages.
	ClassArchive = "archive"
	// ClassFeed: reads RSS and Atom.
	ClassFeed = "feed"
	// ClassTool: curl, git and the HTTP libraries. It is never refused: it is who
	// APIs are for.
	ClassTool = "tool"
	// ClassHeadless: a browser that a program drives.
	ClassHeadless = "headless"
	// ClassOther: calls itself a bot and is none of the above.
	ClassOther = "other"
	// ClassUnknown: says something that is no browser's.
	ClassUnknown = "unknown"
	// ClassEmpty: says nothing.
	ClassEmpty = "empty"
	// ClassImpostor: says that it is a crawler which can prove it, and does not.
	ClassImpostor = "impostor"
)

// Classes are all of them.
var Classes = []string{
	ClassBrowser, ClassSearch, ClassAITraining, ClassAISearch, ClassAIUser, ClassPreview, ClassMonitor, ClassSEO, ClassArchive,
	ClassFeed, ClassTool, ClassHeadless, ClassOther, ClassUnknown, ClassEmpty, ClassImpostor,
}

// Reasons of a tag, besides those of a signature: see [Signature].
const (
	ReasonAgent      = "agent"           // User-Agent says so
	ReasonNoAgent    = "no_agent"        // there is no User-Agent
	ReasonHeaders    = "browser_headers" // User-Agent says browser, and its other headers are missing
	ReasonBrowser    = "browser"         // they are there
	ReasonRange      = "range"           // the address is one of those that the crawler publishes
	ReasonNotInRange = "not_in_range"    // it is not
	ReasonNotSigned  = "not_signed"      // the crawler signs its requests, and this one is not signed
	ReasonSignature  = "signature"       // Web Bot Auth: signed with a key of the crawler's
)

// Crawler is one that can prove who it is.
type Crawler struct {
	// Name is what the log calls it.
	Name string
	// Class is one of [Classes].
	Class string
	// Agents are the product tokens of its User-Agent, in lower case.
	Agents []string
	// SignatureAgent is the origin of its key directory, such as
	// https://bot.example. Empty: it signs nothing.
	SignatureAgent string

	proof proof
}

// Book is the crawlers that can prove who they are. It is not changed once it is
// used; what its crawlers publish is, see [Crawler.SetRanges] and
// [Crawler.SetKeys].
type Book struct {
	crawlers []*Crawler
	agents   map[string]*Crawler
	signers  map[string]*Crawler
	nonces   *nonces
}

// NewBook makes a book. Close it.
func NewBook(crawlers []*Crawler) (*Book, error) {
	seen, err := newNonces()
	b := &Book{crawlers: crawlers, agents: map[string]*Crawler{}, signers: map[string]*Crawler{}, nonces: seen}
	for _, c := range crawlers {
		for _, agent := range c.Agents {
			b.agents[agent] = c
		}
		if c.SignatureAgent != "" {
			b.signers[c.SignatureAgent] = c
		}
	}
	return b, err
}

// Close ends the book's own work.
func (b *Book) Close() error {
	if b.nonces != nil {
		b.nonces.close()
	}
	return nil
}

// Tag says what sent a request from the address client, which is invalid where it is
// not known. A request that carries a Web Bot Auth signature is judged by it, one
// whose User-Agent is a crawler's of the book by its address, and all others by what
// they say of themselves. dry is set where nothing may be remembered.
func (b *Book) Tag(r *http.Request, client netip.Addr, now time.Time, dry bool) decision.Bot {
	if len(b.signers) > 0 && len(r.Header["Signature-Input"]) > 0 {
		if tag, decided := b.signed(r, now, dry); decided {
			return tag
		}
	}
	agent := r.Header.Get("User-Agent")
	if agent == "" {
		return decision.Bot{Class: ClassEmpty, Score: 80, Reason: ReasonNoAgent}
	}
	found := read(agent, b.agents)
	if c := found.crawler; c != nil {
		return c.judge(client)
	}
	if found.class != "" {
		return decision.Bot{Class: found.class, Name: found.name, Score: score(found.class), Reason: ReasonAgent}
	}
	if !found.browser {
		return decision.Bot{Class: ClassUnknown, Score: 60, Reason: ReasonAgent}
	}
	if !browses(r.Header) {
		return decision.Bot{Class: ClassUnknown, Score: 50, Reason: ReasonHeaders}
	}
	return decision.Bot{Class: ClassBrowser, Score: 10, Reason: ReasonBrowser}
}

// judge says whether who claims to be this crawler is, by its address.
func (c *Crawler) judge(client netip.Addr) decision.Bot {
	ranges := c.proof.ranges.Load()
	switch {
	case ranges != nil && client.IsValid() && ranges.Contains(client):
		return decision.Bot{Class: c.Class, Name: c.Name, Score: 100, Reason: ReasonRange, Verified: true}
	case ranges != nil:
		return decision.Bot{Class: ClassImpostor, Name: c.Name, Score: 100, Reason: ReasonNotInRange}
	case c.SignatureAgent != "":
		return decision.Bot{Class: ClassImpostor, Name: c.Name, Score: 100, Reason: ReasonNotSigned}
	}
	return decision.Bot{Class: c.Class, Name: c.Name, Score: score(c.Class), Reason: ReasonAgent}
}

// score is how likely a program that calls itself so is one. Nobody says "bot" who
// is a person, while a person's own tools may well be.
func score(class string) int {
	switch class {
	case ClassTool, ClassFeed:
		return 80
	}
	return 90
}

// browses reports whether a request has what every browser sends with a page or a
// fetch: a language, and either Fetch metadata, of those that have it, or the types
// that it accepts.
func browses(h http.Header) bool {
	return len(h["Accept-Language"]) > 0 && (len(h["Sec-Fetch-Site"]) > 0 || len(h["Accept"]) > 0)
}
