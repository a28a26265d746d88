package jwks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// issuer is an issuer in memory, so that a test can run in a bubble of its own
// time (testing/synctest): no sleep is real and every count is exact.
type issuer struct {
	mu    sync.Mutex
	body  string // what is answered
	err   error  // unless nil
	hang  bool   // until the request gives up
	slow  time.Duration
	asked []time.Time
}

func (i *issuer) set(change func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(i)
}

func (i *issuer) fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.asked)
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.asked = append(i.asked, time.Now())
	body, err, hang, slow := i.body, i.err, i.hang, i.slow
	i.mu.Unlock()
	time.Sleep(slow)
	if hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func keys(ids ...string) string {
	var all []string
	for _, id := range ids {
		all = append(all, edJWK(id))
	}
	return `{"keys":[` + strings.Join(all, ",") + `]}`
}

// remote runs test with a Remote of an issuer that publishes keys a and b.
func remote(t *testing.T, test func(t *testing.T, i *issuer, r *jwks.Remote)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{body: keys("a", "b")}
		test(t, i, &jwks.Remote{URL: "https://issuer.example/jwks.json", Client: &http.Client{Transport: i}})
	})
}

// expect asks for a key. want is "found", "absent" or "unavailable".
func expect(t *testing.T, r *jwks.Remote, id, want string) {
	t.Helper()
	key, found, err := r.Find(context.Background(), id)
	got := "absent"
	switch {
	case found && err == nil && key.ID == id:
		got = "found"
	case errors.Is(err, jwks.ErrUnavailable) && !found:
		got = "unavailable"
	case err != nil || found:
		got = fmt.Sprintf("%+v %t %v", key, found, err)
	}
	if got != want {
		t.Errorf("key %q is %s, want %s (%v)", id, got, want, err)
	}
}

func expectFetches(t *testing.T, i *issuer, want int) {
	t.Helper()
	synctest.Wait()
	if got := i.fetches(); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}

func TestRemote_aHundredAtOnceAreOneFetch(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		i.set(func(i *issuer) { i.hang = true }) // until all of them wait
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var done sync.WaitGroup
		var unavailable atomic.Int32
		for n := range 100 {
			done.Go(func() {
				if _, _, err := r.Find(ctx, fmt.Sprint("id", n)); errors.Is(err, jwks.ErrUnavailable) {
					unavailable.Add(1)
				}
			})
		}
		expectFetches(t, i, 1)
		done.Wait()
		if unavailable.Load() != 100 {
			t.Errorf("%d of 100 were told that the keys are unavailable", unavailable.Load())
		}
		expectFetches(t, i, 1)

		i.set(func(i *issuer) { i.hang = false })
		time.Sleep(jwks.DefaultRetry)
		for range 100 {
			done.Go(func() { expect(t, r, "a", "found") })
		}
		done.Wait()
		expectFetches(t, i, 2)
	})
}

// TestRemote_aHungIssuerCostsTheTimeoutOnce: whoever asks while the fetch hangs
// waits for the rest of it; whoever asks in the pause after it does not wait.
func TestRemote_aHungIssuerCostsTheTimeoutOnce(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		i.set(func(i *issuer) { i.hang = true })
		began := time.Now()
		expect(t, r, "a", "unavailable")
		if took := time.Since(began); took != jwks.DefaultTimeout {
			t.Errorf("the first waited %s", took)
		}
		began = time.Now()
		expect(t, r, "a", "unavailable")
		if took := time.Since(began); took != 0 {
			t.Errorf("the second waited %s", took)
		}
		expectFetches(t, i, 1)
	})
}

// TestRemote_aCallerThatGivesUpFailsNobodyElse: the fetch is no caller's.
func TestRemote_aCallerThatGivesUpFailsNobodyElse(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, _, err := r.Find(ctx, "a"); err != nil && !errors.Is(err, jwks.ErrUnavailable) {
			t.Error(err)
		}
		expect(t, r, "a", "found")
		expectFetches(t, i, 1)
	})
}

// flood asks for 10,000 invented ids a second, for that long.
func flood(t *testing.T, r *jwks.Remote, d time.Duration) {
	t.Helper()
	for n := range d / time.Millisecond {
		for m := range 10 {
			if _, found, err := r.Find(context.Background(), fmt.Sprint("bogus", n, ".", m)); found || err != nil {
				t.Fatal(found, err)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

func TestRemote_inventedIDsCostOneFetchInACooldown(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		expect(t, r, "a", "found")
		flood(t, r, 2*jwks.DefaultCooldown)
		expectFetches(t, i, 2) // at 0 and 30 s
		expect(t, r, "a", "found")

		// A rotation amid the flood is found with the next fetch.
		i.set(func(i *issuer) { i.body = keys("a", "c") })
		flood(t, r, time.Millisecond)
		expect(t, r, "c", "found")
		expectFetches(t, i, 3)

		// One that comes right after a fetch waits for the next, 30 s at most.
		i.set(func(i *issuer) { i.body = keys("c", "d") })
		expect(t, r, "d", "absent")
		flood(t, r, jwks.DefaultCooldown)
		expect(t, r, "d", "found")
		expect(t, r, "a", "absent")
		expectFetches(t, i, 4)
	})
}

// TestRemote_aRotationIsSeenByItsFirstToken when no fetch was spent of late, and
// in less than 2 s even where the issuer takes as long as it may.
func TestRemote_aRotationIsSeenByItsFirstToken(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		expect(t, r, "a", "found")
		time.Sleep(jwks.DefaultCooldown)
		i.set(func(i *issuer) { i.body, i.slow = keys("b", "c"), jwks.DefaultTimeout-time.Millisecond })
		began := time.Now()
		expect(t, r, "c", "found")
		if took := time.Since(began); took >= 2*time.Second {
			t.Errorf("after %s", took)
		}
		expect(t, r, "a", "absent")
		expectFetches(t, i, 2)
	})
}

// TestRemote_aKeyPublishedARefreshAheadIsNeverWaitedFor, under a flood or not.
func TestRemote_aKeyPublishedARefreshAheadIsNeverWaitedFor(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		expect(t, r, "a", "found")
		i.set(func(i *issuer) { i.body, i.slow = keys("a", "c"), time.Second })
		for range jwks.DefaultRefresh/time.Second + 1 { // ordinary traffic
			expect(t, r, "a", "found")
			time.Sleep(time.Second)
		}
		began := time.Now()
		expect(t, r, "c", "found")
		if took := time.Since(began); took != 0 {
			t.Errorf("the first token of the new key waited %s", took)
		}
	})
}

// TestRemote_aSetIsFetchedAgainBesideTheRequests: the request that finds the
// set old is answered from it, without waiting.
func TestRemote_aSetIsFetchedAgainBesideTheRequests(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		expect(t, r, "a", "found")
		time.Sleep(jwks.DefaultRefresh*9/10 - 1)
		expect(t, r, "a", "found")
		expectFetches(t, i, 1)

		time.Sleep(jwks.DefaultRefresh/10 + 1)
		i.set(func(i *issuer) { i.hang = true })
		began := time.Now()
		for range 10 {
			expect(t, r, "a", "found")
		}
		if time.Since(began) != 0 {
			t.Error("a request waited for the refresh")
		}
		expectFetches(t, i, 2)

		i.set(func(i *issuer) { i.hang, i.body = false, keys("b") })
		time.Sleep(jwks.DefaultTimeout + jwks.DefaultRetry)
		expect(t, r, "a", "found") // starts the next refresh, which drops key a
		synctest.Wait()
		expect(t, r, "a", "absent")
		expectFetches(t, i, 3)
	})
}

// TestRemote_aSetAnswersWhileItsIssuerIsDown for MaxStale, and while it is
// down nobody can say that an unknown key does not exist.
func TestRemote_aSetAnswersWhileItsIssuerIsDown(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		expect(t, r, "a", "found")
		i.set(func(i *issuer) { i.err = errors.New("connection refused") })
		for range 24*60 - 1 {
			time.Sleep(time.Minute)
			expect(t, r, "a", "found")
		}
		expect(t, r, "bogus", "unavailable")
		time.Sleep(time.Minute)
		expect(t, r, "a", "unavailable")
		i.set(func(i *issuer) { i.err = nil })
		time.Sleep(jwks.DefaultCooldown)
		expect(t, r, "a", "found")
		expect(t, r, "bogus", "absent")
	})
}

// TestRemote_pausesGrowWhileTheIssuerFails: asked ten times a second, a
// failing issuer hears of it after 1, 2, 4, 8, 16 and then every 30 s.
func TestRemote_pausesGrowWhileTheIssuerFails(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		i.set(func(i *issuer) { i.err = errors.New("connection refused") })
		for range 1200 {
			expect(t, r, "a", "unavailable")
			time.Sleep(100 * time.Millisecond)
		}
		var pauses []time.Duration
		for n, at := range i.asked[1:] {
			pauses = append(pauses, at.Sub(i.asked[n]))
		}
		if got, want := fmt.Sprint(pauses), "[1s 2s 4s 8s 16s 30s 30s]"; got != want {
			t.Errorf("pauses %s, want %s", got, want)
		}

		// An issuer that comes back is found after one pause, and the next
		// failure begins with a short one again.
		i.set(func(i *issuer) { i.err = nil })
		time.Sleep(jwks.DefaultCooldown)
		expect(t, r, "a", "found")
		i.set(func(i *issuer) { i.err = errors.New("connection refused"); i.asked = nil })
		time.Sleep(jwks.DefaultCooldown)
		expect(t, r, "bogus", "unavailable")
		time.Sleep(jwks.DefaultRetry)
		expect(t, r, "bogus", "unavailable")
		expectFetches(t, i, 2)
	})
}

// TestRemote_aBrokenSetDoesNotReplaceAGoodOne: an issuer that answers rubbish,
// or no usable key, is an issuer that is down.
func TestRemote_aBrokenSetDoesNotReplaceAGoodOne(t *testing.T) {
	for _, body := range []string{"", "<html>", `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`} {
		t.Run(body, func(t *testing.T) {
			remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
				expect(t, r, "a", "found")
				i.set(func(i *issuer) { i.body = body })
				time.Sleep(2 * jwks.DefaultRefresh)
				expect(t, r, "a", "found")
				synctest.Wait()
				expect(t, r, "a", "found")
				expect(t, r, "bogus", "unavailable")
				expectFetches(t, i, 2)
			})
		})
	}
}

// TestRemote_onFetchHearsWhatAnswersFromNowOn, and keeps nobody waiting.
func TestRemote_onFetchHearsWhatAnswersFromNowOn(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		var heard []jwks.Fetch
		r.OnFetch = func(f jwks.Fetch) {
			time.Sleep(time.Second)
			heard = append(heard, f)
		}
		began := time.Now()
		ask := func(id, want string) {
			expect(t, r, id, want)
			if time.Since(began) != 0 {
				t.Errorf("whoever asked for %q waited for who heard", id)
			}
			time.Sleep(jwks.DefaultMaxStale) // beyond every pause, and too old at the second time
			synctest.Wait()
			began = time.Now()
		}
		i.set(func(i *issuer) { i.err = errors.New("connection refused") })
		ask("a", "unavailable")
		i.set(func(i *issuer) { i.err = nil })
		ask("a", "found")
		i.set(func(i *issuer) { i.err = errors.New("connection refused") })
		ask("a", "unavailable")
		if len(heard) != 3 {
			t.Fatalf("heard %d fetches", len(heard))
		}
		if f := heard[0]; f.Err == nil || f.Set != nil || f.Before != nil || !f.At.IsZero() {
			t.Errorf("a first failure: %+v", f)
		}
		if f := heard[1]; f.Err != nil || f.Set.Len() != 2 || f.Before != nil || f.At.IsZero() {
			t.Errorf("a first set: %+v", f)
		}
		if f := heard[2]; f.Err == nil || f.Set != nil || f.Before != heard[1].Set {
			t.Errorf("a failure with a set that is too old: %+v", f)
		}
	})
}

// TestRemote_aSetOfAnEarlierProcessAnswersAtOnce: a cold start while the issuer
// is down.
func TestRemote_aSetOfAnEarlierProcessAnswersAtOnce(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		kept, err := jwks.Parse([]byte(keys("a", "old")))
		if err != nil {
			t.Fatal(err)
		}
		if r.Restore(kept, time.Now().Add(-jwks.DefaultMaxStale)) {
			t.Error("a set that is too old was taken")
		}
		if !r.Restore(kept, time.Now().Add(-time.Hour)) || r.Restore(kept, time.Now()) {
			t.Error("the set was not taken, or taken twice")
		}
		i.set(func(i *issuer) { i.hang = true })
		began := time.Now()
		expect(t, r, "old", "found")
		if time.Since(began) != 0 {
			t.Error("it waited for the fetch")
		}
		expect(t, r, "new", "unavailable")
		expectFetches(t, i, 1)
		for range 22 {
			time.Sleep(time.Hour)
			expect(t, r, "old", "found")
		}
		time.Sleep(time.Hour) // 24 since it was fetched
		expect(t, r, "old", "unavailable")
		i.set(func(i *issuer) { i.hang = false })
		time.Sleep(jwks.DefaultCooldown)
		expect(t, r, "b", "found")
		expect(t, r, "old", "absent")
	})
}

func TestRemote_aSetOfTheFutureAnswersNoLonger(t *testing.T) {
	remote(t, func(t *testing.T, i *issuer, r *jwks.Remote) {
		kept, err := jwks.Parse([]byte(keys("a")))
		if err != nil || !r.Restore(kept, time.Now().Add(1000*time.Hour)) {
			t.Fatal("the set was not taken", err)
		}
		i.set(func(i *issuer) { i.err = errors.New("connection refused") })
		expect(t, r, "a", "found")
		time.Sleep(jwks.DefaultMaxStale)
		expect(t, r, "a", "unavailable")
	})
}

// provider is an issuer that says where its keys are.
type provider struct {
	*issuer
	found string // the document; the issuer's is behind every other path
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(p.found)), Request: r}, nil
	}
	return p.issuer.RoundTrip(r)
}

func TestRemote_discoversWhereTheKeysAre(t *testing.T) {
	t.Parallel()
	const name = "https://issuer.example/tenant"
	for _, row := range []struct{ name, issuer, document, why string }{
		{"good", name, `{"issuer":"` + name + `","jwks_uri":"https://keys.example/a","scopes_supported":["openid"]}`, ""},
		{"slash at the end", name + "/", `{"issuer":"` + name + `/","jwks_uri":"https://keys.example/a"}`, ""},
		{"loopback", "http://127.0.0.1:1/x", `{"issuer":"http://127.0.0.1:1/x","jwks_uri":"http://127.0.0.1:2/a"}`, ""},
		{"another's", name, `{"issuer":"https://issuer.example/other","jwks_uri":"https://keys.example/a"}`, "it is of issuer"},
		{"with a slash more", name, `{"issuer":"` + name + `/","jwks_uri":"https://keys.example/a"}`, "it is of issuer"},
		{"nobody's", name, `{"jwks_uri":"https://keys.example/a"}`, "it is of issuer"},
		{"issuer twice", name, `{"issuer":"https://evil.example","issuer":"` + name + `","jwks_uri":"https://keys.example/a"}`, "duplicate"},
		{"no keys", name, `{"issuer":"` + name + `"}`, "jwks_uri"},
		{"keys in the clear", name, `{"issuer":"` + name + `","jwks_uri":"http://keys.example/a"}`, "jwks_uri"},
		{"keys on our machine", name, `{"issuer":"` + name + `","jwks_uri":"http://127.0.0.1:2019/config"}`, "is not https"},
		{"keys in a file", name, `{"issuer":"` + name + `","jwks_uri":"file:///etc/passwd"}`, "jwks_uri"},
		{"no JSON", name, `<html>`, "not JSON"},
		{"endless", name, `{"issuer":"` + name + `"` + strings.Repeat(" ", jwks.MaxBytes), "at most 262144 bytes are read"},
		{"no URL", "gatehouse:eu", ``, "gatehouse:eu"},
		{"with a query", name + "?x=1", ``, "no query"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := &provider{issuer: &issuer{body: keys("a")}, found: row.document}
			r := &jwks.Remote{Issuer: row.issuer, Client: &http.Client{Transport: p}}
			_, found, err := r.Find(context.Background(), "a")
			if row.why == "" {
				if !found || err != nil || p.fetches() != 1 {
					t.Errorf("%t %v, %d fetches", found, err, p.fetches())
				}
			} else if found || !errors.Is(err, jwks.ErrUnavailable) || !strings.Contains(err.Error(), row.why) || p.fetches() != 0 {
				t.Errorf("%t %v, %d fetches, want %q", found, err, p.fetches(), row.why)
			}
		})
	}
}

func TestRemote_clockCanBeGiven(t *testing.T) {
	t.Parallel()
	i := &issuer{body: keys("a")}
	at := time.Unix(1_800_000_000, 0)
	r := &jwks.Remote{URL: "https://issuer.example/", Client: &http.Client{Transport: i}, Now: func() time.Time { return at }}
	expect(t, r, "a", "found")
	expect(t, r, "b", "absent")
	at = at.Add(jwks.DefaultCooldown)
	i.set(func(i *issuer) { i.body = keys("a", "b") })
	expect(t, r, "b", "found")
	if i.fetches() != 2 {
		t.Errorf("%d fetches", i.fetches())
	}
}

// TestRemote_overHTTP meets a real server with what one can do wrong.
func TestRemote_overHTTP(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = io.WriteString(w, keys("a"))
	}))
	t.Cleanup(other.Close)
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		why    string // empty: found
	}{
		{"good", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keys("a")) }, ""},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, "status 302"},
		{"permanent redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusPermanentRedirect)
		}, "status 308"},
		{"not found", http.NotFound, "status 404"},
		{"fault with keys", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, keys("a"))
		}, "status 500"},
		{"over the limit", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, keys("a"))
			_, _ = w.Write(bytes.Repeat([]byte(" "), jwks.MaxBytes))
		}, "at most 262144 bytes are read"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
					return
				}
			}
		}, "at most 262144 bytes are read"},
		{"endless header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
			_, _ = io.WriteString(w, keys("a"))
		}, "header"},
		{"broken off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, keys("a"))
		}, "unexpected EOF"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(row.answer)
			t.Cleanup(server.Close)
			for name, client := range map[string]*http.Client{"own client": nil, "given client": {}} {
				r := &jwks.Remote{URL: server.URL + "/jwks.json", Client: client}
				_, found, err := r.Find(context.Background(), "a")
				if row.why == "" {
					if !found || err != nil {
						t.Errorf("%s: %t %v", name, found, err)
					}
				} else if found || !errors.Is(err, jwks.ErrUnavailable) || !strings.Contains(err.Error(), row.why) {
					t.Errorf("%s: %t %v, want %q", name, found, err, row.why)
				}
			}
		})
	}
	t.Cleanup(func() {
		if elsewhere.Load() != 0 {
			t.Errorf("a redirect was followed %d times", elsewhere.Load())
		}
	})
}

func TestRemote_aHungServerIsBoundedByTimeout(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	r := &jwks.Remote{URL: server.URL, Timeout: 20 * time.Millisecond}
	if _, found, err := r.Find(context.Background(), "a"); found || !errors.Is(err, jwks.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(found, err)
	}
}

func TestRemote_refusesAnAddressItMustNotAsk(t *testing.T) {
	t.Parallel()
	i := &issuer{body: keys("a")}
	r := &jwks.Remote{URL: "http://issuer.example/jwks.json", Client: &http.Client{Transport: i}}
	if _, found, err := r.Find(context.Background(), "a"); found || !errors.Is(err, jwks.ErrUnavailable) || i.fetches() != 0 {
		t.Error(found, err, i.fetches())
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"https://issuer.example/jwks.json":     true,
		"https://10.0.0.1/jwks.json":           true,
		"http://127.0.0.1:9101/jwks.json":      true,
		"http://[::1]:9101/jwks.json":          true,
		"http://localhost:9101/jwks.json":      true,
		"http://127.8.9.10/":                   true,
		"http://issuer.example/jwks.json":      false,
		"http://10.0.0.1/":                     false,
		"http://127.0.0.1.example/":            false,
		"http://127.0.0.1@issuer.example/":     false,
		"http://localhost.example/":            false,
		"http://2130706433/":                   false,
		"http://0x7f.1/":                       false,
		"http://[::ffff:10.0.0.1]/":            false,
		"http://0.0.0.0/":                      false,
		"https://user:secret@issuer.example/":  false,
		"https://issuer.example/#keys":         false,
		"https:///jwks.json":                   false,
		"https:issuer.example":                 false,
		"file:///etc/passwd":                   false,
		"ftp://127.0.0.1/":                     false,
		"data:application/json,{}":             false,
		"//issuer.example/jwks.json":           false,
		"issuer.example/jwks.json":             false,
		"":                                     false,
		"https://issuer.example/\x00":          false,
		"HTTPS://issuer.example/":              true,
		"http://localhost:9101@evil.example/":  false,
		"https://issuer.example/jwks.json?v=2": true,
	} {
		if err := jwks.CheckURL(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}
