// Package purges has POPs drop what they have stored, as an operator asks.
package purges

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
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

// Purge says what POPs are to drop: by one of Group, URL and Prefix.
type Purge struct {
	// Tenant whose answers they are. Empty: those that are everybody's.
	Tenant string `json:"tenant,omitempty"`
	// Group is a cache group (RFC 9875), or "*" for all.
	Group string `json:"group,omitempty"`
	// URL is a whole one, or a path with its query, of all hosts.
	URL string `json:"url,omitempty"`
	// Prefix is what URLs begin with, in the same form.
	Prefix string `json:"prefix,omitempty"`
	// Soft leaves it to be used as what is stale may be.
	Soft bool `json:"soft,omitempty"`
}

// Validate implements [api.Validator].
func (p Purge) Validate() (faults []problem.FieldError) {
	fault := func(field, format string, args ...any) {
		faults = append(faults, problem.FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if p.Tenant != "" && !handoff.ValidTenant(p.Tenant) {
		fault("/tenant", "must be a tenant's name")
	}
	named := 0
	for _, what := range [...]struct {
		field, text string
		check       func(string) error
	}{{"/group", p.Group, checkGroup}, {"/url", p.URL, checkTarget}, {"/prefix", p.Prefix, checkTarget}} {
		if what.text == "" {
			continue
		}
		named++
		if err := what.check(what.text); err != nil {
			fault(what.field, "is nothing to purge: %v", err)
		}
	}
	if named != 1 {
		fault("", "names %d of group, url and prefix: one says what is purged", named)
	}
	return faults
}

func checkGroup(name string) error {
	if name == "*" { // all of them
		return nil
	}
	return handfeed.CheckGroup(name)
}

func checkTarget(text string) error {
	_, _, err := handfeed.Target(text)
	return err
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
// ([api.Operator]) purges a group, a URL, a prefix or all, of everybody's answers or of
// those of a tenant that is at home here.
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
			tx.Queue(audit.Record(audit.Operator, "operator.purged", p.subject(), p))
			return s.outbox.Drop(tx, p.message())
		})
	} else {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			m := p.message()
			m.Expires = time.Now().Add(handfeed.PurgeLife).Unix()
			return s.outbox.Publish(ctx, tx, m)
		})
	}
	if err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	s.outbox.Wake()
	s.log.Info("an operator has purged", zap.String(handoff.FieldTenant, p.Tenant), zap.String(handoff.FieldPurge, p.what()))
	return nil
}

// what names it in one line.
func (p Purge) what() string {
	text := "group " + p.Group
	switch {
	case p.URL != "":
		text = "url " + p.URL
	case p.Prefix != "":
		text = "prefix " + p.Prefix
	}
	if p.Soft {
		text += ", softly"
	}
	return text
}

// subject is what the audit is looked up by: its index holds no long text.
func (p Purge) subject() string {
	text := cmp.Or(p.Group, p.URL, p.Prefix)
	if len(text) > handfeed.MaxGroup {
		text = strings.ToValidUTF8(text[:handfeed.MaxGroup], "")
	}
	return text
}

func (p Purge) message() handfeed.Purge {
	return handfeed.Purge{Tenant: p.Tenant, Group: p.Group, URL: p.URL, Prefix: p.Prefix, Soft: p.Soft}
}
