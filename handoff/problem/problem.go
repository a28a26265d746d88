// Package problem is the one form of an error that leaves Gatehouse: problem
// details for HTTP APIs (RFC 9457).
package problem

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ContentType is the media type of a problem (RFC 9457, section 3).
const ContentType = "application/problem+json"

// typePrefix makes a name into the problem's type URI. docs/PROBLEMS.md lists
// the names.
const typePrefix = "urn:gatehouse:problem:"

// OutcomeUnknown is the outcome of a request that reached a region and was
// never answered: it may have been done.
const OutcomeUnknown = "unknown"

// Problem is an error as a client sees it. The zero value is not useful: begin
// with [New].
type Problem struct {
	// Type is a URI that says which kind of problem this is.
	Type string `json:"type"`
	// Title says the same for a person, and is alike for all of that type.
	Title string `json:"title"`
	// Status is the HTTP status.
	Status int `json:"status"`
	// Detail says what was wrong with this request. It never holds a secret, a
	// token or another tenant's data.
	Detail string `json:"detail,omitempty"`
	// Instance is a URI for this occurrence. [Write] makes it from the request id.
	Instance string `json:"instance,omitempty"`
	// RequestID is the id to give to whoever runs the service.
	RequestID string `json:"requestId"`
	// Outcome is [OutcomeUnknown] where a region may have done what was asked
	// although no answer came. Empty: nothing was done.
	Outcome string `json:"outcome,omitempty"`
	// MaxAge is, in seconds, how recent a sign-in is asked for ([SignInAgain]).
	// Zero: none in particular.
	MaxAge int `json:"maxAge,omitzero"`
	// ViolatedPolicies name the rate limits that are used up ([QuotaExceeded]), as the
	// problem type quota-exceeded of draft-ietf-httpapi-ratelimit-headers-11 does.
	ViolatedPolicies []string `json:"violated-policies,omitempty"`
	// Errors name the fields at fault.
	Errors []FieldError `json:"errors,omitempty"`

	// RetryAfter, when positive, is sent as Retry-After in whole seconds, rounded up.
	RetryAfter time.Duration `json:"-"`
	// Header holds further header fields of the answer, WWW-Authenticate for
	// example. Nil: none.
	Header http.Header `json:"-"`
	// Cause is for the log and never sent.
	Cause error `json:"-"`
}

// FieldError is one fault of one field.
type FieldError struct {
	// Field is a JSON Pointer (RFC 6901) into the body, or the name of a header
	// or a query parameter.
	Field string `json:"field"`
	// Message says what would be right.
	Message string `json:"message"`
}

// New makes a problem. name is the last part of its type ("not-found");
// detail may be empty.
func New(status int, name, detail string) *Problem {
	return &Problem{Type: typePrefix + name, Title: titleOf(name, status), Status: status, Detail: detail}
}

// Newf is [New] with a formatted detail.
func Newf(status int, name, format string, args ...any) *Problem {
	return New(status, name, fmt.Sprintf(format, args...))
}

// titleOf prefers the title written for the name, and falls back on the status.
func titleOf(name string, status int) string {
	if title, ok := titles[name]; ok {
		return title
	}
	return http.StatusText(status)
}

// Name is the last part of the type: what logs and metrics say.
func (p *Problem) Name() string { return strings.TrimPrefix(p.Type, typePrefix) }

// WithCause keeps err for the log. It returns p.
func (p *Problem) WithCause(err error) *Problem { p.Cause = err; return p }

// WithField adds a fault of a field. It returns p.
func (p *Problem) WithField(field, message string) *Problem {
	p.Errors = append(p.Errors, FieldError{Field: field, Message: message})
	return p
}

// WithHeader sets a header field of the answer. It returns p.
func (p *Problem) WithHeader(name, value string) *Problem {
	if p.Header == nil {
		p.Header = http.Header{}
	}
	p.Header.Set(name, value)
	return p
}

// WithRetryAfter sets when a retry may help. It returns p.
func (p *Problem) WithRetryAfter(d time.Duration) *Problem { p.RetryAfter = d; return p }

// SetHeader sets what an answer in another form must carry too: Retry-After and
// the fields of Header.
func (p *Problem) SetHeader(h http.Header) {
	for name, values := range p.Header {
		h[name] = slices.Clone(values)
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
}

// Error is for logs.
func (p *Problem) Error() string {
	s := p.Name()
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	if p.Cause != nil {
		s += ": " + p.Cause.Error()
	}
	return s
}

// Unwrap gives the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// stale are the header fields that a handler may have set before it failed, and
// that speak of the answer it did not give. The targeted fields would else
// override Cache-Control (RFC 9213, section 2.1).
var stale = []string{
	"Accept-Ranges", "Cache-Groups", "Cdn-Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language",
	"Content-Location", "Content-Range", "Etag", "Expires", "Last-Modified", "Surrogate-Control",
}

// Write answers with the problem. requestID goes into requestId and instance.
// A problem is about one request, so it is never cached.
func (p *Problem) Write(w http.ResponseWriter, r *http.Request, requestID string) {
	answer := *p
	answer.RequestID = requestID
	if answer.Instance == "" && requestID != "" {
		answer.Instance = "urn:gatehouse:request:" + requestID
	}
	body, err := json.Marshal(&answer, jsontext.AllowInvalidUTF8(true))
	if err != nil { // not reachable: the struct holds strings and an int
		http.Error(w, http.StatusText(p.Status), p.Status)
		return
	}
	h := w.Header()
	for _, name := range stale {
		h.Del(name)
	}
	p.SetHeader(h)
	h.Set("Content-Type", ContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	if r == nil || r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
