package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testFunc  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	testNamed = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`")
)

// TestHouse_everyPromiseOfSecurityIsTested: each test that docs/SECURITY.md names is
// there, and each row of a table of promises names one.
func TestHouse_everyPromiseOfSecurityIsTested(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	if err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, found := range testFunc.FindAllSubmatch(source, -1) {
			there[string(found[1])] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../../docs/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	promises, named := 0, 0
	inTable := false
	for n, line := range strings.Split(string(document), "\n") {
		for _, found := range testNamed.FindAllStringSubmatch(line, -1) {
			named++
			if !there[found[1]] {
				t.Errorf("docs/SECURITY.md:%d: there is no test %s", n+1, found[1])
			}
		}
		switch {
		case strings.HasPrefix(line, "| promise |"):
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable && !strings.HasPrefix(line, "| --- "):
			if promises++; !testNamed.MatchString(line) {
				t.Errorf("docs/SECURITY.md:%d: this promise names no test", n+1)
			}
		}
	}
	if promises < 20 || named < promises {
		t.Fatalf("%d promises with %d tests: the document is not read as it is written", promises, named)
	}
}
