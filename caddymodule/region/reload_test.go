package region_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"
)

// open counts the connections that a region has.
type open struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func (o *open) watch(s *httptest.Server) {
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		o.mu.Lock()
		defer o.mu.Unlock()
		switch state {
		case http.StateNew:
			o.conns[c] = true
		case http.StateClosed, http.StateHijacked:
			delete(o.conns, c)
		}
	}
}

func (o *open) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.conns)
}

// A reload makes another transport. The one before it closes the connections that
// idle when it goes, and those that answer then as soon as they have answered.
func TestTransport_aReloadLeavesNoConnectionOfTheOldOne(t *testing.T) {
	o := &open{conns: map[net.Conn]bool{}}
	configuration := func(n int) string { return fmt.Sprintf("header X-N %d\n", n) + site("edge_region", "") }
	p := newPOP(t, configuration(0), o.watch)
	hold, released := make(chan struct{}), make(chan struct{})
	p.eu.answers(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(hold)
			<-released
		}
	})
	done := make(chan error, 1)
	slow := p.url + "/slow"
	go func() { // is at work while its configuration goes
		res, err := client.Get(slow)
		if err == nil {
			res.Body.Close()
		}
		done <- err
	}()
	<-hold
	for n := range 6 {
		var together sync.WaitGroup
		for range 4 {
			together.Go(func() { p.ask(t, "GET", "/", nil) })
		}
		together.Wait()
		p.load(t, configuration(n+1))
	}
	p.ask(t, "GET", "/", nil)
	close(released)
	if err := <-done; err != nil {
		t.Logf("the request that was at work: %v", err) // the grace period may have ended it
	}
	for end := time.Now().Add(20 * time.Second); o.count() != 1; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d connections are open, the running configuration has one", o.count())
		}
	}
}
