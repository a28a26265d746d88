package problem_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

func TestWrite_isProblemDetails(t *testing.T) {
	t.Parallel()
	p := problem.New(http.StatusUnprocessableEntity, problem.InvalidBody, "the order is not valid").
		WithField("/totalCents", "a whole number over 0").
		WithField("/customerId", "an id").
		WithCause(errors.New("secret of the database")).
		WithHeader("X-Extra", "1")
	w := httptest.NewRecorder()
	p.Write(w, httptest.NewRequest("POST", "/", nil), "request-1")

	want := `{"type":"urn:gatehouse:problem:invalid-body","title":"The body is not valid","status":422,"detail":"the order is not valid",` +
		`"instance":"urn:gatehouse:request:request-1","requestId":"request-1",` +
		`"errors":[{"field":"/totalCents","message":"a whole number over 0"},{"field":"/customerId","message":"an id"}]}`
	if w.Code != 422 || w.Body.String() != want {
		t.Errorf("%d %s\nwant %s", w.Code, w.Body, want)
	}
	for name, value := range map[string]string{
		"Content-Type": problem.ContentType, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Extra": "1", "Retry-After": "",
	} {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	if p.RequestID != "" || p.Instance != "" {
		t.Error("the problem itself was changed: two requests may share one")
	}
	if p.Error() != "invalid-body: the order is not valid: secret of the database" || p.Name() != problem.InvalidBody {
		t.Errorf("%q, %q", p.Error(), p.Name())
	}
}

// TestWrite_nothingOfTheAnswerThatFailedStays: a handler may have said how its
// answer is to be cached or decoded before it failed.
func TestWrite_nothingOfTheAnswerThatFailedStays(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	for _, name := range []string{
		"Cache-Control", "CDN-Cache-Control", "Surrogate-Control", "Expires", "ETag", "Last-Modified", "Content-Encoding", "Content-Length",
		"Content-Range", "Content-Disposition", "Content-Language", "Content-Location", "Accept-Ranges", "Cache-Groups", "Content-Type",
	} {
		w.Header().Set(name, "of the answer that failed")
	}
	w.Header().Set("Set-Cookie", "kept=1")
	problem.New(500, problem.Internal, "").Write(w, nil, "request-1")
	for name, values := range w.Header() {
		if strings.Contains(values[0], "of the answer") {
			t.Errorf("%s stays", name)
		}
	}
	if w.Header().Get("Set-Cookie") != "kept=1" {
		t.Error("a cookie is dropped")
	}
}

func TestWrite_ownHeaderWins(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	problem.New(416, problem.InvalidParameter, "").WithHeader("Content-Range", "bytes */10").Write(w, nil, "")
	if got := w.Header().Get("Content-Range"); got != "bytes */10" {
		t.Errorf("Content-Range %q", got)
	}
	if strings.Contains(w.Body.String(), "instance") {
		t.Errorf("an instance without a request: %s", w.Body)
	}
}

func TestWrite_headHasNoBodyAndItsLength(t *testing.T) {
	t.Parallel()
	get, head := httptest.NewRecorder(), httptest.NewRecorder()
	p := problem.New(404, problem.NotFound, "")
	p.Write(get, httptest.NewRequest("GET", "/", nil), "request-1")
	p.Write(head, httptest.NewRequest("HEAD", "/", nil), "request-1")
	if head.Body.Len() != 0 || head.Header().Get("Content-Length") != get.Header().Get("Content-Length") {
		t.Errorf("%q, %v", head.Body, head.Header())
	}
}

func TestWrite_retryAfterIsRoundedUp(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "", -1: "", 1: "1", time.Second: "1", 1001 * time.Millisecond: "2", time.Minute: "60"} {
		w := httptest.NewRecorder()
		problem.New(503, problem.Overloaded, "").WithRetryAfter(d).Write(w, nil, "")
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

// TestWrite_hostileTextStaysText: a detail may quote what a client sent.
func TestWrite_hostileTextStaysText(t *testing.T) {
	t.Parallel()
	detail := "\"}{\x00\r\nSet-Cookie: a=b\xff</script>\u2028"
	w := httptest.NewRecorder()
	problem.New(400, problem.InvalidBody, detail).WithField("/\xff", "\"").Write(w, nil, "request-1")
	var got problem.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || !bytes.Contains(w.Body.Bytes(), []byte("request-1")) {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if got.Detail != strings.ReplaceAll(detail, "\xff", "\ufffd") {
		t.Errorf("detail %q", got.Detail)
	}
}

func TestProblem_isAnError(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	var err error = problem.Newf(409, problem.Conflict, "order %d", 7).WithCause(cause)
	var p *problem.Problem
	if !errors.Is(err, cause) || !errors.As(err, &p) || p.Detail != "order 7" {
		t.Error(err)
	}
	if got := problem.New(418, "unheard-of", "").Title; got != "I'm a teapot" {
		t.Errorf("a name without a title is %q", got)
	}
	if got := (&problem.Problem{Type: "about:blank"}).Error(); got != "about:blank" {
		t.Errorf("a problem of another's making is %q", got)
	}
}
