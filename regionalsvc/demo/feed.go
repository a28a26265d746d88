package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/handoff/feed/broker"
	feedlink "github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

// EnvNATS names a running NATS server with JetStream, to use in place of the
// demo's own. Regions and POPs connect as the URL says, which must be allowed to
// make the stream.
const EnvNATS = "NATS_URL"

// startFeed finds or starts the broker of the feed.
func (d *Demo) startFeed(ctx context.Context) error {
	if d.natsURL = os.Getenv(EnvNATS); d.natsURL != "" {
		d.opts.Log("NATS: %s is used", EnvNATS)
		return makeStream(ctx, d.natsURL)
	}
	var err error
	d.broker, err = broker.Start(ctx, broker.Options{
		Dir: filepath.Join(d.opts.Dir, "nats"), Port: d.opts.Ports.NATS[0], MonitorPort: d.opts.Ports.NATS[1],
		Regions: regionNames[:], POPs: popNames[:],
	})
	if err == nil {
		d.opts.Log("NATS: this demo's own runs on port %d", d.broker.Port())
	}
	return err
}

func makeStream(ctx context.Context, url string) error {
	if err := (feedlink.Server{URL: url}).Check(); err != nil {
		return fmt.Errorf("%s: %w", EnvNATS, err)
	}
	conn, err := nats.Connect(url)
	if err != nil {
		return fmt.Errorf("%s: %w", EnvNATS, err)
	}
	defer conn.Close()
	if err := feedlink.MakeStream(ctx, conn, regionNames[:]...); err != nil {
		return fmt.Errorf("%s: %w", EnvNATS, err)
	}
	return nil
}

// feedURL is where a region or a POP connects, with a password of this run.
func (d *Demo) feedURL(name string) string {
	if d.broker == nil {
		return d.natsURL
	}
	return d.broker.URL(name)
}

// StopFeed stops the demo's own broker, as an outage would.
func (d *Demo) StopFeed() { d.broker.Stop() }

// RestartFeed starts it again, with what it had stored.
func (d *Demo) RestartFeed(ctx context.Context) error { return d.broker.Restart(ctx) }
