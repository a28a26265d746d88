package edge

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// maxBotAgents bounds the agents of a configuration.
const maxBotAgents = 256

// Bots says by what crawlers and other agents prove who they are, for edge_bot.
type Bots struct {
	// Agents are those that can. Default: none; what a client says of itself is
	// then all that is known.
	Agents []*BotAgent `json:"agents,omitempty"`

	// Authority is the names that this POP's sites have, host or host:port, or
	// *.host for all names one label below. A signature is for one of them: one that
	// an agent made for another site must not open this one. Required where an agent
	// has keys.
	Authority []string `json:"authority,omitempty"`
}

// BotAgent is somebody who sends requests that no person makes one by one, and
// who publishes by what they are known.
type BotAgent struct {
	// Name is what the agent is called in logs and metrics: a-z, 0-9, '-' and '_'.
	// Required, and unique.
	Name string `json:"name"`

	// Class is one of decision's. Default: what edge_bot's table says of that name,
	// or else "crawler".
	Class decision.BotClass `json:"class,omitempty"`

	// UserAgents are words of its User-Agent, such as "Googlebot", in whatever case.
	// Default: those of edge_bot's table for that name, or else the name.
	UserAgents []string `json:"user_agents,omitempty"`

	// Ranges are files with the networks that its requests come from: the JSON that
	// Google and Microsoft publish, or one network a line. Who says that it is this
	// agent and comes from elsewhere is an impostor. Default: none.
	Ranges []string `json:"ranges,omitempty"`

	// SignatureAgent is the https URL that its requests name in Signature-Agent
	// (Web Bot Auth). Required with Keys.
	SignatureAgent string `json:"signature_agent,omitempty"`

	// Keys is a file with the key directory that SignatureAgent publishes, a JSON
	// Web Key Set. Only Ed25519 keys of it are used. Default: none.
	Keys string `json:"keys,omitempty"`
}

// check finds every fault that can be known before a file is read.
func (b *Bots) check() error {
	if b == nil {
		return nil
	}
	if len(b.Agents) > maxBotAgents {
		return fmt.Errorf("%d agents, at most %d are looked for", len(b.Agents), maxBotAgents)
	}
	for i, a := range b.Agents {
		if err := a.check(b.Agents[:i]); err != nil {
			return err
		}
		if a.Keys != "" && len(b.Authority) == 0 {
			return fmt.Errorf("agent %s has keys and there is no authority: name this POP's sites, so that a signature for another site is not taken, for example: authority www.example.com", a.Name)
		}
	}
	for _, name := range b.Authority {
		if err := checkAuthority(name); err != nil {
			return err
		}
	}
	return nil
}

func checkAuthority(name string) error {
	host := strings.TrimPrefix(name, "*.")
	odd := strings.ContainsAny(host, "*/ @{}?#")
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if odd || host == "" || name != strings.ToLower(name) {
		return fmt.Errorf("authority %q: it is a host in lower case, such as www.example.com, localhost:8080 or *.example.com", name)
	}
	return nil
}

func (a *BotAgent) check(before []*BotAgent) error {
	switch {
	case a == nil:
		return errors.New("an agent is null: give it a name")
	case !validAgent(a.Name):
		return fmt.Errorf("agent %q: its name begins with a letter and has 1 to 63 characters of a-z, 0-9, '-' and '_'", a.Name)
	case len(a.Ranges) == 0 && a.Keys == "":
		return fmt.Errorf("agent %s: name by what it is known: ranges or keys", a.Name)
	case (a.Keys == "") != (a.SignatureAgent == ""):
		return fmt.Errorf("agent %s: keys and signature_agent belong together: the keys are those that this URL publishes", a.Name)
	case a.Class != "" && !namesAgents(a.Class):
		return fmt.Errorf("agent %s: class %q is none of %s", a.Name, a.Class, listed(namesAgents))
	}
	if a.SignatureAgent != "" {
		u, err := url.Parse(a.SignatureAgent)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("agent %s: signature_agent %q is not an https URL such as https://crawler.example", a.Name, a.SignatureAgent)
		}
	}
	for _, word := range a.UserAgents {
		if !validWord(word) {
			return fmt.Errorf("agent %s: user_agent %q: a word of it begins with a letter and has 2 to 63 letters, digits, '-', '_' and '.'", a.Name, word)
		}
	}
	for _, other := range before {
		if other.Name == a.Name {
			return fmt.Errorf("agent %s stands twice", a.Name)
		}
		for _, word := range a.UserAgents {
			if slices.ContainsFunc(other.UserAgents, func(w string) bool { return strings.EqualFold(w, word) }) {
				return fmt.Errorf("agent %s: user_agent %s is agent %s's already", a.Name, word, other.Name)
			}
		}
	}
	return nil
}

// namesAgents reports whether an agent can be of that class: the others are what
// edge_bot finds out.
func namesAgents(class decision.BotClass) bool {
	switch class {
	case decision.BotNone, decision.BotBrowser, decision.BotImpostor, decision.BotEmpty, decision.BotUnknown:
		return false
	}
	return slices.Contains(decision.BotClasses[:], class)
}

// listed writes the classes for which of holds.
func listed(of func(decision.BotClass) bool) string {
	var names []string
	for _, class := range decision.BotClasses {
		if of(class) {
			names = append(names, string(class))
		}
	}
	return strings.Join(names, ", ")
}

func validAgent(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 63 && 'a' <= name[0] && name[0] <= 'z'
}

func validWord(word string) bool {
	for i := range len(word) {
		c := word[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(word) >= 2 && len(word) <= 63 && word[0] >= 'A' && word[0] != '_'
}

// unmarshalBots reads bots:
//
//	bots {
//		authority <host...>
//		agent <name> {
//			class <class>
//			user_agent <word...>
//			ranges <path...>
//			signature_agent <url>
//			keys <path>
//		}
//	}
func (a *App) unmarshalBots(d *caddyfile.Dispenser) error {
	if a.Bots != nil {
		return d.Err("bots stands twice")
	}
	a.Bots = new(Bots)
	if d.NextArg() {
		return d.Errf("bots takes a block and no argument, got %q", d.Val())
	}
	whole := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "authority":
			err = Many(d, &a.Bots.Authority)
		case "agent":
			err = a.Bots.unmarshalAgent(d)
		default:
			err = Unknown(d, "bots", "authority", "agent")
		}
		if err != nil {
			return err
		}
	}
	if err := a.Bots.check(); err != nil {
		return whole.WrapErr(fmt.Errorf("bots: %w", err))
	}
	return nil
}

func (b *Bots) unmarshalAgent(d *caddyfile.Dispenser) error {
	a := new(BotAgent)
	if err := One(d, &a.Name); err != nil {
		return err
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "class":
			err = One(d, (*string)(&a.Class))
		case "user_agent":
			err = Many(d, &a.UserAgents)
		case "ranges":
			err = Many(d, &a.Ranges)
		case "signature_agent":
			err = One(d, &a.SignatureAgent)
		case "keys":
			err = One(d, &a.Keys)
		default:
			err = Unknown(d, "agent", "class", "user_agent", "ranges", "signature_agent", "keys")
		}
		if err != nil {
			return err
		}
	}
	if err := a.check(b.Agents); err != nil {
		return where.WrapErr(fmt.Errorf("bots: %w", err))
	}
	b.Agents = append(b.Agents, a)
	return nil
}
