package guard

import (
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
	return uuid.Must(uuid.NewV7()).String() // crypto/rand, which never fails
}
