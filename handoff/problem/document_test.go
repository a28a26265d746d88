package problem

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// documented is a row of docs/PROBLEMS.md.
type documented struct{ statuses, title, when, remedy string }

func document(t *testing.T) map[string]documented {
	t.Helper()
	data, err := os.ReadFile("../../docs/PROBLEMS.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]documented{}
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 {
			t.Fatalf("%d cells in %s", len(cells), line)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.Trim(cells[0], "`")
		if _, twice := rows[name]; twice {
			t.Errorf("%s is documented twice", name)
		}
		rows[name] = documented{cells[1], cells[2], cells[3], cells[4]}
	}
	return rows
}

// constants are the names in titles.go, as it is written.
func constants(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "titles.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if decl, ok := n.(*ast.GenDecl); ok && decl.Tok == token.CONST {
			for _, spec := range decl.Specs {
				for _, value := range spec.(*ast.ValueSpec).Values {
					name, err := strconv.Unquote(value.(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					names[name] = true
				}
			}
		}
		return true
	})
	return names
}

func TestDocument_namesEveryProblem(t *testing.T) {
	t.Parallel()
	rows, names := document(t), constants(t)
	statuses := regexp.MustCompile(`^[45]\d\d(, [45]\d\d)*$`)
	for name := range names {
		row, ok := rows[name]
		switch {
		case titles[name] == "":
			t.Errorf("%s has no title", name)
		case !ok:
			t.Errorf("%s is not in docs/PROBLEMS.md", name)
		case row.title != titles[name]:
			t.Errorf("%s is documented as %q, its title is %q", name, row.title, titles[name])
		case !statuses.MatchString(row.statuses):
			t.Errorf("%s has the statuses %q", name, row.statuses)
		case row.when == "" || row.remedy == "":
			t.Errorf("%s: when it comes, or what to do, is not said", name)
		}
	}
	for name := range rows {
		if !names[name] {
			t.Errorf("docs/PROBLEMS.md names %s, the code does not", name)
		}
	}
	for name := range titles {
		if !names[name] {
			t.Errorf("%s has a title and no constant", name)
		}
	}
}

func TestNames_fitAURNAndALabel(t *testing.T) {
	t.Parallel()
	for name := range titles {
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(name) {
			t.Errorf("%q", name)
		}
	}
}
