package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// Ended is whose sessions end: one session, one user's or one tenant's. A session
// and a user are an issuer's.
type Ended struct {
	Issuer  string `json:"iss,omitempty"`
	Session string `json:"sid,omitempty"`
	Subject string `json:"sub,omitempty"`
	Tenant  string `json:"tenant,omitempty"`
	// Except is the one session of a user that stays.
	Except string `json:"except,omitempty"`
}

// revoked is what POST /edge/revocations gives.
type revoked struct {
	POP   string    `json:"pop"`
	Ended Ended     `json:"ended"`
	At    time.Time `json:"at"`
	// News is false when all of it was revoked already.
	News bool `json:"news"`
	// Scope is "pop": nobody else is told.
	Scope string `json:"scope"`
}

func revoke(app *edge.App, r *http.Request) (any, error) {
	var e Ended
	if err := read(r, &e); err != nil {
		return nil, err
	}
	done, news, err := app.Revoke(feed.Revocation{Issuer: e.Issuer, Session: e.Session, Subject: e.Subject, Tenant: e.Tenant, Except: e.Except})
	switch {
	case errors.Is(err, edge.ErrNoFeed):
		return nil, refused(http.StatusConflict, "%w", err)
	case errors.Is(err, feed.ErrFull):
		return nil, refused(http.StatusInsufficientStorage, "%w", err)
	case err != nil:
		return nil, refused(http.StatusBadRequest, "%w", err)
	}
	e.Issuer = done.Issuer
	return revoked{app.POP, e, time.Unix(done.At, 0).UTC(), news, "pop"}, nil
}

// revocationsAnswer is what GET /edge/revocations gives.
type revocationsAnswer struct {
	POP string    `json:"pop"`
	At  time.Time `json:"at"`
	// Feed is absent without one.
	Feed *edge.FeedInfo `json:"feed,omitempty"`
}

func revocations(app *edge.App, _ *http.Request) (any, error) {
	info, err := app.FeedInfo()
	return revocationsAnswer{app.POP, time.Now().UTC(), info}, err
}

// Revoke is "caddy edge revoke".
func Revoke() *cobra.Command {
	a, e, to := new(Asking), new(Ended), new(regionAsked)
	c := &cobra.Command{
		Use:   "revoke (--session ID | --user ID | --tenant NAME) [flags]",
		Short: "Ends sessions before their time",
		Long: `Ends one session, all sessions of a user, or all of a tenant: those that began
until now. Who signs in again is let in.

It acts on the one POP that it asks, at once and until no such session can be
valid any more, and tells nobody else. With --everywhere it asks the region where
the tenant is at home, at its operator's address, in place of a POP: that commits
it, writes it into the audit, and has the feed tell every POP. The region asks for
its operator's token, from --token-file or GATEHOUSE_OPERATOR_TOKEN; it is sent over
https, or to this machine.`,
		Example: `	caddy edge revoke --session 0196f3b2-8c1e-4b1e-9d0a-5d2f0f6c1a77 --issuer gatehouse:eu
	caddy edge revoke --user 0196f3b2-11aa-7c3c-8f00-1d2c3b4a5968 --issuer gatehouse:eu --except 0196f3b2-8c1e-4b1e-9d0a-5d2f0f6c1a77
	caddy edge revoke --tenant acme
	caddy edge revoke --everywhere --region http://127.0.0.1:9191 --token-file operator.token --of acme --session 0196f3b2-8c1e-4b1e-9d0a-5d2f0f6c1a77`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := e.check(); err != nil {
				return err
			}
			if to.everywhere {
				return to.run(c, a, e)
			}
			if to.url != "" || to.of != "" || to.tokenFile != "" {
				return errors.New("--region, --of and --token-file go with --everywhere")
			}
			var got revoked
			if err := a.Ask(c.Context(), "/edge/revocations", e, &got); err != nil {
				return err
			}
			return a.Print(c, got, func(w io.Writer) { showRevoked(w, got) })
		},
	}
	a.Flags(c)
	f := c.Flags()
	f.StringVar(&e.Session, "session", "", "the id of a session: its token's sid")
	f.StringVar(&e.Subject, "user", "", "the id of a user: their tokens' sub")
	f.StringVar(&e.Tenant, "tenant", "", "the name of a tenant")
	f.StringVar(&e.Issuer, "issuer", "", "who signs the session, or the user's (default: the POP's only issuer)")
	f.StringVar(&e.Except, "except", "", "the one session of the user that stays")
	f.BoolVar(&to.everywhere, "everywhere", false, "have a region tell every POP, in place of asking one")
	f.StringVar(&to.url, "region", "", "with --everywhere: the region's operator address, as http://127.0.0.1:9191")
	f.StringVar(&to.tokenFile, "token-file", "", "with --everywhere: file with the operator's token (default: the variable "+tokenVariable+")")
	f.StringVar(&to.of, "of", "", "with --everywhere: the tenant whose session or user it is")
	c.MarkFlagsMutuallyExclusive("everywhere", "address")
	c.MarkFlagsMutuallyExclusive("everywhere", "config")
	c.MarkFlagsOneRequired("session", "user", "tenant")
	c.MarkFlagsMutuallyExclusive("session", "user", "tenant")
	return c
}

func (e *Ended) check() error {
	switch {
	case e.Session == "" && e.Subject == "" && e.Tenant == "":
		return errors.New("--session, --user or --tenant names nobody: it is empty")
	case e.Except != "" && e.Subject == "":
		return errors.New("--except goes with --user: it is the one session of the user that stays")
	case e.Issuer != "" && e.Tenant != "":
		return errors.New("--issuer goes with --session and --user: a tenant's sessions are all issuers'")
	}
	return nil
}

// whom says whose sessions end, for people.
func (e *Ended) whom() string {
	switch {
	case e.Session != "":
		return fmt.Sprintf("session %s of %s", plain(e.Session), plain(e.Issuer))
	case e.Subject != "" && e.Except != "":
		return fmt.Sprintf("all sessions of user %s of %s but %s", plain(e.Subject), plain(e.Issuer), plain(e.Except))
	case e.Subject != "":
		return fmt.Sprintf("all sessions of user %s of %s", plain(e.Subject), plain(e.Issuer))
	}
	return "all sessions of tenant " + plain(e.Tenant)
}

func showRevoked(w io.Writer, got revoked) {
	already := ""
	if !got.News {
		already = " (it had ended before)"
	}
	fmt.Fprintf(w, "POP %s refuses %s%s. No other POP was told.\n", plain(got.POP), got.Ended.whom(), already)
}
