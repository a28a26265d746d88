// Package purges has POPs drop what they have stored, as an operator asks.
package purges

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/audit"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// everything is the group that stands for all of them.
const everything = "*"

// Service is the capability. Make it with [New].
type Service struct {
	region    string
	db        *tenancy.DB
	pool      *pgxpool.Pool
	directory *directory.Directory
	outbox    *feed.Outbox
	log       *zap.Logger
}

// New makes the service of region. pool is for what is no tenant's, db for the rest.
// Without an outbox no POP can be told, and every purge is refused.
func New(region string, db *tenancy.DB, pool *pgxpool.Pool, known *directory.Directory, outbox *feed.Outbox, log *zap.Logger) *Service {
	return &Service{region: region, db: db, pool: pool, directory: known, outbox: outbox, log: log}
}

// Purge says what POPs are to drop.
type Purge struct {
	// Tenant whose answers they are. Empty: those that are everybody's.
	Tenant string `json:"tenant,omitempty"`
	// Group is a cache group (RFC 9875), or "*" for all.
	Group string `json:"group"`
}

// Validate implements [api.Validator].
func (p Purge) Validate() (faults []problem.FieldError) {
	if p.Tenant != "" && !handoff.ValidTenant(p.Tenant) {
		faults = append(faults, problem.FieldError{Field: "/tenant", Message: "must be a tenant's name"})
	}
	if p.Group != everything {
		if err := handfeed.CheckGroup(p.Group); err != nil {
			faults = append(faults, problem.FieldError{Field: "/group", Message: "is no cache group: " + err.Error()})
		}
	}
	return faults
}

// purged is the answer to an operator.
type purged struct {
	Region string    `json:"region"`
	Purged Purge     `json:"purged"`
	At     time.Time `json:"at"`
	// Scope is "everywhere": the commit tells every POP.
	Scope string `json:"scope"`
}

// Operator answers POST /purges of the operator's port: who sends token
// ([api.Operator]) purges a group, or all, of everybody's answers or of those of a
// tenant that is at home here.
func (s *Service) Operator(token string) http.Handler { return api.Operator(token, s.operate) }

func (s *Service) operate(w http.ResponseWriter, r *http.Request) error {
	in, err := api.Decode[Purge](r)
	if err != nil {
		return err
	}
	if s.outbox == nil {
		return problem.New(http.StatusConflict, problem.Conflict, "This region has no feed: no POP can be told.")
	}
	if in.Tenant != "" {
		if err := api.AtHome(w, s.directory, in.Tenant, s.region); err != nil {
			return err
		}
	}
	if err := s.Purge(r.Context(), in); err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, purged{s.region, in, time.Now().UTC(), "everywhere"})
}

// Purge has every POP drop what it names, as an operator. A tenant's is in its audit,
// in the commit that tells the POPs. What is everybody's is in no tenant's audit, and
// so in the log.
func (s *Service) Purge(ctx context.Context, p Purge) error {
	var err error
	if p.Tenant != "" {
		err = s.db.Write(ctx, p.Tenant, func(tx *tenancy.Tx) error {
			tx.Queue(audit.Record(audit.Operator, "operator.purged", p.Group, p))
			return s.outbox.Purge(tx, p.Group)
		})
	} else {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			return s.outbox.Publish(ctx, tx, handfeed.Purge{Group: p.Group, Expires: time.Now().Add(handfeed.PurgeLife).Unix()})
		})
	}
	if err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	s.outbox.Wake()
	s.log.Info("an operator has purged", zap.String(handoff.FieldTenant, p.Tenant), zap.String(handoff.FieldGroup, p.Group))
	return nil
}
