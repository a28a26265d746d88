package store

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Body is a whole body: in pieces that do not change, or in a file.
type Body struct {
	Pieces [][]byte
	Size   int64
	// File is where it is, if it is on a disk. There are no pieces then.
	File *File
}

// Held is what the body takes of memory, in bytes.
func (b Body) Held() (n int64) {
	if b.File != nil {
		return fileOverhead + 4*int64(cap(b.File.sums))
	}
	for _, p := range b.Pieces {
		n += int64(cap(p)) + 24
	}
	return n
}

// Usable reports whether the body can be read: what was on a disk may have given way.
// Whoever asks is about to read it.
func (b Body) Usable() bool { return b.File == nil || b.File.usable() }

// Section calls f with the pieces of a part of the body, from first to last, both
// of it. They are not to be kept where the body is in a file. It fails as f does, and
// with [ErrDamaged] where the file cannot be read.
func (b Body) Section(first, last int64, f func([]byte) error) error {
	if b.File != nil {
		return b.File.section(first, last, f)
	}
	at := int64(0)
	for _, p := range b.Pieces {
		end := at + int64(len(p))
		if end > first && at <= last {
			if err := f(p[max(0, first-at):min(int64(len(p)), last+1-at)]); err != nil {
				return err
			}
		}
		if at = end; at > last {
			break
		}
	}
	return nil
}

// Sizes of the pieces in which a body of unknown length is kept.
const (
	firstPiece = 4 << 10
	maxPiece   = 256 << 10
)

// Window is how far a body that is not stored may run ahead of those who read it.
const Window = 128 << 10

// lag is how far one reader of such a body may stay behind the others before it is
// cut off.
const lag = 1 << 20

// Errors of a stream.
var (
	// ErrCut says that the writer broke off: what was read is not the whole.
	ErrCut = errors.New("the answer broke off")
	// ErrSlow says that a reader stayed too far behind.
	ErrSlow = errors.New("the client is too slow for an answer that is not stored")
	// ErrUnread says that nobody reads any more.
	ErrUnread = errors.New("nobody reads the answer")
)

// Stream is a body on its way: one writes, any number read, each at its own pace.
//
//	keeping ──► done          all of it is there, and may be stored
//	   │  └──► cut            readers fail, whatever they have read
//	   ▼
//	passing ──► done, cut     what every reader has had is let go of; the writer
//	                          waits for the fastest, and who stays behind is cut off
type Stream struct {
	store *Store

	mu       sync.Mutex
	pieces   [][]byte
	base     int64 // what was let go of before the first piece
	size     int64 // what was written
	keeping  bool
	reserved int64
	done     bool
	err      error
	readers  map[*Reader]struct{}
	more     chan struct{} // closed when something was written or done
	less     chan struct{} // closed when something was read or a reader left
}

// Stream makes a stream whose pieces count against the store. It keeps until
// [Stream.Pass] is called, or there is no room.
func (s *Store) Stream() *Stream {
	return &Stream{store: s, keeping: true, readers: map[*Reader]struct{}{}, more: make(chan struct{}), less: make(chan struct{})}
}

func (s *Stream) tellMore() { close(s.more); s.more = make(chan struct{}) }
func (s *Stream) tellLess() { close(s.less); s.less = make(chan struct{}) }

// Pass lets the body pass: it is not to be stored. Once the last of its readers has
// left, writing fails.
func (s *Stream) Pass() {
	s.mu.Lock()
	s.pass()
	s.mu.Unlock()
}

func (s *Stream) pass() {
	s.keeping = false
	s.trim()
}

// Kept reports whether all that was written is still there.
func (s *Stream) Kept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keeping
}

// Unread reports whether what is written would be for nobody: the body passes, and has
// no reader.
func (s *Stream) Unread() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.keeping && len(s.readers) == 0
}

// Size is how much was written.
func (s *Stream) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Expect says how long the body will be, so that it is kept in one piece where that
// is not too long.
func (s *Stream) Expect(length int64) {
	if length <= 0 || length > maxPiece {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeping && len(s.pieces) == 0 && s.reserve(length) {
		s.pieces = append(s.pieces, make([]byte, 0, length))
	}
}

func (s *Stream) reserve(n int64) bool {
	if !s.store.Reserve(n) {
		return false
	}
	s.reserved += n
	return true
}

// Write adds to the body. It keeps nothing of p. While the body passes it waits for
// readers, until ctx ends.
func (s *Stream) Write(ctx context.Context, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		if err := s.ready(ctx); err != nil {
			return err
		}
		piece := s.space(len(p))
		n := min(len(p), cap(piece)-len(piece))
		s.pieces[len(s.pieces)-1] = append(piece, p[:n]...)
		s.size += int64(n)
		p = p[n:]
		s.tellMore()
	}
	return nil
}

// space gives the last piece, with room in it.
func (s *Stream) space(n int) []byte {
	if len(s.pieces) > 0 {
		if last := s.pieces[len(s.pieces)-1]; len(last) < cap(last) {
			return last
		}
	}
	size := min(maxPiece, max(firstPiece, n))
	if s.keeping && s.size > firstPiece {
		size = min(maxPiece, max(size, int(s.size))) // doubles
	}
	if s.keeping && !s.reserve(int64(size)) {
		s.pass()
	}
	s.pieces = append(s.pieces, make([]byte, 0, size))
	return s.pieces[len(s.pieces)-1]
}

// ready waits until more may be written.
func (s *Stream) ready(ctx context.Context) error {
	for {
		if s.err != nil {
			return s.err
		}
		if len(s.readers) == 0 && !s.keeping {
			return ErrUnread
		}
		if s.keeping || s.size-s.fastest() < Window {
			return nil
		}
		less := s.less
		s.mu.Unlock()
		select {
		case <-less:
		case <-ctx.Done():
			s.mu.Lock()
			return context.Cause(ctx)
		}
		s.mu.Lock()
	}
}

// fastest is how far the fastest reader has come.
func (s *Stream) fastest() (at int64) {
	at = s.base
	for r := range s.readers {
		at = max(at, r.at)
	}
	return at
}

// trim lets go of what every reader has had, and of readers that are too slow.
func (s *Stream) trim() {
	if s.keeping {
		return
	}
	slowest, fastest := s.size, s.fastest()
	for r := range s.readers {
		if fastest-r.at > lag {
			r.err = ErrSlow
			delete(s.readers, r)
			continue
		}
		slowest = min(slowest, r.at)
	}
	for len(s.pieces) > 0 {
		n := int64(len(s.pieces[0]))
		if s.base+n > slowest || len(s.pieces) == 1 && !s.done {
			break
		}
		s.base += n
		s.pieces = s.pieces[1:]
	}
	if s.reserved > 0 { // a window's worth is not counted
		s.store.Release(s.reserved)
		s.reserved = 0
	}
}

// Done ends the body. err is nil when it is whole.
func (s *Stream) Done(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return
	}
	s.done, s.err = true, err
	s.tellMore()
	s.tellLess()
}

// Free gives back what the stream has reserved. It comes after the body was stored,
// or not.
func (s *Stream) Free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserved > 0 {
		s.store.Release(s.reserved)
		s.reserved = 0
	}
}

// Body gives what was written. ok is false where it was not kept. Nothing may be
// written after it.
func (s *Stream) Body() (b Body, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || !s.keeping {
		return Body{}, false
	}
	if n := len(s.pieces); n > 0 { // the last may be mostly empty
		if last := s.pieces[n-1]; cap(last)-len(last) > cap(last)/8 {
			s.pieces[n-1] = append(make([]byte, 0, len(last)), last...)
		}
	}
	return Body{Pieces: s.pieces, Size: s.size}, true
}

// Reader reads a stream from its beginning.
type Reader struct {
	s   *Stream
	at  int64
	err error
}

// Read gives a reader. It fails where the beginning is gone.
func (s *Stream) Read() (*Reader, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base > 0 {
		return nil, false
	}
	r := &Reader{s: s}
	s.readers[r] = struct{}{}
	return r, true
}

// Next gives what comes next, as much as is there; it must not be changed. When
// nothing is, it calls idle, and waits until ctx ends. At the end of a whole body it
// fails with io.EOF, and with [ErrCut] where the body broke off.
func (r *Reader) Next(ctx context.Context, idle func()) ([]byte, error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if r.err != nil {
			return nil, r.err
		}
		if r.at < s.size {
			p := s.after(r.at)
			r.at += int64(len(p))
			s.trim()
			s.tellLess()
			return p, nil
		}
		if s.done {
			if s.err != nil {
				return nil, ErrCut
			}
			return nil, io.EOF
		}
		more := s.more
		s.mu.Unlock()
		if idle != nil {
			idle()
		}
		select {
		case <-more:
		case <-ctx.Done():
			s.mu.Lock()
			return nil, context.Cause(ctx)
		}
		s.mu.Lock()
	}
}

// after gives the rest of the piece in which at is.
func (s *Stream) after(at int64) []byte {
	start := s.base
	for _, p := range s.pieces {
		if end := start + int64(len(p)); at < end {
			return p[at-start:]
		} else {
			start = end
		}
	}
	return nil
}

// Close ends the reading.
func (r *Reader) Close() {
	s := r.s
	s.mu.Lock()
	delete(s.readers, r)
	s.trim()
	s.tellLess()
	s.mu.Unlock()
}
