package edge

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Forever is no limit to how long a client may keep an answer, for [Private].
const Forever = time.Duration(-1)

// targeted are the fields by which an answer speaks to shared caches alone. They
// would override Cache-Control there (RFC 9213, section 2.1).
var targeted = [...]string{"Cdn-Cache-Control", "Surrogate-Control"}

// Private keeps an answer out of every cache but the client's own, whatever its
// header said before, and limits how long the client may keep it: for at most most,
// which is also what an answer gets that does not say. What is not to be stored
// at all stays so.
func Private(h http.Header, most time.Duration) {
	for _, name := range targeted {
		h.Del(name)
	}
	said := "private"
	age, stated := most, false
	for _, line := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			directive = strings.TrimSpace(directive)
			name, value, _ := strings.Cut(directive, "=")
			switch strings.ToLower(name) {
			case "no-store":
				h.Set("Cache-Control", "no-store")
				return
			case "", "public", "private", "s-maxage", "proxy-revalidate":
			case "max-age":
				if n := seconds(value); !stated || n < age {
					age, stated = n, true
				}
			case "stale-while-revalidate", "stale-if-error", "immutable":
				if most == Forever { // else they would outlive the limit
					said += ", " + directive
				}
			default:
				said += ", " + directive
			}
		}
	}
	if most != Forever {
		age = min(age, most)
		h.Del("Expires") // max-age overrides it (RFC 9111, section 5.3), but not for every program
	}
	if age != Forever {
		said += ", max-age=" + strconv.FormatInt(int64(age/time.Second), 10)
	}
	h.Set("Cache-Control", said)
}

// NoStore keeps an answer out of every cache, the client's own too, whatever its
// header said before (RFC 9111, section 5.2.2.5).
func NoStore(h http.Header) {
	for _, name := range targeted {
		h.Del(name)
	}
	h.Del("Expires")
	h.Set("Cache-Control", "no-store")
}

// seconds reads delta-seconds (RFC 9111, section 1.2.2). What is none is 0: stale.
func seconds(text string) time.Duration {
	n, err := strconv.ParseUint(strings.Trim(text, `"`), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
