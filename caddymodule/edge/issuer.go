package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// Issuer is somebody whose sessions are believed.
type Issuer struct {
	// Name is the exact iss of its tokens. Required.
	Name string `json:"name"`

	// Audience must be among a token's aud. Required, unless AnyAudience.
	Audience string `json:"audience,omitempty"`

	// AnyAudience accepts tokens that were made for somebody else. Default: false.
	AnyAudience bool `json:"any_audience,omitempty"`

	// Tenants are those that it may speak for: a token of its that names another
	// is refused. Where there are several issuers each needs Tenants or AnyTenant,
	// or else whoever holds the keys of one could sign in to the tenants of all.
	Tenants []string `json:"tenants,omitempty"`

	// AnyTenant lets it speak for every tenant. Default: false, and the same as
	// true for a single issuer without Tenants.
	AnyTenant bool `json:"any_tenant,omitempty"`

	// Claims says what its tokens call the claims that are read here, where they
	// do not call them tenant_id, region, sid, roles and auth_time. The keys are
	// "tenant", "region", "session", "roles" and "auth_time". Default: none. The
	// user is always sub.
	Claims map[string]string `json:"claims,omitempty"`

	// JWKSURL is where its key set is published: https, or http on a loopback
	// address. One of JWKSURL, Discovery, KeyFile, SecretFile and SecretEnv is
	// required.
	JWKSURL string `json:"jwks_url,omitempty"`

	// Discovery asks the issuer itself where its key set is (OpenID Connect
	// Discovery 1.0): its name is then a URL that JWKSURL could be too.
	Discovery bool `json:"discovery,omitempty"`

	// KeyFile is a file with its public keys, a JWKS or PEM.
	KeyFile string `json:"key_file,omitempty"`

	// SecretFile and SecretEnv name a shared secret of at least 32 bytes (HS256).
	SecretFile string `json:"secret_file,omitempty"`
	SecretEnv  string `json:"secret_env,omitempty"`

	// Algorithms narrows what the issuer may sign with: EdDSA, ES256, ES384,
	// RS256, PS256, HS256. Default: whatever its keys are for, HS256 only with a
	// secret.
	Algorithms []string `json:"algorithms,omitempty"`

	// Leeway is how far its clock may differ. Default: 30s.
	Leeway caddy.Duration `json:"leeway,omitempty"`

	remote *source
	static *jwks.Set
}

// DefaultIssuerLeeway is the clock skew allowed to an issuer of sessions.
const DefaultIssuerLeeway = 30 * time.Second

func (a *App) checkIssuers() error {
	seen := map[string]bool{}
	for _, i := range a.Issuers {
		if i == nil || i.Name == "" {
			return errors.New("an issuer has no name: give the exact iss of its tokens")
		}
		if seen[i.Name] {
			return fmt.Errorf("issuer %q stands twice", i.Name)
		}
		seen[i.Name] = true
		if err := i.check(); err != nil {
			return fmt.Errorf("issuer %q: %w", i.Name, err)
		}
		if len(a.Issuers) > 1 && len(i.Tenants) == 0 && !i.AnyTenant {
			return fmt.Errorf("issuer %q: there are several issuers, so say whom this one may speak for: tenants NAME…, or any_tenant", i.Name)
		}
	}
	return nil
}

func (i *Issuer) check() error {
	sources := 0
	for _, given := range []bool{i.JWKSURL != "", i.Discovery, i.KeyFile != "", i.SecretFile != "", i.SecretEnv != ""} {
		if given {
			sources++
		}
	}
	switch {
	case strings.ContainsFunc(i.Name, unicode.IsSpace):
		return errors.New("its name holds white space, which parts an issuer from a user where both are named")
	case sources != 1:
		return fmt.Errorf("its keys come from one place, %d are given: jwks_url, discovery, key_file, secret_file or secret_env", sources)
	case i.Audience == "" && !i.AnyAudience:
		return errors.New("no audience: name it, or write any_audience")
	case i.Audience != "" && i.AnyAudience:
		return errors.New("audience and any_audience exclude each other")
	case len(i.Tenants) > 0 && i.AnyTenant:
		return errors.New("tenants and any_tenant exclude each other")
	case i.Leeway < 0:
		return errors.New("leeway is negative")
	}
	for _, algorithm := range i.Algorithms {
		if !jwks.Supported(algorithm) {
			return fmt.Errorf("algorithm %q: EdDSA, ES256, ES384, RS256, PS256 and HS256 are known", algorithm)
		}
		if secret := i.SecretFile != "" || i.SecretEnv != ""; secret != (algorithm == "HS256") {
			return fmt.Errorf("algorithm %q does not go with its keys: HS256 takes a secret, and a secret takes nothing else", algorithm)
		}
	}
	for _, tenant := range i.Tenants {
		if !handoff.ValidTenant(tenant) {
			return fmt.Errorf("tenant %q is no tenant's name", tenant)
		}
	}
	for claim, name := range i.Claims {
		if err := checkClaim(claim, name); err != nil {
			return err
		}
	}
	if i.JWKSURL != "" {
		return jwks.CheckURL(i.JWKSURL)
	}
	if i.Discovery {
		_, err := jwks.DiscoveryURL(i.Name)
		return err
	}
	return nil
}

// Mappable are the claims whose name can be another, as keys of [Issuer.Claims].
var Mappable = []string{"tenant", "region", "session", "roles", "auth_time"}

func checkClaim(claim, name string) error {
	switch {
	case !slices.Contains(Mappable, claim):
		return fmt.Errorf("claim %q: these can have another name: %s", claim, strings.Join(Mappable, ", "))
	case name == "":
		return fmt.Errorf("claim %s: say what its tokens call it", claim)
	case slices.Contains([]string{"iss", "sub", "aud", "exp", "nbf", "iat"}, name):
		return fmt.Errorf("claim %s: %q means something else in every token (RFC 7519, section 4.1)", claim, name)
	}
	return nil
}

// provision sets the defaults, and takes over the key set that the config before
// this one had fetched.
func (i *Issuer) provision(a *App) error {
	if i.Leeway == 0 {
		i.Leeway = caddy.Duration(DefaultIssuerLeeway)
	}
	if i.JWKSURL == "" && !i.Discovery {
		return nil
	}
	remote, err := Shared(a, "jwks "+i.Name+" "+i.JWKSURL, func() (*source, error) {
		return newSource(i), nil
	})
	i.remote = remote
	return err
}

// load reads keys from where they can be read at once.
func (i *Issuer) load(a *App) error {
	var err error
	switch {
	case i.remote != nil:
		i.remote.attach(a)
	case i.KeyFile != "":
		i.static, err = readKeySet(i.KeyFile)
	case i.SecretFile != "" || i.SecretEnv != "":
		var secret []byte
		if secret, err = readSecret(i.SecretFile, i.SecretEnv); err == nil {
			i.static, err = jwks.Secret(secret)
		}
	}
	return err
}

// Issuer gives the issuer whose iss is exactly name, nil when there is none.
func (a *App) Issuer(name string) *Issuer {
	for _, i := range a.Issuers {
		if i.Name == name {
			return i
		}
	}
	return nil
}

// KnownKey is [App.Key] without asking anybody: found is false as well where a
// fetch might find the key.
func (a *App) KnownKey(i *Issuer, id string) (key jwks.Key, found bool, err error) {
	if err := a.loaded(); err != nil {
		return jwks.Key{}, false, err
	}
	if i.remote != nil {
		return i.remote.keys.Peek(id)
	}
	key, found = i.static.Find(id)
	return key, found, nil
}

// Key gives the issuer's key of that id, within a time that a request can wait.
// found is false when the issuer has no such key; an error means that this
// cannot be known now.
func (a *App) Key(ctx context.Context, i *Issuer, id string) (key jwks.Key, found bool, err error) {
	if err := a.loaded(); err != nil {
		return jwks.Key{}, false, err
	}
	if i.remote != nil {
		return i.remote.keys.Find(ctx, id)
	}
	key, found = i.static.Find(id)
	return key, found, nil
}
