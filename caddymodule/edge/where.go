package edge

import (
	"path/filepath"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Where says where the directive at hand stands, as "Caddyfile:12": the file's name
// without its directories, so that a configuration is the same wherever it is
// adapted. Directives keep it in their JSON, as source, for "caddy edge routes" and
// "caddy edge explain". Call it once the dispenser stands on the directive's name.
func Where(d *caddyfile.Dispenser) string {
	if d.File() == "" || d.Line() == 0 {
		return ""
	}
	return filepath.Base(d.File()) + ":" + strconv.Itoa(d.Line())
}
