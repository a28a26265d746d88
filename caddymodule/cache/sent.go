package cache

import (
	"cmp"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// cookie gives the value of a cookie. Of several of one name it is all of them, as
// they stand: an origin may take either.
func cookie(lines []string, name string) (value string, has bool) {
	for _, line := range lines {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			n, v, _ := strings.Cut(textproto.TrimString(pair), "=")
			if textproto.TrimString(n) != name {
				continue
			}
			if has {
				value += ";" + v
			} else {
				value, has = v, true
			}
		}
	}
	return value, has
}

func hasCookie(lines []string, names []string) bool {
	for _, n := range names {
		if _, has := cookie(lines, n); has {
			return true
		}
	}
	return false
}

// ownCookies begin the names of the edge's own cookies, which tell the origin nothing.
const ownCookies = "edge_"

// foreignCookie reports whether a request has a cookie that an answer might depend on:
// one that is neither the edge's own nor named.
func (c *Cache) foreignCookie(lines []string) bool {
	for _, line := range lines {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			n, _, _ := strings.Cut(textproto.TrimString(pair), "=")
			n = textproto.TrimString(n)
			if n == "" || strings.HasPrefix(strings.TrimPrefix(n, "__Host-"), ownCookies) || slices.Contains(c.Cookies, n) {
				continue
			}
			return true
		}
	}
	return false
}

// sent gives the request's header as the origin gets it, without conditions and
// ranges.
func (q *question) sent() http.Header {
	if q.header != nil {
		return q.header
	}
	own := q.r.Header
	h := make(http.Header, len(own))
	for field, lines := range own {
		if q.c.reaches(field) {
			h[field] = lines
		}
	}
	if !q.c.letter {
		q.normalize(h)
	}
	if edge.FromTrustedProxy(q.r) {
		h["X-Forwarded-Proto"] = []string{q.scheme} // in the key; reverse_proxy would say this connection's
	}
	for _, field := range [...]string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range", "Expect"} {
		delete(h, field)
	}
	if edge.InEarlyData(q.r) {
		h["Early-Data"] = []string{"1"} // RFC 8470, section 5.2: whoever passes it on says so
	}
	q.header = h
	return h
}

// reaches reports whether a request field reaches the origin.
func (c *Cache) reaches(field string) bool {
	return c.letter || c.allowed[field] || c.allowed["*"] && field != "Cookie" && field != "Authorization"
}

// normalize puts what is sent into its normal form: encodings by class, one of the
// site's languages, and the named cookies alone.
func (q *question) normalize(h http.Header) {
	if lines, ok := h["Accept-Encoding"]; ok {
		if class := encodings(lines); class != "" {
			h["Accept-Encoding"] = []string{class}
		} else {
			delete(h, "Accept-Encoding")
		}
	}
	if len(q.c.Languages) > 0 {
		h["Accept-Language"] = []string{q.c.language(q.r.Header["Accept-Language"])}
	}
	delete(h, "Cookie")
	var pairs []string
	for _, name := range q.c.Cookies {
		if value, has := cookie(q.r.Header["Cookie"], name); has {
			pairs = append(pairs, name+"="+value)
		}
	}
	if len(pairs) > 0 {
		h["Cookie"] = []string{strings.Join(pairs, "; ")}
	}
}

// codings are the encodings that are told apart, in the order in which they are sent.
var codings = [...]string{"br", "gzip", "zstd"}

// classes are all their subsets, by bit.
var classes = func() (c [1 << len(codings)]string) {
	for set := range c {
		var names []string
		for i, coding := range codings {
			if set>>i&1 == 1 {
				names = append(names, coding)
			}
		}
		c[set] = strings.Join(names, ", ")
	}
	return c
}()

// selectsByClass is the second part of the key of what varies by Accept-Encoding alone,
// by class.
var selectsByClass = func() map[string]string {
	all := map[string]string{}
	for _, class := range classes {
		h := http.Header{}
		if class != "" {
			h["Accept-Encoding"] = []string{class}
		}
		all[class] = rfc9111.Secondary([]string{"Accept-Encoding"}, h, nil)
	}
	return all
}()

// encodings gives the class of an Accept-Encoding: those of the encodings in use that
// it accepts (RFC 9110, section 12.5.3). There are eight, whatever clients send.
func encodings(lines []string) string {
	set, refused := 0, 0
	others := false
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			coding, q, _ := strings.Cut(member, ";")
			coding = strings.ToLower(textproto.TrimString(coding))
			ok := !isZero(q)
			if coding == "*" {
				others = ok
			}
			for i, known := range codings {
				if coding == known || known == "gzip" && coding == "x-gzip" {
					if ok {
						set |= 1 << i
					} else {
						refused |= 1 << i
					}
				}
			}
		}
	}
	if others {
		set |= len(classes) - 1
	}
	return classes[set&^refused]
}

// isZero reports whether a weight is zero: not acceptable.
func isZero(weight string) bool {
	value, has := strings.CutPrefix(strings.ToLower(textproto.TrimString(weight)), "q=")
	return has && value != "" && strings.Trim(value, "0.") == ""
}

// maxLanguages bounds how many languages of a request are looked at.
const maxLanguages = 32

// language gives the site's language that a client likes best: by weight, each of its
// languages as it is, then shortened (RFC 4647, section 3.4), then longer ("en" is
// content with en-US). The site's first, where it likes none.
func (c *Cache) language(lines []string) string {
	type liked struct {
		tag    string
		weight float64
	}
	var all []liked
	for _, line := range lines {
		for member := range strings.SplitSeq(strings.ToLower(line), ",") {
			tag, weight := weighted(strings.ReplaceAll(member, " ", ""))
			if weight > 0 && isLanguage(tag) && len(all) < maxLanguages {
				all = append(all, liked{tag, weight})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b liked) int { return cmp.Compare(b.weight, a.weight) })
	for _, l := range all {
		for tag := l.tag; tag != ""; {
			for _, has := range c.Languages {
				if strings.EqualFold(has, tag) {
					return has
				}
			}
			tag = tag[:max(strings.LastIndexByte(tag, '-'), 0)]
		}
		for _, has := range c.Languages {
			if len(has) > len(l.tag) && strings.EqualFold(has[:len(l.tag)], l.tag) && has[len(l.tag)] == '-' {
				return has
			}
		}
	}
	return c.Languages[0]
}

// isLanguage reports whether s is made as a language tag is (RFC 5646, section 2.1).
func isLanguage(s string) bool {
	for i, part := range strings.Split(s, "-") {
		if part == "" || len(part) > 8 || i > 8 {
			return false
		}
		for _, c := range []byte(part) {
			if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && (i == 0 || '0' > c || c > '9') {
				return false
			}
		}
	}
	return true
}

// selecting gives the second part of the key for these fields.
func (q *question) selecting(fields []string) string {
	switch {
	case len(fields) == 0:
		return ""
	case len(fields) == 1 && fields[0] == "Accept-Encoding" && !q.c.letter: // by far the most common
		if lines, ok := q.r.Header["Accept-Encoding"]; ok {
			return selectsByClass[encodings(lines)]
		}
		return selectsByClass[""]
	case q.header != nil:
		return rfc9111.Secondary(fields, q.header, q.c.normalForm)
	}
	few := make(http.Header, len(fields))
	for _, field := range fields {
		if lines, ok := q.r.Header[field]; ok && q.c.reaches(field) {
			few[field] = lines
		}
	}
	if !q.c.letter {
		q.normalize(few)
	}
	return rfc9111.Secondary(fields, few, q.c.normalForm)
}

// normalForm folds the values of fields whose case means nothing, and, by the letter,
// the order of languages with one weight (RFC 9110, sections 12.5.3 and 12.5.4): many
// origins take the first, so that the default profile leaves it.
func (c *Cache) normalForm(field, list string) string {
	switch {
	case field == "Accept-Encoding", field == "Accept-Language" && !c.letter:
		return strings.ToLower(list)
	case field == "Accept-Language":
		languages := strings.Split(strings.ReplaceAll(strings.ToLower(list), " ", ""), ",")
		slices.SortStableFunc(languages, func(a, b string) int {
			x, xq := weighted(a)
			y, yq := weighted(b)
			return cmp.Or(cmp.Compare(yq, xq), cmp.Compare(x, y))
		})
		return strings.Join(languages, ",")
	}
	return list
}

// weighted parts a member from its weight: 1 without one, and where it is none.
func weighted(member string) (name string, weight float64) {
	name, parameter, _ := strings.Cut(member, ";")
	if value, ok := strings.CutPrefix(parameter, "q="); ok {
		if q, err := strconv.ParseFloat(value, 64); err == nil {
			return name, q
		}
	}
	return name, 1
}

// isToken reports whether s may name a field or a cookie (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
