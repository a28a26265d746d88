package session

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
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

// Bounds of a session's claims: what they say travels on with every request.
const (
	maxSubject = 255
	maxSession = 255
	maxRoles   = 64
	maxRole    = 64
)

// Bounds of the cache of verified tokens.
const (
	cacheBytes = 32 << 20
	cacheLife  = 5 * time.Minute
)

// claims are those of a session token.
type claims struct {
	jwt.RegisteredClaims
	Tenant string `json:"tenant_id"`
	// Region is the tenant's home region. It may be absent.
	Region  string   `json:"region"`
	Session string   `json:"sid"`
	Roles   []string `json:"roles"`
	// AuthTime is when the user proved who they are (OpenID Connect Core, section 2).
	AuthTime *jwt.NumericDate `json:"auth_time"`
}

var errTenant = errors.New("tenant_id is absent or no tenant's name")

// Validate refuses what no issuer of ours would sign: a session without an
// owner, and values that would not fit where they travel. A region's name that
// cannot be one is refused and not passed over, because the request would then
// go to another region than the issuer meant.
func (c *claims) Validate() error {
	switch {
	case !handoff.ValidTenant(c.Tenant):
		return errTenant
	case c.Subject == "" || len(c.Subject) > maxSubject:
		return fmt.Errorf("sub has %d bytes, 1 to %d are read", len(c.Subject), maxSubject)
	case c.Session == "" || len(c.Session) > maxSession:
		return fmt.Errorf("sid has %d bytes, 1 to %d are read", len(c.Session), maxSession)
	case c.Region != "" && !handoff.ValidRegion(c.Region):
		return errors.New("region is not a region's name")
	case len(c.Roles) > maxRoles:
		return fmt.Errorf("%d roles, at most %d are read", len(c.Roles), maxRoles)
	}
	for _, role := range c.Roles {
		if role == "" || len(role) > maxRole {
			return fmt.Errorf("a role has %d bytes, 1 to %d are read", len(role), maxRole)
		}
	}
	return nil
}

// verdict is what is known of a token that was verified.
type verdict struct {
	identity  handoff.Identity
	home      string
	notBefore time.Time // zero: always
	expires   time.Time
	authTime  int64 // seconds since 1970; 0: not said

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
	shared, err := edge.Shared(app, "verified sessions of issuers "+base64.RawURLEncoding.EncodeToString(sum[:]), newVerdicts)
	if err != nil {
		return nil, fmt.Errorf("edge_session: %w", err)
	}
	v := &verifier{app: app, verdicts: shared, maxBytes: maxBytes}
	for _, issuer := range app.Issuers {
		v.leeway = max(v.leeway, time.Duration(issuer.Leeway))
	}
	return v, nil
}

// verify gives the verdict on token, and the token's SHA-256. The error wraps
// one of package strictjwt.
func (v *verifier) verify(ctx context.Context, token string) (*verdict, [sha256.Size]byte, error) {
	if len(token) > v.maxBytes {
		return nil, [sha256.Size]byte{}, strictjwt.ErrTooLarge
	}
	sum := sha256.Sum256([]byte(token))
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
	v.verdicts.cache.Set(sum, fresh)
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
	key, found, err := v.app.Key(ctx, issuer, known.keyID)
	if err != nil {
		return false, fmt.Errorf("%w: %w", strictjwt.ErrKeysAbsent, err)
	}
	return found && key.Algorithm == known.key.Algorithm && sameKey(key.Material, known.key.Material), nil
}

func sameKey(a, b any) bool {
	switch a := a.(type) {
	case ed25519.PublicKey:
		other, ok := b.(ed25519.PublicKey)
		return ok && a.Equal(other)
	case *ecdsa.PublicKey:
		other, ok := b.(*ecdsa.PublicKey)
		return ok && (a == other || a.Equal(other))
	case *rsa.PublicKey:
		other, ok := b.(*rsa.PublicKey)
		return ok && (a == other || a.Equal(other))
	case []byte:
		other, ok := b.([]byte)
		return ok && subtle.ConstantTimeCompare(a, other) == 1
	}
	return false
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
	header, err := strictjwt.Verify(token, &c, strictjwt.Policy{MaxBytes: v.maxBytes, Leeway: v.leeway},
		func(name string, h strictjwt.Header) (jwks.Key, error) {
			if issuer = v.app.Issuer(name); issuer == nil {
				return jwks.Key{}, strictjwt.ErrIssuer
			}
			if len(issuer.Algorithms) > 0 && !slices.Contains(issuer.Algorithms, h.Algorithm) {
				return jwks.Key{}, strictjwt.ErrAlgorithm
			}
			var err error
			key, err = v.key(ctx, issuer, h.KeyID)
			return key, err
		})
	if err != nil {
		return nil, err
	}
	if issuer.Audience != "" && !slices.Contains(c.Audience, issuer.Audience) {
		return nil, strictjwt.ErrAudience
	}
	fresh := &verdict{
		identity: handoff.Identity{
			Tenant: c.Tenant, Subject: c.Subject, SubjectIssuer: c.Issuer, Session: c.Session, Roles: c.Roles,
		},
		home: c.Region, expires: c.ExpiresAt.Time, keyID: header.KeyID, key: key,
	}
	if c.NotBefore != nil {
		fresh.notBefore = c.NotBefore.Time
	}
	if c.AuthTime != nil {
		fresh.authTime = c.AuthTime.Unix()
	}
	return fresh, fresh.inTime(time.Now(), time.Duration(issuer.Leeway))
}

func (v *verifier) key(ctx context.Context, issuer *edge.Issuer, id string) (jwks.Key, error) {
	key, found, err := v.app.Key(ctx, issuer, id)
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
