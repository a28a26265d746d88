package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
)

var update = flag.Bool("update", false, "write docs/REGION.md's tables anew")

func TestServe_refusesWrongConfiguration(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for want, args := range map[string][]string{
		`--region: "EU West"`:      {"--region=EU West"},
		`--listen: "9101"`:         {"--listen=9101"},
		"--operator-listen: \"x\"": {"--operator-listen=x"},
		"--pool-size: 0":           {"--pool-size=0"},
		"--max-in-flight: 0":       {"--max-in-flight=0"},
		"--workers: -1":            {"--workers=-1"},
		"--acquire-timeout: 8s: must be shorter than --request-timeout":   {"--acquire-timeout=8s"},
		"--statement-timeout: 8s: must be shorter than --request-timeout": {"--statement-timeout=8s"},
		"--lock-timeout: 3s: must not be longer":                          {"--lock-timeout=3s"},
		"--idle-in-transaction-timeout: 0s":                               {"--idle-in-transaction-timeout=0s"},
		"--shutdown-timeout: 0s":                                          {"--shutdown-timeout=0s"},
		"--drain-delay: -1s":                                              {"--drain-delay=-1s"},
		"--directory: read directory":                                     {"--directory=nowhere.json"},
		`unknown object member name "tenant"`:                             {"--directory=" + file("d.json", `{"tenant":{}}`, 0o600)},
		"--directory-key: must be 64 or more hexadecimal":                 {"--directory-key=secret"},
		"chmod 600":                           {"--directory-key=file:" + file("k", strings.Repeat("0", 64), 0o644)},
		"--session-key: stat nowhere.pem":     {"--session-key=nowhere.pem"},
		"session cookie \"a b\"":              {"--session-cookie=a b"},
		"shorter than --session-life":         {"--session-life=1h", "--session-max-life=30m"},
		"shorter than --session-max-life":     {"--session-max-life=48h"},
		"session life 1s":                     {"--session-life=1s"},
		`POP "fra": open nowhere`:             {"--edge-keys=fra=nowhere.json"},
		`"fra": must be POP=FILE`:             {"--edge-keys=fra"},
		`POP "fra" stands twice`:              {"--edge-keys=fra=https://fra.example/k,fra=https://fra.example/k"},
		"keys are fetched over https":         {"--edge-keys=fra=http://fra.example/k"},
		"either this or --edge-secret":        {"--edge-secret=0123456789abcdef0123456789abcdef"},
		"HS256 needs at least 32":             {"--edge-keys=", "--edge-secret=short"},
		"is \"us\", must be this region":      {"--storefront-tenant=globex"},
		`--log-level must be one of`:          {"--log-level=loud"},
		"unknown flag --regoin":               {"--regoin=eu"},
		"expected duration":                   {"--session-life=12"},
		"--database-url: database URL":        {"--database-url=postgres://:x:y"},
		"--listen: listen tcp 192.0.2.1:1: ":  {"--listen=192.0.2.1:1"},
		"unexpected argument everything":      {"everything"},
		"--database-url: ask the database fo": {"--database-url=postgres://nobody@127.0.0.1:1/nothing"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			status := run(t.Context(), append(append([]string{}, s.args...), args...), io.Discard, &stderr)
			if status == 0 || !strings.Contains(stderr.String(), want) {
				t.Errorf("status %d, %q", status, stderr.String())
			}
		})
	}
}

func TestServe_saysAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	var stderr bytes.Buffer
	run(t.Context(), append(s.args, "--region=?", "--pool-size=0", "--session-key=nowhere"), io.Discard, &stderr)
	for _, want := range []string{"--region", "--pool-size", "--session-key"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q does not name %s", stderr.String(), want)
		}
	}
}

func TestServe_refusesADatabaseThatIsNotMigrated(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	var stderr bytes.Buffer
	status := run(t.Context(), append(s.args, "--database-url="+pgtest.NewEmpty(t).URL), io.Discard, &stderr)
	if status == 0 || !strings.Contains(stderr.String(), "run `regionalsvc migrate`") {
		t.Errorf("status %d, %q", status, stderr.String())
	}
}

// TestServe_defaultsKeepTheOrderOfDeadlines: statement < region < edge, as
// handoff promises both sides.
func TestServe_defaultsKeepTheOrderOfDeadlines(t *testing.T) {
	t.Parallel()
	var p program
	parser, err := kong.New(&p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{
		"serve", "--region=eu", "--database-url=x", "--directory=x", "--directory-key=x", "--session-key=x", "--session-issuer=x", "--session-audience=x",
	}); err != nil {
		t.Fatal(err)
	}
	s := p.Serve
	if s.AcquireTimeout != postgres.AcquireTimeout {
		t.Errorf("acquire %s; package postgres has %s", s.AcquireTimeout, postgres.AcquireTimeout)
	}
	if s.StatementTimeout != handoff.StatementTimeout || s.RequestTimeout != handoff.RegionRequestTimeout {
		t.Errorf("statement %s, request %s; handoff has %s, %s", s.StatementTimeout, s.RequestTimeout, handoff.StatementTimeout, handoff.RegionRequestTimeout)
	}
	if !(s.LockTimeout <= s.StatementTimeout && s.StatementTimeout < s.RequestTimeout && s.RequestTimeout < handoff.EdgeResponseTimeout) {
		t.Errorf("lock %s, statement %s, request %s, edge %s", s.LockTimeout, s.StatementTimeout, s.RequestTimeout, handoff.EdgeResponseTimeout)
	}
}

func TestServe_requestPoolHasTheLimitsOfTheFlags(t *testing.T) {
	t.Parallel()
	s := Serve{Region: "eu", DatabaseURL: "postgres://x", PoolSize: 3, StatementTimeout: 4, LockTimeout: 5, IdleInTransactionTimeout: 6}
	want := postgres.Config{URL: "postgres://x", MaxConns: 3, StatementTimeout: 4, LockTimeout: 5, IdleInTransactionTimeout: 6, Name: "gatehouse eu"}
	if got := s.requestPool(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestServe_believesASharedSecret(t *testing.T) {
	t.Parallel()
	const shared = "0123456789abcdef0123456789abcdef"
	source, err := (&Serve{EdgeSecret: shared}).loadEdgeKeys()
	if err != nil {
		t.Fatal(err)
	}
	key, found, err := source.AssertionKey(t.Context(), "any", "")
	if secret, ok := key.Material.([]byte); !found || err != nil || !ok || string(secret) != shared {
		t.Errorf("%v, %t, %v", key, found, err)
	}
	pop := apitest.NewPOP(t, "fra", "eu")
	path := filepath.Join(t.TempDir(), "fra.json")
	if err := os.WriteFile(path, pop.JWKS(), 0o644); err != nil {
		t.Fatal(err)
	}
	source, err = (&Serve{EdgeKeys: "fra=" + path + ", iad=https://iad.invalid/keys"}).loadEdgeKeys()
	if err != nil {
		t.Fatal(err)
	}
	for pop, want := range map[string]bool{"fra": true, "mars": false} {
		if _, found, err := source.AssertionKey(t.Context(), pop, ""); found != want || err != nil {
			t.Errorf("%s: %t, %v", pop, found, err)
		}
	}
}

func TestMigrate_saysWhatItDid(t *testing.T) {
	t.Parallel()
	database := pgtest.NewEmpty(t)
	for _, want := range []string{"00001_tenants.sql", "; 0 steps done"} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), []string{"migrate", "--database-url=" + database.Owner}, &stdout, &stderr)
		if status != 0 || !strings.Contains(stdout.String(), want) {
			t.Errorf("status %d, %s%s", status, stdout.String(), stderr.String())
		}
	}
	var stderr bytes.Buffer
	if status := run(t.Context(), []string{"migrate", "--database-url=" + database.Owner, "--app-role=nobody_here"}, io.Discard, &stderr); status == 0 || !strings.Contains(stderr.String(), "nobody_here") {
		t.Errorf("status %d, %s", status, stderr.String())
	}
}

func TestHelp_isNoError(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}} {
		var stdout bytes.Buffer
		if status := run(context.Background(), args, &stdout, io.Discard); status != 0 || !strings.Contains(stdout.String(), "Usage:") {
			t.Errorf("%q: status %d, %q", args, status, stdout.String())
		}
	}
}

// TestDocument_hasTheFlagsAsTheyAre holds docs/REGION.md to the command line.
func TestDocument_hasTheFlagsAsTheyAre(t *testing.T) {
	t.Parallel()
	const document = "../docs/REGION.md"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for _, command := range []string{"serve", "migrate"} {
		begin, end := "<!-- "+command+" -->\n", "<!-- /"+command+" -->"
		before, rest, ok1 := strings.Cut(want, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no place for %s", document, command)
		}
		want = before + begin + flagTable(t, command) + end + after
	}
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(text) {
		t.Errorf("%s is not what the flags are: go test ./regionalsvc -run Document -update", document)
	}
}

func flagTable(t *testing.T, command string) string {
	t.Helper()
	parser, err := newParser(io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, node := range parser.Model.Children {
		if node.Name != command {
			continue
		}
		for _, f := range node.Flags {
			fallback := "none"
			switch {
			case f.Required:
				fallback = "required"
			case f.Default != "":
				fallback = "`" + f.Default + "`"
			}
			fmt.Fprintf(&table, "| `--%s` | `%s` | %s | %s |\n", f.Name, strings.Join(f.Envs, "`, `"), fallback, strings.ReplaceAll(f.Help, "|", `\|`))
		}
	}
	return table.String()
}
