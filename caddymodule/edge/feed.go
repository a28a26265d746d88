package edge

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/gatehouse-edge/gatehouse/caddymodule/feed"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

// Defaults of [Feed].
const (
	DefaultMaxStale      = 30 * time.Second
	DefaultMaxStaleReads = 15 * time.Minute
)

// firstFeed is how long the start waits for the first state, so that sessions are
// not refused at a start when the broker is there.
const firstFeed = 2 * time.Second

// Feed is how this POP hears what the regions decide.
type Feed struct {
	// URL of the NATS server, or several with commas between: tls://host:4222, or
	// nats:// on loopback. Required.
	URL string `json:"url,omitempty"`

	// Credentials is a file with NATS user credentials or the seed of an NKey, mode
	// 0600. Default: none.
	Credentials string `json:"credentials,omitempty"`

	// CA is a file with the authorities to check the server's certificate with,
	// PEM. Default: the system's.
	CA string `json:"ca,omitempty"`

	// MaxStale is how long after a region's last heartbeat its sessions may still
	// write. Default: 30s.
	MaxStale caddy.Duration `json:"max_stale,omitempty"`

	// MaxStaleReads is how long they may still read. Default: 15m, or MaxStale
	// where that is longer. Negative: without a bound.
	MaxStaleReads caddy.Duration `json:"max_stale_reads,omitempty"`

	follower *feed.Follower
}

func (f *Feed) server() link.Server {
	return link.Server{URL: f.URL, Credentials: f.Credentials, CA: f.CA}
}

// check finds every fault that can be known before it runs, and sets defaults.
func (f *Feed) check() error {
	if f.MaxStale == 0 {
		f.MaxStale = caddy.Duration(DefaultMaxStale)
	}
	if f.MaxStaleReads == 0 {
		f.MaxStaleReads = max(caddy.Duration(DefaultMaxStaleReads), f.MaxStale)
	}
	switch {
	case f.MaxStale < caddy.Duration(5*time.Second):
		return fmt.Errorf("max_stale %s: a heartbeat comes every second, 5s is the least", time.Duration(f.MaxStale))
	case f.MaxStaleReads > 0 && f.MaxStaleReads < f.MaxStale:
		return errors.New("max_stale_reads is less than max_stale: what may be written may be read")
	}
	return f.server().Check()
}

// load begins to follow the feed, or goes on with what the configuration before
// this one follows.
func (f *Feed) load(a *App) (err error) {
	key := fmt.Sprintf("feed %q %q %q %q", a.POP, f.URL, f.Credentials, f.CA)
	f.follower, err = Shared(a, key, func() (*feed.Follower, error) {
		return feed.Follow(feed.Options{
			Server: f.server(), POP: a.POP, Storage: a.ctx.Storage(), Log: a.logger.Named("feed"),
		}), nil
	})
	return err
}

// wait waits a little for the first state.
func (f *Feed) wait() {
	limit := time.NewTimer(firstFeed)
	defer limit.Stop()
	select {
	case <-f.follower.Ready():
	case <-limit.C:
	}
}

// Standing is what the feed says of a session.
type Standing int

const (
	// Stands: nothing is known against it, or there is no feed.
	Stands Standing = iota
	// Revoked: it was ended.
	Revoked
	// Stale: it may have been ended, and this POP would not know.
	Stale
)

// Standing asks the feed about a session that names home as its tenant's region.
// What a session may do is bounded by the last heartbeat of that region, which
// publishes what ends it; where it names none of the regions, by the oldest of
// all.
func (a *App) Standing(s *handfeed.Session, home string, write bool) Standing {
	if a.Feed == nil {
		return Stands
	}
	if a.detached {
		return Stands
	}
	if a.loaded() != nil || !a.Feed.follower.Knows() {
		return Stale
	}
	if a.Feed.follower.Revoked(s) {
		return Revoked
	}
	bound := time.Duration(a.Feed.MaxStaleReads)
	if write {
		bound = time.Duration(a.Feed.MaxStale)
	}
	if bound > 0 && time.Since(a.heard(home)) > bound {
		return Stale
	}
	return Stands
}

func (a *App) heard(home string) time.Time {
	if a.Region(home) != nil {
		return a.Feed.follower.Heard(home)
	}
	var oldest time.Time
	for i, r := range a.Regions {
		if at := a.Feed.follower.Heard(r.Name); i == 0 || at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}

func (a *App) unmarshalFeed(d *caddyfile.Dispenser) error {
	if a.Feed != nil {
		return d.Err("feed stands twice")
	}
	a.Feed = new(Feed)
	if d.NextArg() {
		return d.Errf("feed takes a block and no argument, got %q", d.Val())
	}
	where := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "url":
			err = One(d, &a.Feed.URL)
		case "credentials":
			err = One(d, &a.Feed.Credentials)
		case "ca":
			err = One(d, &a.Feed.CA)
		case "max_stale":
			err = once(d, &a.Feed.MaxStale)
		case "max_stale_reads":
			err = staleReads(d, &a.Feed.MaxStaleReads)
		default:
			err = Unknown(d, "feed", "url", "credentials", "ca", "max_stale", "max_stale_reads")
		}
		if err != nil {
			return err
		}
	}
	if err := a.Feed.check(); err != nil {
		return where.WrapErr(fmt.Errorf("feed: %w", err))
	}
	return nil
}

// staleReads reads a duration, or "unlimited".
func staleReads(d *caddyfile.Dispenser, into *caddy.Duration) error {
	ahead := *d
	if ahead.NextArg() && ahead.Val() == "unlimited" && *into == 0 {
		d.NextArg()
		*into = -1
		if d.NextArg() {
			return d.Errf("max_stale_reads takes one value, got %q too", d.Val())
		}
		return nil
	}
	return once(d, into)
}
