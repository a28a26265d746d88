package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"
)

const (
	// askTimeout bounds a question to Caddy: whoever asks at night should not wait.
	askTimeout = 10 * time.Second
	// maxAnswer bounds what it may answer.
	maxAnswer = 16 << 20
)

// Asking is what every command that asks a running Caddy is told: where that is,
// and how to print.
type Asking struct {
	Address string // of Caddy's admin endpoint; empty: that of the configuration
	Config  string // the file of the configuration; empty: Caddy's default address
	Adapter string
	JSON    bool
}

// Flags adds the flags to c.
func (a *Asking) Flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.Address, "address", "", "Caddy's admin address (default: that of --config, else "+caddy.DefaultAdminListen+")")
	f.StringVarP(&a.Config, "config", "c", "", "configuration file, for the admin address")
	f.StringVarP(&a.Adapter, "adapter", "a", "", "adapter of the configuration file")
	f.BoolVar(&a.JSON, "json", false, "print JSON")
}

// Ask sends in, nil for a GET, to path of the admin API, and reads the answer into
// out. The errors are for whoever typed the command.
func (a *Asking) Ask(ctx context.Context, path string, in, out any) error {
	address, err := caddycmd.DetermineAdminAPIAddress(a.Address, nil, a.Config, a.Adapter)
	if err != nil {
		return err
	}
	body, err := ask(ctx, address, path, in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("caddy at %s is of another version: it answered %s in another form", address, path)
	}
	return nil
}

func ask(ctx context.Context, address, path string, in any) ([]byte, error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil || parsed.PortRangeSize() > 1 {
		return nil, fmt.Errorf("%q is no admin address such as %s or unix//run/caddy/admin.sock", address, caddy.DefaultAdminListen)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := question(ctx, parsed, path, in)
	if err != nil {
		return nil, err
	}
	client := http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			parsed.Host, _, _ = strings.Cut(parsed.Host, "|") // the permissions of a unix socket
			return new(net.Dialer).DialContext(ctx, parsed.Network, parsed.JoinHostPort(0))
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no Caddy answers at %s: %s (--address names another)", address, reason(err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("the answer of Caddy at %s broke off: %s", address, reason(err))
	}
	if res.StatusCode != http.StatusOK {
		return nil, fault(address, path, res.StatusCode, body)
	}
	return body, nil
}

// question is the request. An endpoint on TCP checks the Host, and the Origin of
// what sends one.
func question(ctx context.Context, to caddy.NetworkAddress, path string, in any) (*http.Request, error) {
	origin, method := "http://"+to.JoinHostPort(0), http.MethodGet
	if to.IsUnixNetwork() || to.IsFdNetwork() {
		origin = "http://127.0.0.1"
	}
	var body io.Reader
	if in != nil {
		document, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		method, body = http.MethodPost, bytes.NewReader(document)
	}
	r, err := http.NewRequestWithContext(ctx, method, origin+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if !to.IsUnixNetwork() && !to.IsFdNetwork() {
		r.Header.Set("Origin", origin)
	}
	r.Header.Set("User-Agent", "gatehouse")
	return r, nil
}

// reason is why a connection failed, in words.
func reason(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ENOENT):
		return "there is no such socket"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer within " + askTimeout.String()
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// fault is an answer that is none, in one sentence.
func fault(address, path string, status int, body []byte) error {
	var told struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &told) == nil && told.Error != "" {
		return errors.New(told.Error)
	}
	if status == http.StatusNotFound {
		return fmt.Errorf("what answers at %s knows no %s: it is no Caddy with Gatehouse in it, or an older one", address, path)
	}
	return fmt.Errorf("caddy at %s answered %s with %d", address, path, status)
}

// Print writes v as JSON where that is asked for, else by human.
func (a *Asking) Print(c *cobra.Command, v any, human func(io.Writer)) error {
	out := c.OutOrStdout()
	if !a.JSON {
		human(out)
		return nil
	}
	document, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", document)
	}
	return err
}

// Table writes rows in aligned columns below a head.
func Table(w io.Writer, head string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(head, "|", "\t"))
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = plain(cell); row[i] == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush() // a terminal that went away needs no table
}

// plain keeps what a terminal, or the table, would act upon out of a cell: some
// of it was chosen by others.
func plain(cell string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, cell)
}
