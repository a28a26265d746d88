package decision

// BotClass is what a client is taken for. They are a small fixed set, since they
// label metrics.
type BotClass string

// Classes of clients. What a client says of itself decides, but for [BotImpostor].
const (
	BotNone      BotClass = "" // no handler asked
	BotBrowser   BotClass = "browser"
	BotApp       BotClass = "app"         // a person's, of a telephone or a desk, that is no browser
	BotSearch    BotClass = "search"      // a search engine's crawler
	BotAICrawler BotClass = "ai_crawler"  // gathers what models are made of
	BotAIAgent   BotClass = "ai_agent"    // fetches what a person asked an assistant for
	BotPreview   BotClass = "preview"     // makes the preview of a link that somebody sent
	BotFeed      BotClass = "feed_reader" // reads RSS and Atom
	BotMonitor   BotClass = "monitor"     // asks whether a site is up
	BotSEO       BotClass = "seo"         // sells what it finds about sites
	BotArchiver  BotClass = "archiver"    // keeps the web for later
	BotCrawler   BotClass = "crawler"     // calls itself one, and is none of the above
	BotTool      BotClass = "tool"        // curl, and the HTTP libraries of languages
	BotGit       BotClass = "git"
	BotHeadless  BotClass = "headless" // a browser that a program drives
	BotImpostor  BotClass = "impostor" // gives itself out as somebody it is not
	BotEmpty     BotClass = "empty"    // says nothing of itself
	BotUnknown   BotClass = "unknown"
)

// BotClasses are all classes, in the order in which the reference has them.
var BotClasses = [...]BotClass{
	BotBrowser, BotApp, BotSearch, BotAICrawler, BotAIAgent, BotPreview, BotFeed, BotMonitor, BotSEO, BotArchiver, BotCrawler,
	BotTool, BotGit, BotHeadless, BotImpostor, BotEmpty, BotUnknown,
}

// BotAction is what a rule about bots did, or would do.
type BotAction string

// Actions.
const (
	BotPassed       BotAction = ""              // no rule spoke of this client
	BotWouldRefuse  BotAction = "would_refuse"  // shadow mode
	BotRefused      BotAction = "refused"       //
	BotSignedIn     BotAction = "signed_in"     // spared: a session held
	BotProgramOnAPI BotAction = "not_a_page"    // spared: a tool, or git, that asked for no page
	BotUnsettled    BotAction = "unsettled"     // let on: credentials were sent, and nobody said whether they hold
	BotElsewhere    BotAction = "left_to_other" // credentials were sent, and edge_session refused them
)

// Bot is what the client is taken for, and what came of it.
type Bot struct {
	Class BotClass
	// Name is what the client calls itself, where that is known. Empty: it is not.
	Name string
	// Score is how much speaks against what the client says of itself: from 0,
	// nothing does, to 100, it is proven wrong.
	Score int
	// Reason is what decided, in a word.
	Reason string
	// Verified names the agent that the client was proven to be. Empty: nothing was.
	Verified string
	Action   BotAction
}

// SignedIn reports whether a session held.
func (d *Decision) SignedIn() bool { return d.Auth == AuthSession || d.Auth == AuthBearer }

// botAction is the action as it is told: credentials that edge_session refused
// were not let on.
func (d *Decision) botAction() BotAction {
	if d.Bot.Action == BotUnsettled && d.Auth != AuthNone {
		return BotElsewhere
	}
	return d.Bot.Action
}
