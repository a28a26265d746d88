package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// command is one line of a console block, and what it shows.
type command struct {
	line, shows string
}

// The tour's commands run as they stand in the README, one shell for all of them;
// only ports and directories are this topology's. "…" stands for anything.
func TestTour_readmeShowsWhatHappens(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	commands := console(string(readme))
	if len(commands) < 8 {
		t.Fatalf("the README's tour has %d commands: were they not found?", len(commands))
	}
	here := strings.NewReplacer(
		"http://127.0.0.1:8080", fra().URL, "http://127.0.0.1:8081", iad().URL,
		"http://127.0.0.1:9101", eu().URL, "http://127.0.0.1:9102", us().URL,
		".demo/", stateDir+"/", "/tmp/", t.TempDir()+"/",
	)
	const end = "---- end of a command ----"
	var script bytes.Buffer
	for _, c := range commands {
		fmt.Fprintf(&script, "%s\necho; echo '%s'\n", here.Replace(c.line), end)
	}
	shell := exec.Command("bash")
	shell.Stdin = &script
	shell.Dir = root
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shown := strings.Split(strings.ReplaceAll(string(out), "\r\n", "\n"), "\n"+end+"\n")
	for i, c := range commands {
		got := strings.TrimSpace(shown[i])
		if !shows(c.shows).MatchString(got) {
			t.Errorf("$ %s\n%s\nbut the README shows\n%s", c.line, got, c.shows)
		}
	}
}

// console finds the commands in a document's console blocks.
func console(document string) (commands []command) {
	inside := false
	for line := range strings.Lines(document) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && strings.HasPrefix(line, "$ "):
			commands = append(commands, command{line: line[2:]})
		case inside && len(commands) > 0:
			last := &commands[len(commands)-1]
			last.shows = strings.TrimSpace(last.shows + "\n" + line)
		}
	}
	return commands
}

func shows(text string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)^` + strings.ReplaceAll(regexp.QuoteMeta(text), "…", ".*") + `$`)
}
