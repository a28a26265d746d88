// Package postgres is the region's way to its database: a pool with limits, the
// measure of what a request spent there, and the schema's migrations.
//
// Nobody reads a tenant's rows through the pool alone: see package tenancy.
package postgres
