package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

const (
	// beat is the time between two heartbeats.
	beat = time.Second
	// batch is how many messages are under way at once.
	batch = 256
	// passTimeout bounds one look at the outbox with all that it publishes.
	passTimeout = 5 * time.Second
	// sweepEvery is how often expired rows are deleted.
	sweepEvery = time.Minute
	// reconnectWait is the pause between two attempts at a connection, with as much
	// jitter again.
	reconnectWait = 250 * time.Millisecond
)

var errNotConnected = errors.New("NATS is not connected")

// Publisher sends what is in the outbox.
//
// It looks when it is woken and every second. A look that comes by the clock and
// finds nothing due sends a heartbeat with the database's time of that look: so
// the heartbeat proves the whole way, from what was committed to the stream, and
// no row is written for it.
type Publisher struct {
	outbox *Outbox
	pool   *pgxpool.Pool
	conn   *nats.Conn
	js     jetstream.JetStream
	log    *zap.Logger

	published, failures prometheus.Counter
	lastPass            prometheus.Gauge

	known bool // the stream is the one that the rows were published to
	well  bool // the last look succeeded
}

// NewPublisher connects to the broker, now or whenever it is there. It uses pool
// for two short statements at a time.
func NewPublisher(outbox *Outbox, pool *pgxpool.Pool, server link.Server, log *zap.Logger, metrics prometheus.Registerer) (*Publisher, error) {
	p := &Publisher{
		outbox: outbox, pool: pool, log: log, well: true,
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Name: handoff.MetricFeedPublished, Help: "Messages of the outbox that the broker has acknowledged.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: handoff.MetricFeedFailures, Help: "Looks at the outbox that did not succeed.",
		}),
		lastPass: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: handoff.MetricFeedHeartbeat, Help: "When everything committed was last known to be published, in seconds since 1970.",
		}),
	}
	metrics.MustRegister(p.published, p.failures, p.lastPass)
	inbox, _ := link.Region(outbox.region)
	var err error
	p.conn, err = link.Dial(server, "gatehouse region "+outbox.region, inbox,
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait),
		// What cannot be sent now is not kept for later: the outbox is.
		nats.ReconnectBufSize(-1),
		nats.ConnectHandler(func(*nats.Conn) { outbox.Wake() }), nats.ReconnectHandler(func(*nats.Conn) { outbox.Wake() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Error("NATS refuses the feed", zap.Error(err))
		}))
	if err != nil {
		return nil, err
	}
	p.js, err = jetstream.New(p.conn)
	return p, err
}

// Close ends the connection. Call it after [Publisher.Run] has returned.
func (p *Publisher) Close() { p.conn.Close() }

// Run publishes until ctx ends, and then once more what the last requests decided.
func (p *Publisher) Run(ctx context.Context) {
	clock := time.NewTicker(beat)
	defer clock.Stop()
	p.look(ctx, true) // POPs wait for the first heartbeat
	swept := time.Now()
	for {
		select {
		case <-ctx.Done():
			p.look(context.WithoutCancel(ctx), false)
			return
		case <-p.outbox.woken:
			p.look(ctx, false)
		case now := <-clock.C:
			p.look(ctx, true)
			if now.Sub(swept) > sweepEvery {
				swept = now
				p.sweep(ctx)
			}
		}
	}
}

// look makes a pass and says when passes begin and cease to succeed.
func (p *Publisher) look(ctx context.Context, byClock bool) {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	err := p.pass(ctx, byClock)
	switch {
	case err != nil:
		p.failures.Inc()
		p.known = false // it may be another one when it is back
		if p.well {
			p.log.Warn("POPs are not told what is decided here; trying again every second", zap.Error(err))
		}
	case !p.well:
		p.log.Info("POPs are told again what is decided here")
	}
	p.well = err == nil
}

// pass publishes all that is due.
func (p *Publisher) pass(ctx context.Context, byClock bool) error {
	if !p.conn.IsConnected() {
		return errNotConnected
	}
	if err := p.recognize(ctx); err != nil {
		return err
	}
	for {
		due, at, err := p.due(ctx)
		if err != nil {
			return err
		}
		if len(due) == 0 {
			if byClock {
				return p.heartbeat(ctx, at)
			}
			return nil
		}
		if err := p.publish(ctx, due); err != nil {
			return err
		}
	}
}

// recognize finds out whether the stream is the one that the outbox's rows were
// published to. To another one, as after the broker lost its disk, all that still
// matters is published again.
func (p *Publisher) recognize(ctx context.Context) error {
	if p.known {
		return nil
	}
	stream, err := p.js.Stream(ctx, link.Stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", link.Stream, err)
	}
	created := stream.CachedInfo().Created.UTC().Format(time.RFC3339Nano)
	err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, rememberStream, created)
		if err == nil && tag.RowsAffected() > 0 {
			_, err = tx.Exec(ctx, publishAgain)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remember stream: %w", err)
	}
	p.known = true
	return nil
}

// message is a row of the outbox.
type message struct {
	id                int64
	subject, document string
	expires           time.Time
}

func (p *Publisher) due(ctx context.Context) (due []message, at time.Time, err error) {
	rows, err := p.pool.Query(ctx, selectDue, batch)
	if err != nil {
		return nil, at, fmt.Errorf("read outbox: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id *int64
		var subject, document *string
		var expires *time.Time
		if err := rows.Scan(&at, &id, &subject, &document, &expires); err != nil {
			return nil, at, fmt.Errorf("read outbox: %w", err)
		}
		if id != nil {
			due = append(due, message{*id, *subject, *document, *expires})
		}
	}
	if err := rows.Err(); err != nil {
		return nil, at, fmt.Errorf("read outbox: %w", err)
	}
	return due, at, nil
}

// publish sends messages, waits until the broker has stored each, and marks those.
// Two processes may send the same one: its id suppresses the second within the
// broker's window, and beyond it a POP that reads it twice is none the wiser.
func (p *Publisher) publish(ctx context.Context, due []message) error {
	acks := make([]jetstream.PubAckFuture, len(due))
	for i, m := range due {
		life := max(time.Until(m.expires).Truncate(time.Second), time.Second)
		var err error
		acks[i], err = p.js.PublishMsgAsync(&nats.Msg{Subject: m.subject, Data: []byte(m.document)},
			jetstream.WithMsgID(m.subject), jetstream.WithExpectStream(link.Stream), jetstream.WithMsgTTL(life))
		if err != nil {
			return fmt.Errorf("publish %s: %w", m.subject, err)
		}
	}
	var stored []int64
	var failed error
	for i, ack := range acks {
		select {
		case <-ack.Ok():
			stored = append(stored, due[i].id)
		case err := <-ack.Err():
			failed = fmt.Errorf("publish %s: %w", due[i].subject, err)
		case <-ctx.Done():
			failed = fmt.Errorf("publish %s: %w", due[i].subject, ctx.Err())
		}
	}
	if len(stored) > 0 {
		if _, err := p.pool.Exec(ctx, markPublished, stored); err != nil {
			return fmt.Errorf("mark as published: %w", err)
		}
		p.published.Add(float64(len(stored)))
	}
	return failed
}

func (p *Publisher) heartbeat(ctx context.Context, at time.Time) error {
	subject, document, err := feed.Encode(p.outbox.region, feed.Heartbeat{Region: p.outbox.region, At: at.UTC()})
	if err != nil {
		return err
	}
	if _, err := p.js.Publish(ctx, subject, document, jetstream.WithExpectStream(link.Stream)); err != nil {
		return fmt.Errorf("publish %s: %w", subject, err)
	}
	p.lastPass.Set(float64(at.UnixMilli()) / 1000)
	return nil
}

func (p *Publisher) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	if _, err := p.pool.Exec(ctx, deleteExpired); err != nil && ctx.Err() == nil {
		p.log.Warn("expired messages stay in the outbox for now", zap.Error(err))
	}
}
