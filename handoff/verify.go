package handoff

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

// KeySource finds the keys of POPs. [StaticKeys] and [RemoteKeys] are two.
type KeySource interface {
	// AssertionKey gives the key id of the POP named pop. found is false when
	// the POP is not known or has no such key; an error means that this cannot
	// be known now.
	AssertionKey(ctx context.Context, pop, id string) (key jwks.Key, found bool, err error)
}

// StaticKeys are key sets by the name of their POP.
type StaticKeys map[string]*jwks.Set

// AssertionKey implements [KeySource].
func (s StaticKeys) AssertionKey(_ context.Context, pop, id string) (jwks.Key, bool, error) {
	key, found := s[pop].Find(id)
	return key, found, nil
}

// RemoteKeys are published key sets (see [JWKSPath]) by the name of their POP.
type RemoteKeys map[string]*jwks.Remote

// AssertionKey implements [KeySource].
func (r RemoteKeys) AssertionKey(ctx context.Context, pop, id string) (jwks.Key, bool, error) {
	remote := r[pop]
	if remote == nil {
		return jwks.Key{}, false, nil
	}
	return remote.Find(ctx, id)
}

// Errors of [Verifier.Verify] beyond those of package strictjwt.
var (
	ErrNoAssertion = errors.New("the request carries no assertion")
	ErrTwice       = errors.New("a hand-off header stands twice")
	ErrMismatch    = errors.New("a hand-off header does not say what the assertion says")
	ErrUnbound     = errors.New("the assertion is not bound to this request")
)

// Verifier is the region's side of the hand-off. Its zero value refuses
// everything; set Region and Keys.
type Verifier struct {
	// Region is this region's name, the only audience accepted.
	Region string
	// Keys finds the keys of POPs.
	Keys KeySource
	// Leeway is the clock skew allowed. Default: [AssertionLeeway].
	Leeway time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Refused hears why a request was refused. It must not block.
	// Default: nobody hears.
	Refused func(r *http.Request, err error)
}

// Verify checks everything a region may believe of r but the path rule, which
// needs no key (see [CheckPath]): the assertion's signature, audience and
// times, that the plain headers say what the assertion says and, for an unsafe
// method, that it was made for this very request.
//
// The errors are those of package strictjwt and of this one. Only
// [strictjwt.ErrKeysAbsent] leaves the request undecided: it may be good, and
// deserves 503 and not 401.
func (v *Verifier) Verify(r *http.Request) (*Claims, error) {
	raw, err := single(r.Header, HeaderAssertion)
	switch {
	case err != nil:
		return nil, err
	case raw == "":
		return nil, ErrNoAssertion
	case v.Region == "":
		return nil, fmt.Errorf("%w: the verifier has no Region", strictjwt.ErrAudience)
	case v.Keys == nil:
		return nil, fmt.Errorf("%w: the verifier has no Keys", strictjwt.ErrKeysAbsent)
	}
	claims := new(Claims)
	if _, err := strictjwt.Verify(raw, claims, v.policy(), v.find(r.Context())); err != nil {
		return nil, err
	}
	if err := claims.wellFormed(); err != nil {
		return nil, err
	}
	if err := claims.matches(r); err != nil {
		return nil, err
	}
	return claims, nil
}

func (v *Verifier) policy() strictjwt.Policy {
	leeway := v.Leeway
	if leeway == 0 {
		leeway = AssertionLeeway
	}
	return strictjwt.Policy{
		MaxBytes: AssertionMaxBytes, Type: AssertionType, Audience: v.Region,
		Leeway: leeway, MaxLife: AssertionLife, Now: v.Now,
	}
}

// find looks for the key among those of the POP that the assertion names.
func (v *Verifier) find(ctx context.Context) strictjwt.Find {
	return func(pop string, h strictjwt.Header) (jwks.Key, error) {
		key, found, err := v.Keys.AssertionKey(ctx, pop, h.KeyID)
		switch {
		case err != nil:
			return key, fmt.Errorf("%w: %w", strictjwt.ErrKeysAbsent, err)
		case !found:
			return key, fmt.Errorf("%w: POP %.64q, kid %.64q", strictjwt.ErrKey, pop, h.KeyID)
		}
		return key, nil
	}
}

// wellFormed checks what a signature does not.
func (c *Claims) wellFormed() error {
	switch {
	case !ValidRegion(c.POP):
		return fmt.Errorf("%w: pop is not a POP's name", strictjwt.ErrClaims)
	case c.POP != c.Issuer:
		return fmt.Errorf("%w: pop is not iss", strictjwt.ErrClaims)
	case len(c.Audience) != 1 || !ValidRegion(c.Audience[0]):
		return fmt.Errorf("%w: aud is not the name of one region", strictjwt.ErrClaims)
	case !ValidRegion(c.Home):
		return fmt.Errorf("%w: home is not a region's name", strictjwt.ErrClaims)
	case c.Tenant != "" && !ValidTenant(c.Tenant):
		return fmt.Errorf("%w: tenant_id is not a tenant's name", strictjwt.ErrClaims)
	case c.Subject != "" && c.SubjectIssuer == "":
		return fmt.Errorf("%w: sub without sub_iss", strictjwt.ErrClaims)
	case c.Identity().Anonymous() && (c.SubjectIssuer != "" || c.Session != "" || len(c.Roles) > 0):
		return fmt.Errorf("%w: sub_iss, sid or roles of nobody", strictjwt.ErrClaims)
	}
	return nil
}

// matches holds the claims against the request that carried them.
func (c *Claims) matches(r *http.Request) error {
	if err := says(r.Header, HeaderTenant, c.Tenant); err != nil {
		return err
	}
	if err := says(r.Header, HeaderHomeRegion, c.Home); err != nil {
		return err
	}
	id, err := single(r.Header, HeaderRequestID)
	if err != nil {
		return err
	}
	if !ValidRequestID(id) {
		return fmt.Errorf("%w: %s is absent or malformed", ErrMismatch, HeaderRequestID)
	}
	if c.RequestID == "" && c.Method == "" && c.Path == "" {
		if Unsafe(r.Method) {
			return ErrUnbound
		}
		return nil
	}
	if !same(c.RequestID, id) || !same(c.Method, r.Method) || !same(c.Path, r.RequestURI) {
		return ErrUnbound
	}
	return nil
}

// says compares a header with its claim. Absent and empty are the same.
func says(h http.Header, name, claim string) error {
	value, err := single(h, name)
	if err != nil {
		return err
	}
	if !same(value, claim) {
		return fmt.Errorf("%w: %s", ErrMismatch, name)
	}
	return nil
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// single reads a header that may stand once at most.
func single(h http.Header, name string) (string, error) {
	values := h[name]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", fmt.Errorf("%w: %s", ErrTwice, name)
}

type claimsKey struct{}

// FromContext gives the verified claims of the request, nil outside of
// [Verifier.Middleware].
func FromContext(ctx context.Context) *Claims {
	claims, _ := ctx.Value(claimsKey{}).(*Claims)
	return claims
}

// Middleware lets a request through to next only when it came from a POP that
// is trusted, with its claims in the context (see [FromContext]). Anything else
// is answered with a problem: 400 for a path that [CheckPath] refuses, 503 when
// the POP's keys cannot be had, 401 otherwise. What was wrong goes to Refused
// and not to the client.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := CheckPath(r.RequestURI); err != nil {
			v.refuse(w, r, problem.New(http.StatusBadRequest, problem.AmbiguousPath, err.Error()), err)
			return
		}
		claims, err := v.Verify(r)
		switch {
		case errors.Is(err, strictjwt.ErrKeysAbsent):
			v.refuse(w, r, problem.New(http.StatusServiceUnavailable, problem.Overloaded, "").WithRetryAfter(time.Second), err)
		case err != nil:
			v.refuse(w, r, problem.New(http.StatusUnauthorized, problem.UntrustedHop, "").
				WithHeader("WWW-Authenticate", `Gatehouse realm="region"`), err)
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), claimsKey{}, claims)))
		}
	})
}

func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, p *problem.Problem, err error) {
	if v.Refused != nil {
		v.Refused(r, err)
	}
	id := r.Header.Get(HeaderRequestID)
	if !ValidRequestID(id) {
		id = randomID() // the caller is not trusted, but its answer can still be found in the log
		r.Header.Set(HeaderRequestID, id)
	}
	w.Header().Set(HeaderRequestID, id)
	p.Write(w, r, id)
}
