package demo

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/cluster"
)

// EnvDatabaseURL is the start of the variables that name running servers:
// DATABASE_URL_EU and DATABASE_URL_US.
const EnvDatabaseURL = "DATABASE_URL_"

// ownerRole owns the tables in a server of the demo's own.
const ownerRole = "gatehouse_owner"

// database is what one region needs to know of its own.
type database struct {
	// owner migrates; service serves, and row-level security binds it.
	owner, service string
}

// databases finds or starts a server for the regions, and makes in it what they
// need short of the tables.
func (d *Demo) databases(ctx context.Context) (all map[string]database, err error) {
	given, err := givenServers()
	if err != nil {
		return nil, err
	}
	all = map[string]database{}
	if given != nil {
		for _, region := range regionNames {
			if all[region], err = d.useServer(ctx, region, given[region]); err != nil {
				return nil, fmt.Errorf("%s%s: %w", EnvDatabaseURL, strings.ToUpper(region), err)
			}
			d.opts.Log("PostgreSQL: %s%s is used for region %s", EnvDatabaseURL, strings.ToUpper(region), region)
		}
		return all, nil
	}
	if err := d.startServer(ctx); err != nil {
		return nil, err
	}
	for _, region := range regionNames {
		if all[region], err = d.makeDatabase(ctx, region); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// givenServers reads DATABASE_URL_*. They are given for all regions or for none.
func givenServers() (map[string]string, error) {
	given, missing := map[string]string{}, ""
	for _, region := range regionNames {
		name := EnvDatabaseURL + strings.ToUpper(region)
		if value := os.Getenv(name); value != "" {
			given[region] = value
		} else {
			missing = name
		}
	}
	if len(given) > 0 && missing != "" {
		return nil, fmt.Errorf("%s is not set: set it too, or none of %s*", missing, EnvDatabaseURL)
	}
	if len(given) == 0 {
		return nil, nil
	}
	if given["eu"] == given["us"] {
		return nil, fmt.Errorf("%sEU and %sUS are the same: each region has a database of its own", EnvDatabaseURL, EnvDatabaseURL)
	}
	return given, nil
}

// useServer makes the service's login role in a server that somebody else runs.
// adminURL is of a role that may create roles and tables there.
func (d *Demo) useServer(ctx context.Context, region, adminURL string) (database, error) {
	u, err := url.Parse(adminURL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Path == "" || u.Path == "/" {
		return database{}, errors.New("must be a URL that names a database, for example postgres://owner:password@localhost:5432/region_" + region)
	}
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return database{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))

	// Another checkout's demo may use the same server: the role is this one's.
	whose := sha256.Sum256([]byte(d.opts.Dir))
	role := "gatehouse_" + region + "_" + hex.EncodeToString(whose[:4])
	password := rand.Text()
	if err := cluster.CreateRole(ctx, conn, postgres.DefaultAppRole, ""); err != nil {
		return database{}, err
	}
	if err := cluster.CreateRole(ctx, conn, role, password, postgres.DefaultAppRole); err != nil {
		return database{}, err
	}
	service := *u
	service.User = url.UserPassword(role, password)
	return database{owner: adminURL, service: service.String()}, nil
}

// startServer runs PostgreSQL for this demo alone.
func (d *Demo) startServer(ctx context.Context) (err error) {
	bin, how, err := programs(ctx, d.opts.Dir, d.opts.Log)
	if err != nil {
		return err
	}
	d.server, err = cluster.Open(ctx, cluster.Options{
		Dir: filepath.Join(d.opts.Dir, "postgresql"), Bin: bin, Durable: !d.opts.Throwaway, Log: d.opts.Log,
	})
	if err != nil {
		return err
	}
	d.opts.Log("PostgreSQL: %s; this demo's own runs on port %d", how, d.server.Port())
	if err := d.server.CreateRole(ctx, postgres.DefaultAppRole, ""); err != nil {
		return err
	}
	d.ownerPassword = rand.Text() // new ones each time: nobody has to keep them
	return d.server.CreateRole(ctx, ownerRole, d.ownerPassword)
}

func (d *Demo) makeDatabase(ctx context.Context, region string) (database, error) {
	name, role, password := "region_"+region, "gatehouse_"+region, rand.Text()
	if err := d.server.CreateRole(ctx, role, password, postgres.DefaultAppRole); err != nil {
		return database{}, err
	}
	if err := d.server.CreateDatabase(ctx, name, ownerRole); err != nil {
		return database{}, err
	}
	return database{
		owner:   d.server.URL(ownerRole, d.ownerPassword, name),
		service: d.server.URL(role, password, name),
	}, nil
}
