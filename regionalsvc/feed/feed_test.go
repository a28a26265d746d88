package feed_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
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
	db := tenancy.New(pool).Waiting(pgtest.Patience)
	if err := db.Enroll(t.Context(), tenancy.Tenant{ID: "acme", Name: "acme", Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	b, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Regions: []string{"eu"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop() })
	outbox := publish(t, pool, b)

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

// publish runs a publisher, as one process of the region does.
func publish(t *testing.T, pool *pgxpool.Pool, b *broker.Broker) *feed.Outbox {
	t.Helper()
	outbox := feed.NewOutbox("eu", time.Hour)
	p, err := feed.NewPublisher(outbox, pool, link.Server{URL: b.URL("eu")}, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); p.Close() })
	return outbox
}

// newRegion is a database that knows acme, and a broker.
func newRegion(t *testing.T) (*pgxpool.Pool, *tenancy.DB, *broker.Broker) {
	t.Helper()
	pool := pgtest.New(t)
	db := tenancy.New(pool).Waiting(pgtest.Patience)
	if err := db.Enroll(t.Context(), tenancy.Tenant{ID: "acme", Name: "acme", Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	b, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Regions: []string{"eu"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop() })
	return pool, db, b
}

// What has one state at a time is published in the commit that decided it, and a
// later state in the earlier one's place, also to a stream that was made anew.
func TestPublisher_tellsTheLatestState(t *testing.T) {
	t.Parallel()
	pool, db, b := newRegion(t)
	outbox := publish(t, pool, b)
	value := func(want string) func(*handfeed.State) bool {
		return func(s *handfeed.State) bool {
			got, ok := s.Value("greetings", "acme", "hello")
			return got == want && ok == (want != "") && !s.Heard("eu").IsZero()
		}
	}
	put := func(value string, failure error) {
		t.Helper()
		err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error {
			return errors.Join(outbox.Put(tx, "greetings", "hello", value), failure)
		})
		if !errors.Is(err, failure) {
			t.Fatal(err)
		}
		outbox.Wake()
	}
	put("first", nil)
	awaitStream(t, b, value("first"))
	put("rolled back", context.Canceled)
	put("second", nil)
	awaitStream(t, b, value("second"))
	b.Stop()
	put("third", nil)
	put("fourth", nil)
	if err := b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, b, value("fourth"))
	if n := count(t, b, "eu.gatehouse.kv.>"); n != 1 {
		t.Errorf("the stream holds %d messages of one value", n)
	}

	// For everybody, and of other kinds, in one transaction of no tenant.
	set := handfeed.Definition{Kind: handfeed.Flags, Name: "web", Body: jsontext.Value(`{"flags":[]}`)}
	tenant := handfeed.Tenant{Tenant: "acme", Home: "eu", State: handfeed.Active, Epoch: 4}
	tell := func(messages ...handfeed.Message) error {
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return outbox.Publish(t.Context(), tx, messages...) })
		outbox.Wake()
		return err
	}
	if err := tell(set, tenant, handfeed.KV{Bucket: "greetings", Key: "all", Value: "everybody's"}, handfeed.Purge{Group: "*", Expires: time.Now().Add(time.Hour).Unix()}); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, b, func(s *handfeed.State) bool {
		home, _ := s.Home("acme")
		all, _ := s.Value("greetings", "globex", "all")
		return home == tenant && all == "everybody's" && string(s.Definition(handfeed.Flags, "web")) == `{"flags":[]}` && s.Purged("", "g") > 0
	})
	for name, m := range map[string]handfeed.Message{
		"a set that is none":     handfeed.Definition{Kind: handfeed.Flags, Name: "web", Body: jsontext.Value(`[]`)},
		"a home that is none":    handfeed.Tenant{Tenant: "acme", Home: "E U", State: handfeed.Active, Epoch: 5},
		"a heartbeat of a guess": handfeed.Heartbeat{Region: "eu", At: time.Now()},
	} {
		if err := tell(m); err == nil {
			t.Errorf("%s was published", name)
		}
	}

	// Gone, to whoever knew it and to whoever did not.
	if err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error { return outbox.Delete(tx, "greetings", "hello") }); err != nil {
		t.Fatal(err)
	}
	if err := tell(feed.Gone(set)); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, b, func(s *handfeed.State) bool { return value("")(s) && s.Definition(handfeed.Flags, "web") == nil })
}

// A process that was held up puts no older state over a newer one, though the
// broker has long forgotten which messages it had, and an acknowledgement that was
// lost or a message that somebody displaced stops nobody.
func TestPublisher_anOlderStateDisplacesNoNewerOne(t *testing.T) {
	t.Parallel()
	pool, db, b := newRegion(t)
	outbox := publish(t, pool, b)
	put := func(value string) {
		t.Helper()
		if err := db.Write(t.Context(), "acme", func(tx *tenancy.Tx) error { return outbox.Put(tx, "b", "k", value) }); err != nil {
			t.Fatal(err)
		}
		outbox.Wake()
		awaitStream(t, b, func(s *handfeed.State) bool {
			got, _ := s.Value("b", "acme", "k")
			return got == value
		})
	}
	put("one")
	conn, err := link.Dial(link.Server{URL: b.URL("eu")}, "another process", "_INBOX.region.eu")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), link.Stream)
	if err != nil {
		t.Fatal(err)
	}
	subject, document, err := handfeed.Encode("eu", handfeed.KV{Sequence: 1, Bucket: "b", Tenant: "acme", Key: "k", Value: "late"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	put("two")
	// As the held up process would: in the place of what was there when it looked.
	if _, err := js.Publish(t.Context(), subject, document, jetstream.WithExpectLastSequencePerSubject(first.Sequence)); err == nil {
		t.Error("an older state was stored over a newer one")
	}
	// Somebody gets in all the same: the next state finds its place.
	if _, err := js.Publish(t.Context(), subject, document); err != nil {
		t.Fatal(err)
	}
	put("three")
}

func count(t *testing.T, b *broker.Broker, subjects string) (n uint64) {
	t.Helper()
	conn, err := link.Dial(link.Server{URL: b.URL("administrator")}, "reader", "_INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), link.Stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(subjects))
	if err != nil {
		t.Fatal(err)
	}
	for _, stored := range info.State.Subjects {
		n += stored
	}
	return n
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
	for s := handfeed.NewState(handfeed.Limits{}); !holds(s); {
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
