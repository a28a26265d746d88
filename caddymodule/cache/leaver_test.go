package cache_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// A client that leaves takes its connection to the origin with it, which by then may be
// that of a fetch (see decision.Strayed). The origin is asked again.
func TestLeaver_takesNoFetchAlong(t *testing.T) {
	var stored atomic.Bool
	o := newOrigin(t, nil)
	s := newSite(t, o, "test_leaver\n\tedge_cache\n\treverse_proxy ORIGIN")
	answers := func(h http.HandlerFunc) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.answer = h
	}
	for _, row := range []struct {
		name, method string // of who leaves
		header       http.Header
		path         string // of the fetch
	}{
		// Its error is context.Canceled, which reverse_proxy takes for the client's leave.
		{"a request that is passed", "PUT", nil, "/a"},
		{"a request that is passed, and a validation", "PUT", nil, "/stored"},
		// Its error is the cause with which it was ended.
		{"a fetch for one client", "GET", http.Header{"Range": {"bytes=0-1"}}, "/b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			control := "max-age=60"
			if row.path == "/stored" {
				control = "no-cache"
			}
			answer := func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", control)
				w.Header().Set("Etag", `"1"`)
				if r.Header.Get("If-None-Match") == `"1"` {
					stored.Store(true)
					w.WriteHeader(http.StatusNotModified)
					return
				}
				_, _ = io.WriteString(w, "whole")
			}
			if row.path == "/stored" {
				answers(answer)
				s.get(row.path).is(t, 200, "whole", "fwd=uri-miss")
			}
			before := o.count(row.path)
			edgetest.Leave(t, "http://"+s.address, row.method, row.header, answers, answer, func() {
				s.get(row.path).is(t, 200, "whole", "")
			})
			if n := o.count(row.path) - before; n != 2 {
				t.Errorf("the origin was asked %d times", n)
			}
		})
	}
	if !stored.Load() {
		t.Error("nothing was validated")
	}
}

// A handler behind the cache that answers 499 itself means it.
func TestLeaver_a499OfAnotherHandler(t *testing.T) {
	o := newOrigin(t, nil)
	s := newSite(t, o, "edge_cache\n\trespond \"not now\" 499")
	s.get("/page").is(t, 499, "not now", "")
}
