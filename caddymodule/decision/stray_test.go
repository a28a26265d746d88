package decision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestStrayed(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		err  error
		want bool
	}{
		"left":             {context.Canceled, true},
		"left, further on": {fmt.Errorf("round trip: %w", context.Canceled), true},
		"given up":         {fmt.Errorf("%w: nobody waits", ErrGivenUp), true},
		"a check's end":    {context.DeadlineExceeded, true},
		"closed":           {io.EOF, false},
		"refused":          {&net.OpError{Op: "dial", Err: errors.New("refused")}, false},
		"dialled too long": {dialTimeout(t), false},
		"no answer":        {headerTimeout(t), false},
	} {
		ended, end := context.WithCancel(t.Context())
		end()
		if got := Strayed(t.Context(), row.err); got != row.want {
			t.Errorf("%s: %t: %v", name, got, row.err)
		}
		if Strayed(ended, row.err) {
			t.Errorf("%s: the request's own end", name)
		}
	}
}

// dialTimeout and headerTimeout are errors that say that they are
// context.DeadlineExceeded.
func dialTimeout(t *testing.T) error {
	t.Helper()
	dialer := net.Dialer{Deadline: time.Now().Add(-time.Second)}
	conn, err := dialer.DialContext(t.Context(), "tcp", "127.0.0.1:1")
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	return err
}

func headerTimeout(t *testing.T) error {
	t.Helper()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	transport := &http.Transport{ResponseHeaderTimeout: time.Millisecond}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, silent.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(r)
	if err == nil {
		_ = res.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	return err
}
