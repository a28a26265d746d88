package command

import (
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Admin is what the commands ask a running Caddy, below /edge/ of its admin API.
// Whoever reaches that API owns the POP anyway.
type Admin struct{}

// CaddyModule returns the module's information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.edge", New: func() caddy.Module { return new(Admin) }}
}

// Routes are the endpoints, each beside the command that asks it.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/edge/regions", Handler: caddy.AdminHandlerFunc(serveRegions)},
	}
}

// running gives the edge app of the configuration that runs now: the admin API is
// there before its apps are, and outlives them.
func running() (*edge.App, error) {
	app, err := caddy.ActiveContext().AppIfConfigured("edge")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the configuration that runs has no edge option")}
	}
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	}
	return app.(*edge.App), nil
}

// only refuses every method but one.
func only(method string, r *http.Request) error {
	if r.Method != method {
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("%s is asked with %s", r.URL.Path, method)}
	}
	return nil
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(data, '\n'))
	return err
}

// caddyAt is where the Caddy is that a command asks.
type caddyAt struct{ address, config, adapter string }

func (c *caddyAt) flags(command *cobra.Command) {
	f := command.Flags()
	f.StringVar(&c.address, "address", "", "admin address of the Caddy to ask (default: the configuration's, or "+caddy.DefaultAdminListen+")")
	f.StringVar(&c.config, "config", "", "configuration file whose admin address to use")
	f.StringVar(&c.adapter, "adapter", "", "adapter of that file, for one that is not called Caddyfile")
}

// get asks for uri and reads the answer into v.
func (c *caddyAt) get(uri string, v any) error {
	address, err := caddycmd.DetermineAdminAPIAddress(c.address, nil, c.config, c.adapter)
	if err != nil {
		return err
	}
	res, err := caddycmd.AdminAPIRequest(address, http.MethodGet, uri, nil, nil)
	var network *net.OpError
	if errors.As(err, &network) && network.Op == "dial" {
		return fmt.Errorf("no Caddy answers at %s (is it running? --address says where else to ask): %w", address, network.Err)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.UnmarshalRead(res.Body, v)
}

var ( // interface guards
	_ caddy.Module      = (*Admin)(nil)
	_ caddy.AdminRouter = (*Admin)(nil)
)
