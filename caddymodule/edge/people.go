package edge

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// What this file gives is for people, by "caddy edge keys" and "caddy edge
// revoke". It names keys and shows none.

// KeyInfo names a key.
type KeyInfo struct {
	// ID is the kid. Empty: it has none, as a shared secret.
	ID string `json:"kid"`
	// Algorithms are those that it may sign with.
	Algorithms []string `json:"algorithms"`
}

// States of a [KeySet].
const (
	KeysFresh       = "fresh"       // the last fetch was good
	KeysStale       = "stale"       // it answers, and could not be fetched since
	KeysWaiting     = "waiting"     // nobody has asked for it yet
	KeysUnavailable = "unavailable" // there is none that answers
	KeysStatic      = "static"      // it is read when the POP starts
)

// KeySet is what is known of an issuer's keys.
type KeySet struct {
	Issuer string `json:"issuer"`
	// Source is where the keys come from: a URL, "discovery", a file, or "secret".
	Source string    `json:"source"`
	State  string    `json:"state"`
	Keys   []KeyInfo `json:"keys"`
	// Fetched is when the set was fetched, and AgeSeconds how long ago that is; absent
	// for a static one.
	Fetched    *time.Time `json:"fetched,omitempty"`
	AgeSeconds int64      `json:"ageSeconds,omitempty"`
	// Error is what the last fetch failed with.
	Error string `json:"error,omitempty"`
}

// KeySets gives the key set of each issuer, in the order of the configuration. It
// fetches none.
func (a *App) KeySets(now time.Time) ([]KeySet, error) {
	if err := a.loaded(); err != nil {
		return nil, err
	}
	sets := make([]KeySet, len(a.Issuers))
	for n, i := range a.Issuers {
		sets[n] = i.keySet(now)
	}
	return sets, nil
}

func (i *Issuer) keySet(now time.Time) KeySet {
	if i.remote == nil {
		from := "secret"
		if i.KeyFile != "" {
			from = i.KeyFile
		}
		return KeySet{Issuer: i.Name, Source: from, State: KeysStatic, Keys: keyInfos(i.static)}
	}
	has := i.remote.keys.State()
	set := KeySet{Issuer: i.Name, Source: i.remote.from(), Keys: keyInfos(has.Set)}
	switch {
	case has.Set == nil && has.Err == nil:
		set.State = KeysWaiting
	case !has.Usable:
		set.State = KeysUnavailable
	case has.Err != nil:
		set.State = KeysStale
	default:
		set.State = KeysFresh
	}
	if has.Set != nil {
		at := has.Fetched.UTC()
		set.Fetched, set.AgeSeconds = &at, int64(now.Sub(at)/time.Second)
	}
	if has.Err != nil {
		set.Error = has.Err.Error()
	}
	return set
}

func keyInfos(set *jwks.Set) []KeyInfo {
	infos := []KeyInfo{}
	if set == nil {
		return infos
	}
	for _, k := range set.Keys() {
		infos = append(infos, KeyInfo{k.ID, k.Algorithms()})
	}
	return infos
}

// OwnKeys names the keys that regions believe this POP by. The first signs.
func (a *App) OwnKeys() ([]KeyInfo, error) {
	published, err := a.PublishedKeys()
	if err != nil {
		return nil, err
	}
	if a.Assertion.SecretFile != "" || a.Assertion.SecretEnv != "" {
		return []KeyInfo{{"", []string{"HS256"}}}, nil
	}
	set, err := jwks.Parse(published)
	if err != nil {
		return nil, err
	}
	return keyInfos(set), nil
}

// ErrNoFeed says that there is nowhere to keep a revocation.
var ErrNoFeed = errors.New("this POP has no feed, and so nowhere to keep what was revoked: a session is good here until it expires; configure feed in edge { … }")

// Revoke ends sessions at this POP alone, from now on and as long as any of them
// can last. Issuer may be absent where there is one alone; At and Expires are set
// here. news is false when all of it was revoked already.
func (a *App) Revoke(r handfeed.Revocation) (done handfeed.Revocation, news bool, err error) {
	if a.Feed == nil {
		return r, false, ErrNoFeed
	}
	if err := a.loaded(); err != nil {
		return r, false, err
	}
	if r.Issuer == "" && (r.Session != "" || r.Subject != "") && r.Tenant == "" {
		if len(a.Issuers) != 1 {
			return r, false, fmt.Errorf("there are %d issuers here: say whose session or user it is", len(a.Issuers))
		}
		r.Issuer = a.Issuers[0].Name
	}
	if r.Issuer != "" && a.Issuer(r.Issuer) == nil {
		return r, false, fmt.Errorf("issuer %q is not one of this POP's", r.Issuer)
	}
	now := time.Now()
	r.At, r.Expires = now.Unix(), now.Add(handfeed.MaxLife).Unix()
	if err := r.Check(); err != nil {
		return r, false, err
	}
	if news, err = a.Feed.follower.Revoke(r); err == nil {
		a.logger.Info("sessions ended at this POP by an operator", zap.Bool("news", news),
			zap.String(handoff.FieldIssuer, r.Issuer), zap.String("session", r.Session),
			zap.String(handoff.FieldUser, r.Subject), zap.String(handoff.FieldTenant, r.Tenant))
	}
	return r, news, err
}

// FeedInfo is what this POP has heard.
type FeedInfo struct {
	// Following is false without a feed, and until a first state was had: sessions
	// then get 503.
	Following bool `json:"following"`
	// Revocations is how many are held.
	Revocations int `json:"revocations"`
	// Regions say when each was last heard of; absent from it: never.
	Regions map[string]time.Time `json:"regions"`
}

// FeedInfo gives what was heard. It is nil without a feed.
func (a *App) FeedInfo() (*FeedInfo, error) {
	if a.Feed == nil {
		return nil, nil
	}
	if err := a.loaded(); err != nil {
		return nil, err
	}
	f := &FeedInfo{Following: a.Feed.follower.Knows(), Revocations: a.Feed.follower.Revocations(), Regions: map[string]time.Time{}}
	for _, r := range a.Regions {
		if at := a.Feed.follower.Heard(r.Name); !at.IsZero() {
			f.Regions[r.Name] = at.UTC()
		}
	}
	return f, nil
}
