package problem

// Names of problems: the last part of their type.
const (
	// AmbiguousPath: the path could be read in two ways; see handoff.CheckPath.
	AmbiguousPath = "ambiguous-path"
	// MalformedRequest: the request is not what HTTP or this endpoint allows.
	MalformedRequest = "malformed-request"
	// Unauthenticated: there is no session, or it does not hold.
	Unauthenticated = "unauthenticated"
	// SignInAgain: the session holds, and its user signed in too long ago for this.
	SignInAgain = "sign-in-again"
	// SessionsUnavailable: the keys that sessions are checked with cannot be had now.
	SessionsUnavailable = "sessions-unavailable"
	// TooManyAttempts: this sign-in name was tried in vain too often.
	TooManyAttempts = "too-many-attempts"
	// QuotaExceeded: a rate limit of the POP is used up.
	QuotaExceeded = "quota-exceeded"
	// Forbidden: the session holds, and may not do this.
	Forbidden = "forbidden"
	// CrossOrigin: an unsafe request that another site made a browser send.
	CrossOrigin = "cross-origin"
	// TooEarly: an unsafe request in TLS early data, which anyone can send again.
	TooEarly = "too-early"
	// LinkRefused: a signed link is needed, and none that holds was sent.
	LinkRefused = "link-refused"
	// LinkExpired: the signed link was good, and has ended.
	LinkExpired = "link-expired"
	// BotRefused: this site does not serve clients of that kind.
	BotRefused = "bot-refused"
	// UntrustedHop: the request reached a region without a valid assertion.
	UntrustedHop = "untrusted-hop"
	// NotFound: there is no such thing, or it belongs to another tenant.
	NotFound = "not-found"
	// MethodNotAllowed: the path exists, with other methods.
	MethodNotAllowed = "method-not-allowed"
	// Misdirected: the tenant is not at home here. Only the edge sees it.
	Misdirected = "misdirected"
	// InvalidBody: the body is not the JSON document that is asked for.
	InvalidBody = "invalid-body"
	// BodyTooLarge: the body is over the limit.
	BodyTooLarge = "body-too-large"
	// HeaderTooLarge: the header has too many fields, or they are too long.
	HeaderTooLarge = "header-too-large"
	// TooSlow: the body came too slowly.
	TooSlow = "too-slow"
	// UnsupportedMediaType: the body is of a type that is not read here.
	UnsupportedMediaType = "unsupported-media-type"
	// InvalidParameter: a query parameter or a header is wrong.
	InvalidParameter = "invalid-parameter"
	// IdempotencyMismatch: the Idempotency-Key was used for another request.
	IdempotencyMismatch = "idempotency-mismatch"
	// IdempotencyInFlight: the first request with this key is still at work.
	IdempotencyInFlight = "idempotency-in-flight"
	// Conflict: the thing changed meanwhile.
	Conflict = "conflict"
	// RegionUnavailable: nothing was sent; the home region cannot be reached.
	RegionUnavailable = "region-unavailable"
	// RegionFailed: the region was asked and broke off. Outcome unknown.
	RegionFailed = "region-failed"
	// RegionTimeout: the region was asked and did not answer in time. Outcome unknown.
	RegionTimeout = "region-timeout"
	// Overloaded: the service is at its limit, nothing was done.
	Overloaded = "overloaded"
	// Internal: a fault of ours.
	Internal = "internal"
)

var titles = map[string]string{
	AmbiguousPath:        "The path can be read in two ways",
	MalformedRequest:     "The request is malformed",
	Unauthenticated:      "A valid session is needed",
	SignInAgain:          "The user must sign in again",
	SessionsUnavailable:  "Sessions cannot be checked now",
	TooManyAttempts:      "Too many attempts to sign in",
	QuotaExceeded:        "A rate limit is used up",
	Forbidden:            "This session may not do that",
	CrossOrigin:          "The request comes from another site",
	TooEarly:             "The request came before the TLS handshake was complete",
	LinkRefused:          "This link does not open anything",
	LinkExpired:          "This link has expired",
	BotRefused:           "Clients of this kind are not served here",
	UntrustedHop:         "The request did not come through a trusted POP",
	NotFound:             "Not found",
	MethodNotAllowed:     "This method is not allowed here",
	Misdirected:          "The tenant is not at home in this region",
	InvalidBody:          "The body is not valid",
	BodyTooLarge:         "The body is too large",
	HeaderTooLarge:       "The header is too large",
	TooSlow:              "The body came too slowly",
	UnsupportedMediaType: "This media type is not read here",
	InvalidParameter:     "A parameter is not valid",
	IdempotencyMismatch:  "The idempotency key was used for another request",
	IdempotencyInFlight:  "A request with this idempotency key is in progress",
	Conflict:             "The resource changed meanwhile",
	RegionUnavailable:    "The home region cannot be reached",
	RegionFailed:         "The home region broke off",
	RegionTimeout:        "The home region did not answer in time",
	Overloaded:           "The service is at its limit",
	Internal:             "Something went wrong here",
}
