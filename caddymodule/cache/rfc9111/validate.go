package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// Tag is an entity tag (RFC 9110, section 8.8.3).
type Tag struct {
	Opaque string // without its quotes
	Weak   bool
}

// ParseTag reads the ETag of a header. ok is false without one, with several, or
// with one that is none.
func ParseTag(h http.Header) (Tag, bool) {
	lines := h["Etag"]
	if len(lines) != 1 {
		return Tag{}, false
	}
	tag, rest, ok := cutTag(trim(lines[0]))
	return tag, ok && rest == ""
}

// cutTag takes an entity tag off the beginning of text.
func cutTag(text string) (tag Tag, rest string, ok bool) {
	inner, weak := strings.CutPrefix(text, "W/")
	if inner == "" || inner[0] != '"' {
		return Tag{}, text, false
	}
	end := strings.IndexByte(inner[1:], '"')
	if end < 0 {
		return Tag{}, text, false
	}
	for _, c := range []byte(inner[1 : 1+end]) { // etagc: VCHAR but the quote, and bytes over 127
		if c <= 0x20 || c == 0x7f {
			return Tag{}, text, false
		}
	}
	return Tag{inner[1 : 1+end], weak}, inner[end+2:], true
}

// Weakly compares two tags where either may be weak, Strongly where neither may
// (RFC 9110, section 8.8.3.2).
func (t Tag) Weakly(other Tag) bool   { return t.Opaque == other.Opaque }
func (t Tag) Strongly(other Tag) bool { return t == other && !t.Weak }

// Conditional makes a request for validation of stored responses: with the entity
// tags of all of them, and with the Last-Modified of the first, which is the one that
// was selected (RFC 9111, section 4.3.1). Conditions and ranges of the client's own
// are taken out: they are for the client's copy. It reports whether there was
// anything to validate by.
func Conditional(h http.Header, stored ...*Stored) bool {
	for _, field := range [...]string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range"} {
		delete(h, field)
	}
	var tags []string
	for _, s := range stored {
		if _, ok := ParseTag(s.Header); ok {
			tags = append(tags, trim(s.Header["Etag"][0]))
		}
	}
	if len(tags) > 0 {
		h["If-None-Match"] = []string{strings.Join(tags, ", ")}
	}
	if len(stored) > 0 {
		if _, ok := stored[0].modified(); ok {
			h["If-Modified-Since"] = []string{stored[0].Header["Last-Modified"][0]}
		}
	}
	return len(h["If-None-Match"])+len(h["If-Modified-Since"]) > 0
}

// NotModified reports whether a client that sent these conditions has the stored
// response already, so that 304 is its answer (RFC 9111, section 4.3.2; RFC 9110,
// section 13.2.2). If-None-Match counts before If-Modified-Since, and the latter for
// a 200 alone. Conditions for the origin, If-Match and If-Unmodified-Since, are
// none of a cache's business.
func (s *Stored) NotModified(request http.Header, now time.Time) bool {
	if lines, ok := request["If-None-Match"]; ok {
		tag, has := ParseTag(s.Header)
		return listed(lines, tag, has)
	}
	lines := request["If-Modified-Since"]
	if len(lines) != 1 || s.Status != http.StatusOK {
		return false
	}
	since, ok := ParseDate(lines[0], now)
	if !ok {
		return false
	}
	if modified, ok := s.modified(); ok {
		return !modified.After(since)
	}
	return !s.date().After(since) // section 4.3.2: then Date, or when it was received
}

// listed reports whether If-None-Match names the tag. "*" is every stored
// response. Reading ends at what is no tag.
func listed(lines []string, tag Tag, has bool) bool {
	for _, line := range lines {
		for line = strings.TrimLeft(line, " \t,"); line != ""; line = strings.TrimLeft(line, " \t,") {
			if trim(line) == "*" {
				return true
			}
			named, rest, ok := cutTag(line)
			if !ok {
				break
			}
			if has && named.Weakly(tag) {
				return true
			}
			line = rest
		}
	}
	return false
}

// Freshened says which of the stored responses a 304 is about (RFC 9111, section
// 4.3.4): those with its strong tag; else the newest with its weak tag or its
// Last-Modified; else, where the 304 has no validator, the only one. The RFC would
// have that one lack a validator too; origins that answer a single If-None-Match with
// a bare 304 are too many for that, and there is nothing else they can mean. None: the
// 304 teaches nothing, and the request is to be sent without conditions.
func Freshened(notModified http.Header, stored []*Stored) []*Stored {
	if tag, ok := ParseTag(notModified); ok {
		if !tag.Weak {
			return filter(stored, func(s *Stored) bool { own, ok := ParseTag(s.Header); return ok && own.Strongly(tag) })
		}
		return newest(filter(stored, func(s *Stored) bool { own, ok := ParseTag(s.Header); return ok && own.Weakly(tag) }))
	}
	if lines := notModified["Last-Modified"]; len(lines) == 1 {
		return newest(filter(stored, func(s *Stored) bool {
			own := s.Header["Last-Modified"]
			return len(own) == 1 && own[0] == lines[0]
		}))
	}
	if len(stored) == 1 {
		return stored
	}
	return nil
}

func filter(stored []*Stored, keep func(*Stored) bool) (kept []*Stored) {
	for _, s := range stored {
		if keep(s) {
			kept = append(kept, s)
		}
	}
	return kept
}

func newest(stored []*Stored) []*Stored {
	if len(stored) < 2 {
		return stored
	}
	best := stored[0]
	for _, s := range stored[1:] {
		if s.date().After(best.date()) {
			best = s
		}
	}
	return []*Stored{best}
}

// Newest gives the response to use where several would do: that with the latest Date
// (RFC 9111, section 4). It is nil without one.
func Newest(stored []*Stored) *Stored {
	if list := newest(stored); len(list) > 0 {
		return list[0]
	}
	return nil
}

// Updated gives the header of a stored response after a 304, or after a HEAD's
// answer about the same representation (RFC 9111, section 3.2): every field of the
// new one replaces the stored one's, but for its length. d are the directives of newer.
func Updated(stored, newer http.Header, d *Response) http.Header {
	merged := make(http.Header, len(stored)+len(newer))
	for field, lines := range stored {
		merged[field] = lines
	}
	for field, lines := range Storables(newer, d) {
		if field != "Content-Length" {
			merged[field] = lines
		}
	}
	return merged
}

// SameRepresentation reports whether a HEAD's 200 is about what a GET stored (RFC
// 9111, section 4.3.5): validators and length that it has are the stored ones. If
// not, the stored response is to be invalidated.
func SameRepresentation(head http.Header, s *Stored) bool {
	for _, field := range [...]string{"Etag", "Last-Modified", "Content-Length"} {
		if lines, ok := head[field]; ok {
			own := s.Header[field]
			if len(lines) != 1 || len(own) != 1 || lines[0] != own[0] {
				return false
			}
		}
	}
	return true
}

// OnlyFor304 names the fields that a 304 made from a stored response carries (RFC
// 9110, section 15.4.5), besides Age.
var OnlyFor304 = [...]string{"Cache-Control", "Cdn-Cache-Control", "Content-Location", "Date", "Etag", "Expires", "Last-Modified", "Vary"}
