package portal

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// browser is what the script uses of one. Time passes by turns of its interval.
const browser = `
let now = 1e12, turn = null, woken = null, status = 200, asked = [];
let stored = {};
globalThis.document = { currentScript: { dataset: { every: "900" } }, addEventListener: (name, f) => { woken = f; } };
globalThis.localStorage = { getItem: (k) => k in stored ? stored[k] : null, setItem: (k, v) => { stored[k] = v; } };
globalThis.setInterval = (f, ms) => { turn = { f, ms }; };
Date.now = () => now;
globalThis.fetch = async (path, how) => { asked.push(how.method + " " + path); if (!status) throw new Error("offline"); return { status }; };
const settle = () => new Promise((done) => setTimeout(done, 0));
const pass = async (minutes) => { for (const end = now + minutes * 60000; now < end;) { now += turn.ms; await turn.f(); } };
const check = (what, want) => { if (asked.length !== want) { console.log(what + ": asked " + asked.length + " times, want " + want); } asked = []; };
`

// TestRenew_script holds the page's script to what it promises, in Node: it asks at
// each quarter of the token's life, once for all tabs, and again soon after an
// outage; what is refused is not asked for again before the next quarter.
func TestRenew_script(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatal("node is not on the PATH (.ci/need nodejs): the page's script was not run")
	case err != nil:
		t.Skip("node is not on the PATH: the page's script was NOT run")
	}
	script := browser + renew + `
const page = turn;
(async () => {
  await settle();
  check("a page that was opened", 1);
  await pass(60); check("an hour", 4);
  stored.renewed = String(now); await pass(11); check("another tab did", 0);
  await woken(); check("a tab that is looked at", 0);
  await pass(5); check("its quarter is over", 1);
  status = 503; await pass(15); if (asked.length < 1) console.log("never asked"); asked = [];
  await pass(4); if (asked.length < 2) console.log("an outage: asked " + asked.length + " times"); asked = [];
  status = 0; await pass(4); if (asked.length < 2) console.log("offline: asked " + asked.length + " times"); asked = [];
  status = 401; await pass(4); check("refused", 1);
  status = 200; await pass(30); check("half an hour", 2);
  stored.renewed = String(now + 1e9); await pass(2); check("a clock that was put back", 1);
  globalThis.localStorage = undefined; await pass(60); check("no storage", 4);
})();`
	out, err := exec.CommandContext(t.Context(), node, "-e", script).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("%v\n%s", err, out)
	}
}
