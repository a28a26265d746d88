package cache

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// The key of an answer is a list of parts, each with its length before it, so that no
// two lists make the same key:
//
//	zone       the directive's options and the server: what another policy stored
//	           is not found
//	policy     and whose: nothing, the tenant, or tenant, issuer, subject and roles
//	scheme     http or https, at a trusted proxy before where one says so
//	authority  in lower case, the scheme's own port left out; the directive's host
//	           where it names one
//	original   the path that the client sent, where a rewrite stands before
//	target     path and query, byte for byte as the origin gets them
//	cookies    those that are named
//	vary       what the edge knows and the directive names
//
// Whatever else the origin gets are fields that an answer's Vary may name; they make
// the second part of the key ([rfc9111.Secondary]).

// fingerprint names the options that say what is stored, and under which key.
func (c *Cache) fingerprint() string {
	options := *c
	options.Source, options.Wait, options.Idle = "", 0, 0
	text, err := json.Marshal(struct {
		*Cache
		Heuristic any
	}{Cache: &options, Heuristic: c.limits.heuristic})
	if err != nil { // not reachable: names and numbers
		return c.Source
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// locate says what is asked for: authority, path and query as the origin gets them.
func (q *question) locate() {
	q.scheme = edge.Scheme(q.r)
	if q.tags.host = q.c.Host; q.tags.host == "" {
		q.tags.host = authority(q.r.Host, q.scheme)
	}
	q.query = q.c.filter(q.r.URL.RawQuery)
	path := q.r.URL.EscapedPath()
	q.tags.uri = path
	if q.query != "" || q.r.URL.ForceQuery {
		q.tags.uri = path + "?" + q.query
	}
}

// authority is a host in lower case and without the scheme's port (RFC 9110, section
// 4.2.3).
func authority(host, scheme string) string {
	for i := range len(host) {
		if c := host[i]; 'A' <= c && c <= 'Z' {
			host = strings.ToLower(host)
			break
		}
	}
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// makeKey makes the key. It allocates once.
func (q *question) makeKey() string {
	var room [512]byte // most keys fit
	b := room[:0]
	part := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	part(q.c.zone)
	if server, _ := q.r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); server != nil {
		part(server.Name())
	} else {
		part("")
	}
	part(q.policy)
	switch q.policy {
	case PolicyTenant:
		part(q.who.Tenant)
	case PolicyUser:
		part(q.who.Tenant)
		part(q.who.SubjectIssuer)
		part(q.who.Subject)
		roles := q.who.Roles
		if !slices.IsSorted(roles) {
			roles = slices.Sorted(slices.Values(roles))
		}
		b = binary.AppendUvarint(b, uint64(len(roles)))
		for _, role := range roles {
			part(role)
		}
	}
	part(q.scheme)
	part(q.tags.host)
	original, _, _ := strings.Cut(q.d.Target, "?")
	if original == q.r.URL.Path {
		original = ""
	}
	part(original)
	part(q.tags.uri)
	for _, name := range q.c.Cookies {
		value, has := cookie(q.r.Header["Cookie"], name)
		if has {
			part("=" + value)
		} else {
			part("")
		}
	}
	for _, v := range q.c.Vary {
		switch v {
		case "variant":
			part(q.d.VariantKey())
		case "country":
			part(q.d.Country)
		case "bot":
			part(string(q.d.Bot.Class))
		}
	}
	return string(b)
}

// parts is what a key says of whom and what it is for.
type parts struct{ server, policy, tenant, issuer, subject, scheme, host, uri string }

// partsOf reads a key, as far as that.
func partsOf(key string) (p parts, ok bool) {
	rest := key
	number := func() uint64 {
		var n uint64
		for i := 0; i < len(rest) && i < binary.MaxVarintLen64; i++ {
			n |= uint64(rest[i]&0x7f) << (7 * i)
			if rest[i] < 0x80 {
				rest = rest[i+1:]
				return n
			}
		}
		rest = ""
		return 0
	}
	part := func() (s string) {
		n := number()
		if n > uint64(len(rest)) {
			rest = ""
			return ""
		}
		s, rest = rest[:n], rest[n:]
		return s
	}
	_ = part() // the zone
	p.server, p.policy = part(), part()
	switch p.policy {
	case PolicyTenant:
		p.tenant = part()
	case PolicyUser:
		p.tenant, p.issuer, p.subject = part(), part(), part()
		for n := number(); n > 0 && rest != ""; n-- {
			_ = part() // a role
		}
	}
	p.scheme, p.host = part(), part()
	_ = part() // the path that the client sent
	p.uri = part()
	return p, p.uri != ""
}

// filter gives the query as it is sent and keyed.
func (c *Cache) filter(query string) string {
	if query == "" || len(c.Query) == 0 && len(c.IgnoreQuery) == 0 && !c.SortQuery {
		return query
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") { // ";" separates nothing (WHATWG URL, section 5.1)
		name, _, _ := strings.Cut(pair, "=")
		switch {
		case len(c.Query) > 0 && !named(c.Query, name), named(c.IgnoreQuery, name):
			continue
		}
		kept = append(kept, pair)
	}
	if c.SortQuery {
		slices.SortStableFunc(kept, func(a, b string) int {
			x, _, _ := strings.Cut(a, "=")
			y, _, _ := strings.Cut(b, "=")
			return strings.Compare(x, y)
		})
	}
	return strings.Join(kept, "&")
}

// named reports whether a parameter is among names, byte for byte: one that is
// written in another way is another parameter, and is sent and keyed.
func named(names []string, name string) bool {
	for _, n := range names {
		if prefix, any := strings.CutSuffix(n, "*"); n == name || any && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
