package guard

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// requestID keeps the id that a trusted proxy gave the request, if it stands
// once and is well formed, and makes one otherwise.
func requestID(h http.Header, trusted bool, now time.Time) string {
	if trusted {
		if ids := h[handoff.HeaderRequestID]; len(ids) == 1 && handoff.ValidRequestID(ids[0]) {
			return ids[0]
		}
	}
	return newRequestID(now)
}

// newRequestID makes a UUIDv7 (RFC 9562, section 5.7) whose leading random bits
// are more of the clock (section 6.2, method 3), so that this POP's ids sort by
// time. It is written here for its cost, half of the library's: one allocation, no
// lock.
func newRequestID(now time.Time) string {
	var id [16]byte
	_, _ = rand.Read(id[8:]) // never fails
	at := tick(now)
	binary.BigEndian.PutUint64(id[:], uint64(at>>12)<<16|uint64(at&0xfff)|0x7000) // version 7
	id[8] = id[8]&0x3f | 0x80                                                     // variant
	var text [36]byte
	n := 0
	for i, group := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			text[n] = '-'
			n++
		}
		n += hex.Encode(text[n:], group)
	}
	return string(text[:])
}

// last is the tick of the youngest id.
var last atomic.Int64

// tick is the time in 4096ths of a millisecond since 1970, or as little later as
// makes it the first of its kind.
func tick(now time.Time) int64 {
	at := now.UnixMilli()<<12 | int64(now.Nanosecond()%1e6)<<12/1e6
	for {
		before := last.Load()
		at = max(at, before+1)
		if last.CompareAndSwap(before, at) {
			return at
		}
	}
}
