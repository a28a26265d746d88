package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
)

// Operator is a route of the operator's port for who sends token as a bearer token (RFC
// 6750). What serve returns is answered as a problem. An empty token lets nobody in.
func Operator(token string, serve func(http.ResponseWriter, *http.Request) error) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		err := mayOperate(r, token != "", want)
		if err == nil {
			err = serve(w, r)
		}
		if err != nil {
			var p *problem.Problem
			if !errors.As(err, &p) {
				p = problem.New(http.StatusInternalServerError, problem.Internal, "").WithCause(err)
			}
			p.Write(w, r, "")
		}
	})
}

func mayOperate(r *http.Request, open bool, want [sha256.Size]byte) error {
	if !open {
		return problem.New(http.StatusForbidden, problem.Forbidden, "This region was started without --operator-token: nobody may.")
	}
	// Of the same length whatever was sent, so that the time says nothing of it.
	got := sha256.Sum256([]byte(bearer(r.Header)))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return problem.New(http.StatusUnauthorized, problem.Unauthenticated, "The operator's token is asked for.").
			WithHeader("WWW-Authenticate", `Bearer realm="gatehouse operator"`)
	}
	return nil
}

// AtHome fails with a problem where an operator speaks of a tenant that is not at home
// in region: one that is at home elsewhere is a 421, and w's header names where.
func AtHome(w http.ResponseWriter, known *directory.Directory, tenant, region string) error {
	home, is := known.Home(tenant)
	switch {
	case !is:
		return problem.New(http.StatusNotFound, problem.NotFound, "There is no such tenant.")
	case home != region:
		w.Header().Set(handoff.HeaderHomeRegion, home)
		return problem.New(http.StatusMisdirectedRequest, problem.Misdirected, "The tenant is at home in "+home+": ask there.")
	}
	return nil
}

// bearer gives the one bearer token that was sent, empty where there is none.
func bearer(h http.Header) string {
	values := h["Authorization"]
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}
