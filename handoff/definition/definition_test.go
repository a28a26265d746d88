package definition

import (
	"strings"
	"testing"
)

// The form of a file, with every member, as a region publishes it.
func TestParseFlags_readsTheWholeForm(t *testing.T) {
	t.Parallel()
	flags, err := ParseFlags([]byte(`{"flags":[` +
		`{"key":"news","public":true,"rules":[{"variant":"on","tenants":["acme"],"roles":["admin"],"countries":["DE"],"coverage":0.5}]},` +
		`{"key":"checkout.form","public":true,"variants":[{"name":"short","value":{"fields":3}},{"name":"long","value":{"fields":12}}],"default":"long"},` +
		`{"key":"audit-everything","default":"on"}]}`))
	if err != nil || len(flags) != 3 || flags[0].Rules[0].Tenants[0] != "acme" {
		t.Fatalf("%+v, %v", flags, err)
	}
	checked, err := CheckFlags(flags)
	if err != nil || checked[0].Default != "off" || flags[0].Default != "" {
		t.Errorf("%+v, %v: want defaults in what is given back, and the given as it was", checked, err)
	}
	for name, text := range map[string]string{
		"an unknown member":  `{"flags":[{"key":"a","more":1}]}`,
		"a flag twice":       `{"flags":[{"key":"a"},{"key":"a"}]}`,
		"a null flag":        `{"flags":[null]}`,
		"a tenant's name":    `{"flags":[{"key":"a","rules":[{"variant":"on","tenants":["A"]}]}]}`,
		"a country's code":   `{"flags":[{"key":"a","rules":[{"variant":"on","countries":["de"]}]}]}`,
		"a variant of none":  `{"flags":[{"key":"a","rules":[{"variant":"no"}]}]}`,
		"another document":   `{"experiments":[]}`,
		"too many":           `{"flags":[` + strings.Repeat(`null,`, MaxFlags) + `null]}`,
		"a coverage above 1": `{"flags":[{"key":"a","rules":[{"variant":"on","coverage":2}]}]}`,
	} {
		if got, err := ParseFlags([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestParseExperiments_readsTheWholeForm(t *testing.T) {
	t.Parallel()
	all, err := ParseExperiments([]byte(`{"experiments":[{"name":"search","by":"tenant","coverage":0.5,"seed":"s","namespace":{"name":"n","from":0,"to":0.5},` +
		`"tenants":["acme"],"variants":[{"name":"old","weight":0.25},{"name":"new","weight":0.75}]}]}`))
	if err != nil || len(all) != 1 || all[0].Tenants[0] != "acme" {
		t.Fatalf("%+v, %v", all, err)
	}
	if r := all[0].Ranges(); len(r) != 2 || r[0].To != 0.125 || r[1].From != 0.25 {
		t.Errorf("ranges %+v", r)
	}
	for name, text := range map[string]string{
		"one variant":     `{"experiments":[{"name":"a","variants":[{"name":"x"}]}]}`,
		"weights over 1":  `{"experiments":[{"name":"a","variants":[{"name":"x","weight":1},{"name":"y","weight":1}]}]}`,
		"a reserved name": `{"experiments":[{"name":"exp","variants":[{"name":"x"},{"name":"y"}]}]}`,
		"twice":           `{"experiments":[{"name":"a","variants":[{"name":"x"},{"name":"y"}]},{"name":"a","variants":[{"name":"x"},{"name":"y"}]}]}`,
	} {
		if got, err := ParseExperiments([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
