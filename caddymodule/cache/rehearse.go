package cache

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/rfc9111"
)

// rehearse does with a dry run what the cache would do with the request, and says so:
// it answers with what is stored, or sends what would be fetched to the handlers behind
// it, in the same name. Nothing is stored, purged, refreshed or counted. why is why the
// request is none of the cache's; empty: it is.
func (q *question) rehearse(w http.ResponseWriter, next caddyhttp.Handler, why string) error {
	if why != "" {
		q.passed(why)
		return next.ServeHTTP(w, q.r)
	}
	q.choose()
	q.say("%s", q.keyed())
	if q.c.app.Detached() {
		q.say("what is stored is not known here")
	} else {
		q.say("%s", q.stands())
	}
	switch f := &q.found; {
	case f.object != nil && f.use != rfc9111.MustValidate:
		q.hit(f.left)
		return q.serve(w, f.object)
	case q.servePart(w):
		return nil
	case q.request.OnlyIfCached: // a 504
		return q.answer(w, next)
	case q.isHEAD():
		q.passed(whyHead)
		return next.ServeHTTP(w, q.r)
	}
	q.say("it is fetched %s", q.inWhoseName())
	f := q.newFill(next)
	defer f.discard()
	f.err = next.ServeHTTP(w, f.attempt())
	q.d.Adopt(f.fork.Route())
	if f.err != nil {
		return q.failed(w, f)
	}
	return nil
}

func (q *question) say(format string, args ...any) {
	q.d.Says = append(q.d.Says, fmt.Sprintf(format, args...))
}

// keyed says what an answer is kept under. Of a cookie only the name is told.
func (q *question) keyed() string {
	text := "its key is " + q.policy
	if q.who.Tenant != "" {
		text += " " + q.who.Tenant
	}
	text += ", " + q.scheme + "://" + q.tags.host + q.tags.uri
	for _, name := range q.c.Cookies {
		if _, has := cookie(q.r.Header["Cookie"], name); has {
			text += ", cookie " + name
		}
	}
	for _, v := range q.c.Vary {
		switch v {
		case "variant":
			text += ", variant " + q.d.VariantKey()
		case "country":
			text += ", country " + q.d.Country
		case "bot":
			text += ", bot " + string(q.d.Bot.Class)
		}
	}
	return text
}

// stands says what is stored for the request, and what may be done with it.
func (q *question) stands() string {
	f := &q.found
	if f.object == nil {
		switch {
		case f.vary:
			return "what is stored is for other request fields"
		case len(f.parts) > 0:
			return "parts of it are stored"
		case !q.wrote.IsZero():
			return "nothing is stored since the client wrote"
		}
		if r, ok := q.c.shared.reasons.GetIfPresent(q.c.shared.hash(q.key)); ok {
			return "nothing is stored: the last answer was not (" + r.why + ")"
		}
		return "nothing is stored"
	}
	o := f.object
	text := fmt.Sprintf("what is stored is %s old, and fresh for %s", rounded(o.Timing.Age(q.now)), rounded(f.left))
	if f.left <= 0 {
		text = fmt.Sprintf("what is stored is %s old, and stale", rounded(o.Timing.Age(q.now)))
	}
	if f.soft {
		text += " by a purge"
	}
	if len(o.Vary) > 0 {
		text += ", varies by " + strings.Join(o.Vary, ", ")
	}
	switch f.use {
	case rfc9111.StaleWhileRevalidate:
		text += "; it answers, and is validated in the background"
	case rfc9111.MustValidate:
		text += "; it is validated first"
		if q.mayStandIn(o) {
			text += ", and answers if that fails"
		}
	case rfc9111.Fresh, rfc9111.Stale:
	}
	return text
}

func rounded(d time.Duration) string { return d.Round(time.Second).String() }

// inWhoseName says whom the origin is asked for.
func (q *question) inWhoseName() string {
	switch q.policy {
	case PolicyTenant:
		return "in the name of tenant " + q.who.Tenant
	case PolicyUser:
		return "in the user's name"
	}
	return "in nobody's name"
}
