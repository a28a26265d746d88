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

// Decide says what may be done with a stored response (RFC 9111, section 4). left is
// how much longer it is fresh. limit bounds heuristic freshness, see
// [Stored.Lifetime]. The zero Request is that of a cache which lets no client choose.
func (s *Stored) Decide(request Request, now time.Time, limit time.Duration) (use Use, left time.Duration) {
	d := &s.Directives
	left, fresh := s.Fresh(now, limit)
	switch {
	case d.NoCache, request.NoCache:
		return MustValidate, left
	case request.MaxAge.Given && s.Age(now) > request.MaxAge.Or(0): // section 5.2.1.1
		return MustValidate, left
	case request.MinFresh.Given && left < request.MinFresh.Or(maxSeconds*time.Second): // section 5.2.1.3
		return MustValidate, left
	case fresh:
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
	d := &s.Directives
	if d.MustRevalidate || d.ProxyRevalidate || d.NoCache || request.NoCache {
		return false
	}
	left, _ := s.Fresh(now, heuristic)
	stale := max(0, -left)
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
