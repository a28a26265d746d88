package signedurl

import (
	"crypto/hmac"
	"encoding/base64"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Request is what a link is checked against.
type Request struct {
	// Method is the request's.
	Method string
	// Host is the request's, with or without a port.
	Host string
	// Target is the path and query as the client sent them, byte for byte.
	Target string
	// Tenant is that of the verified session. Empty: there is none.
	Tenant string
	// Client is the client's address. The zero value is in no network.
	Client netip.Addr
	// Now is the time.
	Now time.Time
}

// Grant is a link that holds.
type Grant struct {
	// KeyID is the id of the key that signed it.
	KeyID string
	// Expires is when it ends.
	Expires time.Time
	// Bound is set where the link is for one network: what is known of the
	// client's address has decided.
	Bound bool
}

// Verify checks the link that a request came by. It fails with one of the
// errors of this package, which errors.Is tells apart, and looks at what the
// link says only once its signature held. The signature is compared in constant
// time.
//
// The grant is filled in as soon as the signature held, whatever else is wrong.
func (k *Keys) Verify(r Request) (Grant, error) {
	if len(r.Target) > MaxTarget || handoff.CheckPath(r.Target) != nil {
		return Grant{}, ErrMalformed
	}
	path, raw, _ := strings.Cut(r.Target, "?")
	q, err := split(raw)
	if err != nil {
		return Grant{}, err
	}
	f := &q.fields
	if f.signature == "" {
		if f.any() {
			return Grant{}, ErrMalformed
		}
		return Grant{}, ErrMissing
	}
	return k.verify(r, f, canonicalPath(path), q.signed(f.free))
}

func (k *Keys) verify(r Request, f *fields, path, query string) (Grant, error) {
	if f.version != Version {
		return Grant{}, ErrVersion
	}
	says, err := f.parse()
	if err != nil {
		return Grant{}, err
	}
	signer := k.find(f.key)
	if signer == nil {
		return Grant{}, ErrKey
	}
	kind, signed := "path", path
	if f.prefix != "" {
		kind, signed = "prefix", f.prefix
	}
	if !hmac.Equal(signer.sum(f.message(kind, signed, query)), says.signature) {
		return Grant{}, ErrSignature
	}
	g := Grant{KeyID: signer.id, Expires: says.expires, Bound: says.network.IsValid()}
	return g, says.holds(r, f, path)
}

// said is what the parameters mean.
type said struct {
	expires, notBefore time.Time
	network            netip.Prefix
	signature          []byte
}

// parse reads the parameters, each in its one form.
func (f *fields) parse() (s said, err error) {
	ok := true
	and := func(right bool) { ok = ok && right }
	var right bool
	s.expires, right = parseTime(f.expires)
	and(right)
	if f.notBefore != "" {
		s.notBefore, right = parseTime(f.notBefore)
		and(right)
	}
	if f.network != "" {
		s.network, right = parseNetwork(f.network)
		and(right)
	}
	s.signature, err = base64.RawURLEncoding.Strict().DecodeString(f.signature)
	and(err == nil && len(f.signature) == base64.RawURLEncoding.EncodedLen(32))
	and(validKeyID(f.key))
	and(f.prefix == "" || validPrefix(f.prefix))
	and(f.method == "" || validMethod(f.method))
	and(f.host == "" || validHost(f.host))
	and(f.tenant == "" || handoff.ValidTenant(f.tenant))
	and(f.free == "" || validFree(f.free))
	if !ok {
		return said{}, ErrMalformed
	}
	return s, nil
}

// holds checks what a link with a right signature says against the request.
func (s *said) holds(r Request, f *fields, path string) error {
	switch {
	case !r.Now.Before(s.expires):
		return ErrExpired
	case r.Now.Before(s.notBefore):
		return ErrNotYet
	case !allows(f.method, r.Method):
		return ErrMethod
	case f.prefix != "" && !strings.HasPrefix(path, f.prefix):
		return ErrPath
	case f.host != "" && f.host != hostname(r.Host):
		return ErrHost
	case f.tenant != "" && f.tenant != r.Tenant:
		return ErrTenant
	case s.network.IsValid() && !s.network.Contains(r.Client.Unmap().WithZone("")):
		return ErrNetwork
	}
	return nil
}

func allows(signed, method string) bool {
	if signed == "" {
		return method == "GET" || method == "HEAD"
	}
	return method == signed
}

// hostname gives a host in lower case without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(host)
}
