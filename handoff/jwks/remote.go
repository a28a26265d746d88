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
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
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

// Remote keeps the key set of one URL, or of one issuer that says in its OpenID
// Connect configuration where that is.
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
// A process that starts while the issuer is down is stale from its first Find
// if it was given the set of an earlier one: see [Remote.Restore].
//
// The zero value needs a URL or an Issuer. A Remote must not be copied once it is used. There
// is nothing to close: a fetch ends by itself within Timeout.
type Remote struct {
	// URL of the set. Empty: Issuer says where it is.
	URL string
	// Issuer is asked, before each fetch and within its Timeout, where its key set
	// is: it is the exact iss of its tokens and the URL that [DiscoveryURL] begins
	// with. What it answers must name the same issuer, and a key set that may be
	// fetched from. Not used with a URL.
	Issuer string
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
	// OnFetch hears of each fetch once those who waited for it have gone on, and
	// so may take its time. One that takes longer than the pause after a fetch
	// hears of the next meanwhile. Default: nobody hears.
	OnFetch func(Fetch)
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

// Fetch is how a fetch ended.
type Fetch struct {
	// Err is nil for a good one.
	Err error
	// Set is what answers from now on: the one fetched or, after a bad fetch, the
	// one before. Nil: there is none, or it is too old to answer.
	Set *Set
	// At is when Set was fetched.
	At time.Time
	// Before is what answered until now. Nil: nothing did.
	Before *Set
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
		return Key{}, false, fmt.Errorf("%w: %s: %w", ErrUnavailable, r.source(), ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now = r.now()
	if key, found = r.look(id, now); found {
		return key, true, nil
	}
	return Key{}, false, r.unavailable(now)
}

// Peek is [Remote.Find] without a fetch: what the set at hand has to say. Where
// there is none yet the error is [ErrUnavailable].
func (r *Remote) Peek(id string) (key Key, found bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if key, found = r.look(id, now); found {
		return key, true, nil
	}
	return Key{}, false, r.unavailable(now)
}

// State is what a [Remote] holds, for people.
type State struct {
	// Set is what was fetched or restored last. Nil: nothing yet.
	Set *Set
	// Usable reports whether it answers: it does until it is too old.
	Usable bool
	// Fetched is when it was fetched.
	Fetched time.Time
	// Err is how the last fetch failed. Nil: it was good, or there was none.
	Err error
}

// State gives the set at hand and how the last fetch ended. It fetches nothing.
func (r *Remote) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return State{Set: r.set, Usable: r.usable(r.now()), Fetched: r.fetched, Err: r.err}
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
	case r.set == nil:
		return fmt.Errorf("%w: %s: nothing was fetched yet", ErrUnavailable, r.source())
	case !r.usable(now):
		return fmt.Errorf("%w: %s: the set is too old", ErrUnavailable, r.source())
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
	ctx, cancel := context.WithTimeout(context.Background(), or(r.Timeout, DefaultTimeout))
	defer cancel()
	set, err := r.get(ctx)
	ended := r.keep(set, err)
	close(done)
	if r.OnFetch != nil {
		r.OnFetch(ended)
	}
}

// keep notes how a fetch ended and when the next may begin.
func (r *Remote) keep(set *Set, err error) Fetch {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	ended := Fetch{Err: err, Before: r.set}
	cooldown := or(r.Cooldown, DefaultCooldown)
	r.err, r.flight = err, nil
	if err != nil {
		backoff := or(r.Retry, DefaultRetry) << min(r.failures, 10)
		r.failures++
		r.pause = now.Add(min(backoff, cooldown))
	} else {
		refresh := or(r.Refresh, DefaultRefresh)
		r.set, r.fetched, r.failures = set, now, 0
		r.due = now.Add(refresh - rand.N(refresh/10+1))
		r.pause = now.Add(cooldown)
	}
	if r.usable(now) {
		ended.Set, ended.At = r.set, r.fetched
	}
	return ended
}

// Restore gives the set that an earlier process had fetched at that time. It
// answers until it is older than MaxStale, and the first Find begins to fetch
// another. Restore reports whether it took the set: not when it is too old, nor
// when one was fetched meanwhile.
func (r *Remote) Restore(set *Set, fetched time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if fetched.After(now) { // a clock was put back: it must not answer for longer
		fetched = now
	}
	if r.set != nil || set == nil || now.Sub(fetched) >= or(r.MaxStale, DefaultMaxStale) {
		return false
	}
	r.set, r.fetched = set, fetched
	return true
}

// source names the set in errors.
func (r *Remote) source() string {
	if r.URL == "" {
		return "issuer " + r.Issuer
	}
	return r.URL
}

func (r *Remote) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// DiscoveryURL is where an issuer says where its keys are (OpenID Connect
// Discovery 1.0, section 4). It fails for one that is no URL to ask.
func DiscoveryURL(issuer string) (string, error) {
	if err := CheckURL(issuer); err != nil {
		return "", err
	}
	if strings.Contains(issuer, "?") {
		return "", fmt.Errorf("%q: an issuer to be asked has no query (OpenID Connect Discovery 1.0, section 2)", issuer)
	}
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration", nil
}

func (r *Remote) get(ctx context.Context) (*Set, error) {
	address := r.URL
	if address == "" {
		var err error
		if address, err = r.discover(ctx); err != nil {
			return nil, err
		}
	}
	data, err := r.load(ctx, address, "application/jwk-set+json, application/json")
	if err != nil {
		return nil, err
	}
	set, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", address, err)
	}
	return set, nil
}

// discover asks the issuer where its key set is. An issuer that answers for
// another is not believed (section 4.3): that is how one tenant of a provider
// would pass for its neighbour. One that is asked over https cannot send us to a
// service on our own machine.
func (r *Remote) discover(ctx context.Context) (string, error) {
	address, err := DiscoveryURL(r.Issuer)
	if err != nil {
		return "", fmt.Errorf("discover keys: %w", err)
	}
	data, err := r.load(ctx, address, "application/json")
	if err != nil {
		return "", err
	}
	var found struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(data, &found); err != nil {
		return "", fmt.Errorf("load %s: not JSON: %w", address, err)
	}
	if found.Issuer != r.Issuer {
		return "", fmt.Errorf("load %s: it is of issuer %.256q", address, found.Issuer)
	}
	if err := CheckURL(found.Keys); err != nil {
		return "", fmt.Errorf("load %s: jwks_uri: %w", address, err)
	}
	if secure(address) && !secure(found.Keys) {
		return "", fmt.Errorf("load %s: jwks_uri %.256q is not https", address, found.Keys)
	}
	return found.Keys, nil
}

func secure(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "https"
}

// load gets a document, within the limits.
func (r *Remote) load(ctx context.Context, address, accept string) ([]byte, error) {
	if err := CheckURL(address); err != nil {
		return nil, fmt.Errorf("load key set: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("load key set: %w", err)
	}
	req.Header.Set("Accept", accept)
	resp, err := r.client().Do(req)
	if err != nil {
		return nil, fmt.Errorf("load key set: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("load %s: status %d", address, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", address, err)
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("load %s: it goes on, at most %d bytes are read", address, MaxBytes)
	}
	return data, nil
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
