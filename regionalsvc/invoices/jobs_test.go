package invoices

import (
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/orders"
)

// A field that only one of them has, or names otherwise, fails here.
func TestJob_isWhatOrdersEnqueue(t *testing.T) {
	t.Parallel()
	sent := orders.Invoice{Tenant: "acme", Order: "o", Customer: "c", TotalCents: 1, Currency: "EUR"}
	if sent.Kind() != (job{}).Kind() {
		t.Errorf("kind %q, the worker's is %q", sent.Kind(), job{}.Kind())
	}
	raw, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var got job
	if err := json.Unmarshal(raw, &got, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if got != job(sent) {
		t.Errorf("%s is read as %+v", raw, got)
	}
}
