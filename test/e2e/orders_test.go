package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

func TestOrders_writtenAtOnePOPAreReadAtTheOther(t *testing.T) {
	t.Parallel()
	for _, email := range []string{ada, grace} {
		for _, pop := range topology.POPs {
			t.Run(email+" at "+pop.POP, func(t *testing.T) {
				t.Parallel()
				b := login(t, pop, email)
				placed := b.place(t, 1299)
				for _, other := range topology.POPs {
					a := b.at(other).get(t, "/api/orders/"+placed.ID)
					if a.status != http.StatusOK || decode[order](t, a) != placed {
						t.Errorf("at %s: %s, want %+v", other.POP, a, placed)
					}
				}
			})
		}
	}
}

func TestOrders_ofAnotherTenantAreNotThere(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ owner, other string }{{ada, grace}, {grace, ada}} {
		placed := login(t, fra(), row.owner).place(t, 1299)
		for _, pop := range topology.POPs {
			other := login(t, pop, row.other)
			other.get(t, "/api/orders/"+placed.ID).is(t, http.StatusNotFound, "not-found")
			for _, o := range other.orders(t) {
				if o.ID == placed.ID {
					t.Errorf("%s sees %s's order in a list at %s", row.other, row.owner, pop.POP)
				}
			}
		}
	}
}

// A customer of another tenant is one that does not exist.
func TestOrders_forAnotherTenantsCustomerAreRefused(t *testing.T) {
	t.Parallel()
	theirs := login(t, fra(), grace).customer(t)
	a := login(t, fra(), ada).post(t, "/api/orders", newOrder{theirs, 1299})
	if a.status/100 != 4 {
		t.Errorf("answered %s", a)
	}
}

func TestOrders_sameIdempotencyKeyIsOneOrderAcrossPOPs(t *testing.T) {
	t.Parallel()
	b := login(t, fra(), ada)
	body := newOrder{b.customer(t), 4711}
	const duplicates = 24
	answers := make([]answer, duplicates)
	var all sync.WaitGroup
	for i := range duplicates {
		all.Go(func() {
			at := b.at(topology.POPs[i%2])
			for answers[i].status == 0 || answers[i].status == http.StatusConflict { // in flight: ask again
				a, err := at.try(http.MethodPost, "/api/orders", encode(body), "Content-Type", "application/json", "Idempotency-Key", "e2e-duplicates")
				if err != nil {
					t.Error(err)
					return
				}
				answers[i] = a
			}
		})
	}
	all.Wait()
	ids := map[string]bool{}
	for _, a := range answers {
		if a.status != http.StatusCreated {
			t.Errorf("answered %s", a)
			continue
		}
		ids[decode[order](t, a).ID] = true
	}
	if len(ids) != 1 {
		t.Errorf("%d orders were made of one: %v", len(ids), ids)
	}
	body.TotalCents = 1
	b.post(t, "/api/orders", body, "Idempotency-Key", `"e2e-duplicates"`).is(t, http.StatusUnprocessableEntity, "")
}

func TestPortal_isServedUnderTheHomeRegionsName(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		email string
		pop   *demo.POP
	}{{ada, fra()}, {ada, iad()}, {grace, fra()}, {grace, iad()}} {
		b := login(t, row.pop, row.email)
		for _, path := range []string{"/app", "/eu/app", "/us/app"} {
			if a := b.get(t, path, "Accept", "text/html"); a.status != http.StatusOK {
				t.Errorf("%s of %s at %s: %s", path, row.email, row.pop.POP, a)
			}
		}
	}
}

// The path is the client's to choose; what the session says of its home is not.
func TestRoutes_whatIsNotInTheCaddyfileIsNotFound(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/admin", "/de/app", "/.well-known/jwks.json", "/metrics", "/healthz", "/API"} {
		login(t, fra(), ada).get(t, path).is(t, http.StatusNotFound, "not-found")
	}
}

func TestPaths_thatCanBeReadInTwoWaysAreRefused(t *testing.T) {
	t.Parallel()
	b := login(t, fra(), ada)
	for _, prefix := range []string{"/api", "/app", "/products", "/nothing"} {
		for _, rest := range []string{"//orders", "/./orders", "/../api/orders", "/x%2forders", "/x%5corders", "/%2e%2e/api", "/x%00", `/x\orders`, "/%2E/x"} {
			a := raw(t, fra(), fmt.Sprintf("GET %s%s HTTP/1.1\r\nHost: x\r\nCookie: %s\r\nConnection: close\r\n\r\n", prefix, rest, b.cookie))
			if a.status != http.StatusBadRequest {
				t.Errorf("%s%s: %s", prefix, rest, a)
			}
		}
	}
}
