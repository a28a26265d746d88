// Package link connects regions and POPs to the broker that carries the feed,
// NATS JetStream, and says what each may do there.
package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// Stream is the name of the stream that holds the feed.
const Stream = "GATEHOUSE"

const (
	// dialTimeout bounds one attempt at a connection.
	dialTimeout = 2 * time.Second
	// pingInterval and pings find a connection that is dead and not closed.
	pingInterval = time.Second
	pings        = 2
	// maxCredentials bounds a file with credentials.
	maxCredentials = 64 << 10
)

// Server is a broker and how to speak to it.
type Server struct {
	// URL of the server, or several with commas between: nats://host:4222,
	// tls://host:4222. Without TLS only a loopback address is spoken to. Required.
	URL string
	// Credentials is a file with NATS user credentials or the seed of an NKey,
	// which only its owner may read. User credentials may be replaced at any time. Empty: none, or what the URL says.
	Credentials string
	// CA is a file with the certificates of authorities to trust, PEM. Empty: the
	// system's.
	CA string
}

// Check finds the faults that can be known without connecting. It reads no file.
func (s Server) Check() error {
	if s.URL == "" {
		return errors.New("no url: name the NATS server, for example tls://nats.example:4222")
	}
	for part := range bytes.SplitSeq([]byte(s.URL), []byte(",")) {
		u, err := url.Parse(string(part))
		if err != nil || u.Hostname() == "" {
			return errors.New("url is not one of a NATS server such as tls://nats.example:4222") // it may hold a password
		}
		switch u.Scheme {
		case "tls":
		case "nats":
			if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
				return fmt.Errorf("url nats://%s is neither encrypted nor on loopback: use tls://", u.Host)
			}
		default:
			return fmt.Errorf("url %s://%s: the scheme is tls, or nats on loopback", u.Scheme, u.Host)
		}
	}
	return nil
}

// Dial connects as name. Replies come to subjects below inbox, so that nobody
// else can be allowed to read them; see [POP].
func Dial(s Server, name, inbox string, options ...nats.Option) (*nats.Conn, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	all := []nats.Option{
		nats.Name(name), nats.CustomInboxPrefix(inbox), nats.Timeout(dialTimeout),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pings),
		// A connection that tries again goes on when it is refused: its credentials may be renewed.
		nats.IgnoreAuthErrorAbort(),
	}
	if s.CA != "" {
		all = append(all, nats.RootCAs(s.CA))
	}
	if s.Credentials != "" {
		given, err := credentials(s.Credentials)
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		all = append(all, given)
	}
	conn, err := nats.Connect(s.URL, append(all, options...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, nil
}

// credentials are those in a file. User credentials are read again at each connection,
// so that a region that lost its own because they ended comes back with the next; an
// NKey's seed is read once.
func credentials(path string) (nats.Option, error) {
	content, err := readCredentials(path)
	if err != nil {
		return nil, err
	}
	if _, err := nkeys.ParseDecoratedJWT(content); err == nil && bytes.Contains(content, []byte("BEGIN NATS USER JWT")) {
		return nats.UserJWT(func() (string, error) {
			content, err := readCredentials(path)
			if err != nil {
				return "", err
			}
			return nkeys.ParseDecoratedJWT(content)
		}, func(nonce []byte) ([]byte, error) {
			content, err := readCredentials(path)
			if err != nil {
				return nil, err
			}
			key, err := nkeys.ParseDecoratedUserNKey(content)
			if err != nil {
				return nil, err
			}
			defer key.Wipe()
			return key.Sign(nonce)
		}), nil
	}
	key, err := nkeys.FromSeed(bytes.TrimSpace(content))
	if err != nil {
		return nil, fmt.Errorf("%s holds neither NATS user credentials nor the seed of an NKey", path)
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return nats.Nkey(public, key.Sign), nil
}

func readCredentials(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: others could read it; run chmod 600 %s", path, mode, path)
	}
	if info.Size() > maxCredentials || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file of up to %d bytes", path, maxCredentials)
	}
	return os.ReadFile(path)
}

// StreamConfig is the stream of the feed of these regions. A subject holds one message, the last:
// a heartbeat, a value or a tenant's home takes the place of the one before, and
// whatever has an id of its own stays until its own expiry. So the stream is its
// own snapshot. A full one refuses what is new and forgets nothing.
func StreamConfig(regions ...string) jetstream.StreamConfig {
	var subjects []string
	for _, region := range regions {
		subjects = append(subjects, feed.Subjects(region)...)
	}
	return jetstream.StreamConfig{
		Name: Stream, Description: "what Gatehouse's regions tell its POPs",
		Subjects: subjects, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, MaxBytes: 1 << 30, MaxMsgSize: feed.MaxMessage + 1024,
		Duplicates: 2 * time.Minute, AllowMsgTTL: true, DenyDelete: true,
	}
}

// MakeStream makes the stream, or brings it to [StreamConfig]. It needs an
// administrator's connection.
func MakeStream(ctx context.Context, conn *nats.Conn, regions ...string) error {
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	if _, err := js.CreateOrUpdateStream(ctx, StreamConfig(regions...)); err != nil {
		return fmt.Errorf("make stream %s: %w", Stream, err)
	}
	return nil
}

// Permissions are the subjects that a user of the broker may publish to and
// subscribe to.
type Permissions struct{ Publish, Subscribe []string }

// Region is what a region may: publish below its own name, see the last of what it
// has published, and read the stream, for the directory.
func Region(region string) (inbox string, p Permissions) {
	inbox = "_INBOX.region." + region
	return inbox, Permissions{
		Publish: append(feed.Subjects(region),
			"$JS.API.STREAM.INFO."+Stream,
			"$JS.API.STREAM.MSG.GET."+Stream,
			"$JS.API.CONSUMER.CREATE."+Stream+".>",
			"$JS.API.CONSUMER.DELETE."+Stream+".>",
			"$JS.API.CONSUMER.MSG.NEXT."+Stream+".>",
		),
		Subscribe: []string{inbox + ".>"},
	}
}

// POP is what a POP may: read of the stream what is for POPs. It can publish
// nothing that is kept, and does not see where sign-in names are.
func POP(pop string) (inbox string, p Permissions) {
	inbox = "_INBOX.pop." + pop
	return inbox, Permissions{
		Publish: []string{
			"$JS.API.STREAM.INFO." + Stream,
			"$JS.API.CONSUMER.CREATE." + Stream + ".*." + POPSubjects,
			"$JS.API.CONSUMER.DELETE." + Stream + ".>",
			"$JS.API.CONSUMER.MSG.NEXT." + Stream + ".>",
		},
		Subscribe: []string{inbox + ".>"},
	}
}

// POPSubjects is the pattern of what a POP reads, and the only one it may ask
// for.
var POPSubjects = feed.Subjects("*")[0]
