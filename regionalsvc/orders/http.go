package orders

import (
	"net/http"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/idempotency"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/keyset"
)

// Routes are the endpoints of this capability.
func (s *Service) Routes() []api.Route {
	return []api.Route{
		{Pattern: "POST /api/orders", Handle: s.place},
		{Pattern: "GET /api/orders", Handle: s.list},
		{Pattern: "GET /api/orders/{id}", Handle: s.find},
	}
}

func location(id string) string { return "/api/orders/" + id }

func (s *Service) place(w http.ResponseWriter, r *http.Request) error {
	body, in, err := parse(r)
	if err != nil {
		return err
	}
	once, err := idempotency.From(r, "orders.place", api.Who(r), body)
	if err != nil {
		return err
	}
	_, err = s.Place(r.Context(), api.Who(r), in, once)
	return once.Respond(w, r, err)
}

// parse reads the body, as one span. The bytes are the idempotency key's.
func parse(r *http.Request) (body []byte, in PlaceInput, err error) {
	_, span := tracer(r.Context()).Start(r.Context(), handoff.SpanParseOrder)
	defer span.End()
	if body, err = api.Body(r); err != nil {
		return nil, in, err
	}
	in, err = api.Parse[PlaceInput](body)
	return body, in, err
}

func (s *Service) list(w http.ResponseWriter, r *http.Request) error {
	window, err := keyset.From(r)
	if err != nil {
		return err
	}
	page, err := s.List(r.Context(), api.Who(r), window)
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, page)
}

func (s *Service) find(w http.ResponseWriter, r *http.Request) error {
	order, err := s.Find(r.Context(), api.Who(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, order)
}
