package rfc9111

import "time"

// Use is what may be done with a stored response that was selected for a request.
type Use int

// Uses.
const (
	// MustValidate: ask the origin first.
	MustValidate Use = iota
	// Fresh: answer with it.
	Fresh
	// Stale: answer with it, although it is stale; the client allows it.
	Stale
	// StaleWhileRevalidate: answer with it, and validate it meanwhile (RFC 5861,
	// section 3).
	StaleWhileRevalidate
)

// Timing is what freshness is reckoned from, once for each response: [Stored.Timing].
type Timing struct {
	// Lifetime is how long the response is fresh from when it was made.
	Lifetime time.Duration
	// Explicit is cleared where the lifetime is a heuristic.
	Explicit bool
	// Initial is how old the response was when it was here.
	Initial time.Duration
	// At is when that was.
	At time.Time
}

// Timing gives the lifetime and the initial age of a response (RFC 9111, sections
// 4.2.1 and 4.2.3). limit bounds heuristic freshness, see [Stored.Lifetime].
func (s *Stored) Timing(limit time.Duration) Timing {
	t := Timing{Initial: s.Age(s.Received), At: s.Received}
	t.Lifetime, t.Explicit = s.Lifetime(limit)
	return t
}

// Age is the time since the response was made or validated at its origin.
func (t *Timing) Age(now time.Time) time.Duration { return t.Initial + max(0, now.Sub(t.At)) }

// Left is how much longer the response is fresh: less than zero says for how long it
// has been stale.
func (t *Timing) Left(now time.Time) time.Duration { return t.Lifetime - t.Age(now) }

// Decide says what may be done with a stored response (RFC 9111, section 4). left is
// how much longer it is fresh. limit bounds heuristic freshness, see
// [Stored.Lifetime]. The zero Request is that of a cache which lets no client choose.
func (s *Stored) Decide(request Request, now time.Time, limit time.Duration) (use Use, left time.Duration) {
	t := s.Timing(limit)
	return s.Directives.Decide(&t, &request, now)
}

// Decide says what may be done with the response that has these directives and t.
func (d *Response) Decide(t *Timing, request *Request, now time.Time) (use Use, left time.Duration) {
	age := t.Age(now)
	left = t.Lifetime - age
	switch {
	case d.NoCache, request.NoCache:
		return MustValidate, left
	case request.MaxAge.Given && age > request.MaxAge.Or(0): // section 5.2.1.1
		return MustValidate, left
	case request.MinFresh.Given && left < request.MinFresh.Or(maxSeconds*time.Second): // section 5.2.1.3
		return MustValidate, left
	case left > 0:
		return Fresh, left
	case d.MustRevalidate || d.ProxyRevalidate: // section 5.2.2.2
		return MustValidate, left
	case d.StaleWhileRevalidate.Given && -left <= d.StaleWhileRevalidate.Or(-1):
		return StaleWhileRevalidate, left
	case d.SMaxAge.Given: // which implies proxy-revalidate, section 5.2.2.10
		return MustValidate, left
	case request.AnyStale || request.MaxStale.Given && -left <= request.MaxStale.Or(-1): // section 5.2.1.2
		return Stale, left
	}
	return MustValidate, left
}

// MayUseOnError reports whether a stale response may stand in for the origin when
// that fails: when nothing came, or one of the statuses of [IsError].
//
// An explicit stale-if-error, of the response or of the request, says for how long
// (RFC 5861, section 4). Without one a cache that is cut off may use what it has
// (RFC 9111, sections 4.2.4 and 4.3.3), for limit at most; never against
// must-revalidate, proxy-revalidate, no-cache or s-maxage. s-maxage only implies that
// it must be validated, so that an explicit stale-if-error beside it counts.
func (s *Stored) MayUseOnError(request Request, now time.Time, heuristic, limit time.Duration) bool {
	t := s.Timing(heuristic)
	return s.Directives.MayUseOnError(&t, &request, now, limit)
}

// MayUseOnError is [Stored.MayUseOnError] for the response that has these directives
// and t.
func (d *Response) MayUseOnError(t *Timing, request *Request, now time.Time, limit time.Duration) bool {
	if d.MustRevalidate || d.ProxyRevalidate || d.NoCache || request.NoCache {
		return false
	}
	stale := max(0, -t.Left(now))
	for _, window := range [...]Seconds{d.StaleIfError, request.StaleIfError} {
		if window.Given {
			return stale <= window.Or(-1)
		}
	}
	return !d.SMaxAge.Given && stale <= limit
}

// IsError reports whether a status is an error for stale-if-error (RFC 5861,
// section 4).
func IsError(status int) bool {
	return status == 500 || status == 502 || status == 503 || status == 504
}
