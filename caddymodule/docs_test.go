package caddymodule_test

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// TestDocs_examplesAreAdapted holds the examples of docs/CADDYFILE.md, blocks
// marked caddy, to the directives.
func TestDocs_examplesAreAdapted(t *testing.T) {
	data, err := os.ReadFile("../docs/CADDYFILE.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```caddy\n(.*?)^```$").FindAllSubmatch(data, -1)
	if len(blocks) == 0 {
		t.Fatal("there is no example")
	}
	for i, block := range blocks {
		t.Run(strconv.Itoa(i+1), func(t *testing.T) {
			if _, err := edgetest.Adapt(string(block[1])); err != nil {
				t.Errorf("%v\n%s", err, block[1])
			}
		})
	}
}
