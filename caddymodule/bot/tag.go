package bot

import (
	"net/http"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// tag writes into the decision what the client is taken for, once for a request.
//
// A signature that holds decides. One that its agent did not make for this
// request makes its sender an impostor, and so does a User-Agent that names an
// agent whose networks are known and do not hold the client's address. Otherwise
// what the client says of itself is its class, and not believed further.
func (k *knowledge) tag(d *decision.Decision, r *http.Request) {
	if d.Bot.Class != decision.BotNone {
		return
	}
	var v verdict
	if k.signing && len(r.Header[fieldInput]) > 0 {
		stage := d.Stage(r.Context(), handoff.SpanBot)
		v = k.signature(r, d)
		stage.End()
	}
	says := k.says(r.Header)
	switch {
	case v.proven && says.agent != nil && says.agent != v.agent:
		d.Bot = impostor(says.agent, "signature_of_another_agent")
	case v.proven:
		d.Bot = decision.Bot{Class: v.agent.class, Name: v.agent.name, Reason: v.reason, Verified: v.agent.name}
	case v.lie:
		d.Bot = impostor(v.agent, v.reason)
	default:
		d.Bot = k.fromAddress(r, says)
		if !v.none() && d.Bot.Verified == "" && d.Bot.Class != decision.BotImpostor {
			d.Bot.Reason, d.Bot.Score = v.reason, max(d.Bot.Score, scoreOdd)
		}
	}
}

// impostor is who gives itself out as that agent.
func impostor(as *agent, reason string) decision.Bot {
	return decision.Bot{Class: decision.BotImpostor, Name: as.name, Score: scores[decision.BotImpostor], Reason: reason}
}

// fromAddress holds what a client says of itself against where it comes from.
func (k *knowledge) fromAddress(r *http.Request, says *known) decision.Bot {
	a := says.agent
	if a == nil || len(a.ranges) == 0 {
		return says.bot()
	}
	unproven := says.bot()
	client := edge.Client(r)
	switch is, ready := a.comesFrom(client); {
	case edge.InEarlyData(r): // the address may be forged
		unproven.Reason = "early_data"
	case !client.IsValid():
		unproven.Reason = "address_unknown"
	case is:
		return decision.Bot{Class: a.class, Name: a.name, Reason: "address", Verified: a.name}
	case !ready:
		unproven.Reason = "ranges_not_read"
	default:
		return impostor(a, "address_not_published")
	}
	return unproven
}

// says reads what a client says of itself.
func (k *knowledge) says(h http.Header) *known {
	lines := h["User-Agent"]
	switch len(lines) {
	case 0:
		return saysNothing
	case 1:
	default:
		return several
	}
	says := k.seen.classify(k.words, lines[0])
	if says == plainBrowser && h.Get("Accept-Language") == "" {
		return noLanguage
	}
	return says
}
