// Package gatehouse makes the usual way of building Caddy with a plugin work:
//
//	xcaddy build --with github.com/gatehouse-edge/gatehouse
//
// Importing it registers the edge's modules; it holds nothing else.
package gatehouse

import _ "github.com/gatehouse-edge/gatehouse/caddymodule"
