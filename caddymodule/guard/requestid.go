package guard

import (
	"encoding/binary"
	"math/rand/v2"
	"net/http"

	"github.com/google/uuid"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// requestID keeps the id that a trusted proxy gave the request, if it stands
// once and is well formed, and makes one otherwise.
func requestID(h http.Header, trusted bool) string {
	if trusted {
		if ids := h[handoff.HeaderRequestID]; len(ids) == 1 && handoff.ValidRequestID(ids[0]) {
			return ids[0]
		}
	}
	return newRequestID()
}

// newRequestID makes a UUIDv7 (RFC 9562, section 5.7), so that ids sort by time.
func newRequestID() string {
	id, err := uuid.NewV7FromReader(random{})
	if err != nil { // not reachable: random never fails
		return uuid.NewString()
	}
	return id.String()
}

// random reads from Go's ChaCha8 generator, which the system seeds. An id must
// be unique and hard to guess, and is no secret; the system's own source costs
// a call into the kernel for each (BenchmarkRequestID).
type random struct{}

func (random) Read(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], rand.Uint64())
		rest = rest[copy(rest, word[:]):]
	}
	return len(p), nil
}
