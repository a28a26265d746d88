package decision

import (
	"context"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap/zapcore"
)

// rehearsal stands where the decision will, before edge_guard begins it.
type rehearsal struct{ country string }

// Rehearse makes the request of ctx, one that Caddy's PrepareRequest made ready, a
// dry run: its decision will have DryRun. country is the one to suppose for its
// client; empty: the one that its address has.
func Rehearse(ctx context.Context, country string) {
	caddyhttp.SetVar(ctx, varKey, &rehearsal{country})
}

// Fields gives what the access log would say of the decision so far, without the
// times that were taken. What is empty is absent.
func (d *Decision) Fields() map[string]any {
	e := zapcore.NewMapObjectEncoder()
	stages := d.nstages
	d.nstages = 0
	_ = d.MarshalLogObject(e) // has no error to give
	d.nstages = stages
	for name, value := range e.Fields {
		if value == "" {
			delete(e.Fields, name)
		}
	}
	return e.Fields
}
