package edgetest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// leaver is the directive test_leaver: it stops net/http's transport between two steps
// with an answer that has no body, when the connection is free for others already and
// whoever asked does not have the answer yet.
type leaver struct{}

const (
	leaverPath     = "/leaver"
	leaverContinue = "Test-Leaver" // whoever asks names what is called there
)

var leaverHooks sync.Map

func (leaver) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_leaver", New: func() caddy.Module { return new(leaver) }}
}

func (leaver) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	hook, ok := leaverHooks.Load(r.Header.Get(leaverContinue))
	if !ok {
		return next.ServeHTTP(w, r)
	}
	trace := &httptrace.ClientTrace{PutIdleConn: func(error) { hook.(func())() }}
	return next.ServeHTTP(w, r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// RegisterLeaver makes the directive test_leaver known, which [Leave] needs before
// reverse_proxy. It stands before all other handlers, and is called once.
func RegisterLeaver() {
	caddy.RegisterModule(leaver{})
	httpcaddyfile.RegisterHandlerDirective("test_leaver", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return leaver{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_leaver", httpcaddyfile.Before, "method")
}

// Leave has a client of the site at url ask for /leaver with method, and leave in the
// moment in which its connection to the origin is another's already: the one of the
// request that other sends. origin sets what the origin answers, which for other is
// answer. other's first request is never answered: its connection is closed.
func Leave(t testing.TB, url, method string, header http.Header, origin func(http.HandlerFunc), answer http.HandlerFunc, other func()) {
	t.Helper()
	idle, reached := make(chan struct{}), make(chan struct{})
	leaverHooks.Store(t.Name(), sync.OnceFunc(func() {
		close(idle)
		<-reached
	}))
	defer leaverHooks.Delete(t.Name())
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var first sync.Once
	origin(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == leaverPath {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		first.Do(func() {
			leave()
			<-r.Context().Done() // the connection ends under it
			close(reached)
		})
		answer(w, r)
	})
	left := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, method, url+leaverPath, nil)
		if err != nil {
			left <- err
			return
		}
		for name, values := range header {
			r.Header[name] = values
		}
		r.Header.Set(leaverContinue, t.Name())
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err == nil {
			_ = res.Body.Close()
		}
		left <- err
	}()
	select {
	case <-idle:
	case err := <-left:
		t.Fatalf("no connection became free: %v", err)
	}
	other()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left: %v", err)
	}
}
