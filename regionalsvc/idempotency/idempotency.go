// Package idempotency makes one effect of one Idempotency-Key
// (draft-ietf-httpapi-idempotency-key-header-07), however often and wherever the
// request is sent again.
//
// The key is claimed and the answer kept in the transaction that has the effect.
// A request that dies half-way leaves neither, one whose answer was lost finds
// it: there is no third state, and nothing to clean up after a crash. A request
// that fails leaves nothing either, so that a retry is a new attempt.
package idempotency

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

const (
	// Header carries the key.
	Header = handoff.HeaderIdempotencyKey
	// HeaderReplayed is set to "true" on an answer that was given before.
	HeaderReplayed = "Idempotent-Replayed"
	// Retention is how long an answer is kept. After it the key is new.
	Retention = 24 * time.Hour
)

// Every statement of this package.
const (
	beginKey  = "select verdict, coalesce(status, 0), coalesce(location, ''), body from idempotency_begin($1, $2, $3, $4)"
	finishKey = "update idempotency_keys set status = $3, location = $4, body = $5 where endpoint = $1 and key = $2"
)

// Once is one request that may be sent twice. A nil Once, and one of a request
// without a key, claim nothing.
type Once struct {
	endpoint, key string
	fingerprint   [sha256.Size]byte
	verdict       string // on the key, once the database was asked
	answer        answer
}

// answer is what the client is told, now and again.
type answer struct {
	status   int
	location string
	body     []byte
}

// errReplay ends a transaction whose effect was had before.
var errReplay = errors.New("answered before")

// From reads the key of r. endpoint is the name under which keys are apart: one
// key at two endpoints is two keys. body is r's, as it came. A key that is not one
// is a 400 problem.
//
// The key belongs to the tenant, its use to the user: the same key with another
// user, path or body is another request.
func From(r *http.Request, endpoint string, who handoff.Identity, body []byte) (*Once, error) {
	key, err := readKey(r.Header[Header])
	if err != nil {
		return nil, problem.New(http.StatusBadRequest, problem.InvalidParameter, "").WithField(Header, err.Error())
	}
	return &Once{
		endpoint: endpoint, key: key,
		fingerprint: fingerprint(r.Method, r.URL.EscapedPath(), who.Tenant, who.SubjectIssuer, who.Subject, string(body)),
	}, nil
}

// fingerprint hashes parts with their lengths, so that no two lists of parts are
// one string.
func fingerprint(parts ...string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	h.Sum(sum[:0])
	return sum
}

// Keyed reports whether the request has a key.
func (o *Once) Keyed() bool { return o != nil && o.key != "" }

// Begin claims the key; queue it before everything else. When the key is taken,
// the transaction fails with what [Once.Respond] then says: the answer that was
// given before, 422 for another request's key, 409 when the first is still at
// work, at once and not after waiting for it.
func (o *Once) Begin(tx *tenancy.Tx) {
	if !o.Keyed() {
		return
	}
	tx.Queue(beginKey, o.endpoint, o.key, o.fingerprint[:], Retention).Row(func(row pgx.Row) error {
		var before answer
		if err := row.Scan(&o.verdict, &before.status, &before.location, &before.body); err != nil {
			return fmt.Errorf("claim idempotency key: %w", err)
		}
		switch o.verdict {
		case "new":
			return nil
		case "replay":
			if before.status == 0 {
				return fmt.Errorf("idempotency key of %s: its transaction kept no answer", o.endpoint)
			}
			o.answer = before
			return errReplay
		case "mismatch":
			return problem.New(http.StatusUnprocessableEntity, problem.IdempotencyMismatch, "").
				WithField(Header, "must be new for a new request: it came with another body, path or user before")
		case "in-flight":
			return problem.New(http.StatusConflict, problem.IdempotencyInFlight, "").WithRetryAfter(time.Second)
		}
		return fmt.Errorf("idempotency_begin says %q", o.verdict)
	})
}

// Finish keeps the answer, v as JSON, with the effect: queue it last. location is
// the Location header, empty for none.
func (o *Once) Finish(tx *tenancy.Tx, status int, location string, v any) error {
	if o == nil {
		return nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	o.answer = answer{status, location, body}
	if o.Keyed() {
		tx.Queue(finishKey, o.endpoint, o.key, status, location, body)
	}
	return nil
}

// Respond answers r with what was kept, this time or before; err is the
// transaction's, and is returned unless it says that the answer was given before.
// The access line of r says how the key stood.
func (o *Once) Respond(w http.ResponseWriter, r *http.Request, err error) error {
	if o.verdict != "" {
		api.Note(r, handoff.FieldIdempotency, o.verdict)
	}
	replayed := errors.Is(err, errReplay)
	if err != nil && !replayed {
		return err
	}
	h := w.Header()
	if replayed {
		h.Set(HeaderReplayed, "true")
	}
	if o.answer.location != "" {
		h.Set("Location", o.answer.location)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(o.answer.body)))
	h.Set("Cache-Control", "private, no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(o.answer.status)
	_, _ = w.Write(o.answer.body) // the client went away: there is nobody to tell
	return nil
}
