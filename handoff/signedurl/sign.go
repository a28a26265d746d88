package signedurl

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Sign gives the link as a path and query, signed with the first key. It fails
// for a link that could never hold.
func (k *Keys) Sign(l Link) (string, error) {
	if len(k.keys) == 0 {
		return "", errors.New("sign link: no key")
	}
	f, err := l.fields()
	if err != nil {
		return "", fmt.Errorf("sign link: %w", err)
	}
	path, query, _ := strings.Cut(l.Target, "?")
	rest, err := split(query)
	if err != nil {
		return "", fmt.Errorf("sign link: query %q: %w", query, err)
	}
	if rest.fields.any() {
		return "", fmt.Errorf("sign link: the query holds a parameter that begins with %q: it is signed already", reserved)
	}
	signer := &k.keys[0]
	f.key = signer.id
	kind, signed := "path", canonicalPath(path)
	if f.prefix != "" {
		kind, signed = "prefix", f.prefix
	}
	f.signature = base64.RawURLEncoding.EncodeToString(signer.sum(f.message(kind, signed, rest.signed(f.free))))

	target := path + "?"
	if query != "" {
		target += query + "&"
	}
	target += f.query()
	if len(target) > MaxTarget {
		return "", fmt.Errorf("sign link: it has %d bytes, over %d", len(target), MaxTarget)
	}
	return target, nil
}

// fields checks a link and writes it down as parameters, all but key and signature.
func (l *Link) fields() (*fields, error) {
	f := &fields{version: Version, host: l.Host, tenant: l.Tenant, free: strings.Join(l.Free, ",")}
	path, _, _ := strings.Cut(l.Target, "?")
	if err := handoff.CheckPath(l.Target); err != nil {
		return nil, err
	}
	if l.Prefix != "" {
		if handoff.CheckPath(l.Prefix) != nil {
			return nil, fmt.Errorf("prefix %q is not a path", l.Prefix)
		}
		f.prefix = canonicalPath(l.Prefix)
		if !validPrefix(f.prefix) || len(f.prefix) > maxValue {
			return nil, fmt.Errorf("prefix %q is not a directory such as /films/42/", l.Prefix)
		}
		if !strings.HasPrefix(canonicalPath(path), f.prefix) {
			return nil, fmt.Errorf("path %q does not begin with the prefix %q", path, l.Prefix)
		}
	}
	if l.Method != "" && l.Method != "GET" {
		if !validMethod(l.Method) {
			return nil, fmt.Errorf("method %q: leave it empty for GET and HEAD, or name another in upper case", l.Method)
		}
		f.method = l.Method
	}
	if l.Host != "" && !validHost(l.Host) {
		return nil, fmt.Errorf("host %q is not a name in lower case without a port", l.Host)
	}
	if l.Tenant != "" && !handoff.ValidTenant(l.Tenant) {
		return nil, fmt.Errorf("tenant %q: a tenant has 1 to 63 characters of a-z, 0-9 and '-'", l.Tenant)
	}
	if l.Network.IsValid() {
		f.network = l.Network.String()
		if _, ok := parseNetwork(f.network); !ok {
			return nil, fmt.Errorf("network %s is not one such as 192.0.2.0/24 or 2001:db8::/64", l.Network)
		}
	}
	if f.free != "" && !validFree(f.free) {
		return nil, fmt.Errorf("free parameters %q: they are up to 16 names of letters, digits and \"-._~\"", f.free)
	}
	return f, l.times(f)
}

func (l *Link) times(f *fields) error {
	write := func(name string, t time.Time) (string, error) {
		text := strconv.FormatInt(t.Unix(), 10)
		if _, ok := parseTime(text); !ok {
			return "", fmt.Errorf("%s %s is out of range", name, t)
		}
		return text, nil
	}
	if l.Expires.IsZero() {
		return errors.New("no end: a link has to expire")
	}
	var err error
	if f.expires, err = write("the end", l.Expires); err != nil || l.NotBefore.IsZero() {
		return err
	}
	if l.NotBefore.Unix() >= l.Expires.Unix() {
		return errors.New("it would end before it begins to hold")
	}
	f.notBefore, err = write("the beginning", l.NotBefore)
	return err
}

// query writes the parameters, those that are not empty.
func (f *fields) query() string {
	var b strings.Builder
	for _, name := range names {
		if value := *f.of(name); value != "" {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			b.WriteString(name)
			b.WriteByte('=')
			b.WriteString(url.QueryEscape(value))
		}
	}
	return b.String()
}
