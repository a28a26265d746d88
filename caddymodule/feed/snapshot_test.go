package feed

import (
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// Whatever stands in the snapshot's file: it is refused, or it is a state that can
// be kept and read again.
func FuzzSnapshot(f *testing.F) {
	f.Add([]byte(`{"created":"2026-01-01T00:00:00Z","position":7,"state":{"revocations":[],"heard":{"eu":"2026-01-01T00:00:00Z"}}}`))
	f.Add([]byte(`{"created":"2026-01-01T00:00:00Z","position":7,"taken":"2026-01-01T00:00:00Z","state":{"revocations":[` +
		`{"iss":"i","sid":"s","at":1,"exp":2},{"iss":"i","sub":"u","except":"s","at":1,"exp":2},{"tenant":"t","at":1,"exp":2}],"heard":{},` +
		`"tenants":[{"region":"eu","message":{"tenant":"acme","home":"eu","state":"active","epoch":1}}],` +
		`"definitions":[{"region":"eu","message":{"seq":1,"kind":"flags","name":"web","body":{"flags":[]}}},{"region":"eu","message":{"seq":1,"kind":"flags","name":"old","exp":9}}],` +
		`"values":[{"region":"eu","message":{"seq":1,"bucket":"b","tenant":"acme","key":"k","value":"v"}}],` +
		`"purges":[{"region":"eu","message":{"seq":1,"group":"g","exp":2}}],"floor":5,"missed":["kv"]}}`))
	f.Add([]byte(`{"state":null}`))
	f.Add([]byte(`{"state":{"definitions":[{"region":"eu","message":{"kind":"flags","name":"web","body":null}}]}}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		found, err := parse(document, feed.Limits{Revocations: 100, Values: 10, Tenants: 10, Purges: 3})
		if err != nil {
			return
		}
		text, err := json.Marshal(found)
		if err != nil {
			t.Fatalf("what was read cannot be kept: %v", err)
		}
		if _, err := parse(text, feed.Limits{}); err != nil {
			t.Fatalf("what was kept cannot be read: %v\n%s", err, text)
		}
	})
}
