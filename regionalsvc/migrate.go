package main

import (
	"context"
	"fmt"
	"io"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
)

// Migrate is `regionalsvc migrate`.
type Migrate struct {
	DatabaseURL string `env:"DATABASE_URL" required:"" placeholder:"URL" help:"Connection string of the role that owns the tables, to PostgreSQL itself and not to a pooler."`
	AppRole     string `env:"GATEHOUSE_APP_ROLE" default:"gatehouse_app" help:"Group role that gets the service's grants; its login roles are members."`
}

// Run migrates, and says what it did.
func (m *Migrate) Run(ctx context.Context, out io.Writer) error {
	steps := 0
	err := postgres.Migrate(ctx, m.DatabaseURL, m.AppRole, func(format string, args ...any) {
		steps++
		fmt.Fprintf(out, format+"\n", args...)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the database is at migration %d; %d steps done\n", postgres.SchemaVersion(), steps)
	return nil
}
