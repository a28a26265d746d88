package decision

import (
	"context"
	"errors"
)

// ErrGivenUp is in the chain of every cause, but [context.Canceled], with which a
// handler of ours ends a request that it sent itself.
var ErrGivenUp = errors.New("given up")

// Strayed reports whether err, which net/http's transport has for the request of ctx,
// is the end of another request. The two had one connection in turn: an answer without a
// body leaves its connection to the next request a moment before its own one has it, and
// where that one is ended in this moment, the connection is closed under the next, which
// is told the other's cause (as in golang.org/issue/41600; Go 1.26).
func Strayed(ctx context.Context, err error) bool {
	ended := errors.Is(err, context.Canceled) || errors.Is(err, ErrGivenUp) ||
		err == context.DeadlineExceeded // itself: timeouts of net and net/http say that they are it, too
	return ended && ctx.Err() == nil
}
