package flags

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/caddymodule/bucket"
	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Bounds of what definitions may hold: a bulk answer goes through all of it.
const (
	maxFlags    = 500
	maxVariants = 16
	maxRules    = 32
)

// Reasons of an evaluation (OpenFeature specification, "Resolution Reason").
const (
	reasonStatic = "STATIC"          // the flag has no rule
	reasonTarget = "TARGETING_MATCH" // a rule decided
	reasonSplit  = "SPLIT"           // a rule decided, for a share of users
	reasonNone   = "DEFAULT"         // no rule did
)

// Definition is one flag.
type Definition struct {
	// Key is what the flag is called: 1 to 63 of a-z, 0-9, '.', '-' and '_'.
	// Required, and unique.
	Key string `json:"key"`

	// Public lets clients see the flag. Without it the edge alone does, as
	// {edge.flag.KEY}. Default: false.
	Public bool `json:"public,omitempty"`

	// Variants are the values that the flag can have, by name: true and false,
	// texts, numbers or objects, all of one kind. Default: on is true, off is
	// false.
	Variants []Variant `json:"variants,omitempty"`

	// Default is the variant where no rule decides. Default: off, if there is one.
	Default string `json:"default,omitempty"`

	// Rules are asked in their order; the first that holds decides.
	Rules []Rule `json:"rules,omitempty"`

	answers map[answerKey]*answer
}

// Variant is one value of a flag.
type Variant struct {
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
	edge.Audience
}

// answer is what one evaluation says, made in advance.
type answer struct {
	json []byte // the object of OFREP's evaluationSuccess
	text string // what {edge.flag.KEY} stands for
}

type answerKey struct{ variant, reason string }

// set is all flags of one edge_flags, checked, compiled and sorted by key.
type set struct{ flags []*Definition }

// find gives the flag of that key, nil when there is none.
func (s *set) find(key string) *Definition {
	at, found := slices.BinarySearchFunc(s.flags, key, byKey)
	if !found {
		return nil
	}
	return s.flags[at]
}

func byKey(d *Definition, key string) int { return strings.Compare(d.Key, key) }

var (
	validKey  = regexp.MustCompile(`^[a-z0-9._-]{1,63}$`).MatchString
	validName = regexp.MustCompile(`^[a-z0-9_-]{1,63}$`).MatchString
)

// compile checks definitions and writes their answers.
func compile(definitions []*Definition) (*set, error) {
	if len(definitions) > maxFlags {
		return nil, fmt.Errorf("%d flags: at most %d are taken", len(definitions), maxFlags)
	}
	s := new(set)
	for _, given := range definitions {
		if given == nil {
			return nil, errors.New("a flag is null")
		}
		d := new(Definition) // requests read the one compiled before
		*d = *given
		at, twice := slices.BinarySearchFunc(s.flags, d.Key, byKey)
		if twice {
			return nil, fmt.Errorf("flag %s stands twice", d.Key)
		}
		if err := d.compile(); err != nil {
			return nil, fmt.Errorf("flag %s: %w", d.Key, err)
		}
		s.flags = slices.Insert(s.flags, at, d)
	}
	return s, nil
}

func (d *Definition) compile() error {
	if !validKey(d.Key) {
		return errors.New("a key has 1 to 63 characters of a-z, 0-9, '.', '-' and '_'")
	}
	if len(d.Variants) == 0 {
		d.Variants = []Variant{{"on", jsontext.Value("true")}, {"off", jsontext.Value("false")}}
	}
	if err := d.checkVariants(); err != nil {
		return err
	}
	if d.Default == "" {
		d.Default = "off"
		if d.index(d.Default) < 0 {
			return errors.New("no default: name the variant where no rule decides")
		}
	}
	if d.index(d.Default) < 0 {
		return fmt.Errorf("default %q is not one of the variants", d.Default)
	}
	if len(d.Rules) > maxRules {
		return fmt.Errorf("%d rules: at most %d are taken", len(d.Rules), maxRules)
	}
	for i, r := range d.Rules {
		if err := d.checkRule(r); err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return d.write()
}

func (d *Definition) checkVariants() error {
	if len(d.Variants) > maxVariants {
		return fmt.Errorf("%d variants: at most %d are taken", len(d.Variants), maxVariants)
	}
	var kind jsontext.Kind
	for i, v := range d.Variants {
		if !validName(v.Name) {
			return fmt.Errorf("variant %q: a name has 1 to 63 characters of a-z, 0-9, '-' and '_'", v.Name)
		}
		if d.index(v.Name) != i {
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

func (d *Definition) checkRule(r Rule) error {
	if d.index(r.Variant) < 0 {
		return fmt.Errorf("%q is not one of the variants", r.Variant)
	}
	if r.Coverage != nil && !(*r.Coverage >= 0 && *r.Coverage <= 1) {
		return fmt.Errorf("coverage %v: it is 0 to 1", *r.Coverage)
	}
	return r.Audience.Check()
}

// write makes every answer that the flag can give.
func (d *Definition) write() error {
	d.answers = map[answerKey]*answer{}
	add := func(variant, reason string) error {
		value := d.Variants[d.index(variant)].Value.Clone()
		if err := value.Compact(); err != nil {
			return err
		}
		written, err := json.Marshal(struct {
			Key     string         `json:"key"`
			Value   jsontext.Value `json:"value"`
			Reason  string         `json:"reason"`
			Variant string         `json:"variant"`
		}{d.Key, value, reason, variant})
		if err != nil {
			return err
		}
		text := string(value)
		if value.Kind() == jsontext.KindString {
			if err := json.Unmarshal(value, &text); err != nil {
				return err
			}
		}
		d.answers[answerKey{variant, reason}] = &answer{written, text}
		return nil
	}
	reason := reasonNone
	if len(d.Rules) == 0 {
		reason = reasonStatic
	}
	err := add(d.Default, reason)
	for _, r := range d.Rules {
		err = errors.Join(err, add(r.Variant, r.reason()))
	}
	return err
}

// index is the place of a variant, -1 where there is none of that name.
func (d *Definition) index(variant string) int {
	return slices.IndexFunc(d.Variants, func(v Variant) bool { return v.Name == variant })
}

func (r *Rule) reason() string {
	if r.Coverage != nil {
		return reasonSplit
	}
	return reasonTarget
}

// evaluate answers for a request.
func (d *Definition) evaluate(of *decision.Decision, r *http.Request, country string) *answer {
	for i := range d.Rules {
		rule := &d.Rules[i]
		if rule.holds(d.Key, of, r, country) {
			return d.answers[answerKey{rule.Variant, rule.reason()}]
		}
	}
	reason := reasonNone
	if len(d.Rules) == 0 {
		reason = reasonStatic
	}
	return d.answers[answerKey{d.Default, reason}]
}

func (r *Rule) holds(key string, of *decision.Decision, request *http.Request, country string) bool {
	where := ""
	if len(r.Countries) > 0 {
		where = edge.Country(request, country)
	}
	if !r.Includes(of.Identity, where) {
		return false
	}
	if r.Coverage == nil {
		return true
	}
	user := of.Identity.Subject
	return user != "" && bucket.Of(key, user) < *r.Coverage
}

// parse reads a file of definitions: {"flags": […]}.
func parse(data []byte) ([]*Definition, error) {
	var file struct {
		Flags []*Definition `json:"flags"`
	}
	if err := json.Unmarshal(data, &file, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	return file.Flags, nil
}
