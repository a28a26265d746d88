package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// silence is how long nothing may come before the connection is made anew:
	// every region speaks once a second.
	silence = 10 * time.Second
	// askTimeout bounds the questions at the beginning of a connection.
	askTimeout = 5 * time.Second
)

// Reader reads the stream over one connection.
type Reader struct {
	Server Server
	// Name and Inbox are those of [Dial]. Required.
	Name, Inbox string
	// Subjects are the patterns of what is read. Required.
	Subjects []string
	// Quiet says that nothing may come for as long as it likes, since no heartbeat
	// is among the subjects. Default: the connection is made anew after ten
	// seconds.
	Quiet bool
	// From gives the sequence number to begin with in the stream at hand, 1 for
	// all. Required.
	From func(*jetstream.StreamInfo) uint64
	// Take takes a message. An error ends the reading. Required.
	Take func(subject string, document []byte, position uint64) error
	// Current is called once all that was there at the beginning is taken.
	// Required.
	Current func()
}

// Read reads until ctx ends, the connection is lost, or Take fails, and says why.
func (r Reader) Read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := Dial(r.Server, r.Name, r.Inbox, nats.NoReconnect(),
		nats.ClosedHandler(func(c *nats.Conn) {
			cancel(fmt.Errorf("connection lost: %w", errors.Join(c.LastError(), nats.ErrConnectionClosed)))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { cancel(err) }))
	if err != nil {
		return err
	}
	defer conn.Close()
	messages, waiting, err := r.subscribe(ctx, conn)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	defer messages.Stop()
	if !waiting {
		r.Current()
	}
	for {
		m, err := r.next(ctx, messages)
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := r.Take(m.Subject(), m.Data(), meta.Sequence.Stream); err != nil {
			return err
		}
		if waiting && meta.NumPending == 0 {
			waiting = false
			r.Current()
		}
	}
}

func (r Reader) next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	if r.Quiet {
		return messages.Next(jetstream.NextContext(ctx))
	}
	ctx, stop := context.WithTimeout(ctx, silence)
	defer stop()
	return messages.Next(jetstream.NextContext(ctx))
}

// subscribe asks for the messages from where From says, and says whether there
// are any now.
func (r Reader) subscribe(ctx context.Context, conn *nats.Conn) (_ jetstream.MessagesContext, waiting bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, false, err
	}
	stream, err := js.Stream(ctx, Stream)
	if err != nil {
		return nil, false, fmt.Errorf("stream %s: %w", Stream, err)
	}
	from := r.From(stream.CachedInfo())
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, FilterSubjects: r.Subjects,
	})
	if err != nil {
		return nil, false, fmt.Errorf("read stream %s from %d: %w", Stream, from, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, false, fmt.Errorf("read stream %s from %d: %w", Stream, from, err)
	}
	return messages, consumer.CachedInfo().NumPending > 0, nil
}
