package bot

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxNonces bounds the nonces of one agent that are remembered: 73 signed requests
// a second, for an hour each. They take some 14 MB then.
const maxNonces = 1 << 18

// nonces remembers which signatures of an agent were used, until they have expired.
// Only what a key of that agent signed comes here, so that nobody else can fill it;
// one that is full takes no more, and what it cannot remember is not believed.
type nonces struct {
	mu      sync.Mutex
	limit   int
	used    map[nonce]struct{}
	expires map[int64][]nonce // by the minute after which they are forgotten
	swept   int64             // the last minute that was
}

// nonce is a digest of key and nonce.
type nonce [16]byte

func newNonces(limit int) *nonces {
	return &nonces{limit: limit, used: map[nonce]struct{}{}, expires: map[int64][]nonce{}}
}

// use remembers a nonce of the key keyID until then, and reports whether it is new,
// or whether there is no room to remember it.
func (n *nonces) use(keyID, text string, now, until time.Time) (fresh, full bool) {
	sum := sha256.Sum256([]byte(keyID + " " + text)) // a thumbprint holds no space
	id := nonce(sum[:16])
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sweep(now)
	if _, used := n.used[id]; used {
		return false, false
	}
	if len(n.used) >= n.limit {
		return false, true
	}
	n.used[id] = struct{}{}
	minute := until.Unix()/60 + 1
	n.expires[minute] = append(n.expires[minute], id)
	return true, false
}

// sweep forgets what has expired, once a minute.
func (n *nonces) sweep(now time.Time) {
	minute := now.Unix() / 60
	if minute <= n.swept {
		return
	}
	n.swept = minute
	for m, ids := range n.expires { // at most a day of minutes
		if m > minute {
			continue
		}
		for _, id := range ids {
			delete(n.used, id)
		}
		delete(n.expires, m)
	}
}

// size is how many are remembered.
func (n *nonces) size() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.used)
}
