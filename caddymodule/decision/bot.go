package decision

import (
	"net/http"

	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// Bot is the tag of a client: what kind of program it is, as far as can be told.
type Bot struct {
	// Class is one of a small fixed set, see package bot.
	Class string
	// Name is the crawler's or the tool's, where it is known.
	Name string
	// Score is how likely it is, from 0 to 100, that the client is a program.
	Score int
	// Reason says what the tag was read off.
	Reason string
	// Verified is set where a crawler has proven that it is the one it names.
	Verified bool
	// Verdict is what the tag leads to.
	Verdict Verdict
}

// Verdict is what the tag of a client leads to.
type Verdict string

// Verdicts. They label a metric.
const (
	VerdictPassed  Verdict = ""              // its class is welcome
	VerdictPending Verdict = "pending"       // it is not, unless a session speaks for it
	VerdictRefused Verdict = "refused"       // nothing did
	VerdictShadow  Verdict = "would_refuse"  // nothing did, and refusing is not in force yet
	VerdictExcused Verdict = "session"       // a session did
	VerdictUnasked Verdict = "not_a_session" // it claims one, and no handler of the route looked
)

// Unwelcome gives the problem of a client whose class is not welcome and whom no
// session speaks for, nil for all others. Who asks has looked for a session, or comes
// after whoever would have: from then on the verdict stands.
func (d *Decision) Unwelcome() *problem.Problem {
	if d.Bot.Verdict != VerdictPending {
		return nil
	}
	if !d.Identity.Anonymous() {
		d.Bot.Verdict = VerdictExcused
		return nil
	}
	d.Bot.Verdict = VerdictRefused
	return problem.New(http.StatusForbidden, problem.BotRefused, "").WithHeader("Cache-Control", "no-store")
}

// verdict is what the tag led to in the end.
func (b *Bot) verdict() Verdict {
	switch b.Verdict {
	case VerdictPassed:
		return "passed"
	case VerdictPending:
		return VerdictUnasked
	}
	return b.Verdict
}

func (b *Bot) log(e zapcore.ObjectEncoder) {
	e.AddString(handoff.FieldBotClass, b.Class)
	e.AddInt(handoff.FieldBotScore, b.Score)
	e.AddString(handoff.FieldBotReason, b.Reason)
	if b.Name != "" {
		e.AddString(handoff.FieldBotName, b.Name)
	}
	if b.Verified {
		e.AddBool(handoff.FieldBotVerified, true)
	}
	if b.Verdict != VerdictPassed {
		e.AddString(handoff.FieldBotVerdict, string(b.verdict()))
	}
}
