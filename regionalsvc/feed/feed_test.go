package feed_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/broker"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres/pgtest"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// What commits is published, what does not is not, and a broker that was away or
// lost everything is told in the end.
func TestPublisher_tellsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	db := tenancy.New(pool)
	if err := db.Enroll(t.Context(), tenancy.Tenant{ID: "acme", Name: "acme", Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	b, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Regions: []string{"eu"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop() })
	outbox := feed.NewOutbox("eu", time.Hour)
	p, err := feed.NewPublisher(outbox, pool, link.Server{URL: b.URL("eu")}, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); p.Close() })

	end := func(sid string, err error) {
		t.Helper()
		failed := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
			if err := outbox.Revoke(tx, handfeed.Revocation{Issuer: "gatehouse:eu", Session: sid}); err != nil {
				return err
			}
			return err
		})
		if failed != err {
			t.Fatal(failed)
		}
		outbox.Wake()
	}
	end("rolled-back", context.Canceled)
	end("one", nil)
	awaitStream(t, b, func(s *handfeed.State) bool { return ended(s, "one") && !s.Heard("eu").IsZero() })
	b.Stop()
	end("two", nil)
	if err := b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, b, func(s *handfeed.State) bool { return ended(s, "one") && ended(s, "two") })

	conn, err := link.Dial(link.Server{URL: b.URL("administrator")}, "administrator", "_INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err == nil {
		err = js.DeleteStream(t.Context(), link.Stream)
	}
	if err == nil {
		err = link.MakeStream(t.Context(), conn, "eu")
	}
	if err != nil {
		t.Fatal(err)
	}
	// A region notices a stream that was lost when it connects anew.
	b.Stop()
	end("three", nil)
	if err := b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, b, func(s *handfeed.State) bool {
		if ended(s, "rolled-back") {
			t.Fatal("what was rolled back was published")
		}
		return ended(s, "one") && ended(s, "two") && ended(s, "three")
	})
}

func ended(s *handfeed.State, sid string) bool {
	return s.Revoked(&handfeed.Session{Issuer: "gatehouse:eu", ID: sid})
}

// awaitStream reads the stream from its beginning until it comes to what holds.
func awaitStream(t *testing.T, b *broker.Broker, holds func(*handfeed.State) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := link.Dial(link.Server{URL: b.URL("administrator")}, "reader", "_INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(ctx, link.Stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for s := new(handfeed.State); !holds(s); {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatalf("waited in vain: %v", err)
		}
		region, message, err := handfeed.Parse(m.Subject(), m.Data())
		if err == nil {
			_, err = s.Apply(region, message, time.Now())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
