package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// MaxBody is the largest body of JSON that is read, in bytes.
const MaxBody = 1 << 20

// Limits of a page of a list.
const (
	DefaultLimit = 20
	MaxLimit     = 100
)

// Bounds of what an answer repeats of a hostile body.
const (
	maxFieldErrors = 20
	maxPointer     = 256
)

// Validator is a body with rules beyond its types.
type Validator interface {
	// Validate names each field at fault by its JSON Pointer. None: it is good.
	Validate() []problem.FieldError
}

// Decode reads the body of r as one JSON document of type T, and nothing
// but: an unknown, repeated or differently cased member, a second document, a
// value of another type or out of its range, and bytes that are not UTF-8 are
// each 400 with the JSON Pointer of the field. 413 is a body over [MaxBody], 415
// any media type but application/json. When T or *T is a [Validator], what it
// finds is a 400 too.
func Decode[T any](r *http.Request) (T, error) {
	body, err := Body(r)
	if err != nil {
		var zero T
		return zero, err
	}
	return Parse[T](body)
}

// Body reads the body of r, which must be application/json: the first half of
// [Decode], for those who also need the bytes as they came.
func Body(r *http.Request) ([]byte, error) {
	if err := mediaType(r, "application/json"); err != nil {
		return nil, err
	}
	return ReadAll(r.Body, MaxBody)
}

// Parse reads body as Decode does: its second half.
func Parse[T any](body []byte) (T, error) {
	var value, zero T
	if len(body) == 0 {
		return zero, invalidBody().WithField("", "a JSON document is required, the body is empty")
	}
	if err := json.Unmarshal(body, &value, json.RejectUnknownMembers(true)); err != nil {
		return zero, decodeProblem(err)
	}
	validator, ok := any(value).(Validator)
	if !ok {
		validator, ok = any(&value).(Validator)
	}
	if !ok {
		return value, nil
	}
	if faults := validator.Validate(); len(faults) > 0 {
		p := invalidBody()
		p.Errors = faults[:min(len(faults), maxFieldErrors)]
		return zero, p
	}
	return value, nil
}

func invalidBody() *problem.Problem {
	return problem.New(http.StatusBadRequest, problem.InvalidBody, "")
}

// decodeProblem says which field is at fault, and what would be right. It
// repeats no value: a body can hold secrets.
func decodeProblem(err error) *problem.Problem {
	p := invalidBody()
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		return p.WithField(pointer(semantic.JSONPointer), semanticMessage(semantic))
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return p.WithField(pointer(syntactic.JSONPointer), syntacticMessage(syntactic))
	}
	return p.WithField("", "must be one JSON document")
}

// pointer is where the fault is or, where that is said by more than a few
// names, what holds it.
func pointer(p jsontext.Pointer) string {
	if len(p) <= maxPointer {
		return string(p)
	}
	return string(p[:max(0, strings.LastIndexByte(string(p[:maxPointer]), '/'))])
}

func semanticMessage(err *json.SemanticError) string {
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return "is not known here; names are case-sensitive"
	case err.GoType != nil:
		return "must be " + typeName(err.GoType.Kind().String())
	}
	return "is of the wrong type"
}

// typeName says a Go kind in JSON's words.
func typeName(kind string) string {
	switch {
	case kind == "int64":
		return "a whole number between -9223372036854775808 and 9223372036854775807"
	case strings.HasPrefix(kind, "int") || strings.HasPrefix(kind, "uint"):
		return "a whole number within the range of " + kind
	case strings.HasPrefix(kind, "float"):
		return "a number"
	case kind == "bool":
		return "true or false"
	case kind == "slice" || kind == "array":
		return "an array"
	case kind == "struct" || kind == "map":
		return "an object"
	}
	return "a " + kind
}

func syntacticMessage(err *jsontext.SyntacticError) string {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "stands twice"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Sprintf("the document breaks off after %d bytes", err.ByteOffset)
	}
	return fmt.Sprintf("is not JSON (RFC 8259) at byte %d: %s", err.ByteOffset, err.Err)
}

// mediaType refuses a body that is not of type want, in UTF-8 and unencoded.
func mediaType(r *http.Request, want string) error {
	refused := func(field, message string) error {
		return problem.New(http.StatusUnsupportedMediaType, problem.UnsupportedMediaType, "").
			WithHeader("Accept", want).WithField(field, message)
	}
	values := r.Header["Content-Type"]
	if len(values) != 1 {
		return refused("Content-Type", "must be "+want)
	}
	got, parameters, err := mime.ParseMediaType(values[0])
	if err != nil || got != want {
		return refused("Content-Type", "must be "+want)
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return refused("Content-Type", "must be "+want+" in UTF-8")
		}
	}
	if encoding := r.Header.Values("Content-Encoding"); len(encoding) > 0 {
		return refused("Content-Encoding", "must be absent")
	}
	return nil
}

// Limit is the page size that ?limit= asks for, 1 to [MaxLimit], or
// [DefaultLimit].
func Limit(r *http.Request) (int, error) {
	text, err := Param(r, "limit")
	if err != nil || text == "" {
		return DefaultLimit, err
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > MaxLimit || strconv.Itoa(limit) != text {
		return 0, problem.New(http.StatusBadRequest, problem.InvalidParameter, "").
			WithField("limit", fmt.Sprintf("must be a whole number between 1 and %d", MaxLimit))
	}
	return limit, nil
}

// Param is the query parameter name, empty when it is absent. One that stands
// twice and a query that cannot be parsed are 400: another program on the way
// could have read something else.
func Param(r *http.Request, name string) (string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", problem.New(http.StatusBadRequest, problem.InvalidParameter, "the query is not well formed").WithCause(err)
	}
	switch values := query[name]; len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", problem.New(http.StatusBadRequest, problem.InvalidParameter, "").WithField(name, "must stand once")
}
