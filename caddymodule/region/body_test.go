package region

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func idleWatch() *watch {
	return &watch{limit: time.Hour, expire: func(error) {}}
}

func open(t testing.TB, b *body) io.ReadCloser {
	t.Helper()
	w := idleWatch()
	r, err := b.open(w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return r
}

func TestBody_canBeReadAgainUpToTheLimit(t *testing.T) {
	t.Parallel()
	const limit = 1 << 10
	for _, size := range []int{0, 1, limit - 1, limit} {
		text := strings.Repeat("x", size)
		b := newBody(iotest.OneByteReader(strings.NewReader(text)), limit)
		for range 3 {
			if got, err := io.ReadAll(open(t, b)); string(got) != text || err != nil {
				t.Errorf("%d bytes: got %d, %v", size, len(got), err)
			}
			if !b.settle() {
				t.Errorf("%d bytes: gone", size)
			}
		}
	}
}

// endedFirst is a source whose request is ended in the moment in which its read fails,
// as net/http does it.
type endedFirst struct {
	end func()
	err error
}

func (s endedFirst) Read([]byte) (int, error) {
	s.end()
	time.Sleep(20 * time.Millisecond) // longer than whoever hears of the end needs
	return 0, s.err
}

func TestBody_aReadThatFailsIsNotTheClientsLeaving(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		err    error
		status int
	}{
		{os.ErrDeadlineExceeded, 408},
		{&http.MaxBytesError{Limit: 1}, 413},
		{io.ErrUnexpectedEOF, 0}, // it has left
	} {
		ctx, end := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "POST", "/", nil)
		x := &exchange{body: newBody(endedFirst{end, row.err}, 10)}
		reader := open(t, x.body)
		go func() { _, _ = reader.Read(make([]byte, 1)) }()
		<-ctx.Done()
		err := x.fail(r, new(attempt), context.Canceled, context.Canceled)
		var answer caddyhttp.HandlerError
		if errors.As(err, &answer) != (row.status != 0) || answer.StatusCode != row.status || errors.Is(err, context.Canceled) != (row.status == 0) {
			t.Errorf("%v: %v", row.err, err)
		}
	}
}

// A read that waits for the client is not waited for when the client has left.
func TestBody_aReadThatWaitsIsLeftAlone(t *testing.T) {
	t.Parallel()
	source, client := io.Pipe()
	defer client.Close()
	ctx, leave := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "POST", "/", nil)
	x := &exchange{body: newBody(source, 10)}
	reader := open(t, x.body)
	go func() { _, _ = reader.Read(make([]byte, 1)) }()
	leave()
	if err := x.fail(r, new(attempt), context.Canceled, context.Canceled); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestBody_isGoneOverTheLimitAndStillSent(t *testing.T) {
	t.Parallel()
	const limit = 1 << 10
	text := strings.Repeat("x", limit+1)
	b := newBody(iotest.OneByteReader(strings.NewReader(text)), limit)
	if got, err := io.ReadAll(open(t, b)); string(got) != text || err != nil {
		t.Errorf("got %d, %v", len(got), err)
	}
	if b.settle() || len(b.kept) != 0 {
		t.Error("it was kept")
	}
	if _, err := b.open(idleWatch()); !errors.Is(err, errBodyGone) {
		t.Error(err)
	}
}

func TestBody_aReplacedReaderReadsNoMore(t *testing.T) {
	t.Parallel()
	b := newBody(strings.NewReader("body"), 10)
	first := open(t, b)
	second := open(t, b)
	if _, err := first.Read(make([]byte, 4)); !errors.Is(err, errReplaced) {
		t.Error(err)
	}
	if got, err := io.ReadAll(second); string(got) != "body" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestBody_whatAnEndedAttemptWasWaitingForIsNotLost(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	source, client := io.Pipe()
	asked := make(chan struct{})
	b := newBody(&notifying{Reader: source, began: asked}, 4)
	first := open(t, b)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = first.Read(make([]byte, 100))
	}()
	<-asked // the first attempt waits for the client
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	settled := make(chan bool)
	go func() { settled <- b.settle() }()
	// More than the limit comes at once: the next attempt needs it all.
	_, _ = io.WriteString(client, "longer than four")
	<-ended
	if !<-settled {
		t.Fatal("gone")
	}
	go func() {
		_, _ = io.WriteString(client, " and more")
		_ = client.Close()
	}()
	if got, err := io.ReadAll(open(t, b)); string(got) != "longer than four and more" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

// notifying closes began at the first read.
type notifying struct {
	io.Reader
	began chan struct{}
	told  bool
}

func (n *notifying) Read(p []byte) (int, error) {
	if !n.told {
		n.told = true
		close(n.began)
	}
	return n.Reader.Read(p)
}

func TestBody_theClientsErrorIsKept(t *testing.T) {
	t.Parallel()
	broken := errors.New("reset")
	b := newBody(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), 100)
	for range 2 {
		if got, err := io.ReadAll(open(t, b)); string(got) != "half" || !errors.Is(err, broken) {
			t.Errorf("%q %v", got, err)
		}
	}
	if !errors.Is(b.failed(), broken) {
		t.Error(b.failed())
	}
}

// TestBody_everyReaderSeesTheSame: whatever is read in whatever steps before a
// reader is replaced, the last one sees the whole, or there is none.
func TestBody_everyReaderSeesTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "content")
		limit := rapid.IntRange(1, 300).Draw(t, "limit")
		var source io.Reader = bytes.NewReader(content)
		if rapid.Bool().Draw(t, "with its end") {
			source = iotest.DataErrReader(source)
		}
		b := newBody(source, limit)
		w := idleWatch()
		defer w.stop()
		r, _ := b.open(w)
		read := 0
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "step") == 0 {
				next, err := b.open(w)
				if (err != nil) != (read > limit) && err != nil {
					t.Fatalf("%v after %d of %d bytes with limit %d", err, read, len(content), limit)
				}
				if err != nil {
					return
				}
				r = next
				continue
			}
			n, _ := r.Read(make([]byte, rapid.IntRange(1, 64).Draw(t, "size")))
			read += n
			if len(b.kept) > limit {
				t.Fatalf("%d bytes are kept, the limit is %d", len(b.kept), limit)
			}
		}
		if b.settle() {
			r, _ = b.open(w)
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%d bytes of %d, %v", len(got), len(content), err)
			}
		}
	})
}

func TestWatch_runsWhileTheRegionHasSomethingToRead(t *testing.T) {
	t.Parallel()
	expired := make(chan error, 1)
	w := &watch{limit: time.Millisecond, expire: func(err error) { expired <- err }}
	w.pause()
	w.resume()
	if err := <-expired; !errors.Is(err, errStalled) {
		t.Error(err)
	}
	w.stop()
	w.resume()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer.Stop() {
		t.Error("it runs although it was stopped")
	}
}
