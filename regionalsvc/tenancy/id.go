package tenancy

import "github.com/google/uuid"

// NewID makes the id of a new row: a UUID of version 7 (RFC 9562, section 5.7),
// so that the order of ids is, to the millisecond, the order of their making, and
// no tenant can guess or collide with another's.
func NewID() string {
	return uuid.Must(uuid.NewV7()).String() // fails only without randomness, which Go rules out
}

// ValidID reports whether s is an id in the one form that is given out: lower
// case, with hyphens.
func ValidID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}
