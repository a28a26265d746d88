package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/gatehouse-edge/gatehouse/caddymodule/bot"
	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// Bots has every request tagged with what kind of program sent it, and says which
// kinds are refused.
//
// A class is refused with 403 (problem bot-refused) where no session speaks for the
// client: at once by edge_guard when it claims none, and otherwise by edge_session or
// edge_region, once it is known whether the claimed session holds. A route that has
// neither of the two lets a claimed session pass unlooked at.
type Bots struct {
	// Crawlers are those that can prove who they are. Default: none, so that nobody is
	// verified.
	Crawlers []*Crawler `json:"crawlers,omitempty"`

	// Refuse are the classes that are refused. Browsers, tools such as curl and git, and
	// crawlers that are verified cannot be, the last but with RefuseVerified: give tools a
	// rate limit. Default: none.
	Refuse []string `json:"refuse,omitempty"`

	// Enforce refuses; otherwise the log and the metric gatehouse_edge_bots_total say
	// who would have been (verdict would_refuse). Default: false.
	Enforce bool `json:"enforce,omitempty"`

	// RefuseVerified refuses crawlers of those classes that have proven who they are
	// too. Default: false, they are let in.
	RefuseVerified bool `json:"refuse_verified,omitempty"`

	book   *bot.Book
	refuse map[string]bool
}

// Crawler is one that can prove who it is, by its address or by a signature.
type Crawler struct {
	// Name is what the log calls it: a-z, 0-9, '-' and '_'. Required, and unique.
	Name string `json:"name"`

	// Class is what it does, one of the classes of the matcher edge_bot. Default:
	// search.
	Class string `json:"class,omitempty"`

	// Agents are the product tokens of its User-Agent, in any case. Whoever sends one of
	// them and has no proof is of the class impostor. Default: Name.
	Agents []string `json:"agents,omitempty"`

	// RangesFile is a file with the addresses that the crawler publishes, as JSON
	// ({"prefixes": [{"ipv4Prefix": …}]}) or with one prefix on each line, that only
	// its owner may write. It is read again when it changes. Default: none.
	RangesFile string `json:"ranges_file,omitempty"`

	// SignatureAgent is the origin that the crawler names in Signature-Agent, such as
	// https://bot.example (Web Bot Auth). Default: it signs nothing.
	SignatureAgent string `json:"signature_agent,omitempty"`

	// KeysFile is a file with the JWKS of its key directory, which is at
	// /.well-known/http-message-signatures-directory of SignatureAgent. It is read
	// again when it changes. Required with SignatureAgent.
	KeysFile string `json:"keys_file,omitempty"`
}

// check finds every fault that can be known before the configuration runs.
func (b *Bots) check() error {
	names := map[string]bool{}
	agents := map[string]string{}
	for _, c := range b.Crawlers {
		if c == nil {
			return errors.New("a crawler is null: give it a name")
		}
		if err := c.check(); err != nil {
			return fmt.Errorf("crawler %q: %w", c.Name, err)
		}
		if names[c.Name] {
			return fmt.Errorf("crawler %q stands twice", c.Name)
		}
		names[c.Name] = true
		for _, agent := range c.agents() {
			if other := agents[agent]; other != "" {
				return fmt.Errorf("crawler %q: agent %q is that of %q too", c.Name, agent, other)
			}
			agents[agent] = c.Name
		}
		if c.SignatureAgent != "" {
			if other := agents[c.SignatureAgent]; other != "" {
				return fmt.Errorf("crawler %q: signature_agent %s is that of %q too", c.Name, c.SignatureAgent, other)
			}
			agents[c.SignatureAgent] = c.Name
		}
	}
	for _, class := range b.Refuse {
		switch {
		case !slices.Contains(bot.Classes, class):
			return fmt.Errorf("refuse: %q is no class; there are: %s", class, strings.Join(bot.Classes, ", "))
		case class == bot.ClassBrowser || class == bot.ClassTool:
			return fmt.Errorf("refuse %s: people, and the tools that APIs are for, are never refused for what they are; give them a rate limit", class)
		}
	}
	if b.Enforce && len(b.Refuse) == 0 {
		return errors.New("enforce has nothing to enforce: name the classes to refuse")
	}
	return nil
}

func (c *Crawler) check() error {
	switch {
	case c.Name == "" || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || len(c.Name) > 63:
		return errors.New("a name has 1 to 63 characters of a-z, 0-9, '-' and '_'")
	case c.Class != "" && !slices.Contains(bot.Classes, c.Class) || c.Class == bot.ClassImpostor:
		return fmt.Errorf("class %q: it is one of: %s", c.Class, strings.Join(bot.Classes, ", "))
	case c.RangesFile == "" && c.SignatureAgent == "":
		return errors.New("it has no proof: give ranges, or signature_agent and keys")
	case (c.SignatureAgent == "") != (c.KeysFile == ""):
		return errors.New("signature_agent and keys go together: the name it signs by, and the keys it signs with")
	}
	if c.SignatureAgent != "" {
		u, err := url.Parse(c.SignatureAgent)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || c.SignatureAgent != "https://"+strings.ToLower(u.Host) {
			return fmt.Errorf("signature_agent %q: it is an origin such as https://bot.example", c.SignatureAgent)
		}
	}
	for _, agent := range c.Agents {
		if agent == "" || len(agent) > 48 || strings.ContainsAny(agent, " /;()\t") {
			return fmt.Errorf("agent %q: it is one product token, without a version, such as Googlebot", agent)
		}
	}
	return nil
}

// agents gives the product tokens in lower case.
func (c *Crawler) agents() []string {
	if len(c.Agents) == 0 {
		return []string{c.Name}
	}
	agents := make([]string, len(c.Agents))
	for i, agent := range c.Agents {
		agents[i] = strings.ToLower(agent)
	}
	return agents
}

// library is the crawlers of a configuration and the files that are followed for
// them. It outlives a reload that leaves them as they are.
type library struct {
	book  *bot.Book
	files []*File
}

// Close stops following the files.
func (l *library) Close() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(append(errs, l.book.Close())...)
}

// load reads the crawlers' files when the app starts.
func (b *Bots) load(a *App) error {
	if b.book != nil {
		return nil
	}
	identity, err := json.Marshal(b.Crawlers)
	if err != nil {
		return err
	}
	shared, err := Shared(a, "bots: "+string(identity), func() (*library, error) { return openLibrary(b.Crawlers) })
	if err != nil {
		return err
	}
	b.refuse = map[string]bool{}
	for _, class := range b.Refuse {
		b.refuse[class] = true
	}
	b.book = shared.book
	return nil
}

func openLibrary(crawlers []*Crawler) (*library, error) {
	logger := caddy.Log().Named("edge.bots") // of no config: it outlives each
	var listed []*bot.Crawler
	for _, c := range crawlers {
		class := c.Class
		if class == "" {
			class = bot.ClassSearch
		}
		listed = append(listed, &bot.Crawler{Name: c.Name, Class: class, Agents: c.agents(), SignatureAgent: c.SignatureAgent})
	}
	book, err := bot.NewBook(listed)
	if err != nil {
		return nil, err
	}
	l := &library{book: book}
	for i, c := range crawlers {
		for _, source := range []struct {
			path string
			use  func([]byte) error
		}{{c.RangesFile, listed[i].SetRanges}, {c.KeysFile, listed[i].SetKeys}} {
			if source.path == "" {
				continue
			}
			file, err := WatchFile(source.path, logger, source.use)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("crawler %q: %w", c.Name, err), l.Close())
			}
			l.files = append(l.files, file)
		}
	}
	return l, nil
}

// TagBot tags a request, and says by the tag's verdict whether its client is
// unwelcome. Without bots in the configuration it does nothing.
func (a *App) TagBot(r *http.Request, d *decision.Decision) error {
	b := a.Bots
	if b == nil {
		return nil
	}
	if err := a.loaded(); err != nil { // a request can come before the start
		return err
	}
	d.Bot = b.book.Tag(r, Client(r), time.Now(), d.DryRun)
	switch {
	case !b.refuse[d.Bot.Class], d.Bot.Verified && !b.RefuseVerified:
	case b.Enforce:
		d.Bot.Verdict = decision.VerdictPending
	default:
		d.Bot.Verdict = decision.VerdictShadow
	}
	return nil
}

// ClaimsSession reports whether a request carries what a session could be: the
// session's cookie, or a bearer token.
func (a *App) ClaimsSession(h http.Header) bool {
	for _, line := range h["Cookie"] {
		if strings.Contains(line, a.SessionCookie+"=") {
			return true
		}
	}
	return len(h["Authorization"]) > 0
}

func (a *App) unmarshalBots(d *caddyfile.Dispenser) error {
	if a.Bots != nil {
		return d.Err("bots stands twice")
	}
	b := new(Bots)
	a.Bots = b
	if err := None(d); err != nil {
		return err
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "crawler":
			err = b.unmarshalCrawler(d)
		case "refuse":
			err = Many(d, &b.Refuse)
		case "refuse_verified":
			b.RefuseVerified = true
			err = None(d)
		case "enforce":
			b.Enforce = true
			err = None(d)
		case "shadow":
			err = None(d)
		default:
			err = Unknown(d, "bots", "crawler", "refuse", "refuse_verified", "shadow", "enforce")
		}
		if err != nil {
			return err
		}
	}
	return at(&where, b.check())
}

func (b *Bots) unmarshalCrawler(d *caddyfile.Dispenser) error {
	c := new(Crawler)
	if err := One(d, &c.Name); err != nil {
		return err
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "class":
			err = One(d, &c.Class)
		case "agent":
			err = Many(d, &c.Agents)
		case "ranges":
			err = One(d, &c.RangesFile)
		case "signature_agent":
			err = One(d, &c.SignatureAgent)
		case "keys":
			err = One(d, &c.KeysFile)
		default:
			err = Unknown(d, "crawler", "class", "agent", "ranges", "signature_agent", "keys")
		}
		if err != nil {
			return err
		}
	}
	b.Crawlers = append(b.Crawlers, c)
	if err := c.check(); err != nil {
		return at(&where, fmt.Errorf("crawler %q: %w", c.Name, err))
	}
	return nil
}
