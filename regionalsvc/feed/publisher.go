package feed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
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
			if _, err = tx.Exec(ctx, publishAgain); err == nil {
				_, err = tx.Exec(ctx, publishStatesAgain)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remember stream: %w", err)
	}
	p.known = true
	return nil
}

// message is a row of the outbox, or a state with its sequence.
type message struct {
	id                int64 // 0: a state
	subject, document string
	expires           time.Time // zero: never
	seq               int64
	stored            uint64
}

func (p *Publisher) due(ctx context.Context) (due []message, at time.Time, err error) {
	rows, err := p.pool.Query(ctx, selectDue, batch)
	if err != nil {
		return nil, at, fmt.Errorf("read outbox: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var row struct {
			id, seq, stored   *int64
			subject, document *string
			expires           pgtype.Timestamptz
			sequenced         *bool
		}
		if err := rows.Scan(&at, &row.id, &row.subject, &row.document, &row.expires, &row.sequenced, &row.seq, &row.stored); err != nil {
			return nil, at, fmt.Errorf("read outbox: %w", err)
		}
		if row.subject == nil {
			continue
		}
		m := message{subject: *row.subject, document: *row.document, seq: *row.seq, stored: uint64(*row.stored)}
		if row.id != nil {
			m.id = *row.id
		}
		if row.expires.InfinityModifier == pgtype.Finite {
			m.expires = row.expires.Time
		}
		if *row.sequenced {
			m.document = string(feed.Stamp([]byte(m.document), feed.Sequence(m.seq)))
		}
		due = append(due, m)
	}
	if err := rows.Err(); err != nil {
		return nil, at, fmt.Errorf("read outbox: %w", err)
	}
	return due, at, nil
}

// options are how the broker is to take m.
//
// Two processes may send the same message: its id suppresses the second within the
// broker's window, and beyond it a POP that reads it twice is none the wiser. A
// state is taken only in the place of the one that was stored before it: a process
// that was held up cannot put an older one over a newer, which a POP that begins
// to read then would never know of.
func (m message) options() []jetstream.PublishOpt {
	options := []jetstream.PublishOpt{jetstream.WithExpectStream(link.Stream)}
	if !m.expires.IsZero() {
		options = append(options, jetstream.WithMsgTTL(max(time.Until(m.expires).Truncate(time.Second), time.Second)))
	}
	if m.id != 0 {
		return append(options, jetstream.WithMsgID(m.subject))
	}
	return append(options, jetstream.WithMsgID(m.subject+"/"+strconv.FormatInt(m.seq, 10)), jetstream.WithExpectLastSequencePerSubject(m.stored))
}

// publish sends messages, waits until the broker has stored each, and marks those.
func (p *Publisher) publish(ctx context.Context, due []message) error {
	acks := make([]jetstream.PubAckFuture, len(due))
	for i, m := range due {
		var err error
		acks[i], err = p.js.PublishMsgAsync(&nats.Msg{Subject: m.subject, Data: []byte(m.document)}, m.options()...)
		if err != nil {
			return fmt.Errorf("publish %s: %w", m.subject, err)
		}
	}
	var done stored
	var failed error
	for i, ack := range acks {
		select {
		case where := <-ack.Ok():
			done.add(due[i], where.Sequence)
		case err := <-ack.Err():
			if wrongPlace(err) {
				err = p.relocate(ctx, due[i])
			}
			if err != nil {
				failed = fmt.Errorf("publish %s: %w", due[i].subject, err)
			}
		case <-ctx.Done():
			failed = fmt.Errorf("publish %s: %w", due[i].subject, ctx.Err())
		}
	}
	if err := p.mark(ctx, done); err != nil {
		return fmt.Errorf("mark as published: %w", err)
	}
	return failed
}

// stored are the messages that the broker has.
type stored struct {
	ids         []int64
	subjects    []string
	seqs, where []int64
}

func (s *stored) add(m message, where uint64) {
	if m.id != 0 {
		s.ids = append(s.ids, m.id)
		return
	}
	s.subjects, s.seqs, s.where = append(s.subjects, m.subject), append(s.seqs, m.seq), append(s.where, int64(where))
}

func (p *Publisher) mark(ctx context.Context, s stored) error {
	if len(s.ids) > 0 {
		if _, err := p.pool.Exec(ctx, markPublished, s.ids); err != nil {
			return err
		}
	}
	if len(s.subjects) > 0 {
		if _, err := p.pool.Exec(ctx, markState, s.subjects, s.seqs, s.where); err != nil {
			return err
		}
	}
	p.published.Add(float64(len(s.ids) + len(s.subjects)))
	return nil
}

// wrongPlace reports whether another message is the last of the subject than was
// said. A broker of several servers says it without the number.
func wrongPlace(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) &&
		(refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// relocate finds the last message of a state's subject, so that the next look puts
// the state in its place: another process of the region has published it, or its
// acknowledgement was lost, or somebody displaced it.
func (p *Publisher) relocate(ctx context.Context, m message) error {
	stream, err := p.js.Stream(ctx, link.Stream)
	if err != nil {
		return err
	}
	last, err := stream.GetLastMsgForSubject(ctx, m.subject)
	where := uint64(0)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // expired
	case err != nil:
		return err
	default:
		where = last.Sequence
	}
	_, err = p.pool.Exec(ctx, rememberStored, m.subject, int64(where))
	return err
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
	for _, statement := range []string{deleteExpired, deleteExpiredStates} {
		if _, err := p.pool.Exec(ctx, statement); err != nil && ctx.Err() == nil {
			p.log.Warn("expired messages stay in the outbox for now", zap.Error(err))
		}
	}
}
