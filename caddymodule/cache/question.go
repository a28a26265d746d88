package cache

import (
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// question is what a request asks of the cache.
type question struct {
	c *Cache
	d *decision.Decision
	r *http.Request

	policy  string
	key     string
	tags    tags
	scheme  string
	query   string // as the origin gets it
	who     handoff.Identity
	request rfc9111.Request
	now     time.Time
	wrote   time.Time // when the client last wrote; zero: not lately

	found  found
	header http.Header // as the origin gets it; made by [question.sent]
}

// tags name what is asked for, for purges.
type tags struct{ tenant, host, uri string }

// ask says what a request asks, or why it does not concern the cache.
func (c *Cache) ask(r *http.Request, d *decision.Decision, now time.Time) (*question, string) {
	q := &question{c: c, d: d, r: r, now: now}
	d.CachePolicy = c.policyOf(d)
	q.policy = d.CachePolicy
	if why := c.passes(r, d); why != "" {
		if why == whyMethod {
			q.locate()
		}
		return q, why
	}
	if c.letter {
		q.request = rfc9111.ParseRequest(r.Header)
	}
	if !c.letter && c.Policy == "" && c.foreignCookie(r.Header["Cookie"]) {
		return q, whyCookie
	}
	q.whose()
	if q.policy != PolicyPublic {
		if mark, recent := c.marks.Recent(r, d); recent {
			q.wrote = mark.At
		}
	}
	q.locate()
	q.key = q.makeKey()
	return q, ""
}

// Why a request passes.
const (
	whyMethod   = "method"
	whyUpgrade  = "upgrade"
	whyEvents   = "event-stream"
	whyBody     = "body"
	whyPolicy   = "policy"
	whySession  = "session"
	whyNobody   = "no-session"
	whyAuth     = "authorization"
	whyCookie   = "cookie"
	whyBypass   = "bypass-cookie"
	whyAbsolute = "target"
	whyHop      = "connection"
)

// policyOf says whom the answer to a request would be for.
func (c *Cache) policyOf(d *decision.Decision) string {
	switch {
	case c.Policy != "":
		return c.Policy
	case d.SignedIn():
		return PolicyNever
	}
	return PolicyPublic
}

// passes says why a request is none of the cache's, before anything is looked up.
func (c *Cache) passes(r *http.Request, d *decision.Decision) string {
	h := r.Header
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return whyMethod
	case len(h["Upgrade"]) > 0:
		return whyUpgrade
	case fat(r):
		return whyBody
	case !strings.HasPrefix(d.Target, "/"): // absolute-form: its authority and Host may differ
		return whyAbsolute
	case len(h["Connection"]) > 0 && namesFields(h["Connection"]):
		return whyHop
	case c.Policy == PolicyNever:
		return whyPolicy
	case c.Policy == "" && d.SignedIn():
		return whySession
	case (c.Policy == PolicyTenant || c.Policy == PolicyUser) && !d.SignedIn():
		return whyNobody
	case !c.letter && len(h["Authorization"]) > 0:
		return whyAuth
	case asksForEvents(h["Accept"]):
		return whyEvents
	}
	if len(c.BypassCookies) > 0 && hasCookie(h["Cookie"], c.BypassCookies) {
		return whyBypass
	}
	return ""
}

// fat reports whether a GET brings a body, which is in no key. Over HTTP/3 nobody knows
// before it ends; it is not sent to the origin then.
func fat(r *http.Request) bool {
	return r.ContentLength > 0 || len(r.TransferEncoding) > 0 || r.ContentLength < 0 && r.ProtoMajor == 2
}

// namesFields reports whether Connection names fields that end here (RFC 9110, section
// 7.6.1). The origin would not get them, and what it answers would be stored for those
// who sent them.
func namesFields(connection []string) bool {
	for _, line := range connection {
		for option := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.TrimSpace(option)) {
			case "", "close", "keep-alive", "te":
			default:
				return true
			}
		}
	}
	return false
}

func asksForEvents(accept []string) bool {
	return len(accept) == 1 && strings.HasPrefix(accept[0], "text/event-stream")
}

// whose says in whose name the origin is asked.
func (q *question) whose() {
	switch own := q.d.Identity; q.policy {
	case PolicyTenant:
		q.who = handoff.Identity{Tenant: own.Tenant}
	case PolicyUser:
		q.who = own
		q.who.Session = "" // of one user, whichever session
	}
	q.tags.tenant = q.who.Tenant
}
