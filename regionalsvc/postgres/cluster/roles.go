package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CreateRole is [Cluster.CreateRole] on any server; conn is a superuser's, or of
// a role that may create roles.
func CreateRole(ctx context.Context, conn *pgx.Conn, name, password string, groups ...string) error {
	role := pgx.Identifier{name}.Sanitize()
	attributes := "nologin"
	if password != "" {
		attributes = "login password " + quote(password)
	}
	if err := createOr(ctx, conn, "create role "+role+" "+attributes, "alter role "+role+" "+attributes); err != nil {
		return fmt.Errorf("create role %s: %w", name, err)
	}
	for _, group := range groups {
		grant := "grant " + pgx.Identifier{group}.Sanitize() + " to " + role
		if err := createOr(ctx, conn, grant, ""); err != nil {
			return fmt.Errorf("make %s a member of %s: %w", name, group, err)
		}
	}
	return nil
}

// CreateDatabase makes a database that owner owns, unless it is there, as a copy
// of template (empty: template0 with UTF8). Only owner and who is granted it may
// connect.
func CreateDatabase(ctx context.Context, conn *pgx.Conn, name, owner, template string) error {
	if template == "" {
		template = "template0"
	}
	sql := fmt.Sprintf("create database %s owner %s template %s",
		pgx.Identifier{name}.Sanitize(), pgx.Identifier{owner}.Sanitize(), pgx.Identifier{template}.Sanitize())
	if err := createOr(ctx, conn, sql, ""); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// createOr runs create and, where the thing is there already, otherwise (if any).
// Two processes may do this at once: the loser is told by a unique violation in
// the catalogue, or that a tuple was concurrently updated.
func createOr(ctx context.Context, conn *pgx.Conn, create, otherwise string) error {
	var err error
	for range 5 {
		if _, err = conn.Exec(ctx, create); err == nil {
			return nil
		}
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) {
			return err
		}
		switch pgErr.Code {
		case "42710", "42P04", "23505": // duplicate_object, duplicate_database, unique_violation
			if otherwise == "" {
				return nil
			}
			create = otherwise
		case "XX000": // tuple concurrently updated
		default:
			return err
		}
	}
	return err
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
