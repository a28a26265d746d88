package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
)

// Bounds of a password, in bytes of UTF-8. The upper one is what a login may
// cost before anything is known about it.
const (
	MinPassword = 8
	MaxPassword = 1 << 10
)

// cost is what a hash costs. One of these uses 19 MiB and some 30 ms of one core.
type cost struct {
	memory  uint32 // KiB
	time    uint32
	threads uint8
}

// current is the least that OWASP's Password Storage Cheat Sheet asks of
// Argon2id. A hash of another cost is made anew at its next good login.
var current = cost{memory: 19456, time: 2, threads: 1}

// Bounds of what is believed of a stored hash, so that a row nobody meant to be
// there cannot take the machine down.
var most = cost{memory: 256 << 10, time: 10, threads: 4}

const (
	saltBytes = 16
	hashBytes = 32
)

// hashWait is how long a login waits for its turn to hash.
const hashWait = 250 * time.Millisecond

// hasher bounds the hashes that are made at once, and with them the memory.
type hasher struct {
	slots *api.Slots
	dummy string
	made  atomic.Int64 // hashes, good or bad
}

func newHasher() *hasher {
	h := &hasher{slots: api.NewSlots(runtime.GOMAXPROCS(0), hashWait)}
	h.dummy = encode(current, random(saltBytes), random(hashBytes)) // no password has this hash
	return h
}

// hash makes the PHC string of a new password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	release, err := h.slots.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	h.made.Add(1)
	salt := random(saltBytes)
	return encode(current, salt, derive(current, password, salt, hashBytes)), nil
}

// check reports whether password has the hash stored, and whether that hash is
// of another cost than today's.
func (h *hasher) check(ctx context.Context, stored, password string) (good, outdated bool, err error) {
	c, salt, want, err := parsePHC(stored)
	if err != nil {
		return false, false, err
	}
	release, err := h.slots.Acquire(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	h.made.Add(1)
	got := derive(c, password, salt, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, c != current, nil
}

func derive(c cost, password string, salt []byte, length uint32) []byte {
	return argon2.IDKey([]byte(password), salt, c.time, c.memory, c.threads, length)
}

// encode writes the PHC string format (github.com/P-H-C/phc-string-format).
func encode(c cost, salt, hash []byte) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.time, c.threads, b64(salt), b64(hash))
}

var errPHC = errors.New("stored password hash: not $argon2id$v=19$m=…,t=…,p=…$salt$hash within bounds")

// parsePHC reads what encode has written, and nothing that only looks like it.
func parsePHC(s string) (c cost, salt, hash []byte, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return c, nil, nil, errPHC
	}
	var version int
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &c.memory, &c.time, &c.threads); err != nil {
		return c, nil, nil, errPHC
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, err1 := b64.DecodeString(parts[4])
	hash, err2 := b64.DecodeString(parts[5])
	switch {
	case err1 != nil, err2 != nil, version != argon2.Version,
		c.memory < 8 || c.memory > most.memory, c.time < 1 || c.time > most.time, c.threads < 1 || c.threads > most.threads,
		len(salt) < 8 || len(salt) > 64, len(hash) < 16 || len(hash) > 64,
		encode(c, salt, hash) != s:
		return c, nil, nil, errPHC
	}
	return c, salt, hash, nil
}

// normalizePassword gives the one spelling of a password that is hashed (NFC, as
// RFC 8265, section 4.2.2, asks: two keyboards may type one letter differently).
func normalizePassword(password string) (string, error) {
	switch {
	case len(password) > MaxPassword:
		return "", fmt.Errorf("must have at most %d bytes", MaxPassword)
	case !utf8.ValidString(password):
		return "", errors.New("must be UTF-8")
	case strings.ContainsRune(password, 0):
		return "", errors.New("must not hold NUL")
	}
	return norm.NFC.String(password), nil
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}
