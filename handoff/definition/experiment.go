package definition

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff/bucket"
)

// Bounds of what experiments may hold: every request goes through all of it.
const (
	MaxExperiments = 100
	MaxVariants    = 16
)

// OverrideExpiry is the name that no experiment may have: the cookie that overrides
// uses the word.
const OverrideExpiry = "exp"

// Units that an experiment divides by.
const (
	ByUser      = "user"
	ByTenant    = "tenant"
	ByAnonymous = "anonymous"
)

// Experiment is one experiment.
type Experiment struct {
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
	Audience
}

// Variant is one side of an experiment.
type Variant struct {
	// Name is what the side is called: 1 to 63 of a-z, 0-9, '-' and '_'.
	Name string `json:"name"`

	// Weight is its share: all are given and their sum is 1, or none is and all
	// are alike.
	Weight float64 `json:"weight,omitempty"`
}

// CheckExperiments gives experiments with their defaults, or says what is wrong
// with them. What was given stays as it was.
func CheckExperiments(given []*Experiment) ([]*Experiment, error) {
	if len(given) > MaxExperiments {
		return nil, fmt.Errorf("%d experiments: at most %d are taken", len(given), MaxExperiments)
	}
	checked, known := make([]*Experiment, len(given)), map[string]bool{}
	for i, one := range given {
		switch {
		case one == nil:
			return nil, errors.New("an experiment is null")
		case known[one.Name]:
			return nil, fmt.Errorf("experiment %s stands twice", one.Name)
		}
		known[one.Name] = true
		d := new(Experiment)
		*d = *one
		if err := d.check(); err != nil {
			return nil, fmt.Errorf("experiment %s: %w", d.Name, err)
		}
		checked[i] = d
	}
	return checked, nil
}

func (d *Experiment) check() error {
	if !validName(d.Name) {
		return errors.New("a name has 1 to 63 characters of a-z, 0-9, '-' and '_'")
	}
	if d.Name == OverrideExpiry {
		return fmt.Errorf("%s is no name: an override uses the word", OverrideExpiry)
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
	if _, err := d.weights(); err != nil {
		return err
	}
	return d.Audience.Check()
}

// weights are those of the variants, which add up to one.
func (d *Experiment) weights() ([]float64, error) {
	if len(d.Variants) < 2 || len(d.Variants) > MaxVariants {
		return nil, fmt.Errorf("%d variants: it has 2 to %d", len(d.Variants), MaxVariants)
	}
	weights := make([]float64, len(d.Variants))
	sum, given := 0.0, 0
	for i, v := range d.Variants {
		if !validName(v.Name) {
			return nil, fmt.Errorf("variant %q: a name has 1 to 63 characters of a-z, 0-9, '-' and '_'", v.Name)
		}
		if d.Index(v.Name) != i {
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

// Index is the place of a variant, -1 where there is none of that name.
func (d *Experiment) Index(variant string) int {
	return slices.IndexFunc(d.Variants, func(v Variant) bool { return v.Name == variant })
}

// Ranges are the parts of the buckets that the variants have, of an experiment that
// [CheckExperiments] gave.
func (d *Experiment) Ranges() []bucket.Range {
	coverage := 1.0
	if d.Coverage != nil {
		coverage = *d.Coverage
	}
	weights, _ := d.weights()
	return bucket.Ranges(weights, coverage)
}

// ParseExperiments reads a file of experiments, {"experiments": […]}, and checks it
// by [CheckExperiments].
func ParseExperiments(data []byte) ([]*Experiment, error) {
	var file struct {
		Experiments []*Experiment `json:"experiments"`
	}
	if err := json.Unmarshal(data, &file, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	if _, err := CheckExperiments(file.Experiments); err != nil {
		return nil, err
	}
	return file.Experiments, nil
}
