package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Defaults of [Remote].
const (
	DefaultRefresh  = 10 * time.Minute
	DefaultCooldown = 30 * time.Second
	DefaultRetry    = time.Second
	DefaultTimeout  = 1500 * time.Millisecond
	DefaultMaxStale = 24 * time.Hour
)

// ErrUnavailable says that no key set could be had yet, or only one that is
// too old: the token may be good, and the caller should answer 503, not 401.
var ErrUnavailable = errors.New("key set is unavailable")

// Remote keeps the key set of one URL.
//
//	        first Find              fetched
//	empty ─────────────▶ waiting ─────────────▶ fresh ◀────────────┐
//	  ▲                   │   ▲                   │ older than      │
//	  │     fetch failed  │   │ unknown id,       │ Refresh: one    │ fetched
//	  └───────────────────┘   │ pause over: one   │ fetch beside,   │
//	  ErrUnavailable until    │ fetch, all wait   │ the set answers │
//	  the pause is over       └───────────────────┤                 │
//	                                              ▼ fetch failed    │
//	             ErrUnavailable ◀─────────────── stale ─────────────┘
//	                older than MaxStale          known ids are found,
//	                                             unknown: ErrUnavailable
//
// There is one fetch at a time, and a pause after each: Cooldown after a good
// one, so that a stream of invented ids costs one request in that time; after
// a bad one Retry, doubled with each further failure up to Cooldown, so that an
// issuer that starts late is soon found and one that is down is left in peace.
// Only https, or a loopback address, is fetched, and no redirect is followed.
//
// A rotation is seen at once when a token names the new key and no pause is
// on, and after Cooldown at the latest. An issuer that publishes a key for
// longer than Refresh before it signs with it is never late.
//
// The zero value needs a URL. A Remote must not be copied once it is used. There
// is nothing to close: a fetch ends by itself within Timeout.
type Remote struct {
	// URL of the set.
	URL string
	// Refresh is the age at which the set is fetched again, less a tenth at
	// random so that a fleet does not ask as one. Default: 10 minutes.
	Refresh time.Duration
	// Cooldown is the pause after a good fetch. Default: 30 s.
	Cooldown time.Duration
	// Retry is the pause after a first failed fetch. Default: 1 s.
	Retry time.Duration
	// Timeout bounds a fetch, and so what a request may wait. Default: 1.5 s.
	Timeout time.Duration
	// MaxStale is how long a set answers while it cannot be fetched. Default: 24 h.
	MaxStale time.Duration
	// Client fetches; redirects are not followed, whatever it says. Default: one
	// without a proxy, and so with a Client that has no Transport.
	Client *http.Client
	// OnFetch hears of each fetch, err nil for a good one, before anyone who
	// waits for it goes on. It must not block. Default: nobody hears.
	OnFetch func(err error)
	// Now is the clock. Default: time.Now.
	Now func() time.Time

	mu       sync.Mutex
	set      *Set
	fetched  time.Time     // when set was fetched
	due      time.Time     // when set is to be fetched again
	pause    time.Time     // when the pause after the last fetch is over
	failures int           // since the last good fetch
	err      error         // of the last fetch
	flight   chan struct{} // closed when the fetch in flight ends; nil: none
}

// CheckURL refuses an address that keys must not be fetched from.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if u.User != nil || u.Fragment != "" || u.Host == "" {
		return fmt.Errorf("%q: a key set's URL has a host, and neither user nor fragment", address)
	}
	if u.Scheme == "https" {
		return nil
	}
	if u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%q: keys are fetched over https, or over http from a loopback address", address)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Find gives the key with that id. It fetches when it has to, and waits no
// longer than Timeout. found is false when the issuer has no such key; the
// error is [ErrUnavailable] when that cannot be known.
func (r *Remote) Find(ctx context.Context, id string) (key Key, found bool, err error) {
	r.mu.Lock()
	now := r.now()
	if key, found = r.look(id, now); found {
		if !now.Before(r.due) && !now.Before(r.pause) {
			r.start()
		}
		r.mu.Unlock()
		return key, true, nil
	}
	if r.flight == nil && now.Before(r.pause) {
		err := r.unavailable(now)
		r.mu.Unlock()
		return Key{}, false, err
	}
	flight := r.start()
	r.mu.Unlock()

	select {
	case <-flight:
	case <-ctx.Done():
		return Key{}, false, fmt.Errorf("%w: %s: %w", ErrUnavailable, r.URL, ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now = r.now()
	if key, found = r.look(id, now); found {
		return key, true, nil
	}
	return Key{}, false, r.unavailable(now)
}

// look finds a key in the set at hand. The caller holds mu.
func (r *Remote) look(id string, now time.Time) (Key, bool) {
	if !r.usable(now) {
		return Key{}, false
	}
	return r.set.Find(id)
}

func (r *Remote) usable(now time.Time) bool {
	return r.set != nil && now.Sub(r.fetched) < or(r.MaxStale, DefaultMaxStale)
}

// unavailable is nil when the set at hand can say that a key does not exist:
// while the issuer is down, an unknown key may be its newest. The caller holds mu.
func (r *Remote) unavailable(now time.Time) error {
	switch {
	case r.err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, r.err)
	case !r.usable(now):
		return fmt.Errorf("%w: %s: the set is too old", ErrUnavailable, r.URL)
	}
	return nil
}

// start begins a fetch unless one is in flight, and gives what is closed when
// it ends. The caller holds mu.
func (r *Remote) start() <-chan struct{} {
	if r.flight == nil {
		r.flight = make(chan struct{})
		go r.fetch(r.flight)
	}
	return r.flight
}

// fetch belongs to no request: one that gives up must not fail the others.
func (r *Remote) fetch(done chan struct{}) {
	defer close(done)
	ctx, cancel := context.WithTimeout(context.Background(), or(r.Timeout, DefaultTimeout))
	defer cancel()
	set, err := r.get(ctx)
	r.keep(set, err)
	if r.OnFetch != nil {
		r.OnFetch(err)
	}
}

// keep notes how a fetch ended and when the next may begin.
func (r *Remote) keep(set *Set, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	cooldown := or(r.Cooldown, DefaultCooldown)
	r.err, r.flight = err, nil
	if err != nil {
		backoff := or(r.Retry, DefaultRetry) << min(r.failures, 10)
		r.failures++
		r.pause = now.Add(min(backoff, cooldown))
		return
	}
	refresh := or(r.Refresh, DefaultRefresh)
	r.set, r.fetched, r.failures = set, now, 0
	r.due = now.Add(refresh - rand.N(refresh/10+1))
	r.pause = now.Add(cooldown)
}

func (r *Remote) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

func (r *Remote) get(ctx context.Context) (*Set, error) {
	if err := CheckURL(r.URL); err != nil {
		return nil, fmt.Errorf("load key set: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("load key set: %w", err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := r.client().Do(req)
	if err != nil {
		return nil, fmt.Errorf("load key set: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("load %s: status %d", r.URL, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", r.URL, err)
	}
	set, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", r.URL, err)
	}
	return set, nil
}

// client follows no redirect: whoever can write one at the issuer, or in
// between, would choose the keys.
func (r *Remote) client() *http.Client {
	var client http.Client
	if r.Client != nil {
		client = *r.Client
	}
	if client.Transport == nil {
		client.Transport = defaultTransport
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

var defaultTransport = &http.Transport{
	MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: time.Second,
	MaxResponseHeaderBytes: 64 << 10,
}

// or is value, or fallback when value is zero.
func or(value, fallback time.Duration) time.Duration {
	if value == 0 {
		return fallback
	}
	return value
}
