package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// Command is `regionalsvc demo`.
type Command struct {
	Dir       string `help:"Directory of the demo's state: data, keys, logs." default:".demo" type:"path"`
	PortBase  int    `help:"Shifts every port, so that two demos can run side by side." env:"DEMO_PORT_BASE" default:"0"`
	Caddy     string `help:"The Caddy that ./xcaddy.sh has built." default:"bin/caddy" type:"path"`
	Caddyfile string `help:"What the POPs run." default:"Caddyfile.example" type:"path"`
}

// Run starts the demo, says where everything is, and runs it until ctx ends.
// It is an error when something did not come up, or ended on its own.
func (c *Command) Run(ctx context.Context, out io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	began := time.Now()
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	died := make(chan *Process, 4)
	d, err := Start(ctx, Options{
		Dir: c.Dir, Ports: DefaultPorts(c.PortBase), Caddy: c.Caddy, Regionalsvc: program, Caddyfile: c.Caddyfile,
		Log: say, Died: func(p *Process) { died <- p },
	})
	if ctx.Err() != nil {
		return errors.New("interrupted while starting; everything is stopped again")
	}
	if err != nil {
		return err
	}
	say("ready after %.1f s\n", time.Since(began).Seconds())
	d.introduce(out)

	var dead []error
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case p := <-died:
			dead = append(dead, fmt.Errorf("%s ended on its own", p.Name))
			say("\n%s (pid %d) ended; everything else goes on; start the demo anew to have it back\n%s", p.Name, p.PID(), p.Tail())
		}
	}
	say("\nstopping: POPs, regions, NATS, PostgreSQL")
	return errors.Join(append(dead, d.Stop())...)
}

// introduce prints the addresses and three commands to try.
func (d *Demo) introduce(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, p := range d.POPs {
		fmt.Fprintf(table, "POP %s\t%s\tnearest region %s\tCaddy admin %s\n", p.POP, p.URL, regionNames[i], p.Admin)
	}
	for _, r := range d.Regions {
		fmt.Fprintf(table, "region %s\t%s\tdatabase region_%s\toperator %s (/metrics /healthz /readyz)\n", r.Region, r.URL, r.Region, r.Operator)
	}
	_ = table.Flush()
	near, far := d.POPs[0].URL, d.POPs[1].URL
	fmt.Fprintf(out, `
ada@acme.example and alan@acme.example live in eu, grace@globex.example in us; password: %[1]s
%[2]s/app shows the portal. Or log in at one POP and order at the other:

  curl -sc /tmp/ada -H 'Content-Type: application/json' %[2]s/login -d '{"email":"ada@acme.example","password":"%[1]s"}'
  CUSTOMER=$(curl -sb /tmp/ada '%[2]s/api/customers?limit=1' | grep -o '"id":"[^"]*' | cut -d'"' -f4)
  curl -isb /tmp/ada -H 'Content-Type: application/json' %[3]s/api/orders -d "{\"customerId\":\"$CUSTOMER\",\"totalCents\":1299}"

logs: %[4]s/log   stop: Ctrl-C   forget: make demo-clean
`, Password, near, far, d.opts.Dir)
}
