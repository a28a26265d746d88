package session

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// checkRules refuses rules that contradict each other or can never hold.
func (s *Session) checkRules() error {
	if s.Optional && (len(s.RequireRoles) > 0 || len(s.RequireClaims) > 0 || s.RequireFresh != 0) {
		return errors.New("optional and require exclude each other: without a session there is no role, no claim and no sign-in")
	}
	for name, values := range s.RequireClaims {
		if err := checkClaimRule(name, values); err != nil {
			return fmt.Errorf("require claim: %w", err)
		}
	}
	for _, role := range s.RequireRoles {
		if role == "" || len(role) > maxRole {
			return fmt.Errorf("require role %q: a role has 1 to %d bytes", role, maxRole)
		}
	}
	if s.RequireFresh != 0 && time.Duration(s.RequireFresh) < time.Second {
		return fmt.Errorf("require fresh %s: it is a second at least", time.Duration(s.RequireFresh))
	}
	for _, origin := range s.TrustedOrigins {
		if err := http.NewCrossOriginProtection().AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("trusted_origin %q is not scheme://host or scheme://host:port: %w", origin, err)
		}
	}
	return nil
}

// hasRole reports whether the session has one of the roles that are required.
func (s *Session) hasRole(d *decision.Decision) bool {
	return len(s.RequireRoles) == 0 || slices.ContainsFunc(s.RequireRoles, d.Identity.Has)
}

// claimRule asks for one of some values of a claim.
type claimRule struct {
	name   string
	values []string
}

func checkClaimRule(name string, values []string) error {
	if err := edge.CheckClaimName(name); err != nil {
		return err
	}
	if len(values) == 0 {
		return fmt.Errorf("claim %q needs a value, or several of which any is enough", name)
	}
	if slices.Contains(values, "") {
		return fmt.Errorf("claim %q: a value is empty", name)
	}
	return nil
}

// rulesOf gives the rules in an order that is always the same.
func rulesOf(required map[string][]string) []claimRule {
	var rules []claimRule
	for _, name := range slices.Sorted(maps.Keys(required)) {
		rules = append(rules, claimRule{name, required[name]})
	}
	return rules
}

// hasClaims reports whether the session's token has every claim that is required.
func (s *Session) hasClaims(d *decision.Decision) bool {
	for i := range s.claims {
		rule := &s.claims[i]
		held := false
		for _, value := range d.Claims[rule.name] {
			held = held || slices.Contains(rule.values, value)
		}
		if !held {
			return false
		}
	}
	return true
}

// isFresh reports whether the user proved who they are not too long ago. A
// session that does not say when is not fresh, nor is one that says a time to
// come, which would stay fresh until then.
func (s *Session) isFresh(d *decision.Decision) bool {
	if s.RequireFresh == 0 {
		return true
	}
	if d.AuthTime.IsZero() {
		return false
	}
	age := time.Since(d.AuthTime)
	return age <= time.Duration(s.RequireFresh) && age >= -edge.DefaultIssuerLeeway
}

// forbid answers a session that may not come in. Another sign-in of the same
// user would not help, so that it is no 401.
func (s *Session) forbid(w http.ResponseWriter, r *http.Request, d *decision.Decision, why string) error {
	return d.Refuse(w, r, problem.New(http.StatusForbidden, problem.Forbidden, why), name)
}

// refuseStale asks for another sign-in: of a person by the login page, which is
// told how recent it has to be, and of a program by RFC 9470, section 3.
func (s *Session) refuseStale(w http.ResponseWriter, r *http.Request, d *decision.Decision) error {
	d.Outcome = decision.OutcomeUnauthenticated
	if handoff.IsNavigation(r) && !s.isLogin(r, d) {
		s.redirect(w, d, "max_age="+strconv.Itoa(s.maxAge()))
		return nil
	}
	p := problem.New(http.StatusUnauthorized, problem.SignInAgain, "The session holds, and its user signed in too long ago for this.")
	p.MaxAge = s.maxAge()
	return d.Refuse(w, r, p.WithHeader("WWW-Authenticate", s.challengeFresh), name)
}

// maxAge is RequireFresh in whole seconds (RFC 9470, section 3).
func (s *Session) maxAge() int { return int(time.Duration(s.RequireFresh) / time.Second) }
