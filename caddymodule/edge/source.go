package edge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// Events that Caddy's events app hears of, with the data issuer, source, keys
// (how many answer now) and, where there is one, error.
const (
	// EventKeysRotated: the issuer publishes other keys than before.
	EventKeysRotated = "jwks_rotated"
	// EventKeysStale: a fetch failed, and the last good set answers. Once, until
	// a fetch is good again.
	EventKeysStale = "jwks_stale"
	// EventKeysUnavailable: a fetch failed and nothing can answer: sessions of
	// this issuer get 503. Once, as before.
	EventKeysUnavailable = "jwks_unavailable"
	// EventKeysRecovered: a fetch is good again.
	EventKeysRecovered = "jwks_recovered"
)

// storageTimeout bounds what a slow storage can cost: it holds up the start of a
// POP for that long at most, and a request never.
const storageTimeout = 3 * time.Second

// keysHealth is how an issuer's key set stands.
type keysHealth int

const (
	healthy keysHealth = iota
	stale
	unavailable
)

// source is the key set of an issuer that publishes it. It outlives a config,
// and speaks through the newest that uses it.
type source struct {
	issuer string
	url    string // empty: discovered
	keys   *jwks.Remote

	mu       sync.Mutex
	users    []*App // the newest last
	restored bool   // the storage was asked
	health   keysHealth
}

func newSource(i *Issuer) *source {
	s := &source{issuer: i.Name, url: i.JWKSURL, keys: &jwks.Remote{URL: i.JWKSURL}}
	if i.Discovery {
		s.keys.Issuer = i.Name
	}
	s.keys.OnFetch = s.heard
	return s
}

// provisionKeys finds what Caddy has for keeping key sets and for telling of
// them. An app that no configuration holds, as in the tests of handlers, has
// neither.
func (a *App) provisionKeys(ctx caddy.Context) error {
	if err := registerKeyMetrics(ctx); err != nil || ctx.Module() == nil {
		return err
	}
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	a.storage, a.events = ctx.Storage(), events.(*caddyevents.App)
	return nil
}

// attach lets s speak through a. The first to come restores the set that an
// earlier process has kept; all others wait for it.
func (s *source) attach(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = append(s.users, a)
	if s.restored {
		return
	}
	s.restored = true
	if err := s.restore(a); err != nil {
		a.logger.Warn("no kept key set: sessions of this issuer need a fetch first", s.fields(zap.Error(err))...)
	}
}

func (s *source) detach(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = slices.DeleteFunc(s.users, func(user *App) bool { return user == a })
}

// Close forgets the figures of a source that no configuration has any more.
func (s *source) Close() error {
	s.forget()
	return nil
}

// heard is told how a fetch ended; no request waits for it. Nothing is held
// meanwhile: a handler of an event may load another config, which attaches.
func (s *source) heard(f jwks.Fetch) {
	s.count(f)
	s.mu.Lock()
	was := s.health
	s.health = healthOf(f)
	now := s.health
	var a *App
	if len(s.users) > 0 {
		a = s.users[len(s.users)-1]
		a.keeps.Add(1)
	}
	s.mu.Unlock()
	if a == nil {
		return
	}
	if f.Err == nil {
		if err := s.keep(a, f); err != nil {
			a.logger.Warn("the key set was not kept: a cold start would need its issuer", s.fields(zap.Error(err))...)
		}
	}
	a.keeps.Done()
	if f.Err == nil && f.Before != nil && !f.Set.Equal(f.Before) {
		a.logger.Info("the issuer publishes other keys", s.fields(zap.Int("keys", f.Set.Len()))...)
		s.emit(a, EventKeysRotated, f)
	}
	if now != was {
		s.tell(a, now, f)
	}
}

func healthOf(f jwks.Fetch) keysHealth {
	switch {
	case f.Err == nil:
		return healthy
	case f.Set != nil:
		return stale
	}
	return unavailable
}

// tell says that the health is another now.
func (s *source) tell(a *App, now keysHealth, f jwks.Fetch) {
	switch now {
	case healthy:
		a.logger.Info("the issuer's keys can be fetched again", s.fields()...)
		s.emit(a, EventKeysRecovered, f)
	case stale:
		a.logger.Warn("the issuer's keys cannot be fetched: the last good set answers", s.fields(zap.Time("fetched", f.At), zap.Error(f.Err))...)
		s.emit(a, EventKeysStale, f)
	case unavailable:
		a.logger.Error("the issuer's keys cannot be fetched: its sessions get 503", s.fields(zap.Error(f.Err))...)
		s.emit(a, EventKeysUnavailable, f)
	}
}

func (s *source) emit(a *App, name string, f jwks.Fetch) {
	if a.events == nil {
		return
	}
	data := map[string]any{"issuer": s.issuer, "source": s.from(), "keys": 0}
	if f.Set != nil {
		data["keys"] = f.Set.Len()
	}
	if f.Err != nil {
		data["error"] = f.Err.Error()
	}
	a.events.Emit(a.ctx, name, data)
}

// from is where the keys come from, for people.
func (s *source) from() string {
	if s.url == "" {
		return "discovery"
	}
	return s.url
}

func (s *source) fields(more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String(handoff.FieldIssuer, s.issuer), zap.String(handoff.FieldSource, s.from())}, more...)
}

// kept is a key set as it lies in Caddy's storage. Whoever can write there can
// already make certificates for this POP.
type kept struct {
	Issuer  string         `json:"issuer"`
	URL     string         `json:"url"`
	Fetched time.Time      `json:"fetched"`
	Keys    jsontext.Value `json:"jwks"`
}

// path is where the set lies: POPs that share a storage share it.
func (s *source) path() string {
	sum := sha256.Sum256([]byte(s.issuer + "\n" + s.url))
	return "gatehouse/jwks/" + hex.EncodeToString(sum[:16]) + ".json"
}

func (s *source) keep(a *App, f jwks.Fetch) error {
	if a.storage == nil {
		return nil
	}
	data, err := json.Marshal(kept{Issuer: s.issuer, URL: s.url, Fetched: f.At.UTC(), Keys: jwks.Marshal(f.Set.Keys())})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, storageTimeout)
	defer cancel()
	return a.storage.Store(ctx, s.path(), data)
}

// restore reads what keep wrote. That there is nothing is no error.
func (s *source) restore(a *App) error {
	if a.storage == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(a.ctx, storageTimeout)
	defer cancel()
	data, err := a.storage.Load(ctx, s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var k kept
	if err := json.Unmarshal(data, &k, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("%s: %w", s.path(), err)
	}
	if k.Issuer != s.issuer || k.URL != s.url {
		return fmt.Errorf("%s: it is of issuer %q at %q", s.path(), k.Issuer, k.URL)
	}
	set, err := jwks.Parse(k.Keys)
	if err != nil {
		return fmt.Errorf("%s: %w", s.path(), err)
	}
	if s.keys.Restore(set, k.Fetched) {
		keyLoads.WithLabelValues(s.issuer, "restored").Inc()
		s.gauge(set, k.Fetched)
		a.logger.Info("a kept key set answers until the issuer does", s.fields(zap.Time("fetched", k.Fetched))...)
	}
	return nil
}
