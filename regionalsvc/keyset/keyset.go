// Package keyset pages through lists by the id of the last item seen: no page
// costs more than the first, and none skips or repeats an item because others
// came or went meanwhile.
package keyset

import (
	"encoding/base64"
	"net/http"

	"github.com/google/uuid"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
)

// Bounds of ids, for the first page: no row has either.
const (
	First = "00000000-0000-0000-0000-000000000000"
	Last  = "ffffffff-ffff-ffff-ffff-ffffffffffff"
)

// Window is the part of a list that a request asks for.
type Window struct {
	// After is the id of the last item seen, exclusive; empty on the first page.
	After string
	// Limit is how many items to give.
	Limit int
}

// From reads ?cursor= and ?limit=.
func From(r *http.Request) (Window, error) {
	limit, err := api.Limit(r)
	if err != nil {
		return Window{}, err
	}
	cursor, err := api.Param(r, "cursor")
	if err != nil || cursor == "" {
		return Window{Limit: limit}, err
	}
	after, ok := Parse(cursor)
	if !ok {
		return Window{}, problem.New(http.StatusBadRequest, problem.InvalidParameter, "").
			WithField("cursor", `must be a list's "next", as it was given`)
	}
	return Window{After: after, Limit: limit}, nil
}

// Start is After, or first on the first page.
func (w Window) Start(first string) string {
	if w.After == "" {
		return first
	}
	return w.After
}

// Fetch is how many rows to ask the database for: one more than a page holds
// tells whether there is another page.
func (w Window) Fetch() int { return w.Limit + 1 }

// Page makes the answer out of the rows that were found, at most [Window.Fetch].
func Page[T any](w Window, rows []T, id func(T) string) api.Page[T] {
	page := api.Page[T]{Items: rows}
	if page.Items == nil {
		page.Items = []T{}
	}
	if len(rows) > w.Limit {
		page.Items = rows[:w.Limit]
		next := Cursor(id(rows[w.Limit-1]))
		page.Next = &next
	}
	return page
}

// Cursor makes an opaque cursor of an id. It is no secret: whose rows it may
// lead to is row-level security's business.
func Cursor(id string) string {
	u := uuid.MustParse(id) // ids are ours
	return base64.RawURLEncoding.EncodeToString(u[:])
}

// Parse reads a cursor. Only what [Cursor] has written is one.
func Parse(cursor string) (id string, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) != len(uuid.UUID{}) || base64.RawURLEncoding.EncodeToString(raw) != cursor {
		return "", false
	}
	return uuid.UUID(raw).String(), true
}
