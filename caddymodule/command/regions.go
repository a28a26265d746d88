package command

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// regionsAnswer is what /edge/regions answers, and what --json prints.
type regionsAnswer struct {
	POP     string              `json:"pop"`
	Regions []edge.RegionReport `json:"regions"`
}

func regions(app *edge.App, _ *http.Request) (any, error) {
	return regionsAnswer{app.POP, app.RegionReport()}, nil
}

// Regions is "caddy edge regions".
func Regions() *cobra.Command {
	a := new(Asking)
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
			if err := a.Ask(c.Context(), "/edge/regions", nil, &answer); err != nil {
				return err
			}
			return a.Print(c, answer, func(w io.Writer) { printRegions(w, answer, time.Now()) })
		},
	}
	a.Flags(c)
	return c
}

func printRegions(w io.Writer, answer regionsAnswer, now time.Time) {
	var rows [][]string
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
			rows = append(rows, []string{
				name, u.Address, state, ago(u.Since, now), strconv.Itoa(u.Requests), strconv.Itoa(u.Failures), lastCheck(u.Check, now),
			})
		}
	}
	Table(w, "REGION|UPSTREAM|STATE|SINCE|REQUESTS|FAILED|LAST CHECK", rows)
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
