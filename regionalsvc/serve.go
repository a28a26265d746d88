package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/riverqueue/river"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/accounts"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/customers"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/invoices"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/jobs"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/keyset"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/orders"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/portal"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/products"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/purges"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/telemetry"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Limits of the listener for POPs.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	// writeTimeout comes on top of the request's own time, for a POP that is slow
	// to read its answer.
	writeTimeout = 30 * time.Second
	// idleTimeout is longer than Caddy keeps a connection (keepalive 2m), so that
	// the edge is the one who closes it. The other way round it would now and then
	// send a request into a connection that is being closed.
	idleTimeout    = 3 * time.Minute
	maxHeaderBytes = 32 << 10
)

// Of the connections for jobs: what River needs besides its workers, and its
// statements' time.
const (
	riverConnections  = 4
	jobsStatementTime = time.Minute
)

// flushTimeout bounds the export of the last spans.
const flushTimeout = 3 * time.Second

// service is a region, put together.
type service struct {
	*Serve
	log      *zap.Logger
	api      *api.API
	ready    *readiness
	metrics  *prometheus.Registry
	requests *pgxpool.Pool
	work     *pgxpool.Pool // nil: this process does not work on jobs
	jobs     *jobs.Client
	outbox   *feed.Outbox    // nil: no feed
	feed     *feed.Publisher // nil: no feed

	revocations http.Handler // of the operator's port
	purges      http.Handler // likewise
	known       *directory.Live
	flush       func(context.Context) error
}

// Run serves until ctx ends, and then ends in good order.
func (s *Serve) Run(ctx context.Context, out io.Writer) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	log := telemetry.NewLogger(out, c.level, s.Region)
	if s.RequestTimeout >= handoff.EdgeResponseTimeout {
		log.Warn("the edge gives up before this region does, unless its routes say otherwise",
			zap.Duration("request_timeout", s.RequestTimeout), zap.Duration("edge_response_timeout", handoff.EdgeResponseTimeout))
	}
	// What waits for ports and the database ends with ctx. What serves must not:
	// the requests at work go on after the signal.
	listener, err := listen(ctx, "--listen", s.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	operator, err := listen(ctx, "--operator-listen", s.OperatorListen)
	if err != nil {
		return err
	}
	defer operator.Close()
	v, err := s.open(ctx, c, log)
	if err != nil {
		return err
	}
	return v.serve(ctx, listener, operator)
}

func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return l, nil
}

// open connects to the database and puts the service together.
func (s *Serve) open(ctx context.Context, c *config, log *zap.Logger) (_ *service, err error) {
	v := &service{Serve: s, log: log, metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.flush, err = telemetry.Start(ctx, s.Region); err != nil {
		return nil, err
	}
	if err := v.openPools(ctx); err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	v.ready = &readiness{check: func(ctx context.Context) error { return postgres.Check(ctx, v.requests) }}
	if err := v.openFeed(); err != nil {
		return nil, fmt.Errorf("--nats-url: %w", err)
	}
	if v.known, err = directory.Open(ctx, c.directory, s.Region, v.requests, v.outbox, log); err != nil {
		return nil, err
	}
	v.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	routes, err := v.routes(c)
	if err != nil {
		return nil, err
	}
	v.api, err = api.New(api.Config{
		Region: s.Region, Directory: v.known.Directory, Keys: c.edgeKeys, SessionKeys: c.sessions, Ready: v.ready.ask,
		RequestTimeout: s.RequestTimeout, MaxInFlight: s.MaxInFlight,
		Log: log, Metrics: telemetry.NewMetrics(v.metrics),
	}, routes...)
	return v, err
}

func (v *service) openPools(ctx context.Context) (err error) {
	if v.requests, err = postgres.Open(ctx, v.requestPool()); err != nil {
		return err
	}
	var absent *pgconn.PgError
	if err := postgres.Check(ctx, v.requests); errors.As(err, &absent) && absent.Code == "42P01" { // undefined_table
		return fmt.Errorf("the database has no schema yet, run `regionalsvc migrate`: %w", err)
	} else if err != nil {
		return err
	}
	telemetry.WatchPool(v.metrics, "requests", v.requests)
	if v.Workers == 0 {
		return nil
	}
	v.work, err = postgres.Open(ctx, postgres.Config{
		URL: v.DatabaseURL, MaxConns: v.Workers + riverConnections, StatementTimeout: jobsStatementTime,
		Name: "gatehouse " + v.Region + " jobs", Trace: telemetry.Enabled(),
	})
	if err != nil {
		return err
	}
	telemetry.WatchPool(v.metrics, "jobs", v.work)
	return nil
}

// openFeed connects to the feed, where there is one. Without workers of its own the
// process publishes what it decides all the same, on the requests' connections.
func (v *service) openFeed() (err error) {
	if v.NATSURL == "" {
		return nil
	}
	pool := v.requests
	if v.work != nil {
		pool = v.work
	}
	v.outbox = feed.NewOutbox(v.Region, v.LongestSession)
	v.feed, err = feed.NewPublisher(v.outbox, pool, v.broker(), v.log, v.metrics)
	return err
}

func (s *Serve) requestPool() postgres.Config {
	return postgres.Config{
		URL: s.DatabaseURL, MaxConns: s.PoolSize, StatementTimeout: s.StatementTimeout, LockTimeout: s.LockTimeout,
		IdleInTransactionTimeout: s.IdleInTransactionTimeout, Name: "gatehouse " + s.Region, Trace: telemetry.Enabled(),
	}
}

// routes puts the capabilities together: here, and only here, they meet.
func (v *service) routes(c *config) ([]api.Route, error) {
	db := tenancy.New(v.requests).Waiting(v.AcquireTimeout)
	var err error
	if v.jobs, err = v.newJobs(); err != nil {
		return nil, err
	}
	ordersOf, customersOf := orders.New(db, v.jobs), customers.New(db)
	people := accounts.New(db, v.known.Directory, c.sessions, showLogin, v.outbox)
	v.revocations = people.Operator(c.operatorToken)
	v.purges = purges.New(v.Region, db, v.requests, v.known.Directory, v.outbox, v.log).Operator(c.operatorToken)
	pages := &portal.Portal{Region: v.Region, Regions: v.known.Regions(), Overview: overview(people, ordersOf, customersOf),
		RenewEvery: c.sessions.Life / 4}
	var routes []api.Route
	for _, capability := range [][]api.Route{
		people.Routes(), pages.Routes(), ordersOf.Routes(), customersOf.Routes(),
		products.New(db, v.StorefrontTenant, v.outbox).Routes(),
	} {
		routes = append(routes, capability...)
	}
	return routes, nil
}

func (v *service) newJobs() (*jobs.Client, error) {
	if v.work == nil {
		return jobs.New(jobs.Config{Pool: v.requests, Log: v.log})
	}
	workers := river.NewWorkers()
	if err := invoices.New(tenancy.New(v.work)).Register(workers); err != nil {
		return nil, err
	}
	return jobs.New(jobs.Config{Pool: v.work, Workers: workers, MaxWorkers: v.Workers, Log: v.log})
}

// showLogin is the portal's login page as accounts asks for it.
func showLogin(w http.ResponseWriter, status int, form accounts.Form) error {
	return portal.ShowLogin(w, status, portal.Login{Email: form.Email, ReturnTo: form.ReturnTo, Message: form.Message})
}

// overview is what the portal's first page shows, from those who own the rows.
func overview(people *accounts.Service, ordersOf *orders.Service, customersOf *customers.Service) portal.Overview {
	const few = 10
	return func(ctx context.Context, who handoff.Identity) (view portal.View, err error) {
		if view.Email, err = people.Email(ctx, who); err != nil {
			return view, err
		}
		latest, err := ordersOf.List(ctx, who, keyset.Window{Limit: few})
		if err != nil {
			return view, err
		}
		for _, o := range latest.Items {
			view.Orders = append(view.Orders, portal.Order{
				ID: o.ID, CustomerID: o.CustomerID, TotalCents: o.TotalCents, Currency: o.Currency, Status: o.Status, CreatedAt: o.CreatedAt,
			})
		}
		some, err := customersOf.List(ctx, who, keyset.Window{Limit: few})
		if err != nil {
			return view, err
		}
		for _, c := range some.Items {
			view.Customers = append(view.Customers, portal.Customer{ID: c.ID, Name: c.Name})
		}
		return view, nil
	}
}

// serve answers on both listeners until ctx ends or one of them fails, and then
// drains.
func (v *service) serve(ctx context.Context, listener, operator net.Listener) error {
	defer v.close()
	if v.work != nil {
		if err := v.jobs.Start(ctx); err != nil {
			return err
		}
	}
	defer v.publish()()
	failed := make(chan error, 2)
	requests := v.server(v.api, readTimeout+v.RequestTimeout+writeTimeout)
	operators := v.server(v.operator(), writeTimeout)
	go func() { failed <- requests.Serve(listener) }()
	go func() { failed <- operators.Serve(operator) }()
	v.log.Info("serving", zap.String("listen", listener.Addr().String()), zap.String("operator_listen", operator.Addr().String()))

	var err error
	select {
	case err = <-failed:
		v.log.Error("a listener failed", zap.Error(err))
	case <-ctx.Done():
	}
	err = errors.Join(err, v.drain(requests))
	_ = operators.Close() // last: an operator watches the drain
	v.log.Info("stopped")
	return err
}

// publish begins to publish the feed, and to follow what other regions say in it. The function it gives ends that, after what
// the last requests decided was published; it comes before the pools are closed.
func (v *service) publish() (end func()) {
	if v.feed == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var publishing sync.WaitGroup
	publishing.Go(func() { v.feed.Run(ctx) })
	publishing.Go(func() { v.known.Follow(ctx, v.broker()) })
	return func() {
		cancel()
		publishing.Wait()
	}
}

// server holds its clients to the limits. What net/http would answer by itself,
// OPTIONS * for example, is the handler's: nothing is to get past the chain.
func (v *service) server(handler http.Handler, write time.Duration) *http.Server {
	return &http.Server{
		Handler: handler, DisableGeneralOptionsHandler: true, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: write, IdleTimeout: idleTimeout,
		ErrorLog: zap.NewStdLog(v.log),
	}
}

// drain ends in the order in which nothing is lost that was acknowledged:
// readiness first, so that nobody sends more; then, after a delay in which POPs
// notice, the listener and the requests at work; then jobs, which those requests
// may have enqueued. Pools are closed by close, when nobody uses them any more.
func (v *service) drain(requests *http.Server) error {
	v.ready.drain()
	v.api.Drain()
	v.log.Info("draining", zap.Duration("delay", v.DrainDelay)) // and not before: who reads this may look
	time.Sleep(v.DrainDelay)                                    // a second signal ends the process
	ctx, cancel := context.WithTimeout(context.Background(), v.ShutdownTimeout)
	defer cancel()
	err := requests.Shutdown(ctx)
	if err != nil {
		_ = requests.Close()
		err = fmt.Errorf("requests were still at work after --shutdown-timeout, %s: %w", v.ShutdownTimeout, err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), v.ShutdownTimeout)
	defer cancel()
	return errors.Join(err, v.jobs.Stop(ctx))
}

// close ends what open began, whatever of it there is.
func (v *service) close() {
	if v.feed != nil {
		v.feed.Close()
	}
	for _, pool := range []*pgxpool.Pool{v.work, v.requests} {
		if pool != nil {
			pool.Close()
		}
	}
	if v.flush != nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := v.flush(ctx); err != nil {
			v.log.Warn("the last spans were not exported", zap.Error(err))
		}
	}
	_ = v.log.Sync() // fails for a terminal, which needs none
}
