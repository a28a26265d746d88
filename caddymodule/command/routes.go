package command

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/explain"
)

// routesAnswer is what GET /edge/routes gives.
type routesAnswer struct {
	Routes []explain.Row `json:"routes"`
}

func routes(_ *edge.App, r *http.Request) (any, error) {
	config, err := configuration(r)
	if err != nil {
		return nil, err
	}
	return routesAnswer{config.Boundary()}, nil
}

// configuration is the one that runs, as whoever asks may read it: it is asked for
// by the same endpoint, in its name.
func configuration(r *http.Request) (*explain.Config, error) {
	endpoint, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok {
		return nil, refused(http.StatusInternalServerError, "this is not asked by Caddy's admin endpoint")
	}
	inner := r.Clone(r.Context())
	inner.Method, inner.RequestURI, inner.Body, inner.ContentLength = http.MethodGet, "/config/", http.NoBody, 0
	inner.URL.Path, inner.URL.RawPath = "/config/", ""
	var got kept
	endpoint.Handler.ServeHTTP(&got, inner)
	if got.status != 0 && got.status != http.StatusOK {
		return nil, refused(got.status, "whoever asks this needs to be allowed to GET /config/, too")
	}
	return explain.Parse(got.body)
}

// kept is an answer that stays in this process.
type kept struct {
	header http.Header
	status int
	body   []byte
}

func (k *kept) Header() http.Header {
	if k.header == nil {
		k.header = http.Header{}
	}
	return k.header
}

func (k *kept) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
}

func (k *kept) Write(p []byte) (int, error) {
	k.body = append(k.body, p...)
	return len(p), nil
}

// fileFlags are [Asking.Flags] of a command that can read a file in place of what
// runs.
func (a *Asking) fileFlags(c *cobra.Command) {
	a.Flags(c)
	f := c.Flags()
	f.Lookup("address").Usage = "Caddy's admin address"
	f.Lookup("config").Usage = "configuration file to look at, in place of what runs"
	c.MarkFlagsMutuallyExclusive("address", "config")
}

// file reads the configuration file as Caddy does.
func (a *Asking) file() ([]byte, error) {
	config, _, _, err := caddycmd.LoadConfig(a.Config, a.Adapter)
	return config, err
}

// Routes is "caddy edge routes".
func Routes() *cobra.Command {
	a := new(Asking)
	c := &cobra.Command{
		Use:   "routes [flags]",
		Short: "Shows the boundary: what each route is, by which rule",
		Long: `Shows every route in the order in which it is tried, of the POP that runs or, with
--config, of a file: which requests it is for, who answers them (the edge itself,
a region, another upstream), whether a session is looked at, and by which
directives, with file and line. A route in another is indented; one that nobody
answers goes on to those below it.`,
		Example:      "\tcaddy edge routes\n\tcaddy edge routes --config Caddyfile.example --adapter caddyfile",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			got, err := a.routes(c)
			if err != nil {
				return err
			}
			return a.Print(c, got, func(w io.Writer) { showRoutes(w, got.Routes) })
		},
	}
	a.fileFlags(c)
	return c
}

func (a *Asking) routes(c *cobra.Command) (got routesAnswer, err error) {
	if a.Config == "" {
		return got, a.Ask(c.Context(), "/edge/routes", nil, &got)
	}
	data, err := a.file()
	if err != nil {
		return got, err
	}
	config, err := explain.Parse(data)
	if err != nil {
		return got, err
	}
	if !config.HasEdge() {
		return got, fmt.Errorf("%s has no edge { … }", a.Config)
	}
	return routesAnswer{config.Boundary()}, nil
}

func showRoutes(w io.Writer, rows []explain.Row) {
	several := false
	for _, r := range rows {
		several = several || r.Server != rows[0].Server
	}
	var table [][]string
	for _, r := range rows {
		route := strings.Repeat("  ", r.Depth) + r.Route
		if several {
			route = r.Server + " " + route
		}
		rules, where := make([]string, len(r.Rules)), ""
		for i, rule := range r.Rules {
			rules[i] = rule.Name
			if where == "" && !strings.HasPrefix(rule.Where, "/config/") {
				where = rule.Where
			}
		}
		if where == "" && len(r.Rules) > 0 {
			where = r.Rules[0].Where
		}
		session := r.Session
		if len(r.Requires) > 0 {
			session += ": " + strings.Join(r.Requires, ", ")
		}
		table = append(table, []string{route, answeredBy(&r), session, r.Cache, strings.Join(rules, " "), where})
	}
	Table(w, "ROUTE|ANSWERED BY|SESSION|CACHE|BY|WHERE", table)
}

func answeredBy(r *explain.Row) string {
	switch r.AnsweredBy {
	case explain.ByRegion:
		if r.Region == "home" || r.Region == "" {
			return "home region"
		}
		return "region " + r.Region
	case explain.ByOther:
		return strings.TrimSpace("upstream " + strings.Join(r.Upstreams, " "))
	case explain.ByEdge:
		return "edge"
	}
	return "goes on"
}
