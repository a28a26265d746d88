// Package demo runs a whole Gatehouse on one machine: PostgreSQL, NATS, two regions
// and two POPs, as the processes that they are anywhere else, with seeded tenants.
//
// `regionalsvc demo` is for people (see [Command]). The end-to-end tests start
// the same topology by [Start], on free ports.
//
//	POP fra ──┬── region eu ── database region_eu    tenant acme
//	POP iad ──┴── region us ── database region_us    tenant globex
//
// They are started from the right to the left, and stopped the other way round.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/broker"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/cluster"
)

// The topology's names. A POP's nearest region stands at its own place.
var (
	regionNames = [2]string{"eu", "us"}
	popNames    = [2]string{"fra", "iad"}
)

// What the regions sign their sessions with, and for whom; Caddyfile.example
// believes these.
const (
	sessionAudience = "gatehouse"
	sessionCookie   = "session" // a __Host- cookie needs https
)

// Options of [Start].
type Options struct {
	// Dir holds everything that outlives the demo: data, keys, logs. It is made
	// when absent. One demo at a time runs in it. Required.
	Dir string
	// Ports to use. Required: see [DefaultPorts] and [FreePorts].
	Ports Ports
	// Caddy and Regionalsvc are the programs, Caddyfile what the POPs run.
	// Required.
	Caddy, Regionalsvc, Caddyfile string
	// Env is added to every program's environment.
	Env []string
	// Throwaway says that the data need not survive a crash of the machine.
	Throwaway bool
	// Log is told each step. Default: nobody is.
	Log func(format string, args ...any)
	// Died hears of a program that ended without having been asked to, from a
	// goroutine of its own. Default: nobody does.
	Died func(*Process)
}

// Demo is the running topology.
type Demo struct {
	// Regions are eu and us, POPs fra and iad.
	Regions [2]*Region
	POPs    [2]*POP

	opts          Options
	unlock        func() error
	server        *cluster.Cluster // nil when somebody else runs it
	ownerPassword string
	keys          keys
	broker        *broker.Broker // nil when somebody else runs it
	natsURL       string         // of that one
}

// Region is one region's service.
type Region struct {
	Process
	// Region is its name: eu, us.
	Region string
	// URL and Operator are where requests and the operator's endpoints are.
	URL, Operator string
	// Database is the connection string of the service's role, Owner that of the
	// tables' owner.
	Database, Owner string
}

// POP is one point of presence.
type POP struct {
	Process
	// POP is its name: fra, iad.
	POP string
	// URL and Admin are where the site and Caddy's admin API are.
	URL, Admin string
}

// Start starts everything and waits until each POP shows a page of each region.
// When that fails, or ctx ends before, what was started is stopped again. ctx
// bounds the start and not the life of the demo: the caller must [Demo.Stop] it.
func Start(ctx context.Context, opts Options) (_ *Demo, err error) {
	if opts.Log == nil {
		opts.Log = func(string, ...any) {}
	}
	if opts.Died == nil {
		opts.Died = func(*Process) {}
	}
	for _, path := range []*string{&opts.Dir, &opts.Caddy, &opts.Regionalsvc, &opts.Caddyfile} {
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	for _, program := range []string{opts.Caddy, opts.Regionalsvc, opts.Caddyfile} {
		if _, err := os.Stat(program); err != nil {
			return nil, fmt.Errorf("%w: run make build", err)
		}
	}
	d := &Demo{opts: opts, keys: keys{filepath.Join(opts.Dir, "keys")}}
	if err := os.MkdirAll(filepath.Join(opts.Dir, "log"), 0o755); err != nil {
		return nil, err
	}
	if d.unlock, err = lock(opts.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Stop())
		}
	}()
	if err := opts.Ports.check(); err != nil {
		return nil, err
	}
	return d, d.start(ctx)
}

func (d *Demo) start(ctx context.Context) error {
	all, err := d.databases(ctx)
	if err != nil {
		return err
	}
	if err := d.startFeed(ctx); err != nil {
		return err
	}
	if err := d.describe(all); err != nil {
		return err
	}
	if err := d.each(ctx, d.migrateAndSeed); err != nil {
		return err
	}
	d.opts.Log("starting regions eu and us")
	if err := d.each(ctx, func(ctx context.Context, i int) error { return d.Regions[i].Start(ctx) }); err != nil {
		return err
	}
	d.opts.Log("starting POPs fra and iad")
	return d.each(ctx, func(ctx context.Context, i int) error { return d.POPs[i].Start(ctx) })
}

// each does something for both at once.
func (d *Demo) each(ctx context.Context, do func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range 2 {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// Stop stops everything: the POPs, so that nothing new comes in, the regions,
// which finish what they have begun, NATS and PostgreSQL. It may be called at any
// time after Start, and twice.
func (d *Demo) Stop() error {
	stop := func(one, other interface{ Stop() error }) error {
		var errs [2]error
		var both sync.WaitGroup
		both.Go(func() { errs[0] = one.Stop() })
		both.Go(func() { errs[1] = other.Stop() })
		both.Wait()
		return errors.Join(errs[:]...)
	}
	var errs []error
	if d.POPs[0] != nil {
		errs = append(errs, stop(d.POPs[0], d.POPs[1]))
		errs = append(errs, stop(d.Regions[0], d.Regions[1]))
	}
	if d.broker != nil {
		d.broker.Stop()
	}
	if d.server != nil {
		errs = append(errs, d.server.Stop())
	}
	errs = append(errs, d.unlock())
	return errors.Join(errs...)
}

// describe makes the keys and says of each process how it is run.
func (d *Demo) describe(all map[string]database) error {
	edgeKeys, err := d.edgeKeys()
	if err != nil {
		return err
	}
	operatorToken, _, err := d.keys.secret("operator.token")
	if err != nil {
		return err
	}
	directoryKey, err := d.writeDirectory()
	if err != nil {
		return err
	}
	cookieSecret, _, err := d.keys.secret("cookie.secret")
	if err != nil {
		return err
	}
	linkKeys, err := d.keys.links()
	if err != nil {
		return err
	}
	for i, name := range regionNames {
		sessionKey, err := d.keys.signing("session-" + name)
		if err != nil {
			return err
		}
		r := &Region{
			Region: name,
			URL:    "http://" + address(d.opts.Ports.Region[i]), Operator: "http://" + address(d.opts.Ports.Operator[i]),
			Database: all[name].service, Owner: all[name].owner,
		}
		storefront := ""
		if name == storefrontHome {
			storefront = storefrontTenant
		}
		d.process(&r.Process, "region-"+name, []string{d.opts.Regionalsvc, "serve"}, []string{
			"GATEHOUSE_REGION=" + name,
			"GATEHOUSE_LISTEN=" + address(d.opts.Ports.Region[i]),
			"GATEHOUSE_OPERATOR_LISTEN=" + address(d.opts.Ports.Operator[i]),
			"GATEHOUSE_OPERATOR_TOKEN=file:" + operatorToken,
			"DATABASE_URL=" + r.Database,
			"GATEHOUSE_DIRECTORY=" + d.directoryFile(),
			"GATEHOUSE_DIRECTORY_KEY=file:" + directoryKey,
			"GATEHOUSE_SESSION_KEY=" + sessionKey,
			"GATEHOUSE_SESSION_ISSUER=gatehouse:" + name,
			"GATEHOUSE_SESSION_AUDIENCE=" + sessionAudience,
			"GATEHOUSE_SESSION_COOKIE=" + sessionCookie,
			"GATEHOUSE_EDGE_KEYS=" + edgeKeys,
			"GATEHOUSE_STOREFRONT_TENANT=" + storefront,
			"NATS_URL=" + d.feedURL(name),
			"GATEHOUSE_DRAIN_DELAY=200ms", // the POPs are near
			"OTEL_SERVICE_NAME=gatehouse-region",
			"OTEL_RESOURCE_ATTRIBUTES=" + resource("gatehouse.region", name),
		}, answers(r.Operator+"/readyz"))
		d.Regions[i] = r
	}
	for i, name := range popNames {
		p := &POP{
			POP: name,
			URL: "http://" + address(d.opts.Ports.POP[i]), Admin: address(d.opts.Ports.Admin[i]),
		}
		state := filepath.Join(d.opts.Dir, "caddy", name)
		d.process(&p.Process, "pop-"+name, []string{d.opts.Caddy, "run", "--config", d.opts.Caddyfile, "--adapter", "caddyfile"}, append([]string{
			"EDGE_POP=" + name,
			"EDGE_DEFAULT_REGION=" + regionNames[i],
			"EDGE_SITE=http://:" + strconv.Itoa(d.opts.Ports.POP[i]),
			"EDGE_BIND=127.0.0.1",
			"EDGE_ADMIN=" + p.Admin,
			"EDGE_ACCESS_LOG=stdout",
			"EDGE_UPSTREAMS_EU=" + address(d.opts.Ports.Region[0]),
			"EDGE_UPSTREAMS_US=" + address(d.opts.Ports.Region[1]),
			"EDGE_JWKS_EU=" + d.Regions[0].URL + handoff.SessionJWKSPath,
			"EDGE_JWKS_US=" + d.Regions[1].URL + handoff.SessionJWKSPath,
			"EDGE_KEY_FILE=" + d.keys.path("pop-"+name+".pem"),
			"EDGE_COOKIE_SECRET_FILE=" + cookieSecret,
			"EDGE_LINK_KEYS=" + linkKeys,
			"EDGE_SESSION_AUDIENCE=" + sessionAudience,
			"EDGE_SESSION_COOKIE=" + sessionCookie,
			"EDGE_FEED=nats",
			"EDGE_NATS_URL=" + d.feedURL(name),
			"XDG_DATA_HOME=" + filepath.Join(state, "data"),
			"XDG_CONFIG_HOME=" + filepath.Join(state, "config"),
			"OTEL_SERVICE_NAME=gatehouse-edge",
			"OTEL_RESOURCE_ATTRIBUTES=" + resource("gatehouse.pop", name),
		}, tracing()...), answers(p.URL+storefrontPage, p.URL+"/login"))
		d.POPs[i] = p
	}
	return nil
}

// process fills p, whose fields the topology is described by.
func (d *Demo) process(p *Process, name string, argv, env []string, ready func(context.Context) error) {
	p.Name, p.argv, p.ready, p.died = name, argv, ready, d.opts.Died
	p.Log = filepath.Join(d.opts.Dir, "log", name+".log")
	p.env = append(env, d.opts.Env...)
	_ = os.Remove(p.Log) // the log is this run's
}

// edgeKeys makes the POPs' keys, and says where a region finds their public half.
func (d *Demo) edgeKeys() (string, error) {
	var sets []string
	for _, name := range popNames {
		if _, err := d.keys.signing("pop-" + name); err != nil {
			return "", err
		}
		path, err := d.keys.published("pop-" + name)
		if err != nil {
			return "", err
		}
		sets = append(sets, name+"="+path)
	}
	return strings.Join(sets, ","), nil
}

// tracing turns the edge's tracing on where an endpoint alone asks for it, as it
// does at the region: Caddyfile.example looks at OTEL_TRACES_EXPORTER.
func tracing() []string {
	if os.Getenv("OTEL_TRACES_EXPORTER") != "" {
		return nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		if os.Getenv(name) != "" {
			return []string{"OTEL_TRACES_EXPORTER=otlp"}
		}
	}
	return nil
}

// resource adds an attribute to those that the environment gives.
func resource(key, value string) string {
	attributes := key + "=" + value
	if given := os.Getenv("OTEL_RESOURCE_ATTRIBUTES"); given != "" {
		attributes = given + "," + attributes
	}
	return attributes
}

// client asks whether something answers: directly, and without following what
// it answers.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       5 * time.Second,
}

// answers is satisfied when every url answers 200.
func answers(urls ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, url := range urls {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			response, err := client.Do(r)
			if err != nil {
				return err
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answers %s", url, response.Status)
			}
		}
		return nil
	}
}

// lock makes this process the one whose demo runs in dir, until unlock or until
// it ends.
func lock(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if pid, _ := os.ReadFile(path); len(pid) > 0 {
			return nil, fmt.Errorf("a demo runs in %s already (pid %s): end it first, or use another directory", dir, strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("a demo runs in %s already: lock %s: %w", dir, path, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			return err
		}
		return nil
	}, nil
}
