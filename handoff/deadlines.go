package handoff

import "time"

// Default deadlines, from the inside out. Each ends before the one around it, so
// that whoever knows best says what went wrong: PostgreSQL cancels a statement
// and the region rolls back and answers, before the edge stops waiting and
// can only say that the outcome is unknown.
const (
	// StatementTimeout bounds one statement in the region's database.
	StatementTimeout = 2 * time.Second
	// RegionRequestTimeout bounds one request in a region.
	RegionRequestTimeout = 8 * time.Second
	// EdgeResponseTimeout bounds how long the edge waits for a region's response
	// header.
	EdgeResponseTimeout = 10 * time.Second
)
