package experiment

import (
	"net/http"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff/bucket"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
)

// What experiments are made of.
type (
	Definition = definition.Experiment
	Variant    = definition.Variant
)

// Units that an experiment divides by.
const (
	ByUser      = definition.ByUser
	ByTenant    = definition.ByTenant
	ByAnonymous = definition.ByAnonymous
)

// compiled is an experiment with the parts of the buckets that its variants have.
type compiled struct {
	*Definition
	ranges []bucket.Range
}

// set is all experiments of one edge_experiment, checked and compiled.
type set struct {
	definitions []*compiled
	visitors    bool // one is by a visitor's id
}

// compile checks definitions and works out their ranges.
func compile(definitions []*Definition) (*set, error) {
	checked, err := definition.CheckExperiments(definitions)
	if err != nil {
		return nil, err
	}
	s := new(set)
	for _, d := range checked {
		s.definitions = append(s.definitions, &compiled{d, d.Ranges()})
		s.visitors = s.visitors || d.By == ByAnonymous
	}
	return s, nil
}

// choose gives the variant of unit, empty when it is not in the experiment.
func (d *compiled) choose(unit string) string {
	if unit == "" || d.Namespace != nil && !d.Namespace.Holds(unit) {
		return ""
	}
	at := bucket.Of(d.Seed, unit)
	for i, r := range d.ranges {
		if r.Holds(at) {
			return d.Variants[i].Name
		}
	}
	return ""
}

// unit is what the experiment divides by, empty where the request has none.
func (d *compiled) unit(of *decision.Decision) string {
	switch d.By {
	case ByTenant:
		return of.Identity.Tenant
	case ByAnonymous:
		return of.AnonymousID
	}
	// Not the issuer: a tenant that moves gets another, and its users would change
	// sides. Two users of one name share a bucket and nothing else.
	return of.Identity.Subject
}

// meant reports whether the experiment is for the request's session and country.
func (d *compiled) meant(of *decision.Decision, r *http.Request, country string) bool {
	if len(d.Countries) == 0 {
		return d.Includes(of.Identity, "")
	}
	return d.Includes(of.Identity, edge.Country(r, country))
}
