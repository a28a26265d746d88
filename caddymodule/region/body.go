package region

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// errBodyGone says that a body cannot be sent again: it was longer than what is kept.
var errBodyGone = errors.New("the body is over the replay limit and was not kept")

// errReplaced ends a reader whose attempt is over.
var errReplaced = errors.New("the attempt that read this body is over")

// body keeps what a client sends while it is sent, so that it can be sent again
// from the start: to another region after a 421, or to the same one when the
// connection turned out to be closed before anything was written.
//
// One reader at a time is live. A reader takes what is kept, then reads on from
// the source and keeps that too, until it would be over the limit; from then on
// nothing is kept, and there can be no other reader:
//
//	        open                 over the limit
//	kept ─────────► kept … kept ───────────────► gone
//
// The source is never read by two: whoever comes to it while a read of an earlier
// attempt is still waiting there waits too, and what that read brings is kept.
// So no more than the limit and one read of a transport is in memory.
//
// Nobody here closes the source. The server does, when the handlers return, and
// a read that waits there for a slow client ends then.
type body struct {
	limit int

	mu      sync.Mutex
	changed sync.Cond
	source  io.Reader
	kept    []byte
	gone    bool
	reading bool  // a read of the source is under way
	end     error // what the source ended with
	live    *reader
}

func newBody(source io.Reader, limit int) *body {
	b := &body{source: source, limit: limit}
	b.changed.L = &b.mu
	return b
}

// open gives a reader from the start, and ends the one before it. It fails when
// the start is gone. w is told of progress.
func (b *body) open(w *watch) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return nil, errBodyGone
	}
	b.replace(&reader{b: b, watch: w})
	return b.live, nil
}

func (b *body) replace(r *reader) {
	if b.live != nil {
		b.live.closed = true
		b.changed.Broadcast()
	}
	b.live = r
}

// settle ends the reader at work, waits for a read of the source that is under
// way, and reports whether the body can be sent again. The wait is no longer than
// the client's: whoever reads next would have to wait for the same bytes.
//
// When it returns nobody else touches the source, or the request's trailers,
// which net/http fills in at its end.
func (b *body) settle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replace(nil)
	for b.reading {
		b.changed.Wait()
	}
	return !b.gone
}

// moment bounds how long a read is waited for that fails any time now.
const moment = 100 * time.Millisecond

// await waits for a read of the source that is under way, a moment at most. Where such
// a read fails, net/http ends the request first and has the read return after that.
func (b *body) await() {
	over := false
	timer := time.AfterFunc(moment, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		over = true
		b.changed.Broadcast()
	})
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.reading && !over {
		b.changed.Wait()
	}
}

// failed is what went wrong with the source: the client's fault and not the
// region's. Nil: nothing.
func (b *body) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(b.end, io.EOF) {
		return nil
	}
	return b.end
}

// whole reports whether all of it was read from the client.
func (b *body) whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Is(b.end, io.EOF)
}

// reader is one attempt's view of a body.
type reader struct {
	b      *body
	watch  *watch
	offset int  // into what is kept
	closed bool // guarded by b.mu
}

// Read gives what is kept, then what the source gives.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.watch.pause()
	defer r.watch.resume()
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case r.closed:
			return 0, errReplaced
		case r.offset < len(b.kept):
			n := copy(p, b.kept[r.offset:])
			r.offset += n
			return n, nil
		case b.end != nil:
			return 0, b.end
		case !b.reading:
			return r.readOn(p)
		}
		b.changed.Wait()
	}
}

// readOn reads from the source, with b.mu held but for the read itself.
func (r *reader) readOn(p []byte) (int, error) {
	b := r.b
	b.reading = true
	b.mu.Unlock()
	n, err := b.source.Read(p)
	b.mu.Lock()
	b.reading = false
	b.changed.Broadcast()
	b.end = err
	switch {
	case b.gone:
	case r.closed || len(b.kept)+n <= b.limit:
		// A reader that was replaced while it waited has taken bytes that the next
		// one needs, whatever the limit.
		b.kept = append(b.kept, p[:n]...)
		r.offset += n
	default:
		b.gone, b.kept, r.offset = true, nil, 0
	}
	return n, err
}

// Close ends the reader. The source is not its to close.
func (r *reader) Close() error {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.closed = true
	r.b.changed.Broadcast()
	return nil
}

// watch bounds how long a region may leave a body that is being sent to it
// alone. The transport's own deadline begins when the whole request is written:
// a region that accepts and then reads nothing would hold a request for ever.
//
// Time that is spent waiting for the client does not count.
type watch struct {
	limit  time.Duration
	expire context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	off   bool
}

// errStalled is the cause of a request that a region stopped to read.
var errStalled = fmt.Errorf("%w: the region does not read the request", decision.ErrGivenUp)

// pause stops the clock: the transport asks for more, so the region reads.
func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

// resume starts the clock anew: the transport has more to write.
func (w *watch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.off:
	case w.timer == nil:
		w.timer = time.AfterFunc(w.limit, func() { w.expire(errStalled) })
	default:
		w.timer.Reset(w.limit)
	}
}

// stop ends the watch for good: the request is written, or answered.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = true
	if w.timer != nil {
		w.timer.Stop()
	}
}
