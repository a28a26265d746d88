package command

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// regionsAnswer is what /edge/regions answers, and what --json prints.
type regionsAnswer struct {
	POP     string              `json:"pop"`
	Regions []edge.RegionReport `json:"regions"`
}

func serveRegions(w http.ResponseWriter, r *http.Request) error {
	if err := only(http.MethodGet, r); err != nil {
		return err
	}
	app, err := running()
	if err != nil {
		return err
	}
	return writeJSON(w, regionsAnswer{app.POP, app.RegionReport()})
}

// Regions is "caddy edge regions".
func Regions() *cobra.Command {
	var at caddyAt
	var raw bool
	c := &cobra.Command{
		Use:   "regions [flags]",
		Short: "Shows the regions and how their upstreams are",
		Long: `Shows each region of the point of presence that runs here, and how its upstreams are:

	up         asked like any other
	draining   says that it is about to stop: asked where nothing else can be
	down       its checks fail
	open       too many requests failed: left alone until the time that is shown
	half-open  a request tries whether it answers again

A Caddy that is not running, or has no edge, is an error.`,
		Example: `	caddy edge regions
	caddy edge regions --json --address 127.0.0.1:2020`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			var answer regionsAnswer
			if err := at.get("/edge/regions", &answer); err != nil {
				return err
			}
			if raw {
				return printJSON(c.OutOrStdout(), answer)
			}
			return printRegions(c.OutOrStdout(), answer, time.Now())
		},
	}
	at.flags(c)
	c.Flags().BoolVar(&raw, "json", false, "print JSON")
	return c
}

// printJSON writes v for people and programs.
func printJSON(w io.Writer, v any) error {
	data, err := json.Marshal(v, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

func printRegions(w io.Writer, answer regionsAnswer, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tUPSTREAM\tSTATE\tSINCE\tREQUESTS\tFAILED\tLAST CHECK")
	for _, r := range answer.Regions {
		name := r.Name
		if r.Default {
			name += " (default)"
		}
		for _, u := range r.Upstreams {
			state := u.State.String()
			if !u.Retry.IsZero() && u.Retry.After(now) {
				state += ", tried in " + round(u.Retry.Sub(now))
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", name, u.Address, state, ago(u.Since, now), u.Requests, u.Failures, lastCheck(u.Check, now))
		}
	}
	return table.Flush()
}

func lastCheck(c *edge.CheckReport, now time.Time) string {
	if c == nil {
		return "-"
	}
	text := c.Result
	if c.InARow > 1 {
		text += fmt.Sprintf(" ×%d", c.InARow)
	}
	text += ", " + ago(c.At, now) + " ago"
	if c.Error != "" {
		text += ": " + c.Error
	}
	return text
}

func ago(at, now time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return round(now.Sub(at))
}

// round keeps of a duration what people read.
func round(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
