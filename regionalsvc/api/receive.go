package api

import (
	"bytes"
	"io"
	"net/http"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// smallBody is how much of a body is read at no more cost than the connection it
// comes on, in bytes: any login or order.
const smallBody = 16 << 10

// receive reads the body of r before its handler has a turn. To send slowly costs
// a client nothing, and must not cost the others their turns.
//
// What is over smallBody is read for a tenant alone, and in one of few places,
// so that what is kept of bodies is bounded: the place is the request's until
// done is called.
func (a *API) receive(r *http.Request, access Access) (done func(), err error) {
	limit := int64(MaxBody)
	if access == Anyone {
		limit = smallBody
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	done = func() {}
	body, err := ReadAll(io.LimitReader(r.Body, smallBody+1), limit)
	if len(body) > smallBody {
		if done, err = a.large.Acquire(r.Context()); err != nil {
			return nil, err
		}
		body, err = ReadAll(io.MultiReader(bytes.NewReader(body), r.Body), limit)
	}
	if err != nil {
		done()
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return done, nil
}

// ReadAll reads a body up to limit bytes. More is a 413 problem, one that breaks
// off a 400.
func ReadAll(body io.Reader, limit int64) ([]byte, error) {
	read, err := io.ReadAll(io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return nil, problem.New(http.StatusBadRequest, problem.MalformedRequest, "the body could not be read to its end").WithCause(err)
	case int64(len(read)) > limit:
		return nil, tooLarge(limit)
	}
	return read, nil
}

func tooLarge(limit int64) *problem.Problem {
	return problem.Newf(http.StatusRequestEntityTooLarge, problem.BodyTooLarge, "at most %d bytes are read", limit)
}
