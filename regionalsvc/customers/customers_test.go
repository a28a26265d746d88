package customers_test

import (
	"fmt"
	"testing"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/customers"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/regiontest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestList_pagesOfOneTenant(t *testing.T) {
	t.Parallel()
	region := regiontest.New(t)
	service := customers.New(region.DB)
	region.Serve(t, service.Routes()...)
	acme, globex := apitest.User("acme"), apitest.User("globex")
	for i := range 5 {
		if _, err := service.Add(t.Context(), acme, fmt.Sprint("customer ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := service.Add(t.Context(), globex, "Grace"); err != nil {
		t.Fatal(err)
	}
	var names []string
	for target := "/api/customers?limit=2"; ; {
		w := region.Ask(t, "GET", target, "", acme)
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		page := regiontest.Decode[api.Page[customers.Customer]](t, w)
		for _, c := range page.Items {
			names = append(names, c.Name)
		}
		if page.Next == nil {
			break
		}
		target = "/api/customers?limit=2&cursor=" + *page.Next
	}
	if got := fmt.Sprint(names); got != "[customer 0 customer 1 customer 2 customer 3 customer 4]" {
		t.Errorf("got %s", got)
	}
	w := region.Ask(t, "GET", "/api/customers", "", globex)
	if page := regiontest.Decode[api.Page[customers.Customer]](t, w); len(page.Items) != 1 || page.Items[0].Name != "Grace" || page.Next != nil {
		t.Errorf("globex sees %s", w.Body)
	}
	if w := region.Ask(t, "GET", "/api/customers?cursor=x", "", acme); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
