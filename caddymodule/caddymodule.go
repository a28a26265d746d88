// Package caddymodule registers everything that Gatehouse runs inside Caddy.
// It is the edge's table of contents.
package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/gatehouse-edge/gatehouse/caddymodule/bot"
	"github.com/gatehouse-edge/gatehouse/caddymodule/cache"
	"github.com/gatehouse-edge/gatehouse/caddymodule/command"
	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/experiment"
	"github.com/gatehouse-edge/gatehouse/caddymodule/flags"
	"github.com/gatehouse-edge/gatehouse/caddymodule/geo"
	"github.com/gatehouse-edge/gatehouse/caddymodule/guard"
	"github.com/gatehouse-edge/gatehouse/caddymodule/region"
	"github.com/gatehouse-edge/gatehouse/caddymodule/session"
	"github.com/gatehouse-edge/gatehouse/caddymodule/signedurl"
	"github.com/gatehouse-edge/gatehouse/caddymodule/spelling"
)

// The order of the edge's directives among Caddy's own:
//
//	edge_guard      before tracing: a client's trace headers must be gone by then
//	tracing         Caddy's
//	edge_trace      tells tracing's span what was decided
//	edge_bot        says what the client is taken for, before anything asks for it; a
//	                refusal that hangs on a session waits for edge_session
//	edge_geo        before map and the rest of Caddy's: they may ask for the country
//	…
//	edge_session    before rewrite: rules see the path that the client sent
//	edge_signed     right after edge_session: a link may be bound to its tenant
//	edge_experiment after edge_session, whose claims its rules ask for
//	edge_flags      likewise; answers its endpoint
//	…
//	edge_cache      after basic_auth and forward_auth, which a hit must not pass by, and
//	                after encode, which so has one answer to encode; before edge_region:
//	                a fetch for several chooses its region by whom it speaks for
//	edge_region     after all that changes a path: a region's path is made of the final
//	                one, and a replay has to know how; after edge_session, whose claims
//	                name the region
//	…
//	reverse_proxy   with dynamic edge_region and transport edge
func init() {
	caddy.RegisterModule(new(edge.App))
	httpcaddyfile.RegisterGlobalOption("edge", edge.ParseOption)

	caddy.RegisterModule(new(guard.Guard))
	httpcaddyfile.RegisterHandlerDirective("edge_guard", guard.Parse)
	httpcaddyfile.RegisterDirectiveOrder("edge_guard", httpcaddyfile.Before, "tracing")

	caddy.RegisterModule(spelling.MatchPath{})

	caddy.RegisterModule(decision.Trace{})
	httpcaddyfile.RegisterHandlerDirective("edge_trace", decision.ParseTrace)
	httpcaddyfile.RegisterDirectiveOrder("edge_trace", httpcaddyfile.After, "tracing")

	caddy.RegisterModule(new(bot.Bot))
	caddy.RegisterModule(new(bot.MatchBot))
	httpcaddyfile.RegisterHandlerDirective("edge_bot", bot.Parse)
	httpcaddyfile.RegisterDirectiveOrder("edge_bot", httpcaddyfile.Before, "map")

	caddy.RegisterModule(new(geo.Geo))
	httpcaddyfile.RegisterHandlerDirective("edge_geo", geo.Parse)
	httpcaddyfile.RegisterDirectiveOrder("edge_geo", httpcaddyfile.Before, "map")

	// Each of these goes right before method, the first of those that change the
	// request, and so after whichever was put there earlier.
	caddy.RegisterModule(new(session.Session))
	httpcaddyfile.RegisterHandlerDirective("edge_session", session.Parse)
	httpcaddyfile.RegisterDirectiveOrder("edge_session", httpcaddyfile.Before, "method")

	caddy.RegisterModule(new(signedurl.Signed))
	httpcaddyfile.RegisterHandlerDirective("edge_signed", signedurl.Parse)
	httpcaddyfile.RegisterDirectiveOrder("edge_signed", httpcaddyfile.Before, "method")

	caddy.RegisterModule(new(experiment.Experiment))
	caddy.RegisterModule(experiment.MatchVariant{})
	httpcaddyfile.RegisterHandlerDirective("edge_experiment", experiment.Parse)
	httpcaddyfile.RegisterDirectiveOrder("edge_experiment", httpcaddyfile.Before, "method")

	caddy.RegisterModule(new(flags.Flags))
	httpcaddyfile.RegisterHandlerDirective("edge_flags", flags.Parse)
	httpcaddyfile.RegisterDirectiveOrder("edge_flags", httpcaddyfile.Before, "method")

	caddy.RegisterModule(new(region.Region))
	caddy.RegisterModule(new(region.Upstreams))
	caddy.RegisterModule(new(region.Transport))
	httpcaddyfile.RegisterHandlerDirective("edge_region", region.Parse)
	httpcaddyfile.RegisterDirectiveOrder("edge_region", httpcaddyfile.After, "intercept")

	caddy.RegisterModule(new(cache.Cache))
	httpcaddyfile.RegisterHandlerDirective("edge_cache", cache.Parse)
	httpcaddyfile.RegisterDirectiveOrder("edge_cache", httpcaddyfile.After, "intercept")

	caddy.RegisterModule(command.Admin{})
	command.Register(command.Cache, command.Explain, command.Keys, command.Purge, command.Regions, command.Revoke, command.Routes, signedurl.Command)
}
