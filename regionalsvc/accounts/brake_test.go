package accounts

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

func TestBrake_boundsWhatFailsByNameAndAddress(t *testing.T) {
	t.Parallel()
	b := newBrake()
	now := b.start
	refused := func(name, from string) bool { _, wait := b.try(now, name, from); return wait > 0 }
	for i := range fromOne.burst {
		if refused("ada", "192.0.2.1") {
			t.Fatalf("attempt %d is too many", i+1)
		}
	}
	undo, wait := b.try(now, "ada", "192.0.2.1")
	if undo != nil || wait != fromOne.every {
		t.Errorf("one more: wait %s", wait)
	}
	if refused("ada", "192.0.2.2") || refused("alan", "192.0.2.1") {
		t.Error("another address, or another name, pays for it")
	}
	now = now.Add(fromOne.every)
	if refused("ada", "192.0.2.1") || !refused("ada", "192.0.2.1") {
		t.Error("after a while there is not one attempt more")
	}
	tried := 0
	for i := 0; !refused("ada", "198.51.100."+strconv.Itoa(i)); i++ {
		if tried++; tried > fromAll.burst {
			t.Fatal("from many addresses there is no end")
		}
	}
	if tried < fromAll.burst/2 {
		t.Errorf("%d attempts from many addresses, want %d or so", tried, fromAll.burst)
	}
	if now = now.Add(time.Duration(fromAll.burst) * fromAll.every); refused("ada", "192.0.2.1") {
		t.Error("it never ends")
	}
}

func TestBrake_goodAttemptsAreNotCounted(t *testing.T) {
	t.Parallel()
	b := newBrake()
	for range 5 * fromAll.burst {
		undo, wait := b.try(b.start, "ada", "192.0.2.1")
		if wait > 0 {
			t.Fatal("who knows the password is kept out")
		}
		undo()
	}
}

func TestBrake_attemptsAtOnceAreAllCounted(t *testing.T) {
	t.Parallel()
	many := pace{burst: 200_000, every: time.Second} // so many, for a race is rare
	var cell, through atomic.Int64
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range many.burst {
				if take(&cell, 0, many) == 0 {
					through.Add(1)
				}
			}
		})
	}
	wait.Wait()
	if got := through.Load(); got != int64(many.burst) {
		t.Errorf("%d were let through, want %d", got, many.burst)
	}
}

// TestLogin_guessingIsSlowedDown: for a name that somebody has and for one that
// nobody has alike, or the brake would tell them apart.
func TestLogin_guessingIsSlowedDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, name := range []string{"ada@acme.example", " ADA@acme.example ", "nobody@acme.example"} {
		form := url.Values{"email": {name}, "password": {"wrong"}}.Encode()
		guess := func(from string) (*http.Response, string) {
			return w.post(t, "/login", formType, form, handoff.Identity{}, "X-Forwarded-For", from)
		}
		if i != 1 { // the second is the first in another spelling
			for range fromOne.burst {
				if resp, _ := guess("192.0.2.1"); resp.StatusCode != http.StatusUnauthorized {
					t.Fatalf("%s: %d", name, resp.StatusCode)
				}
			}
		}
		made := w.hasher.made.Load()
		resp, body := guess("192.0.2.1")
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		if resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(body, "Too many attempts") || after < 1 || after > 30 {
			t.Errorf("%s, once more: %d, Retry-After %d, %s", name, resp.StatusCode, after, body)
		}
		if w.hasher.made.Load() != made {
			t.Errorf("%s: a guess too many was hashed", name)
		}
	}
	for range fromOne.burst + 1 {
		if resp, body := w.loginJSON(t, "ada@acme.example", password, "X-Forwarded-For", "192.0.2.3"); resp.StatusCode != http.StatusOK {
			t.Fatalf("who knows the password is kept out: %d %s", resp.StatusCode, body)
		}
	}
	// The right password too: what does not look at it tells nothing about it.
	if resp, body := w.loginJSON(t, "ada@acme.example", password, "X-Forwarded-For", "192.0.2.1"); resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(body, "too-many-attempts") {
		t.Errorf("the right password after too many wrong ones: %d %s", resp.StatusCode, body)
	}
	if resp, body := w.loginJSON(t, "ada@acme.example", password, "X-Forwarded-For", "192.0.2.2"); resp.StatusCode != http.StatusOK {
		t.Errorf("ada from her own address: %d %s", resp.StatusCode, body)
	}
}
