// Package broker runs the broker of the feed, a NATS server with JetStream, inside
// a process: for the demo and for tests. In production it is a server of its own.
package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

const readyTimeout = 15 * time.Second

// Options of [Start].
type Options struct {
	// Dir holds what is stored. Required.
	Dir string
	// Port and MonitorPort are on 127.0.0.1. 0: any port, and no monitoring.
	Port, MonitorPort int
	// Regions and POPs are those that may connect.
	Regions, POPs []string
	// NKeys are public keys by which a region or a POP may connect besides.
	NKeys map[string]string
}

// Broker is a running server. Each user has a password of this run.
type Broker struct {
	server    *server.Server
	options   *server.Options
	regions   []string
	address   string
	passwords map[string]string
}

// administrator makes the stream.
const administrator = "administrator"

// Start starts a server on loopback and makes the stream.
func Start(ctx context.Context, o Options) (*Broker, error) {
	b := &Broker{regions: o.Regions, passwords: map[string]string{administrator: rand.Text()}}
	options := &server.Options{
		ServerName: "gatehouse", Host: "127.0.0.1", Port: o.Port, HTTPHost: "127.0.0.1", HTTPPort: o.MonitorPort,
		JetStream: true, StoreDir: o.Dir, NoLog: true, NoSigs: true,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 4 << 30,
		Users: []*server.User{{Username: administrator, Password: b.passwords[administrator]}},
	}
	if o.Port == 0 {
		options.Port = server.RANDOM_PORT
	}
	add := func(name string, p link.Permissions) {
		b.passwords[name] = rand.Text()
		allowed := &server.Permissions{
			Publish: &server.SubjectPermission{Allow: p.Publish}, Subscribe: &server.SubjectPermission{Allow: p.Subscribe},
		}
		options.Users = append(options.Users, &server.User{Username: name, Password: b.passwords[name], Permissions: allowed})
		if key := o.NKeys[name]; key != "" {
			options.Nkeys = append(options.Nkeys, &server.NkeyUser{Nkey: key, Permissions: allowed})
		}
	}
	for _, region := range o.Regions {
		_, p := link.Region(region)
		add(region, p)
	}
	for _, pop := range o.POPs {
		_, p := link.POP(pop)
		add(pop, p)
	}
	b.options = options
	return b, b.start(ctx)
}

// Restart starts a stopped server again, at its old address.
func (b *Broker) Restart(ctx context.Context) error {
	b.options.Port = b.Port()
	return b.start(ctx)
}

func (b *Broker) start(ctx context.Context) (err error) {
	if b.server, err = server.NewServer(b.options.Clone()); err != nil {
		return fmt.Errorf("NATS: %w", err)
	}
	b.server.Start()
	if err := b.ready(ctx); err != nil {
		b.Stop()
		return fmt.Errorf("NATS: %w", err)
	}
	return nil
}

func (b *Broker) ready(ctx context.Context) error {
	if !b.server.ReadyForConnections(readyTimeout) || !b.server.JetStreamEnabled() {
		return errors.New("the server did not come up")
	}
	b.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(b.server.Addr().(*net.TCPAddr).Port))
	conn, err := nats.Connect(b.URL(administrator))
	if err != nil {
		return err
	}
	defer conn.Close()
	return link.MakeStream(ctx, conn, b.regions...)
}

// URL is where name connects, a region, a POP or "administrator".
func (b *Broker) URL(name string) string {
	u := url.URL{Scheme: "nats", Host: b.address, User: url.UserPassword(name, b.passwords[name])}
	return u.String()
}

// Port is where it listens.
func (b *Broker) Port() int {
	_, port, _ := net.SplitHostPort(b.address)
	n, _ := strconv.Atoi(port)
	return n
}

// Stop ends the server and waits until it has.
func (b *Broker) Stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}
