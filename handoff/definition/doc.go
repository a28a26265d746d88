// Package definition says what feature flags and experiments are made of, and what
// is wrong with one: for the edge, which works by them, and for a region, which
// publishes them and must not publish what the edge would refuse.
package definition
