package flags

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff/bucket"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
)

// Reasons of an evaluation (OpenFeature specification, "Resolution Reason").
const (
	reasonStatic = "STATIC"          // the flag has no rule
	reasonTarget = "TARGETING_MATCH" // a rule decided
	reasonSplit  = "SPLIT"           // a rule decided, for a share of users
	reasonNone   = "DEFAULT"         // no rule did
)

// What flags are made of.
type (
	Definition = definition.Flag
	Variant    = definition.FlagVariant
	Rule       = definition.Rule
)

// compiled is a flag with its answers, made in advance.
type compiled struct {
	*Definition
	answers map[answerKey]*answer
}

// answer is what one evaluation says, made in advance.
type answer struct {
	json []byte // the object of OFREP's evaluationSuccess
	text string // what {edge.flag.KEY} stands for
}

type answerKey struct{ variant, reason string }

// set is all flags of one edge_flags, checked, compiled and sorted by key.
type set struct{ flags []*compiled }

// find gives the flag of that key, nil when there is none.
func (s *set) find(key string) *compiled {
	at, found := slices.BinarySearchFunc(s.flags, key, byKey)
	if !found {
		return nil
	}
	return s.flags[at]
}

func byKey(d *compiled, key string) int { return strings.Compare(d.Key, key) }

// compile checks definitions and writes their answers.
func compile(definitions []*Definition) (*set, error) {
	checked, err := definition.CheckFlags(definitions)
	if err != nil {
		return nil, err
	}
	s := new(set)
	for _, flag := range checked {
		d := &compiled{Definition: flag}
		if err := d.write(); err != nil {
			return nil, fmt.Errorf("flag %s: %w", d.Key, err)
		}
		s.flags = append(s.flags, d)
	}
	slices.SortFunc(s.flags, func(a, b *compiled) int { return strings.Compare(a.Key, b.Key) })
	return s, nil
}

// write makes every answer that the flag can give.
func (d *compiled) write() error {
	d.answers = map[answerKey]*answer{}
	add := func(variant, reason string) error {
		value := d.Variants[d.Index(variant)].Value.Clone()
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
		err = errors.Join(err, add(r.Variant, reasonOf(&r)))
	}
	return err
}

func reasonOf(r *Rule) string {
	if r.Coverage != nil {
		return reasonSplit
	}
	return reasonTarget
}

// evaluate answers for a request.
func (d *compiled) evaluate(of *decision.Decision, r *http.Request, country string) *answer {
	for i := range d.Rules {
		rule := &d.Rules[i]
		if holds(rule, d.Key, of, r, country) {
			return d.answers[answerKey{rule.Variant, reasonOf(rule)}]
		}
	}
	reason := reasonNone
	if len(d.Rules) == 0 {
		reason = reasonStatic
	}
	return d.answers[answerKey{d.Default, reason}]
}

func holds(r *Rule, key string, of *decision.Decision, request *http.Request, country string) bool {
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
