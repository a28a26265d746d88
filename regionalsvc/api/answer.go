package api

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"
)

// Page is the form of every list.
type Page[T any] struct {
	// Items of this page, in the list's order; never null.
	Items []T `json:"items"`
	// Next is the cursor of the next page, null on the last.
	Next *string `json:"next"`
}

// JSON answers with v. What belongs to a tenant is not stored by a cache unless
// the handler has set Cache-Control before.
func JSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "private, no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client went away: there is nobody to tell
	return nil
}
