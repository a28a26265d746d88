package experiment

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/caddymodule/bucket"
	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Bounds of what a definition may hold: every request goes through all of it.
const (
	maxExperiments = 100
	maxVariants    = 16
)

// Units that an experiment divides by.
const (
	ByUser      = "user"
	ByTenant    = "tenant"
	ByAnonymous = "anonymous"
)

// Definition is one experiment.
type Definition struct {
	// Name is what the experiment is called: 1 to 63 of a-z, 0-9, '-' and '_'.
	// Required, and unique.
	Name string `json:"name"`

	// Variants are the sides, two to sixteen. Their order counts: whoever adds a
	// side adds it last.
	Variants []Variant `json:"variants,omitempty"`

	// By is the unit that always has the same variant: "user" and "tenant" are
	// those of the session, "anonymous" is a visitor, by a signed cookie of the
	// edge's own. Default: "user". Without the unit a request is not in the
	// experiment.
	By string `json:"by,omitempty"`

	// Coverage is the share of units that take part, 0 to 1. Growing, it takes
	// more in and moves nobody. Default: 1.
	Coverage *float64 `json:"coverage,omitempty"`

	// Seed is what the units are shuffled with. Another seed shuffles anew.
	// Default: Name.
	Seed string `json:"seed,omitempty"`

	// Namespace is the slice of units that may take part. Default: all.
	Namespace *bucket.Space `json:"namespace,omitempty"`

	// Audience is for whom the experiment is. Default: everybody.
	edge.Audience

	ranges []bucket.Range
}

// Variant is one side of an experiment.
type Variant struct {
	// Name is what the side is called: 1 to 63 of a-z, 0-9, '-' and '_'.
	Name string `json:"name"`

	// Weight is its share: all are given and their sum is 1, or none is and all
	// are alike.
	Weight float64 `json:"weight,omitempty"`
}

// set is all experiments of one edge_experiment, checked and compiled.
type set struct {
	definitions []*Definition
	visitors    bool // one is by a visitor's id
}

var validName = regexp.MustCompile(`^[a-z0-9_-]{1,63}$`).MatchString

// compile checks definitions and works out their ranges.
func compile(definitions []*Definition) (*set, error) {
	if len(definitions) > maxExperiments {
		return nil, fmt.Errorf("%d experiments: at most %d are taken", len(definitions), maxExperiments)
	}
	s := new(set)
	names := map[string]bool{}
	for _, given := range definitions {
		switch {
		case given == nil:
			return nil, errors.New("an experiment is null")
		case names[given.Name]:
			return nil, fmt.Errorf("experiment %s stands twice", given.Name)
		}
		names[given.Name] = true
		d := new(Definition) // requests read the one compiled before
		*d = *given
		if err := d.compile(); err != nil {
			return nil, fmt.Errorf("experiment %s: %w", d.Name, err)
		}
		s.definitions = append(s.definitions, d)
		s.visitors = s.visitors || d.By == ByAnonymous
	}
	return s, nil
}

func (d *Definition) compile() error {
	if !validName(d.Name) {
		return errors.New("a name has 1 to 63 characters of a-z, 0-9, '-' and '_'")
	}
	if d.Name == overrideExpiry {
		return fmt.Errorf("%s is no name: an override uses the word", overrideExpiry)
	}
	if d.By == "" {
		d.By = ByUser
	}
	if d.By != ByUser && d.By != ByTenant && d.By != ByAnonymous {
		return fmt.Errorf("by %q: it is %s, %s or %s", d.By, ByUser, ByTenant, ByAnonymous)
	}
	if d.Seed == "" {
		d.Seed = d.Name
	}
	coverage := 1.0
	if d.Coverage != nil {
		coverage = *d.Coverage
	}
	if !(coverage >= 0 && coverage <= 1) { // NaN too
		return fmt.Errorf("coverage %v: it is 0 to 1", coverage)
	}
	if n := d.Namespace; n != nil && (n.Name == "" || !(n.From >= 0 && n.From < n.To && n.To <= 1)) {
		return fmt.Errorf("namespace %q from %v to %v: it has a name, and 0 ≤ from < to ≤ 1", n.Name, n.From, n.To)
	}
	weights, err := d.weights()
	if err != nil {
		return err
	}
	d.ranges = bucket.Ranges(weights, coverage)
	return d.Audience.Check()
}

// weights are those of the variants, which add up to one.
func (d *Definition) weights() ([]float64, error) {
	if len(d.Variants) < 2 || len(d.Variants) > maxVariants {
		return nil, fmt.Errorf("%d variants: it has 2 to %d", len(d.Variants), maxVariants)
	}
	weights := make([]float64, len(d.Variants))
	sum, given := 0.0, 0
	for i, v := range d.Variants {
		if !validName(v.Name) {
			return nil, fmt.Errorf("variant %q: a name has 1 to 63 characters of a-z, 0-9, '-' and '_'", v.Name)
		}
		if d.index(v.Name) != i {
			return nil, fmt.Errorf("variant %s stands twice", v.Name)
		}
		if !(v.Weight >= 0 && v.Weight <= 1) {
			return nil, fmt.Errorf("variant %s: weight %v: it is 0 to 1", v.Name, v.Weight)
		}
		if v.Weight > 0 {
			given++
		}
		weights[i] = v.Weight
		sum += v.Weight
	}
	if given == 0 {
		for i := range weights {
			weights[i] = 1 / float64(len(weights))
		}
		return weights, nil
	}
	if math.Abs(sum-1) > 0.001 {
		return nil, fmt.Errorf("the weights add up to %v, and should to 1", math.Round(sum*1000)/1000)
	}
	return weights, nil
}

// index is the place of a variant, -1 where there is none of that name.
func (d *Definition) index(variant string) int {
	return slices.IndexFunc(d.Variants, func(v Variant) bool { return v.Name == variant })
}

// choose gives the variant of unit, empty when it is not in the experiment.
func (d *Definition) choose(unit string) string {
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
func (d *Definition) unit(of *decision.Decision) string {
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
func (d *Definition) meant(of *decision.Decision, r *http.Request, country string) bool {
	if len(d.Countries) == 0 {
		return d.Includes(of.Identity, "")
	}
	return d.Includes(of.Identity, edge.Country(r, country))
}

// parse reads a file of definitions: {"experiments": […]}.
func parse(data []byte) ([]*Definition, error) {
	var file struct {
		Experiments []*Definition `json:"experiments"`
	}
	if err := json.Unmarshal(data, &file, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	return file.Experiments, nil
}
