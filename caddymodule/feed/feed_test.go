package feed_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	edgefeed "github.com/gatehouse-edge/gatehouse/caddymodule/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/broker"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

func start(t *testing.T, o broker.Options) *broker.Broker {
	t.Helper()
	o.Dir, o.Regions, o.POPs = t.TempDir(), []string{"eu", "us"}, []string{"fra", "iad"}
	b, err := broker.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// connect speaks to the broker as name, a region, a POP or the administrator.
func connect(t *testing.T, b *broker.Broker, name, inbox string, options ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	conn, err := link.Dial(link.Server{URL: b.URL(name)}, name, inbox, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return conn, js
}

// publish publishes as eu.
func publish(t *testing.T, b *broker.Broker, messages ...feed.Message) {
	t.Helper()
	inbox, _ := link.Region("eu")
	conn, js := connect(t, b, "eu", inbox)
	defer conn.Close()
	for _, m := range messages {
		subject, document, err := feed.Encode("eu", m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), subject, document); err != nil {
			t.Fatalf("publish %s: %v", subject, err)
		}
	}
}

func ended(sid string) feed.Revocation {
	return feed.Revocation{Issuer: "gatehouse:eu", Session: sid, At: time.Now().Unix(), Expires: time.Now().Add(time.Hour).Unix()}
}

func follow(t *testing.T, b *broker.Broker, storage string) *edgefeed.Follower {
	t.Helper()
	f := edgefeed.Follow(edgefeed.Options{
		Server: link.Server{URL: b.URL("fra")}, POP: "fra", Storage: &certmagic.FileStorage{Path: storage}, Log: zap.NewNop(),
	})
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func refuses(f *edgefeed.Follower, sid string) bool {
	return f.Revoked(&feed.Session{Issuer: "gatehouse:eu", ID: sid, Subject: "ada", Tenant: "acme", AuthTime: 1})
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); !holds(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestFollower_hearsWhatWasAndWhatComes(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	publish(t, b, ended("before"), feed.Heartbeat{Region: "eu", At: time.Now()})
	f := follow(t, b, t.TempDir())
	await(t, "the state", f.Knows)
	if !refuses(f, "before") || refuses(f, "after") {
		t.Error("what was published before is not known, or more is")
	}
	if since := time.Since(f.Heard("eu")); since > time.Minute || !f.Heard("us").IsZero() {
		t.Errorf("eu was heard %s ago, us at %s", since, f.Heard("us"))
	}
	publish(t, b, ended("after"))
	await(t, "the revocation", func() bool { return refuses(f, "after") })
}

func TestFollower_anEmptyStreamIsAState(t *testing.T) {
	t.Parallel()
	f := follow(t, start(t, broker.Options{}), t.TempDir())
	await(t, "the state", f.Knows)
}

func TestFollower_missesNothingOfAPartition(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	f := follow(t, b, t.TempDir())
	await(t, "the state", f.Knows)
	for round := range 3 {
		before, after := fmt.Sprint("before-", round), fmt.Sprint("after-", round)
		publish(t, b, ended(before))
		b.Stop()
		if err := b.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			publish(t, b, ended(fmt.Sprint("missed-", round, "-", i)), feed.Heartbeat{Region: "eu", At: time.Now()})
		}
		publish(t, b, ended(after))
		await(t, "the last", func() bool { return refuses(f, after) })
		for i := range 50 {
			if sid := fmt.Sprint("missed-", round, "-", i); !refuses(f, sid) || !refuses(f, before) {
				t.Fatalf("round %d: %s was missed", round, sid)
			}
		}
	}
}

func TestFollower_startsFromItsSnapshotWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	b, storage := start(t, broker.Options{}), t.TempDir()
	at := time.Now()
	publish(t, b, ended("s"), feed.Heartbeat{Region: "eu", At: at})
	f := follow(t, b, storage)
	await(t, "the state", f.Knows)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b.Stop()

	f = follow(t, b, storage)
	if !f.Knows() || !refuses(f, "s") || !f.Heard("eu").Equal(at) {
		t.Errorf("knows %v, refuses %v, heard %s; want what the last one knew", f.Knows(), refuses(f, "s"), f.Heard("eu"))
	}
	if err := b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, b, ended("later"))
	await(t, "what came later", func() bool { return refuses(f, "later") })
}

// A crash gets no last snapshot: a revocation is kept as it comes.
func TestFollower_keepsARevocationAtOnce(t *testing.T) {
	t.Parallel()
	b, storage := start(t, broker.Options{}), t.TempDir()
	f := follow(t, b, storage)
	await(t, "the state", f.Knows)
	publish(t, b, ended("s"))
	await(t, "the snapshot", func() bool {
		crashed := filepath.Join(t.TempDir(), "copy")
		if os.CopyFS(crashed, os.DirFS(storage)) != nil {
			return false
		}
		nowhere := edgefeed.Follow(edgefeed.Options{
			Server: link.Server{URL: "nats://127.0.0.1:1"}, POP: "fra", Storage: &certmagic.FileStorage{Path: crashed}, Log: zap.NewNop(),
		})
		defer nowhere.Close()
		return refuses(nowhere, "s")
	})
}

func TestFollower_withoutSnapshotAndServerKnowsNothing(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	b.Stop()
	f := follow(t, b, t.TempDir())
	if f.Knows() {
		t.Error("it knows something")
	}
	if err := b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the state", f.Knows)
}

func TestFollower_aDamagedSnapshotIsNone(t *testing.T) {
	t.Parallel()
	b, storage := start(t, broker.Options{}), t.TempDir()
	path := filepath.Join(storage, "gatehouse", "feed", "fra.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"created":"2026-01-01T00:00:00Z","position":7,"state":{"revocations":[{]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	publish(t, b, ended("s"))
	f := follow(t, b, storage)
	await(t, "the state", func() bool { return f.Knows() && refuses(f, "s") })
}

// Whatever became of the stream: all of it is read again, and nothing that was
// known is forgotten.
func TestFollower_readsAllWhenItsPositionIsGone(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(context.Context, jetstream.JetStream) error{
		"purged": func(ctx context.Context, js jetstream.JetStream) error {
			stream, err := js.Stream(ctx, link.Stream)
			if err != nil {
				return err
			}
			return stream.Purge(ctx)
		},
		"made anew": func(ctx context.Context, js jetstream.JetStream) error {
			if err := js.DeleteStream(ctx, link.Stream); err != nil {
				return err
			}
			return link.MakeStream(ctx, js.Conn(), "eu", "us")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, storage := start(t, broker.Options{}), t.TempDir()
			for i := range 20 {
				publish(t, b, ended(fmt.Sprint("old-", i)))
			}
			f := follow(t, b, storage)
			await(t, "the state", f.Knows)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			publish(t, b, ended("lost"))
			_, js := connect(t, b, "administrator", "_INBOX")
			if err := lose(t.Context(), js); err != nil {
				t.Fatal(err)
			}
			publish(t, b, ended("new"))
			f = follow(t, b, storage)
			await(t, "what is new", func() bool { return refuses(f, "new") })
			if !refuses(f, "old-0") || !refuses(f, "old-19") {
				t.Error("what was known is forgotten")
			}
		})
	}
}

func TestFollower_passesOverWhatItCannotRead(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	inbox, _ := link.Region("eu")
	_, js := connect(t, b, "eu", inbox)
	for subject, document := range map[string]string{
		"eu.gatehouse.heartbeat": "{", "eu.gatehouse.moved.acme": "{}", "eu.gatehouse.revoked.session.x": `{"iss":"i","sid":"s","at":1,"exp":2}`,
	} {
		if _, err := js.Publish(t.Context(), subject, []byte(document)); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, b, ended("s"))
	f := follow(t, b, t.TempDir())
	await(t, "the revocation", func() bool { return f.Knows() && refuses(f, "s") })
}

// Full, it stops to listen rather than to forget: it grows stale, and says so.
func TestFollower_aFullTableStopsTheClock(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	core, logs := observer.New(zap.WarnLevel)
	f := edgefeed.Follow(edgefeed.Options{
		Server: link.Server{URL: b.URL("fra")}, POP: "fra", Storage: &certmagic.FileStorage{Path: t.TempDir()}, Log: zap.New(core), Limits: feed.Limits{Revocations: 1},
	})
	t.Cleanup(func() { _ = f.Close() })
	await(t, "the state", f.Knows)
	at := time.Now().Add(-time.Second)
	publish(t, b, ended("one"), feed.Heartbeat{Region: "eu", At: at})
	// The stream keeps the last heartbeat alone: the next one waits for this one.
	await(t, "the heartbeat", func() bool { return f.Heard("eu").Equal(at) })
	publish(t, b, ended("two"), feed.Heartbeat{Region: "eu", At: time.Now()})
	await(t, "the second to find no room", func() bool {
		return slices.ContainsFunc(logs.All(), func(e observer.LoggedEntry) bool {
			return strings.Contains(fmt.Sprint(e.ContextMap()["error"]), feed.ErrFull.Error())
		})
	})
	if refuses(f, "two") || !refuses(f, "one") {
		t.Error("one of one was forgotten")
	}
	if !f.Heard("eu").Equal(at) {
		t.Error("the clock went on past what found no room")
	}
}

func TestFollower_connectsByAnNKey(t *testing.T) {
	t.Parallel()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := key.PublicKey()
	seed, _ := key.Seed()
	path := filepath.Join(t.TempDir(), "fra.nk")
	if err := os.WriteFile(path, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, broker.Options{NKeys: map[string]string{"fra": public}})
	f := edgefeed.Follow(edgefeed.Options{
		Server: link.Server{URL: fmt.Sprintf("nats://127.0.0.1:%d", b.Port()), Credentials: path},
		POP:    "fra", Storage: &certmagic.FileStorage{Path: t.TempDir()}, Log: zap.NewNop(),
	})
	t.Cleanup(func() { _ = f.Close() })
	await(t, "the state", f.Knows)

	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := link.Dial(link.Server{URL: b.URL("fra"), Credentials: path}, "fra", "_INBOX.pop.fra"); err == nil {
		t.Error("credentials that others may read were used")
	}
}

func TestPermissions_eachIsHeldToItsOwn(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	heartbeat := func(region string) (string, []byte) {
		subject, document, err := feed.Encode(region, feed.Heartbeat{Region: region, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return subject, document
	}
	popInbox, _ := link.POP("fra")
	regionInbox, _ := link.Region("eu")
	for _, row := range []struct {
		who, inbox, region string
		allowed            bool
	}{
		{"eu", regionInbox, "eu", true},
		{"eu", regionInbox, "us", false},
		{"fra", popInbox, "eu", false},
		{"fra", popInbox, "us", false},
	} {
		refused := make(chan error, 8)
		_, js := connect(t, b, row.who, row.inbox, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		subject, document := heartbeat(row.region)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		stored := make(chan error, 1)
		go func() {
			_, err := js.Publish(ctx, subject, document)
			stored <- err
		}()
		select {
		case err := <-stored:
			if err != nil || !row.allowed {
				t.Errorf("%s published %s: %v, allowed: %v", row.who, subject, err, row.allowed)
			}
		case err := <-refused:
			if row.allowed {
				t.Errorf("%s may not publish %s: %v", row.who, subject, err)
			}
		}
		cancel()
	}
	for _, row := range []struct{ who, inbox, subject string }{
		{"fra", popInbox, "eu.gatehouse.>"},             // not past the stream
		{"fra", popInbox, "_INBOX.pop.iad.>"},           // not another's replies
		{"eu", regionInbox, "us.gatehouse.>"},           // nor a region
		{"eu", regionInbox, "$JS.API.STREAM.DELETE.>"},  // nor what others ask
		{"fra", popInbox, "$JS.API.STREAM.PURGE.>"},     // nor a POP
		{"fra", popInbox, "$JS.EVENT.ADVISORY.>"},       //
		{"eu", regionInbox, "_INBOX.region.us.replies"}, //
	} {
		refused := make(chan error, 8)
		conn, _ := connect(t, b, row.who, row.inbox, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		if _, err := conn.SubscribeSync(row.subject); err != nil {
			t.Fatal(err)
		}
		select {
		case <-refused:
		case <-time.After(10 * time.Second):
			t.Errorf("%s may subscribe to %s", row.who, row.subject)
		}
	}
	for _, row := range []struct{ who, inbox string }{{"fra", popInbox}, {"eu", regionInbox}} {
		for _, subject := range []string{"$JS.API.STREAM.PURGE.", "$JS.API.STREAM.DELETE.", "$JS.API.STREAM.UPDATE.", "$JS.API.STREAM.CREATE."} {
			refused := make(chan error, 8)
			conn, _ := connect(t, b, row.who, row.inbox, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
			if err := conn.Publish(subject+link.Stream, nil); err != nil {
				t.Fatal(err)
			}
			select {
			case <-refused:
			case <-time.After(10 * time.Second):
				t.Errorf("%s may publish to %s%s", row.who, subject, link.Stream)
			}
		}
	}
}

// A POP can have the broker send its answers to a subject of the stream: reply
// subjects are the client's to choose. What gets in that way must mean nothing.
func TestPermissions_aReplySubjectForgesNothing(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	publish(t, b, feed.Heartbeat{Region: "eu", At: time.Now()})
	f := follow(t, b, t.TempDir())
	await(t, "the heartbeat", func() bool { return !f.Heard("eu").IsZero() })
	inbox, _ := link.POP("iad")
	conn, js := connect(t, b, "iad", inbox)
	stream, err := js.Stream(t.Context(), link.Stream)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{FilterSubjects: []string{link.POPSubjects}})
	if err != nil {
		t.Fatal(err)
	}
	for _, ask := range []string{"$JS.API.STREAM.INFO." + link.Stream, "$JS.API.CONSUMER.MSG.NEXT." + link.Stream + "." + consumer.CachedInfo().Name} {
		if err := conn.PublishRequest(ask, "us.gatehouse.heartbeat", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	publish(t, b, ended("after"))
	await(t, "what came after", func() bool { return refuses(f, "after") })
	if !f.Heard("us").IsZero() {
		t.Errorf("iad made fra believe that us was heard at %s", f.Heard("us"))
	}
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*Server).startGoRoutine.func1"))
}
