package caddymodule_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// Every example of the reference is a configuration that Caddy takes.
func TestDocs_everyExampleIsAdapted(t *testing.T) {
	t.Parallel()
	reference, err := os.ReadFile("../docs/CADDYFILE.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```caddy\n(.*?)```").FindAllSubmatch(reference, -1)
	if len(examples) == 0 {
		t.Fatal("no example was found")
	}
	for _, example := range examples {
		if _, err := edgetest.Adapt(string(example[1])); err != nil {
			t.Errorf("%v\n%s", err, example[1])
		}
	}
}
