package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/maypok86/otter/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

// Bounds of the cache of verified tokens.
const (
	cacheBytes = 32 << 20
	cacheLife  = 5 * time.Minute
)

// verdict is what is known of a token that was verified.
type verdict struct {
	identity  handoff.Identity
	home      string
	authTime  time.Time // zero: not said
	notBefore time.Time // zero: always
	expires   time.Time
	claims    map[string][]string // of those that the configuration asks for

	// keyID and key are what verified it, by identity.SubjectIssuer.
	keyID string
	key   jwks.Key
}

// inTime holds the verdict against the clock.
func (v *verdict) inTime(now time.Time, leeway time.Duration) error {
	if !now.Before(v.expires.Add(leeway)) {
		return strictjwt.ErrExpired
	}
	if now.Add(leeway).Before(v.notBefore) {
		return strictjwt.ErrNotYet
	}
	return nil
}

// verdicts remembers tokens that were verified, by their SHA-256. A token that
// was refused is not remembered: anybody could fill the memory with such.
type verdicts struct {
	cache *otter.Cache[[sha256.Size]byte, *verdict]
}

func newVerdicts() (*verdicts, error) {
	cache, err := otter.New(&otter.Options[[sha256.Size]byte, *verdict]{
		MaximumWeight: cacheBytes,
		Weigher: func(_ [sha256.Size]byte, v *verdict) uint32 {
			bytes := 512 + len(v.identity.Tenant) + len(v.identity.Subject) + len(v.identity.Session) + len(v.home) + len(v.keyID)
			for _, role := range v.identity.Roles {
				bytes += 16 + len(role)
			}
			for name, values := range v.claims {
				bytes += 128 + len(name)
				for _, value := range values {
					bytes += 16 + len(value)
				}
			}
			return uint32(bytes)
		},
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[[sha256.Size]byte, *verdict]) time.Duration {
			return max(0, min(cacheLife, time.Until(e.Value.expires)))
		}),
	})
	return &verdicts{cache}, err
}

// Close stops the cache's own goroutine.
func (v *verdicts) Close() error {
	v.cache.StopAllGoroutines()
	return nil
}

// verifier tells good tokens from others.
type verifier struct {
	app      *edge.App
	verdicts *verdicts
	maxBytes int
	leeway   time.Duration // the largest of any issuer
	mapped   bool          // an issuer calls a claim by another name
	dry      bool          // see rehearsed

	// policy is the hash of everything that a verdict depends on but the token.
	policy [sha256.Size]byte
}

// newVerifier shares the verified tokens with other configurations that would
// judge them alike: the same issuers, with the same settings. Their keys need not
// be the same, since a verdict holds only as long as its key does.
func newVerifier(app *edge.App, maxBytes int) (*verifier, error) {
	policy, err := json.Marshal(app.Issuers)
	if err != nil {
		return nil, fmt.Errorf("edge_session: %w", err)
	}
	sum := sha256.Sum256(policy)
	key := "verified sessions of issuers " + base64.RawURLEncoding.EncodeToString(sum[:])
	if names := app.ClaimsRead(); len(names) > 0 {
		key += fmt.Sprintf(" with claims %q", names)
	}
	shared, err := edge.Shared(app, key, newVerdicts)
	if err != nil {
		return nil, fmt.Errorf("edge_session: %w", err)
	}
	v := &verifier{app: app, verdicts: shared, maxBytes: maxBytes, policy: sum}
	for _, issuer := range app.Issuers {
		v.leeway = max(v.leeway, time.Duration(issuer.Leeway))
		v.mapped = v.mapped || len(issuer.Claims) > 0
	}
	return v, nil
}

// rehearsed is v for a dry run: it fetches no key and remembers no token.
func (v *verifier) rehearsed() *verifier {
	dry := *v
	dry.dry = true
	return &dry
}

// lookUp gives an issuer's key.
func (v *verifier) lookUp(ctx context.Context, issuer *edge.Issuer, id string) (jwks.Key, bool, error) {
	if v.dry {
		return v.app.KnownKey(issuer, id)
	}
	return v.app.Key(ctx, issuer, id)
}

// key is what tells the session of a token from every other, for whoever keeps
// something of it: where the policy is another, the same token may speak for
// somebody else.
func (v *verifier) key(token [sha256.Size]byte) [sha256.Size]byte {
	for i := range token {
		token[i] ^= v.policy[i]
	}
	return token
}

// verify gives the verdict on token, and the token's SHA-256. The error wraps
// one of package strictjwt or of this one.
func (v *verifier) verify(ctx context.Context, token string) (*verdict, [sha256.Size]byte, error) {
	if len(token) > v.maxBytes {
		return nil, [sha256.Size]byte{}, strictjwt.ErrTooLarge
	}
	var room [1024]byte // of most tokens: a copy on the stack
	sum := sha256.Sum256(append(room[:0], token...))
	if known, ok := v.verdicts.cache.GetIfPresent(sum); ok {
		holds, err := v.holds(ctx, known)
		if err != nil {
			return nil, sum, err
		}
		if holds {
			return known, sum, nil
		}
	}
	fresh, err := v.prove(ctx, token)
	if err != nil {
		return nil, sum, err
	}
	if !v.dry {
		v.verdicts.cache.Set(sum, fresh)
	}
	return fresh, sum, nil
}

// holds reports whether a verdict of the past is one of the present: the token
// is in time, and the issuer still has the key that signed it. Dropping a key is
// how an issuer ends what was signed with it.
func (v *verifier) holds(ctx context.Context, known *verdict) (bool, error) {
	issuer := v.app.Issuer(known.identity.SubjectIssuer)
	if issuer == nil {
		return false, nil
	}
	if err := known.inTime(time.Now(), time.Duration(issuer.Leeway)); err != nil {
		return false, err
	}
	key, found, err := v.lookUp(ctx, issuer, known.keyID)
	if err != nil {
		return false, fmt.Errorf("%w: %w", strictjwt.ErrKeysAbsent, err)
	}
	return found && key.Algorithm == known.key.Algorithm && jwks.SameMaterial(key.Material, known.key.Material), nil
}

// prove verifies a token from nothing. The audience and the leeway are the
// issuer's, who is known only once the claims are decoded: they are held against
// the claims afterwards, and the largest leeway is allowed until then.
func (v *verifier) prove(ctx context.Context, token string) (*verdict, error) {
	var (
		c      claims
		issuer *edge.Issuer
		key    jwks.Key
	)
	var into jwt.Claims = &c
	var other *renamed
	if v.mapped {
		other = &renamed{claims: &c}
		into = other
	}
	header, err := strictjwt.Verify(token, into, strictjwt.Policy{MaxBytes: v.maxBytes, Leeway: v.leeway},
		func(name string, h strictjwt.Header) (jwks.Key, error) {
			if issuer = v.app.Issuer(name); issuer == nil {
				return jwks.Key{}, strictjwt.ErrIssuer
			}
			if other != nil {
				other.names = issuer.Claims
			}
			if len(issuer.Algorithms) > 0 && !slices.Contains(issuer.Algorithms, h.Algorithm) {
				return jwks.Key{}, strictjwt.ErrAlgorithm
			}
			var err error
			key, err = v.find(ctx, issuer, h.KeyID)
			return key, err
		})
	if err != nil {
		return nil, err
	}
	if issuer.Audience != "" && !slices.Contains(c.Audience, issuer.Audience) {
		return nil, strictjwt.ErrAudience
	}
	if len(issuer.Tenants) > 0 && !slices.Contains(issuer.Tenants, c.Tenant) {
		return nil, errForeignTenant
	}
	fresh := &verdict{
		identity: handoff.Identity{
			Tenant: c.Tenant, Subject: c.Subject, SubjectIssuer: c.Issuer, Session: c.Session, Roles: c.Roles,
		},
		home: c.Region, expires: c.ExpiresAt.Time, keyID: header.KeyID, key: key,
	}
	if c.AuthTime != nil {
		fresh.authTime = c.AuthTime.Time
	}
	if c.NotBefore != nil {
		fresh.notBefore = c.NotBefore.Time
	}
	if fresh.claims, err = pick(token, v.app.ClaimsRead()); err != nil {
		return nil, err
	}
	return fresh, fresh.inTime(time.Now(), time.Duration(issuer.Leeway))
}

func (v *verifier) find(ctx context.Context, issuer *edge.Issuer, id string) (jwks.Key, error) {
	key, found, err := v.lookUp(ctx, issuer, id)
	switch {
	case err != nil:
		return jwks.Key{}, fmt.Errorf("%w: %w", strictjwt.ErrKeysAbsent, err)
	case !found:
		return jwks.Key{}, strictjwt.ErrKey
	}
	return key, nil
}

// authOf names the outcome that an error stands for.
func authOf(err error) decision.Auth {
	for _, row := range []struct {
		err  error
		auth decision.Auth
	}{
		{errTenant, decision.AuthTenant}, // before ErrClaims, which wraps it
		{errForeignTenant, decision.AuthTenant},
		{strictjwt.ErrTooLarge, decision.AuthTooLarge},
		{strictjwt.ErrMalformed, decision.AuthMalformed},
		{strictjwt.ErrAlgorithm, decision.AuthAlgorithm},
		{strictjwt.ErrCritical, decision.AuthCritical},
		{strictjwt.ErrType, decision.AuthType},
		{strictjwt.ErrIssuer, decision.AuthIssuer},
		{strictjwt.ErrKeysAbsent, decision.AuthNoKeys},
		{strictjwt.ErrKey, decision.AuthKey},
		{strictjwt.ErrSignature, decision.AuthSignature},
		{strictjwt.ErrExpired, decision.AuthExpired},
		{strictjwt.ErrNotYet, decision.AuthNotYet},
		{strictjwt.ErrAudience, decision.AuthAudience},
	} {
		if errors.Is(err, row.err) {
			return row.auth
		}
	}
	return decision.AuthClaims
}
