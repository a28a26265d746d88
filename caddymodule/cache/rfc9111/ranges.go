package rfc9111

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Span is a part of a body: bytes First to Last, both of it.
type Span struct{ First, Last int64 }

// Length is how many bytes those are.
func (s Span) Length() int64 { return s.Last - s.First + 1 }

// Ranged says what is to be done with a Range.
type Ranged int

// What is to be done.
const (
	Whole         Ranged = iota // there is none, or it is to be ignored: the whole body
	Parts                       // these parts: 206
	Unsatisfiable               // none of it is there: 416
)

// maxSpans bounds a Range; one with more is ignored (RFC 9110, section 14.2, lets a
// server do so with many small ranges).
const maxSpans = 8

// ParseRange reads a Range for a body of size bytes (RFC 9110, sections 14.1 and
// 14.2). What is not in order is ignored, as is another unit than bytes, more than
// eight ranges, and ranges that overlap or are more than the body together.
func ParseRange(h http.Header, size int64) ([]Span, Ranged) {
	lines := h["Range"]
	if len(lines) != 1 {
		return nil, Whole
	}
	unit, set, ok := strings.Cut(lines[0], "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return nil, Whole
	}
	var spans []Span
	total, named := int64(0), 0
	for member := range strings.SplitSeq(set, ",") {
		if member = trim(member); member == "" {
			continue
		}
		if named++; named > maxSpans {
			return nil, Whole
		}
		span, satisfiable, ok := parseSpan(member, size)
		if !ok {
			return nil, Whole
		}
		if !satisfiable {
			continue
		}
		for _, other := range spans {
			if span.First <= other.Last && other.First <= span.Last {
				return nil, Whole
			}
		}
		spans = append(spans, span)
		total += span.Length()
	}
	switch {
	case named == 0, total > size:
		return nil, Whole
	case len(spans) == 0:
		return nil, Unsatisfiable
	}
	return spans, Parts
}

func parseSpan(text string, size int64) (span Span, satisfiable, ok bool) {
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		return Span{}, false, false
	}
	if first == "" { // the last n bytes
		n, ok := parseOffset(last)
		if !ok {
			return Span{}, false, false
		}
		return Span{max(0, size-n), size - 1}, n > 0 && size > 0, true
	}
	from, ok := parseOffset(first)
	if !ok {
		return Span{}, false, false
	}
	to := size - 1
	if last != "" {
		if to, ok = parseOffset(last); !ok || to < from {
			return Span{}, false, false
		}
	}
	return Span{from, min(to, size-1)}, from < size, true
}

// parseOffset reads digits; more than fit are as good as the greatest number.
func parseOffset(text string) (int64, bool) {
	if text == "" {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	n, _ := strconv.ParseInt(text, 10, 64) // out of range gives the greatest
	return n, true
}

// RangeHolds reports whether Range is to be heeded beside If-Range (RFC 9110,
// section 13.1.5): without one; or when it names the stored response, by its strong
// tag or by a date that is its Last-Modified exactly and is strong, which is to say a
// second older than Date at least (section 8.8.2.2).
func (s *Stored) RangeHolds(request http.Header, now time.Time) bool {
	lines, ok := request["If-Range"]
	if !ok {
		return true
	}
	if len(lines) != 1 {
		return false
	}
	if named, rest, ok := cutTag(trim(lines[0])); ok {
		own, has := ParseTag(s.Header)
		return rest == "" && has && own.Strongly(named)
	}
	date, ok := ParseDate(lines[0], now)
	if !ok {
		return false
	}
	modified, ok := s.modified()
	return ok && modified.Equal(date) && s.date().Sub(modified) >= time.Second
}

// ContentRange is what a 206 or a 416 says of the part it is.
type ContentRange struct {
	Span
	Size int64 // of the whole; -1: unknown
}

// ParseContentRange reads a Content-Range of bytes with a part (RFC 9110, section
// 14.4).
func ParseContentRange(lines []string) (ContentRange, bool) {
	if len(lines) != 1 {
		return ContentRange{}, false
	}
	unit, rest, ok := strings.Cut(lines[0], " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return ContentRange{}, false
	}
	part, whole, ok := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(part, "-")
	if !ok || !dash {
		return ContentRange{}, false
	}
	var c ContentRange
	var fromOK, toOK bool
	c.First, fromOK = parseOffset(first)
	c.Last, toOK = parseOffset(last)
	c.Size = -1
	sizeOK := whole == "*"
	if !sizeOK {
		c.Size, sizeOK = parseOffset(whole)
	}
	return c, fromOK && toOK && sizeOK && c.First <= c.Last && (c.Size < 0 || c.Last < c.Size)
}

// String writes it as Content-Range has it.
func (c ContentRange) String() string {
	b := make([]byte, 0, 48)
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, c.First, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, c.Last, 10)
	b = append(b, '/')
	if c.Size < 0 {
		return string(append(b, '*'))
	}
	return string(strconv.AppendInt(b, c.Size, 10))
}

// Combinable reports whether two responses are parts of one representation: they
// have the same strong tag (RFC 9111, section 3.4; RFC 9110, section 15.3.7.3).
func Combinable(a, b http.Header) bool {
	x, okX := ParseTag(a)
	y, okY := ParseTag(b)
	return okX && okY && x.Strongly(y)
}
