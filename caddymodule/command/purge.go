package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// purged is what POST /edge/cache/purge gives.
type purged struct {
	POP    string        `json:"pop"`
	Purged cache.Purging `json:"purged"`
	At     time.Time     `json:"at"`
	// Reached is how many stored answers that was.
	Reached int `json:"reached"`
	// Scope is "pop": nobody else is told.
	Scope string `json:"scope"`
}

func purge(app *edge.App, r *http.Request) (any, error) {
	var p cache.Purging
	if err := read(r, &p); err != nil {
		return nil, err
	}
	k, err := stock(app)
	if err != nil {
		return nil, err
	}
	reached, err := k.Purge(p)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "%w", err)
	}
	return purged{app.POP, p, time.Now().UTC(), reached, "pop"}, nil
}

// purgedAll is what a region answers to POST /purges.
type purgedAll struct {
	Region string      `json:"region"`
	Purged regionPurge `json:"purged"`
	At     time.Time   `json:"at"`
	Scope  string      `json:"scope"`
}

// regionPurge is a purge as regions know it: all is the group "*".
type regionPurge struct {
	Tenant string `json:"tenant,omitzero"`
	Group  string `json:"group,omitzero"`
	URL    string `json:"url,omitzero"`
	Prefix string `json:"prefix,omitzero"`
	Soft   bool   `json:"soft,omitzero"`
}

// Purge is "caddy edge purge", and "caddy edge cache purge".
func Purge() *cobra.Command {
	a, p, to := new(Asking), new(cache.Purging), new(regionAsked)
	c := &cobra.Command{
		Use:   "purge (--url URL | --prefix URL | --group NAME | --all) [flags]",
		Short: "Purges what is stored, at one POP or everywhere",
		Long: `Makes what is stored invalid: one URL, what begins with it, a cache group
(Cache-Groups, RFC 9875), or all. What is being fetched meanwhile is not stored.
Without --tenant it is whoever's it is; with it, what is that tenant's alone. With
--soft it may still be used as what is stale may be.

It acts on the one POP that it asks, and tells nobody else. With --everywhere it
asks a region, at its operator's address, in place of a POP: that commits it, and
has the feed tell every POP. It is of everybody's answers then or, with --tenant, of
the tenant's, which is at home in that region. The region asks for its operator's
token, from --token-file or GATEHOUSE_OPERATOR_TOKEN; it is sent over https, or to
this machine.`,
		Example: `	caddy edge purge --url https://shop.example/products/coffee
	caddy edge purge --prefix /products/ --soft
	caddy edge purge --all --tenant acme
	caddy edge purge --everywhere --region http://127.0.0.1:9191 --token-file operator.token --group product:coffee`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if to.everywhere {
				return to.purge(c, a, p)
			}
			if to.url != "" || to.tokenFile != "" {
				return errors.New("--region and --token-file go with --everywhere")
			}
			if p.URL == "" && p.Prefix == "" && p.Group == "" && !p.All {
				return errors.New("--url, --prefix or --group names nothing: it is empty")
			}
			if c.Flags().Changed("tenant") && p.Tenant == "" {
				return errTenantEmpty
			}
			var got purged
			if err := a.Ask(c.Context(), "/edge/cache/purge", p, &got); err != nil {
				return err
			}
			return a.Print(c, got, func(w io.Writer) { showPurged(w, &got) })
		},
	}
	a.Flags(c)
	f := c.Flags()
	f.StringVar(&p.URL, "url", "", "a whole URL, or a path with its query, of any host")
	f.StringVar(&p.Prefix, "prefix", "", "what URLs begin with, in the same form")
	f.StringVar(&p.Group, "group", "", "a cache group")
	f.BoolVar(&p.All, "all", false, "all that is stored")
	f.StringVar(&p.Tenant, "tenant", "", "only what is this tenant's")
	f.BoolVar(&p.Soft, "soft", false, "leave it to be used as what is stale may be")
	f.BoolVar(&to.everywhere, "everywhere", false, "have a region tell every POP, in place of asking one")
	f.StringVar(&to.url, "region", "", "with --everywhere: the region's operator address, as http://127.0.0.1:9191")
	f.StringVar(&to.tokenFile, "token-file", "", "with --everywhere: file with the operator's token (default: the variable "+tokenVariable+")")
	c.MarkFlagsMutuallyExclusive("everywhere", "address")
	c.MarkFlagsMutuallyExclusive("everywhere", "config")
	c.MarkFlagsOneRequired("url", "prefix", "group", "all")
	c.MarkFlagsMutuallyExclusive("url", "prefix", "group", "all")
	return c
}

// errTenantEmpty keeps a variable that is not set from purging everybody's.
var errTenantEmpty = errors.New("--tenant names nobody: it is empty")

func (to *regionAsked) purge(c *cobra.Command, a *Asking, p *cache.Purging) error {
	in := regionPurge{p.Tenant, p.Group, p.URL, p.Prefix, p.Soft}
	switch {
	case to.url == "":
		return errors.New("--everywhere needs --region: a region's operator address, of a tenant's purge that where it is at home")
	case c.Flags().Changed("tenant") && p.Tenant == "":
		return errTenantEmpty
	}
	if err := p.Check(); err != nil {
		return err
	}
	if p.All {
		in.Group = "*"
	}
	token, err := to.token()
	if err != nil {
		return err
	}
	var got purgedAll
	if err := to.ask(c.Context(), token, "/purges", in, &got); err != nil {
		return err
	}
	return a.Print(c, got, func(w io.Writer) { showPurgedAll(w, &got) })
}

// whatIs says what was purged, for people.
func whatIs(p *cache.Purging) string {
	text := "all that is stored"
	switch {
	case p.URL != "":
		text = plain(p.URL)
	case p.Prefix != "":
		text = "what begins with " + plain(p.Prefix)
	case p.Group != "":
		text = "group " + plain(p.Group)
	}
	if p.Tenant != "" {
		text += " of tenant " + plain(p.Tenant)
	}
	return text
}

func showPurged(w io.Writer, got *purged) {
	did := "gone"
	if got.Purged.Soft {
		did = "stale by now"
	}
	verb := "are"
	if got.Reached == 1 {
		verb = "is"
	}
	fmt.Fprintf(w, "POP %s has purged %s: %s %s %s. No other POP was told.\n", plain(got.POP), whatIs(&got.Purged), answersOf(got.Reached), verb, did)
}

func showPurgedAll(w io.Writer, got *purgedAll) {
	what := "all"
	switch {
	case got.Purged.URL != "":
		what = plain(got.Purged.URL)
	case got.Purged.Prefix != "":
		what = "what begins with " + plain(got.Purged.Prefix)
	case got.Purged.Group != "*":
		what = "group " + plain(got.Purged.Group)
	}
	whose, softly, rest := "tenant "+plain(got.Purged.Tenant), "", ""
	if got.Purged.Tenant == "" {
		whose, rest = "everybody's answers", " What is one tenant's stays."
	}
	if got.Purged.Soft {
		softly = " softly"
	}
	fmt.Fprintf(w, "Region %s has%s purged %s of %s, and tells every POP.%s\n", plain(got.Region), softly, what, whose, rest)
}
