package explain

import (
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Detached makes a configuration ready to be asked in this process, which does not
// run it: nothing listens, nothing is logged, nobody is asked for anything. missing
// is what is then not known. It is for a command, which ends soon after: nothing
// gives back what was provisioned.
func Detached(config []byte) (ctx caddy.Context, missing []string, err error) {
	var whole struct {
		Storage json.RawMessage            `json:"storage,omitempty"`
		Apps    map[string]json.RawMessage `json:"apps"`
		Admin   json.RawMessage            `json:"admin"`
		Logging json.RawMessage            `json:"logging"`
	}
	if err := json.Unmarshal(config, &whole); err != nil {
		return ctx, nil, fmt.Errorf("read the configuration: %w", err)
	}
	for name := range whole.Apps {
		if name != "edge" && name != "http" { // others need not be there to ask what becomes of a request
			delete(whole.Apps, name)
		}
	}
	whole.Admin = json.RawMessage(`{"disabled":true,"config":{"persist":false}}`)
	whole.Logging = json.RawMessage(`{"logs":{"default":{"writer":{"output":"discard"}}}}`)
	quiet, err := json.Marshal(whole)
	if err != nil {
		return ctx, nil, err
	}
	parsed := new(caddy.Config)
	if err := json.Unmarshal(quiet, parsed); err != nil {
		return ctx, nil, fmt.Errorf("read the configuration: %w", err)
	}
	if ctx, err = caddy.ProvisionContext(parsed); err != nil {
		return ctx, nil, err
	}
	app, err := ctx.AppIfConfigured("edge")
	if err != nil {
		return ctx, nil, fmt.Errorf("edge: %w", err)
	}
	return ctx, app.(*edge.App).Detach(), nil
}
