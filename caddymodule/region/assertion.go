package region

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/maypok86/otter/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// assertionBytes bounds the assertions that are kept: some 40,000 of an ordinary
// length, in the twenty seconds for which one may be sent again.
const assertionBytes = 32 << 20

// assertions keeps what was signed for safe methods. It outlives a config.
type assertions struct {
	signed *otter.Cache[assertionKey, string]
}

// assertionKey is everything that the claims of an unbound assertion come from.
type assertionKey struct {
	session [sha256.Size]byte // zero: anonymous
	home    string
	region  string // the audience
	signer  string // POP and key
	replay  bool
}

// sharedAssertions gives the cache that this configuration has in common with
// the one before it.
func sharedAssertions(app *edge.App) (*assertions, error) {
	return edge.Shared(app, "transport edge: assertions", newAssertions)
}

func newAssertions() (*assertions, error) {
	signed, err := otter.New(&otter.Options[assertionKey, string]{
		MaximumWeight:    assertionBytes,
		Weigher:          func(k assertionKey, v string) uint32 { return uint32(len(v) + sha256.Size + 128) },
		ExpiryCalculator: otter.ExpiryWriting[assertionKey, string](handoff.AssertionReuse),
	})
	return &assertions{signed}, err
}

// Close stops the cache's clean-up.
func (a *assertions) Close() error {
	a.signed.StopAllGoroutines()
	return nil
}

// assertion gives the assertion for one attempt: for an unsafe method, and for what
// else writes, one that is bound to it, otherwise one that the session's other requests share.
func (t *Transport) assertion(x *exchange, method, target string) (string, error) {
	d := x.d
	if handoff.Unsafe(method) || x.write {
		claims := t.claims(x)
		claims.Bind(d.RequestID, method, target)
		return t.sign(claims)
	}
	signer, err := t.signer()
	if err != nil {
		return "", caddyhttp.Error(http.StatusInternalServerError, err)
	}
	key := assertionKey{home: d.Home, region: x.region(), signer: signer, replay: d.Replayed}
	if !d.Identity.Anonymous() {
		if key.session = d.SessionKey; key.session == [sha256.Size]byte{} {
			return t.sign(t.claims(x)) // somebody, and nothing to tell him by
		}
	}
	if signed, ok := t.assertions.signed.GetIfPresent(key); ok {
		return signed, nil
	}
	signed, err := t.sign(t.claims(x))
	if err == nil {
		t.assertions.signed.Set(key, signed)
	}
	return signed, err
}

func (t *Transport) claims(x *exchange) *handoff.Claims {
	claims := handoff.NewClaims(t.app.POP, x.region(), x.d.Home, x.d.Identity, time.Now())
	claims.Replay = x.d.Replayed
	return claims
}

func (t *Transport) sign(claims *handoff.Claims) (string, error) {
	signed, err := t.app.Sign(claims)
	switch {
	case errors.Is(err, handoff.ErrAssertionTooLarge):
		return "", &failure{kind: tooLong, detail: "The request target is too long to be asserted to a region.", cause: err}
	case err != nil:
		return "", caddyhttp.Error(http.StatusInternalServerError, err)
	}
	return signed, nil
}
