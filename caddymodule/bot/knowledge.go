package bot

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// knowledge is by what a POP knows a client: the words of User-Agents, and the
// agents that can prove who they are. It is shared by all handlers and matchers, and
// outlives a config, so that a reload does not forget the last good file.
type knowledge struct {
	words     vocabulary
	seen      memo
	agents    []*agent // those of the configuration
	authority []string
	signing   bool // one of the agents has keys
	now       func() time.Time

	open  sync.Once
	err   error
	files []*edge.File
}

// agent is somebody who can prove who it is.
type agent struct {
	name   string
	class  decision.BotClass
	words  []string // in lower case
	ranges []*edge.Definitions[networks]
	url    string // its Signature-Agent, in normal form; empty: it does not sign
	keys   edge.Definitions[directory]
	nonces *nonces

	config *edge.BotAgent
}

// of gives what this POP knows, and has its files read when the app starts.
func of(app *edge.App) (*knowledge, error) {
	config, err := json.Marshal(app.Bots)
	if err != nil {
		return nil, err
	}
	used, err := noncesOf(app)
	if err != nil {
		return nil, err
	}
	k, err := edge.Shared(app, "edge_bot: "+string(config), func() (*knowledge, error) {
		k := newKnowledge(app.Bots)
		for _, a := range k.agents {
			a.nonces = used[a.url]
		}
		return k, nil
	})
	if err == nil {
		app.OnStart(k.follow)
	}
	return k, err
}

// noncesOf gives the nonces of each agent that signs. They are shared apart from
// the rest, so that a change of another agent does not let old ones in again.
func noncesOf(app *edge.App) (map[string]*nonces, error) {
	if app.Bots == nil {
		return nil, nil
	}
	all := map[string]*nonces{}
	for _, a := range app.Bots.Agents {
		if a.Keys == "" {
			continue
		}
		url, _ := normalURL(a.SignatureAgent)
		used, err := edge.Shared(app, "edge_bot: nonces of "+url, func() (*nonces, error) { return newNonces(maxNonces), nil })
		if err != nil {
			return nil, err
		}
		all[url] = used
	}
	return all, nil
}

func newKnowledge(config *edge.Bots) *knowledge {
	k := &knowledge{words: everyday, now: time.Now}
	if config == nil || len(config.Agents) == 0 {
		return k
	}
	k.authority = config.Authority
	for _, c := range config.Agents {
		k.agents = append(k.agents, newAgent(c))
		k.signing = k.signing || c.Keys != ""
	}
	k.words = newVocabulary(k.agents)
	return k
}

func newAgent(c *edge.BotAgent) *agent {
	a := &agent{name: c.Name, class: c.Class, config: c}
	known := rowOf(c.Name)
	switch {
	case a.class != "":
	case known != nil:
		a.class = known.class
	default:
		a.class = decision.BotCrawler
	}
	switch {
	case len(c.UserAgents) > 0:
		for _, word := range c.UserAgents {
			a.words = append(a.words, strings.ToLower(word))
		}
	case known != nil:
		a.words = strings.Fields(known.words)
	default:
		a.words = []string{c.Name}
	}
	for range c.Ranges {
		a.ranges = append(a.ranges, new(edge.Definitions[networks]))
	}
	if c.Keys != "" {
		a.url, _ = normalURL(c.SignatureAgent)
		a.nonces = newNonces(maxNonces)
	}
	return a
}

// follow reads the agents' files and begins to follow them, once.
func (k *knowledge) follow() error {
	k.open.Do(func() {
		if k.err = k.read(); k.err != nil {
			_ = k.Close()
		}
	})
	return k.err
}

func (k *knowledge) read() error {
	logger := caddy.Log().Named("edge.bots") // of no config: it outlives each
	watch := func(path string, use func([]byte) error) error {
		f, err := edge.WatchFile(path, logger, use)
		if err == nil {
			k.files = append(k.files, f)
		}
		return err
	}
	for _, a := range k.agents {
		for i, path := range a.config.Ranges {
			if err := watch(path, func(data []byte) error { return set(a.ranges[i], data, parseNetworks) }); err != nil {
				return fmt.Errorf("edge: bots: agent %s: ranges: %w", a.name, err)
			}
		}
		if a.config.Keys != "" {
			if err := watch(a.config.Keys, func(data []byte) error { return set(&a.keys, data, parseDirectory) }); err != nil {
				return fmt.Errorf("edge: bots: agent %s: keys: %w", a.name, err)
			}
		}
	}
	return nil
}

// set puts what parse makes of data in force, or leaves what is.
func set[T any](in *edge.Definitions[T], data []byte, parse func([]byte) (T, error)) error {
	value, err := parse(data)
	if err == nil {
		in.Set(&value)
	}
	return err
}

// Close stops following the files.
func (k *knowledge) Close() error {
	var errs []error
	for _, f := range k.files {
		errs = append(errs, f.Close())
	}
	k.files = nil
	return errors.Join(errs...)
}

// comesFrom reports whether an address is one of the agent's. False, too, for ready:
// its networks are not all read yet.
func (a *agent) comesFrom(addr netip.Addr) (is, ready bool) {
	for _, r := range a.ranges {
		n := r.Get()
		if n == nil {
			return false, false
		}
		if n.holds(addr) {
			return true, true
		}
	}
	return false, true
}

// knowsKey reports whether any agent has that key.
func (k *knowledge) knowsKey(id string) bool { return k.holder(id) != nil }

// holder gives an agent that has that key, nil where none does.
func (k *knowledge) holder(id string) *agent {
	for _, a := range k.agents { // a handful that sign
		if keys := a.keys.Get(); keys != nil {
			if _, ok := (*keys)[id]; ok {
				return a
			}
		}
	}
	return nil
}

// pair gives the key with that id that the agent of that URL publishes.
func (k *knowledge) pair(url, id string) (*agent, signingKey, bool) {
	for _, a := range k.agents {
		if keys := a.keys.Get(); keys != nil && a.url == url {
			if key, ok := (*keys)[id]; ok {
				return a, key, true
			}
		}
	}
	return nil, signingKey{}, false
}

// ours reports whether an authority is one of this POP's sites.
func (k *knowledge) ours(authority string) bool {
	return slices.ContainsFunc(k.authority, func(name string) bool {
		if suffix, wild := strings.CutPrefix(name, "*"); wild {
			label, is := strings.CutSuffix(authority, suffix)
			return is && label != "" && !strings.Contains(label, ".")
		}
		return name == authority
	})
}
