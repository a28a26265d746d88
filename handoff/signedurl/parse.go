package signedurl

import (
	"net/url"
	"slices"
	"strings"
)

// fields are the parameters of a link, decoded. Empty: absent.
type fields struct {
	version, key, expires, notBefore, prefix, method, host, tenant, network, free, signature string
}

// names are the parameters in the order in which they are written.
var names = [...]string{
	paramVersion, paramKey, paramExpires, paramNotBefore, paramPrefix, paramMethod, paramHost, paramTenant, paramNetwork, paramFree, paramSignature,
}

// of gives the field of a parameter, nil for a name that is none of ours.
func (f *fields) of(name string) *string {
	switch name {
	case paramVersion:
		return &f.version
	case paramKey:
		return &f.key
	case paramExpires:
		return &f.expires
	case paramNotBefore:
		return &f.notBefore
	case paramPrefix:
		return &f.prefix
	case paramMethod:
		return &f.method
	case paramHost:
		return &f.host
	case paramTenant:
		return &f.tenant
	case paramNetwork:
		return &f.network
	case paramFree:
		return &f.free
	case paramSignature:
		return &f.signature
	}
	return nil
}

func (f *fields) any() bool { return *f != fields{} }

// pair is one parameter of a query that is not ours.
type pair struct {
	name string // decoded
	raw  string // as it was sent
}

// query is a query taken apart.
type query struct {
	fields fields
	others []pair
}

// split takes a query apart, and refuses one that two programs could read
// differently.
func split(raw string) (query, error) {
	var q query
	if raw == "" {
		return q, nil
	}
	if strings.IndexByte(raw, ';') >= 0 || strings.Count(raw, "&") >= maxPairs {
		return q, ErrMalformed
	}
	for part := range strings.SplitSeq(raw, "&") {
		escaped, value, assigned := strings.Cut(part, "=")
		name, err := url.QueryUnescape(escaped)
		if err != nil || name == "" {
			return q, ErrMalformed
		}
		if !isReserved(name) {
			if slices.ContainsFunc(q.others, func(p pair) bool { return p.name == name }) {
				return q, ErrDuplicate
			}
			q.others = append(q.others, pair{name, part})
			continue
		}
		// Ours have one spelling: an escaped one, or one in capitals, is for
		// somebody who reads more generously than this.
		field := q.fields.of(escaped)
		if field == nil || !assigned || value == "" || len(value) > 3*maxValue {
			return q, ErrMalformed
		}
		if *field != "" {
			return q, ErrDuplicate
		}
		if *field, err = url.QueryUnescape(value); err != nil || len(*field) > maxValue {
			return q, ErrMalformed
		}
	}
	return q, nil
}

// signed joins what of the other parameters is signed: all that free does not name.
func (q *query) signed(free string) string {
	switch kept := q.others; {
	case len(kept) == 0:
		return ""
	case len(kept) == 1 && free == "":
		return kept[0].raw
	}
	var b strings.Builder
	for _, p := range q.others {
		if listed(free, p.name) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.raw)
	}
	return b.String()
}

func listed(free, name string) bool {
	for one := range strings.SplitSeq(free, ",") {
		if one == name {
			return true
		}
	}
	return false
}

func validFree(free string) bool {
	parts := strings.Split(free, ",")
	if len(parts) > 16 {
		return false
	}
	for i, p := range parts {
		if !validName(p) || slices.Contains(parts[:i], p) {
			return false
		}
	}
	return true
}

// Strip takes the parameters of a signature out of a query, whatever their
// spelling, and leaves the others byte for byte: a signature does not travel on.
func Strip(raw string) string {
	if !strings.Contains(raw, "-") && !strings.Contains(raw, "%") {
		return raw
	}
	var b strings.Builder
	for part := range strings.SplitSeq(raw, "&") {
		escaped, _, _ := strings.Cut(part, "=")
		if name, err := url.QueryUnescape(escaped); err == nil && isReserved(name) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(part)
	}
	return b.String()
}
