package feed_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	edgefeed "github.com/gatehouse-edge/gatehouse/caddymodule/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/broker"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

func acmeAt(home string, epoch int64) feed.Tenant {
	return feed.Tenant{Tenant: "acme", Home: home, State: feed.Active, Epoch: epoch}
}

func value(seq feed.Sequence, key, value string) feed.KV {
	v := feed.KV{Sequence: seq, Bucket: "b", Key: key, Value: value}
	if value == "" {
		v.Expires = time.Now().Add(time.Hour).Unix()
	}
	return v
}

func beatOf(region string) feed.Heartbeat { return feed.Heartbeat{Region: region, At: time.Now()} }

func flagSet(seq feed.Sequence, body string) feed.Definition {
	return feed.Definition{Sequence: seq, Kind: feed.Flags, Name: "web", Body: jsontext.Value(body)}
}

// A move is taken by its epoch and by nothing else.
func TestFollower_followsATenantThatMoves(t *testing.T) {
	t.Parallel()
	b, storage := start(t, broker.Options{}), t.TempDir()
	f := follow(t, b, storage)
	if _, _, known := f.TenantHome("acme"); known {
		t.Error("a home is known before anybody said it")
	}
	at := func(region string, epoch int64) func() bool {
		return func() bool {
			home, e, known := f.TenantHome("acme")
			return known && home == region && e == epoch
		}
	}
	publish(t, b, acmeAt("eu", 1))
	await(t, "the first home", at("eu", 1))
	publish(t, b, acmeAt("us", 3))
	await(t, "the move", at("us", 3))
	publish(t, b, acmeAt("eu", 2), acmeAt("eu", 3), value(1, "after", "v"))
	await(t, "what came after", func() bool { _, ok := f.Value("b", "", "after"); return ok })
	if !at("us", 3)() {
		t.Error("an older move was taken")
	}
	_ = f.Close()
	b.Stop()
	f = follow(t, b, storage)
	if !at("us", 3)() {
		t.Error("a POP that starts while the broker is away does not know where acme is")
	}
}

// Who watches hears what was, then what comes, in order, and what is gone.
func TestFollower_tellsWhoWatches(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	f := follow(t, b, t.TempDir())
	purge := feed.Purge{Sequence: 7, Group: "g", Expires: time.Now().Add(time.Hour).Unix()}
	publish(t, b, flagSet(1, `{"flags":[]}`), purge, value(1, "k", "v"))
	await(t, "the first", func() bool { _, ok := f.Value("b", "", "k"); return ok })
	if f.Purged("", "g") != 7 || f.Purged("acme", "g") != 0 {
		t.Errorf("purged up to %d", f.Purged("", "g"))
	}
	var mu sync.Mutex
	var heard []string
	stop := f.Watch(func(m feed.Message) {
		mu.Lock()
		defer mu.Unlock()
		switch m := m.(type) {
		case feed.Definition:
			heard = append(heard, fmt.Sprintf("%s %d %s", m.Name, m.Sequence, string(m.Body)))
		case feed.Purge:
			heard = append(heard, fmt.Sprintf("%s %d", m.Group, m.Sequence))
		}
	})
	so := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(heard, ", ")
	}
	publish(t, b, flagSet(3, `{"flags":[{"key":"on"}]}`))
	await(t, "the change", func() bool { return strings.HasSuffix(so(), `on"}]}`) })
	publish(t, b, flagSet(2, `{"flags":[{"key":"old"}]}`), value(1, "between", "v"))
	await(t, "the older one", func() bool { _, ok := f.Value("b", "", "between"); return ok })
	publish(t, b, feed.Definition{Sequence: 4, Kind: feed.Flags, Name: "web", Expires: purge.Expires})
	await(t, "the last", func() bool { return strings.HasSuffix(so(), "web 4 ") })
	const want = `web 1 {"flags":[]}, g 7, web 3 {"flags":[{"key":"on"}]}, web 4 `
	if so() != want {
		t.Errorf("heard %s\nwant  %s", so(), want)
	}
	stop()
	publish(t, b, flagSet(5, `{"flags":[]}`), value(2, "k", "w"))
	await(t, "the rest", func() bool { v, _ := f.Value("b", "", "k"); return v == "w" })
	if so() != want {
		t.Errorf("heard more after the end: %s", so())
	}
}

// What is gone while a POP is away is gone there when it comes back, whether the
// stream still says so or begins after the POP's position.
func TestFollower_aTrimmedPositionForcesAFullSnapshot(t *testing.T) {
	t.Parallel()
	b, storage := start(t, broker.Options{}), t.TempDir()
	publish(t, b, value(1, "stays", "v"), value(1, "goes", "v"), value(1, "forgotten", "v"), ended("s"), beatOf("eu"))
	f := follow(t, b, storage)
	await(t, "the state", f.Knows)
	_ = f.Close()
	publish(t, b, value(2, "goes", ""), beatOf("eu"))
	f = follow(t, b, storage)
	has := func(key string) bool { _, ok := f.Value("b", "", key); return ok }
	await(t, "the tail", func() bool { return !has("goes") })
	_ = f.Close()

	_, js := connect(t, b, "administrator", "_INBOX")
	stream, err := js.Stream(t.Context(), link.Stream)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, b, value(1, "missed", "v"))
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, b, value(1, "stays", "v"), beatOf("eu"))
	f = follow(t, b, storage)
	await(t, "the full snapshot", func() bool { return !has("forgotten") })
	if !has("stays") || has("goes") || !refuses(f, "s") {
		t.Error("something else was dropped, or came back")
	}
}

// A crash while everything is read anew leaves a POP that reads everything anew.
func TestFollower_aCrashInAFullReadingBeginsItAgain(t *testing.T) {
	t.Parallel()
	b, storage := start(t, broker.Options{}), t.TempDir()
	publish(t, b, value(1, "stays", "v"), value(1, "forgotten", "v"), beatOf("eu"))
	f := follow(t, b, storage)
	await(t, "the state", f.Knows)
	_ = f.Close()
	path := filepath.Join(storage, "gatehouse", "feed", "fra.json")
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// As the snapshot is that is taken in the midst: without a position, and with
	// what the reading before knew.
	crashed := strings.Replace(string(kept), `"position":3`, `"position":0`, 1)
	if crashed == string(kept) {
		t.Fatalf("no position in %s", kept)
	}
	if err := os.WriteFile(path, []byte(crashed), 0o600); err != nil {
		t.Fatal(err)
	}
	_, js := connect(t, b, "administrator", "_INBOX")
	stream, err := js.Stream(t.Context(), link.Stream)
	if err != nil {
		t.Fatal(err)
	}
	subject, _, _ := feed.Encode("eu", value(1, "forgotten", "v"))
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(subject)); err != nil {
		t.Fatal(err)
	}
	f = follow(t, b, storage)
	if _, ok := f.Value("b", "", "stays"); !ok || !f.Knows() {
		t.Error("it knows nothing before the reading is over")
	}
	await(t, "the full snapshot", func() bool { _, ok := f.Value("b", "", "forgotten"); return !ok })
	if _, ok := f.Value("b", "", "stays"); !ok {
		t.Error("what is still said was dropped")
	}
}

// A bucket without room stops nobody: revocations come through, and it is said.
func TestFollower_aFullBucketIsSaidAndStopsNoRevocation(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	core, logs := observer.New(zap.ErrorLevel)
	f := edgefeed.Follow(edgefeed.Options{
		Server: link.Server{URL: b.URL("fra")}, POP: "fra", Storage: &certmagic.FileStorage{Path: t.TempDir()}, Log: zap.New(core),
		Limits: feed.Limits{Values: 1},
	})
	t.Cleanup(func() { _ = f.Close() })
	publish(t, b, value(1, "one", "v"), value(1, "two", "v"), ended("s"), beatOf("eu"))
	await(t, "the revocation", func() bool { return refuses(f, "s") && !f.Heard("eu").IsZero() })
	if _, ok := f.Value("b", "", "two"); ok {
		t.Error("the bound does not hold")
	}
	if logs.FilterMessageSnippet("is full").Len() != 1 {
		t.Errorf("said %d times that the table is full, want once: %v", logs.Len(), logs.All())
	}
}

// A POP may ask for what is for POPs, and for nothing else.
func TestPermissions_aPOPSeesNoSignInName(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	login := feed.Login{Sequence: 1, Hash: strings.Repeat("0a", 32), Tenant: "acme"}
	publish(t, b, login, value(1, "k", "v"))
	inbox, _ := link.POP("fra")
	read := func(filters ...string) error {
		refused := make(chan error, 8)
		_, js := connect(t, b, "fra", inbox, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() {
			select {
			case <-refused:
				cancel()
			case <-ctx.Done():
			}
		}()
		config := jetstream.ConsumerConfig{Name: "mine", FilterSubjects: filters, AckPolicy: jetstream.AckNonePolicy}
		if len(filters) == 1 {
			config.FilterSubject, config.FilterSubjects = filters[0], nil
		}
		_, err := js.CreateConsumer(ctx, link.Stream, config)
		return err
	}
	if err := read(link.POPSubjects); err != nil {
		t.Fatalf("what a POP reads: %v", err)
	}
	for _, filters := range [][]string{nil, {">"}, {"eu.>"}, {"*.regions.>"}, {"eu.regions.login." + login.Hash}, {link.POPSubjects, "*.regions.>"}} {
		if err := read(filters...); err == nil {
			t.Errorf("a POP may read %q", filters)
		}
	}
	// To say one thing in the subject, which the broker looks at for permission, and
	// another in the request.
	conn, _ := connect(t, b, "fra", inbox)
	answer, err := conn.Request("$JS.API.CONSUMER.CREATE."+link.Stream+".forged."+link.POPSubjects,
		[]byte(`{"stream_name":"`+link.Stream+`","config":{"name":"forged","filter_subject":"*.regions.>","ack_policy":"none"}}`), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(answer.Data), `"error"`) {
		t.Errorf("a filter other than the subject's was taken: %s", answer.Data)
	}
	f := follow(t, b, t.TempDir())
	await(t, "what is for POPs", func() bool { _, ok := f.Value("b", "", "k"); return ok })
}

// A region reads where the others' tenants and sign-in names are.
func TestReader_aRegionReadsTheDirectory(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	login := feed.Login{Sequence: 1, Hash: strings.Repeat("0a", 32), Tenant: "acme"}
	publish(t, b, value(1, "k", "v"), login, acmeAt("eu", 1), beatOf("eu"))
	inbox, _ := link.Region("us")
	var got []string
	done := errors.New("read all")
	err := link.Reader{
		Server: link.Server{URL: b.URL("us")}, Name: "us", Inbox: inbox, Subjects: feed.DirectorySubjects(), Quiet: true,
		From: func(*jetstream.StreamInfo) uint64 { return 1 },
		Take: func(subject string, document []byte, _ uint64) error {
			got = append(got, subject)
			if len(got) == 2 {
				return done
			}
			return nil
		},
		Current: func() {},
	}.Read(t.Context())
	if !errors.Is(err, done) || strings.Join(got, " ") != "eu.regions.login."+login.Hash+" eu.gatehouse.tenant.acme" {
		t.Errorf("read %q, %v", got, err)
	}
}
