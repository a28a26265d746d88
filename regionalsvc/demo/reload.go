package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Reload loads the POP's configuration again, as `caddy reload --force` does,
// and waits until it has taken its predecessor's place.
func (p *POP) Reload(ctx context.Context) error {
	caddy, config := p.argv[0], p.argv[3]
	cmd := exec.CommandContext(ctx, caddy, "reload", "--force", "--address", p.Admin, "--config", config, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), p.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("reload %s: %w\n%s", p.Name, err, out)
	}
	return nil
}
