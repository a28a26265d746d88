package command_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/command"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

const token = "the-token-of-the-operator-32-bytes-and-more"

// What a region does with it is tested beside it, and both together in test/e2e.
func TestRevoke_everywhereAsksTheRegion(t *testing.T) {
	t.Setenv("GATEHOUSE_OPERATOR_TOKEN", "")
	var got, sent string
	answer := `{"region":"eu","ended":{"tenant":"acme","sid":"s1","iss":"gatehouse:eu"},"at":"2026-11-28T12:00:00Z","scope":"everywhere"}`
	status := http.StatusOK
	region := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, sent = r.Method+" "+r.URL.Path+" "+string(body), r.Header.Get("Authorization")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(region.Close)
	file := edgetest.Write(t, "token", []byte(token+"\n"))
	args := []string{"--everywhere", "--region", region.URL, "--token-file", file, "--of", "acme", "--session", "s1"}
	out, err := typed(t, command.Revoke, args...)
	if err != nil || out != "Region eu has ended session s1 of gatehouse:eu, and tells every POP.\n" {
		t.Errorf("%v %q", err, out)
	}
	if got != `POST /revocations {"sid":"s1","tenant":"acme"}` && got != `POST /revocations {"tenant":"acme","sid":"s1"}` || sent != "Bearer "+token {
		t.Errorf("asked %q with %q", got, sent)
	}
	t.Setenv("GATEHOUSE_OPERATOR_TOKEN", "file:"+file)
	if out, err := typed(t, command.Revoke, "--everywhere", "--region", region.URL, "--tenant", "acme", "--json"); err != nil || !strings.Contains(out, `"scope": "everywhere"`) || !strings.HasSuffix(got, `{"tenant":"acme"}`) {
		t.Errorf("%v %q %q", err, out, got)
	}
	t.Setenv("GATEHOUSE_OPERATOR_TOKEN", "")

	for _, row := range []struct {
		name   string
		status int
		answer string
		args   []string
		says   string
	}{
		{"a refusal", 421, `{"type":"x","title":"Misdirected","status":421,"detail":"The tenant is at home in us: ask there."}`, args, "refuses (421): The tenant is at home in us"},
		{"a fault", 400, `{"type":"x","title":"Invalid body","status":400,"errors":[{"field":"/tenant","message":"must be a tenant's name"}]}`, args, "/tenant must be a tenant's name"},
		{"no region", 404, "404 page not found", args, "no operator's address of a region"},
		{"no token", 200, answer, []string{"--everywhere", "--region", region.URL, "--tenant", "acme"}, "give --token-file"},
		{"a token for everybody", 200, answer, []string{"--everywhere", "--region", "http://192.0.2.1:9191", "--token-file", file, "--tenant", "acme"}, "no https address"},
		{"a redirect", 302, "", args, "answered 302"},
		{"no region named", 200, answer, []string{"--everywhere", "--tenant", "acme"}, "needs --region"},
		{"whose session", 200, answer, []string{"--everywhere", "--region", region.URL, "--token-file", file, "--session", "s"}, "needs --of"},
		{"a tenant of a tenant", 200, answer, []string{"--everywhere", "--region", region.URL, "--token-file", file, "--tenant", "a", "--of", "b"}, "--of goes with"},
		{"a POP too", 200, answer, append(args, "--address", "127.0.0.1:1"), "address"},
		{"not everywhere", 200, answer, []string{"--region", region.URL, "--tenant", "a"}, "go with --everywhere"},
		{"nobody there", 200, answer, []string{"--everywhere", "--region", "http://127.0.0.1:1", "--token-file", file, "--tenant", "acme"}, "no region answers"},
	} {
		status, answer = row.status, row.answer
		out, err := typed(t, command.Revoke, row.args...)
		if err == nil || out != "" || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q %v", row.name, out, err)
		}
	}
}
