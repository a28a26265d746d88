package keyset_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/keyset"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "AAAA", keyset.Cursor(tenancy.NewID()), keyset.Cursor(keyset.Last), "_____________________w", "_____________________x", "a\nb", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		id, ok := keyset.Parse(cursor)
		if !ok {
			return
		}
		if !tenancy.ValidID(id) {
			t.Errorf("cursor %q gives %q, which is no id", cursor, id)
		}
		if again := keyset.Cursor(id); again != cursor {
			t.Errorf("%q and %q are cursors of one place", cursor, again)
		}
	})
}

func TestFrom_hostileCursors(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"cursor=x", "cursor=AAAA", "cursor=%00", "cursor=a&cursor=b", "cursor=" + keyset.Cursor(keyset.Last) + "A", "cursor=" + keyset.Cursor(keyset.Last) + "%0A", "limit=0", "limit=101", "limit=01", "limit=%2B1"} {
		_, err := keyset.From(httptest.NewRequest("GET", "/?"+query, nil))
		var p *problem.Problem
		if !errors.As(err, &p) || p.Status != 400 || len(p.Errors) != 1 {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func ExamplePage() {
	w := keyset.Window{Limit: 2}
	rows := []string{"019a0000-0000-7000-8000-000000000001", "019a0000-0000-7000-8000-000000000002", "019a0000-0000-7000-8000-000000000003"}
	page := keyset.Page(w, rows, func(id string) string { return id })
	fmt.Println(len(page.Items), *page.Next)
	// Output: 2 AZoAAAAAcACAAAAAAAAAAg
}
