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
	DefaultTimeout  = 1500 * time.Millisecond
	DefaultMaxStale = 24 * time.Hour
)

// ErrUnavailable says that no key set could be had yet, or only one that is
// too old: the token may be good, and the caller should answer 503, not 401.
var ErrUnavailable = errors.New("key set is unavailable")

// Remote keeps the key set of one URL.
//
//	         Find, first use            fetched
//	empty ───────────────────▶ waiting ────────▶ fresh ──┐ older than Refresh:
//	                              ▲                 ▲     │ one fetch beside, the
//	  unknown kid, cooldown over: │                 └─────┤ old set answers
//	  one fetch, all wait for it  └───────────────────────┤
//	                                                      ▼ fetch failed
//	                              older than MaxStale ◀── stale (answers still)
//	                              ⇒ ErrUnavailable
//
// There is one fetch at a time, and after an answer, good or bad, none for an
// unknown id until Cooldown is over: a stream of invented ids costs one request
// in that time. Only https, or a loopback address, is fetched, with no redirect.
type Remote struct {
	// URL of the set.
	URL string
	// Refresh is the age at which the set is fetched again. Default: 10 minutes.
	Refresh time.Duration
	// Cooldown is the least time between two fetches for unknown ids. Default: 30 s.
	Cooldown time.Duration
	// Timeout bounds a fetch, and so what a request may wait. Default: 1.5 s.
	Timeout time.Duration
	// MaxStale is how long a set answers while it cannot be fetched. Default: 24 h.
	MaxStale time.Duration
	// Client fetches. Default: one with no redirects and no proxy.
	Client *http.Client
	// OnFetch hears of each fetch, err nil for a good one. It must not block.
	// Default: nobody hears.
	OnFetch func(err error)

	mu      sync.Mutex
	set     *Set
	fetched time.Time     // when set was fetched
	asked   time.Time     // when the last fetch ended
	flight  chan struct{} // closed when the fetch in flight ends; nil: none
	err     error         // of the last fetch
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
	now := time.Now()
	age := now.Sub(r.fetched)
	key, found = r.set.Find(id)
	usable := r.set != nil && age < or(r.MaxStale, DefaultMaxStale)
	cooling := !r.asked.IsZero() && now.Sub(r.asked) < or(r.Cooldown, DefaultCooldown)
	if found && usable {
		if age > or(r.Refresh, DefaultRefresh) && !cooling {
			r.start()
		}
		r.mu.Unlock()
		return key, true, nil
	}
	if cooling && r.flight == nil {
		err := r.unavailable(usable)
		r.mu.Unlock()
		return Key{}, false, err
	}
	flight := r.start()
	r.mu.Unlock()

	select {
	case <-flight:
	case <-ctx.Done():
		return Key{}, false, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	usable = r.set != nil && time.Since(r.fetched) < or(r.MaxStale, DefaultMaxStale)
	if key, found = r.set.Find(id); found && usable {
		return key, true, nil
	}
	return Key{}, false, r.unavailable(usable && r.err == nil)
}

// unavailable is nil when the set at hand can say that a key does not exist.
func (r *Remote) unavailable(usable bool) error {
	if usable {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, r.URL, r.err)
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
	ctx, cancel := context.WithTimeout(context.Background(), or(r.Timeout, DefaultTimeout))
	defer cancel()
	set, err := r.get(ctx)

	r.mu.Lock()
	now := time.Now()
	r.err, r.asked, r.flight = err, now, nil
	if err == nil {
		// Up to a tenth younger, so that a fleet of POPs does not ask as one.
		jitter := rand.N(or(r.Refresh, DefaultRefresh)/10 + 1)
		r.set, r.fetched = set, now.Add(-jitter)
	}
	r.mu.Unlock()
	close(done)
	if r.OnFetch != nil {
		r.OnFetch(err)
	}
}

func (r *Remote) get(ctx context.Context) (*Set, error) {
	if err := CheckURL(r.URL); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	client := r.Client
	if client == nil {
		client = defaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
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

var defaultClient = &http.Client{
	Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: time.Second},
	CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	},
}

// or is value, or fallback when value is zero.
func or(value, fallback time.Duration) time.Duration {
	if value == 0 {
		return fallback
	}
	return value
}
