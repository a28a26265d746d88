package command

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/explain"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

func explained(_ *edge.App, r *http.Request) (any, error) {
	var q explain.Question
	if err := read(r, &q); err != nil {
		return nil, err
	}
	config, err := configuration(r)
	if err != nil {
		return nil, err
	}
	answer, err := explain.Explain(caddy.ActiveContext(), config, &q)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "%w", err)
	}
	return answer, nil
}

// Explain is "caddy edge explain".
func Explain() *cobra.Command {
	a, q := new(Asking), new(explain.Question)
	c := &cobra.Command{
		Use:   "explain METHOD URL [flags]",
		Short: "Says what would become of a request, and why, without sending it",
		Long: `Takes a request through the routes and the edge's directives of the POP that runs,
as a dry run, and says what each decided, with file and line: nothing is sent to
a region or an issuer, counted, logged, remembered or taken off a limit. What the
directives decide is what they would decide, since they are run.

URL is a whole one, or a path where there is one server. With --config a file is
looked at in place of what runs; nothing is fetched then, and what is not known
for that reason is said.

Sessions are sent as --cookie session=… or --header 'Authorization: Bearer …', and
are not shown again. Other users of the machine can see what is typed: "@FILE" in
place of a header or a cookie reads it from a file.`,
		Example: `	caddy edge explain GET http://127.0.0.1:8080/app --header 'Sec-Fetch-Mode: navigate'
	caddy edge explain POST http://127.0.0.1:8080/api/orders --cookie @session.txt --header 'Sec-Fetch-Site: same-origin'
	caddy edge explain GET /products/coffee --from-country DE --config Caddyfile.example --adapter caddyfile`,
		Args:         cobra.ExactArgs(2),
		SilenceUsage: true,
		RunE: func(c *cobra.Command, args []string) error {
			q.Method, q.URL = args[0], args[1]
			if err := fromFiles(q.Header, q.Cookies); err != nil {
				return err
			}
			got, err := a.explain(c, q)
			if err != nil {
				return err
			}
			return a.Print(c, got, func(w io.Writer) { showExplained(w, got) })
		},
	}
	a.fileFlags(c)
	f := c.Flags()
	f.StringArrayVar(&q.Header, "header", nil, `header of the request, as "Name: value"`)
	f.StringArrayVar(&q.Cookies, "cookie", nil, "cookie of the request, as name=value")
	f.StringVar(&q.Body, "data", "", "content of the request")
	f.StringVar(&q.From, "from", "", "address of the client (default 127.0.0.1)")
	f.StringVar(&q.FromCountry, "from-country", "", "country to suppose the client in, as DE")
	return c
}

// fromFiles reads those that begin with '@' from the file that they name.
func fromFiles(lists ...[]string) error {
	for _, list := range lists {
		for i, text := range list {
			file, is := strings.CutPrefix(text, "@")
			if !is {
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			list[i] = strings.TrimRight(string(data), "\r\n")
		}
	}
	return nil
}

func (a *Asking) explain(c *cobra.Command, q *explain.Question) (*explain.Answer, error) {
	got := new(explain.Answer)
	if a.Config == "" {
		return got, a.Ask(c.Context(), "/edge/explain", q, got)
	}
	data, err := a.file()
	if err != nil {
		return nil, err
	}
	config, err := explain.Parse(data)
	if err != nil {
		return nil, err
	}
	if !config.HasEdge() {
		return nil, fmt.Errorf("%s has no edge { … }", a.Config)
	}
	ctx, missing, err := explain.Detached(data)
	if err != nil {
		return nil, err
	}
	if got, err = explain.Explain(ctx, config, q); err != nil {
		return nil, err
	}
	got.Notes = append(missing, got.Notes...)
	return got, nil
}

func showExplained(w io.Writer, a *explain.Answer) {
	fmt.Fprintf(w, "%s %s of %s at POP %s, %s\n\n", plain(a.Method), plain(a.Target), plain(a.Host), plain(a.POP), plain(a.Server))
	var rows [][]string
	for _, s := range a.Steps {
		rule, what := s.Rule, s.Did
		if s.Rule == "route" {
			rule = "for " + s.Route
		}
		if decided := fieldsOf(s.Decided); decided != "" {
			what = decided + ": " + what
		}
		rows = append(rows, []string{rule, s.Where, strings.Join(append([]string{what}, s.Says...), "; ")})
	}
	Table(w, "RULE|WHERE|DECIDES", rows)
	fmt.Fprintf(w, "\n%s\n", plain(a.End))
	for _, name := range slices.Sorted(maps.Keys(a.Header)) {
		for _, value := range a.Header[name] {
			fmt.Fprintf(w, "  %s: %s\n", name, plain(value))
		}
	}
	if a.Sent != nil && len(a.Sent.Asserts) > 0 {
		fmt.Fprintf(w, "  asserted: %s\n", plain(fieldsOf(a.Sent.Asserts)))
	}
	for _, note := range a.Notes {
		fmt.Fprintf(w, "note: %s\n", plain(note))
	}
}

// first are the fields that are read first.
var first = []string{
	handoff.FieldAuth, handoff.FieldTenant, handoff.FieldUser, handoff.FieldIssuer, handoff.FieldRegion, handoff.FieldRegionReason,
}

// fieldsOf writes fields as name=value.
func fieldsOf(fields map[string]any) string {
	names := slices.Collect(maps.Keys(fields))
	sort.Slice(names, func(i, j int) bool {
		a, b := slices.Index(first, names[i]), slices.Index(first, names[j])
		switch {
		case a >= 0 && b >= 0:
			return a < b
		case a >= 0 || b >= 0:
			return a >= 0
		}
		return names[i] < names[j]
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s=%v", name, fields[name])
	}
	return strings.Join(names, " ")
}
