package definition

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of what flags may hold: a bulk answer goes through all of it.
const (
	MaxFlags        = 500
	MaxFlagVariants = 16
	MaxRules        = 32
)

// Flag is one feature flag.
type Flag struct {
	// Key is what the flag is called: 1 to 63 of a-z, 0-9, '.', '-' and '_'.
	// Required, and unique.
	Key string `json:"key"`

	// Public lets clients see the flag. Without it the edge alone does, as
	// {edge.flag.KEY}. Default: false.
	Public bool `json:"public,omitempty"`

	// Variants are the values that the flag can have, by name: true and false,
	// texts, numbers or objects, all of one kind. Default: on is true, off is
	// false.
	Variants []FlagVariant `json:"variants,omitempty"`

	// Default is the variant where no rule decides. Default: off, if there is one.
	Default string `json:"default,omitempty"`

	// Rules are asked in their order; the first that holds decides.
	Rules []Rule `json:"rules,omitempty"`
}

// FlagVariant is one value of a flag.
type FlagVariant struct {
	// Name of the variant: 1 to 63 of a-z, 0-9, '-' and '_'.
	Name string `json:"name"`
	// Value is its JSON value.
	Value jsontext.Value `json:"value"`
}

// Rule gives a variant to those it is for.
type Rule struct {
	// Variant is the one given. Required.
	Variant string `json:"variant"`

	// Coverage is the share of those users that get it, 0 to 1, by the user's
	// bucket; without a user nobody does. Growing, it takes more in and takes
	// nobody out. Default: all of them, with or without a user.
	Coverage *float64 `json:"coverage,omitempty"`

	// Audience is for whom the rule is. Default: everybody.
	Audience
}

var (
	validKey  = regexp.MustCompile(`^[a-z0-9._-]{1,63}$`).MatchString
	validName = regexp.MustCompile(`^[a-z0-9_-]{1,63}$`).MatchString
)

// ValidName reports whether a variant or an experiment may be called name: 1 to 63
// of a-z, 0-9, '-' and '_'.
func ValidName(name string) bool { return validName(name) }

// CheckFlags gives flags with their defaults, or says what is wrong with them.
// What was given stays as it was.
func CheckFlags(given []*Flag) ([]*Flag, error) {
	if len(given) > MaxFlags {
		return nil, fmt.Errorf("%d flags: at most %d are taken", len(given), MaxFlags)
	}
	checked, known := make([]*Flag, len(given)), map[string]bool{}
	for i, one := range given {
		if one == nil {
			return nil, errors.New("a flag is null")
		}
		d := new(Flag)
		*d = *one
		if known[d.Key] {
			return nil, fmt.Errorf("flag %s stands twice", d.Key)
		}
		known[d.Key] = true
		if err := d.check(); err != nil {
			return nil, fmt.Errorf("flag %s: %w", d.Key, err)
		}
		checked[i] = d
	}
	return checked, nil
}

func (d *Flag) check() error {
	if !validKey(d.Key) {
		return errors.New("a key has 1 to 63 characters of a-z, 0-9, '.', '-' and '_'")
	}
	if len(d.Variants) == 0 {
		d.Variants = []FlagVariant{{"on", jsontext.Value("true")}, {"off", jsontext.Value("false")}}
	}
	if err := d.checkVariants(); err != nil {
		return err
	}
	if d.Default == "" {
		d.Default = "off"
		if d.Index(d.Default) < 0 {
			return errors.New("no default: name the variant where no rule decides")
		}
	}
	if d.Index(d.Default) < 0 {
		return fmt.Errorf("default %q is not one of the variants", d.Default)
	}
	if len(d.Rules) > MaxRules {
		return fmt.Errorf("%d rules: at most %d are taken", len(d.Rules), MaxRules)
	}
	for i, r := range d.Rules {
		if err := d.checkRule(r); err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return nil
}

func (d *Flag) checkVariants() error {
	if len(d.Variants) > MaxFlagVariants {
		return fmt.Errorf("%d variants: at most %d are taken", len(d.Variants), MaxFlagVariants)
	}
	var kind jsontext.Kind
	for i, v := range d.Variants {
		if !validName(v.Name) {
			return fmt.Errorf("variant %q: a name has 1 to 63 characters of a-z, 0-9, '-' and '_'", v.Name)
		}
		if d.Index(v.Name) != i {
			return fmt.Errorf("variant %s stands twice", v.Name)
		}
		if !v.Value.IsValid() { // of duplicate names too
			return fmt.Errorf("variant %s: %q is not a JSON value", v.Name, v.Value)
		}
		of := v.Value.Kind()
		switch of {
		case jsontext.KindFalse:
			of = jsontext.KindTrue
		case jsontext.KindNull, jsontext.KindBeginArray:
			return fmt.Errorf("variant %s: a flag is true or false, a text, a number or an object", v.Name)
		}
		if i > 0 && of != kind {
			return fmt.Errorf("variant %s is of another kind than %s: an application asks for one kind", v.Name, d.Variants[0].Name)
		}
		kind = of
	}
	return nil
}

func (d *Flag) checkRule(r Rule) error {
	if d.Index(r.Variant) < 0 {
		return fmt.Errorf("%q is not one of the variants", r.Variant)
	}
	if r.Coverage != nil && !(*r.Coverage >= 0 && *r.Coverage <= 1) {
		return fmt.Errorf("coverage %v: it is 0 to 1", *r.Coverage)
	}
	return r.Audience.Check()
}

// Index is the place of a variant, -1 where there is none of that name.
func (d *Flag) Index(variant string) int {
	return slices.IndexFunc(d.Variants, func(v FlagVariant) bool { return v.Name == variant })
}

// ParseFlags reads a file of flags, {"flags": […]}, and checks it by [CheckFlags].
func ParseFlags(data []byte) ([]*Flag, error) {
	var file struct {
		Flags []*Flag `json:"flags"`
	}
	if err := json.Unmarshal(data, &file, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	if _, err := CheckFlags(file.Flags); err != nil {
		return nil, err
	}
	return file.Flags, nil
}
