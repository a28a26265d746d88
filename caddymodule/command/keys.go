package command

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// keysAnswer is what GET /edge/keys gives.
type keysAnswer struct {
	POP     string         `json:"pop"`
	At      time.Time      `json:"at"`
	Own     []edge.KeyInfo `json:"own"`
	Issuers []edge.KeySet  `json:"issuers"`
}

func keySets(app *edge.App, _ *http.Request) (any, error) {
	now := time.Now()
	issuers, err := app.KeySets(now)
	if err != nil {
		return nil, err
	}
	own, err := app.OwnKeys()
	return keysAnswer{app.POP, now.UTC(), own, issuers}, err
}

// Keys is "caddy edge keys".
func Keys() *cobra.Command {
	a := new(Asking)
	c := &cobra.Command{
		Use:   "keys",
		Short: "Shows whose sessions are believed, and by which keys",
		Long: `Shows the key set of each issuer of sessions at this POP: where it comes from,
the ids and algorithms of its keys, how old it is, whether it answers, and what
the last fetch failed with. Below it are the ids of the keys by which regions
believe this POP; the first one signs. No key and no secret is shown.

  fresh        the set answers, and the last fetch was good
  stale        the set answers, and could not be fetched since
  waiting      no session has asked for it yet
  unavailable  there is none, or one too old: its sessions get 503
  static       it is read from a file or a secret when the POP starts`,
		Example:      "\tcaddy edge keys --address 127.0.0.1:2019\n\tcaddy edge keys --json",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			var got keysAnswer
			if err := a.Ask(c.Context(), "/edge/keys", nil, &got); err != nil {
				return err
			}
			return a.Print(c, got, func(w io.Writer) { showKeys(w, got) })
		},
	}
	a.Flags(c)
	return c
}

func showKeys(w io.Writer, got keysAnswer) {
	var rows [][]string
	for _, set := range got.Issuers {
		fetched := "-"
		if set.Fetched != nil {
			fetched = ago(*set.Fetched, got.At) + " ago"
		}
		keys := make([]string, len(set.Keys))
		for i, k := range set.Keys {
			keys[i] = strings.TrimSpace(k.ID + " " + strings.Join(k.Algorithms, "/"))
		}
		rows = append(rows, []string{set.Issuer, set.State, fetched, strings.Join(keys, ", "), set.Source})
	}
	Table(w, "ISSUER|STATE|FETCHED|KEYS|SOURCE", rows)
	for _, set := range got.Issuers {
		if set.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", plain(set.Issuer), plain(set.Error))
		}
	}
	own := make([]string, len(got.Own))
	for i, k := range got.Own {
		own[i] = strings.TrimSpace(k.ID + " " + strings.Join(k.Algorithms, "/"))
	}
	fmt.Fprintf(w, "\nPOP %s signs with: %s\n", plain(got.POP), plain(strings.Join(own, ", ")))
}
