package api_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api/apitest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
)

// The edge hears of what was committed, however the handler then answers.
func TestAPI_saysWhereItWrote(t *testing.T) {
	t.Parallel()
	commit := func(r *http.Request) { postgres.StatsOf(r.Context()).Committed("0/16B3748") }
	for name, row := range map[string]struct {
		handle api.Handler
		want   string
	}{
		"nothing": {func(http.ResponseWriter, *http.Request) error { return nil }, ""},
		"an answer": {func(w http.ResponseWriter, r *http.Request) error {
			commit(r)
			w.WriteHeader(http.StatusCreated)
			return nil
		}, "0/16B3748"},
		"a body alone": {func(w http.ResponseWriter, r *http.Request) error {
			commit(r)
			_, err := io.WriteString(w, "done")
			return err
		}, "0/16B3748"},
		"no answer": {func(_ http.ResponseWriter, r *http.Request) error { commit(r); return nil }, "0/16B3748"},
		"a problem": {func(_ http.ResponseWriter, r *http.Request) error {
			commit(r)
			return problem.New(http.StatusConflict, problem.Conflict, "")
		}, "0/16B3748"},
		"a panic": {func(_ http.ResponseWriter, r *http.Request) error { commit(r); panic("after the commit") }, "0/16B3748"},
		"too late": {func(w http.ResponseWriter, r *http.Request) error {
			w.WriteHeader(http.StatusOK)
			commit(r)
			return nil
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRegion(t, nil, api.Route{Pattern: "POST /api/x", Handle: row.handle})
			resp := g.ask(t, http.MethodPost, "/api/x", apitest.User("acme"))
			if got := resp.Header.Get(handoff.HeaderWrote); got != row.want {
				t.Errorf("X-Edge-Wrote %q, want %q", got, row.want)
			}
		})
	}
}
