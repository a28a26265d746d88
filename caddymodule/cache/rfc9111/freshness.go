package rfc9111

import (
	"net/http"
	"time"
)

// Stored is what the rules need to know of a stored response.
type Stored struct {
	Status int
	Header http.Header
	// Directives are those of Header: [Targeted], once.
	Directives Response
	// Requested and Received are when the request for it was sent, or its last
	// validation was, and when the header of the answer was here.
	Requested, Received time.Time
}

// Lifetime says how long a response is fresh from when it was made, and where that
// comes from (RFC 9111, section 4.2.1): s-maxage, max-age, Expires less Date, or a
// heuristic, which is a tenth of the time since Last-Modified (section 4.2.2), no
// more than limit. A limit of zero: none is made up.
//
// A directive that is there and is no number makes it zero: stale at once. So does
// an Expires that is no date, or that stands twice (section 5.3).
func (s *Stored) Lifetime(limit time.Duration) (lifetime time.Duration, explicit bool) {
	d := &s.Directives
	for _, given := range [...]Seconds{d.SMaxAge, d.MaxAge} {
		if given.Given {
			return given.Or(0), true
		}
	}
	if !d.Targeted {
		if lines, ok := s.Header["Expires"]; ok {
			if len(lines) != 1 {
				return 0, true
			}
			expires, ok := ParseDate(lines[0], s.Received)
			if !ok {
				return 0, true
			}
			return max(0, expires.Sub(s.date())), true
		}
	}
	if limit <= 0 || !Heuristic(s.Status) && !d.Public {
		return 0, false
	}
	modified, ok := s.modified()
	if !ok {
		return 0, false
	}
	return min(limit, max(0, s.date().Sub(modified)/10)), false
}

// date is the response's Date, or when it was received (RFC 9110, section 6.6.1).
func (s *Stored) date() time.Time {
	if lines := s.Header["Date"]; len(lines) == 1 {
		if t, ok := ParseDate(lines[0], s.Received); ok {
			return t
		}
	}
	return s.Received
}

func (s *Stored) modified() (time.Time, bool) {
	lines := s.Header["Last-Modified"]
	if len(lines) != 1 {
		return time.Time{}, false
	}
	return ParseDate(lines[0], s.Received)
}

// Age is the time since the response was made or validated at its origin (RFC
// 9111, section 4.2.3).
func (s *Stored) Age(now time.Time) time.Duration {
	apparent := max(0, s.Received.Sub(s.date()))
	corrected := ParseAge(s.Header["Age"]) + max(0, s.Received.Sub(s.Requested))
	return max(apparent, corrected) + max(0, now.Sub(s.Received))
}

// ParseAge reads Age (RFC 9111, section 5.1): the first member of the first line,
// or zero where that is no number.
func ParseAge(lines []string) time.Duration {
	if len(lines) == 0 {
		return 0
	}
	first, _ := cutMember(lines[0])
	age, _ := parseSeconds(first)
	return age
}

// Fresh reports whether the response needs no validation (RFC 9111, section 4.2),
// and for how much longer: less than zero says for how long it has been stale.
func (s *Stored) Fresh(now time.Time, limit time.Duration) (left time.Duration, fresh bool) {
	lifetime, _ := s.Lifetime(limit)
	left = lifetime - s.Age(now)
	return left, left > 0
}

// Heuristic reports whether a status may have a freshness that nobody gave (RFC
// 9110, section 15.1). 206 is left out: parts are stored by what is known of their
// whole.
func Heuristic(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}
