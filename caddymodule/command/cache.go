package command

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// The cache's memory is a directive's own, which imports nobody's commands. So what
// people ask of it is asked here, of what the configuration that runs has in common
// ([cache.StockOf]): a command looks at directives from above, as the dry run does,
// and no directive looks at another.

// stockAnswer is what GET /edge/cache gives.
type stockAnswer struct {
	POP     string        `json:"pop"`
	Summary cache.Summary `json:"summary"`
}

// listAnswer is what POST /edge/cache gives.
type listAnswer struct {
	POP     string        `json:"pop"`
	Summary cache.Summary `json:"summary"`
	// Found is how many stored answers are of the kind that was asked for. Those that
	// come first are listed.
	Found int          `json:"found"`
	Items []cache.Item `json:"items"`
}

// showAnswer is what POST /edge/cache/show gives.
type showAnswer struct {
	POP      string          `json:"pop"`
	URL      string          `json:"url"`
	Variants []cache.Variant `json:"variants"`
	// Refused is why the last answer was not stored, where nothing is and that is known.
	Refused *cache.Refused `json:"refused,omitempty"`
}

// asked is the body of POST /edge/cache/show.
type asked struct {
	URL    string `json:"url"`
	Tenant string `json:"tenant,omitempty"`
}

// stock gives what is stored.
func stock(app *edge.App) (cache.Stock, error) {
	k, ok := cache.StockOf(app)
	if !ok {
		return k, refused(http.StatusNotFound, "the configuration that runs has no edge_cache: nothing is stored")
	}
	return k, nil
}

func stocked(app *edge.App, _ *http.Request) (any, error) {
	k, err := stock(app)
	if err != nil {
		return nil, err
	}
	return stockAnswer{app.POP, k.Summary()}, nil
}

func listed(app *edge.App, r *http.Request) (any, error) {
	var l cache.Listing
	if err := read(r, &l); err != nil {
		return nil, err
	}
	k, err := stock(app)
	if err != nil {
		return nil, err
	}
	items, found, err := k.List(l)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "%w", err)
	}
	return listAnswer{app.POP, k.Summary(), found, items}, nil
}

func shownOf(app *edge.App, r *http.Request) (any, error) {
	var in asked
	if err := read(r, &in); err != nil {
		return nil, err
	}
	k, err := stock(app)
	if err != nil {
		return nil, err
	}
	variants, why, err := k.Show(in.URL, in.Tenant)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "%w", err)
	}
	return showAnswer{app.POP, in.URL, variants, why}, nil
}

// Cache is "caddy edge cache" with its commands.
func Cache() *cobra.Command {
	c := &cobra.Command{
		Use:   "cache (ls | show URL | purge …)",
		Short: "Shows what is stored, and purges it",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(cacheList(), cacheShow(), Purge())
	return c
}

func cacheList() *cobra.Command {
	a, l := new(Asking), new(cache.Listing)
	c := &cobra.Command{
		Use:   "ls [flags]",
		Short: "Lists what is stored, the largest first",
		Long: `Lists the answers that the POP has stored: of which URL, for whom, with which
status, how old and for how long fresh, how large, how often used, and by which
groups they are purged. A URL is shown as the origin was asked for it. Below the
list is how much is stored of how much may be, and what was taken out.`,
		Example: `	caddy edge cache ls
	caddy edge cache ls --prefix https://shop.example/products/ --by hits --limit 10`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if l.Limit < 1 {
				return fmt.Errorf("--limit %d lists nothing", l.Limit)
			}
			var got listAnswer
			if err := a.Ask(c.Context(), "/edge/cache", l, &got); err != nil {
				return err
			}
			return a.Print(c, got, func(w io.Writer) { showList(w, &got) })
		},
	}
	a.Flags(c)
	f := c.Flags()
	f.StringVar(&l.Prefix, "prefix", "", "only what begins with this path, or whole URL")
	f.StringVar(&l.Tenant, "tenant", "", "only what is this tenant's")
	f.StringVar(&l.By, "by", "size", "the order: size, the largest first, or hits, the most used")
	f.IntVar(&l.Limit, "limit", 50, "how many")
	return c
}

func showList(w io.Writer, got *listAnswer) {
	var rows [][]string
	for i := range got.Items {
		item := &got.Items[i]
		rows = append(rows, []string{
			item.Host + item.URI, whoseIs(item), statusOf(item), seconds(item.Age), left(item), sizeOf(item.Size), strconv.FormatInt(item.Hits, 10), strings.Join(item.Groups, " "),
		})
	}
	Table(w, "URL|FOR|STATUS|AGE|TTL|SIZE|HITS|GROUPS", rows)
	s := &got.Summary
	disk, shown := "", ""
	if s.DiskLimit > 0 {
		disk = fmt.Sprintf(", and of large ones %s of %s on disk", sizeOf(s.Disk), sizeOf(s.DiskLimit))
	}
	if len(got.Items) < got.Found {
		shown = fmt.Sprintf(" %d of %d are shown.", len(got.Items), got.Found)
	}
	fmt.Fprintf(w, "\nPOP %s stores %s in %s of %s%s; %d were evicted for room, %d purged.%s\n",
		plain(got.POP), answersOf(s.Objects), sizeOf(s.Stored), sizeOf(s.Limit), disk, s.Evicted, s.Purged, shown)
}

// answersOf counts stored answers.
func answersOf(n int) string {
	if n == 1 {
		return "1 answer"
	}
	return strconv.Itoa(n) + " answers"
}

func whoseIs(i *cache.Item) string {
	return strings.TrimSpace(i.Policy + " " + i.Tenant + " " + i.User)
}

func statusOf(i *cache.Item) string {
	if i.Part != "" {
		return strconv.Itoa(i.Status) + " " + i.Part
	}
	return strconv.Itoa(i.Status)
}

func seconds(n int64) string { return (time.Duration(n) * time.Second).String() }

func left(i *cache.Item) string {
	switch {
	case i.Purged:
		return "purged, stale"
	case i.TTL <= 0:
		return "stale for " + seconds(-i.TTL)
	}
	return seconds(i.TTL)
}

func sizeOf(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

func cacheShow() *cobra.Command {
	a, in := new(Asking), new(asked)
	c := &cobra.Command{
		Use:   "show URL [flags]",
		Short: "Shows what is stored for a URL, or why nothing is",
		Long: `Shows the answers that the POP has stored for a URL, whole or a path of any host, as
the origin was asked for it: one for each policy, tenant, user, and variant. Where
nothing is stored it says why the last answer was not, if one came within the hour.
"caddy edge explain" says what would become of a request.`,
		Example: `	caddy edge cache show https://shop.example/products/coffee
	caddy edge cache show /app/shell --tenant acme`,
		Args:         cobra.ExactArgs(1),
		SilenceUsage: true,
		RunE: func(c *cobra.Command, args []string) error {
			in.URL = args[0]
			var got showAnswer
			if err := a.Ask(c.Context(), "/edge/cache/show", in, &got); err != nil {
				return err
			}
			return a.Print(c, got, func(w io.Writer) { showVariants(w, &got, time.Now()) })
		},
	}
	a.Flags(c)
	c.Flags().StringVar(&in.Tenant, "tenant", "", "only what is this tenant's")
	return c
}

func showVariants(w io.Writer, got *showAnswer, now time.Time) {
	if len(got.Variants) == 0 {
		fmt.Fprintf(w, "POP %s stores nothing for %s.\n", plain(got.POP), plain(got.URL))
		if r := got.Refused; r != nil {
			fmt.Fprintf(w, "The last answer, %s ago, for %s, was not stored: %s.\n", ago(r.At, now), plain(strings.TrimSpace(r.Policy+" "+r.Tenant)), plain(r.Why))
		}
		return
	}
	for i := range got.Variants {
		v := &got.Variants[i]
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s for %s: %s, %s, age %s, ttl %s, used %s\n", plain(v.Host+v.URI), plain(whoseIs(&v.Item)), statusOf(&v.Item), sizeOf(v.Size), seconds(v.Age), left(&v.Item), times(v.Hits))
		for _, name := range slices.Sorted(maps.Keys(v.Header)) {
			for _, value := range v.Header[name] {
				fmt.Fprintf(w, "  %s: %s\n", plain(name), plain(value))
			}
		}
	}
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return strconv.FormatInt(n, 10) + " times"
}
