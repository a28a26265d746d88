package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/accounts"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
)

// Serve is `regionalsvc serve`.
type Serve struct {
	Region         string `env:"GATEHOUSE_REGION" required:"" placeholder:"NAME" help:"This region's name, the only audience of assertions it accepts."`
	Listen         string `env:"GATEHOUSE_LISTEN" default:"127.0.0.1:9101" help:"Address for POPs."`
	OperatorListen string `env:"GATEHOUSE_OPERATOR_LISTEN" default:"127.0.0.1:9191" help:"Address for /healthz, /readyz, /metrics, /revocations and /purges. Never public."`
	OperatorToken  string `env:"GATEHOUSE_OPERATOR_TOKEN" placeholder:"TOKEN|file:PATH" help:"Secret of 32 bytes or more for POST /revocations and POST /purges at the operator's address (caddy edge revoke and purge --everywhere). Unset: nobody can."`

	DatabaseURL              string        `env:"DATABASE_URL" required:"" placeholder:"URL" help:"Connection string of the service's login role, which row-level security must bind."`
	PoolSize                 int           `env:"GATEHOUSE_POOL_SIZE" default:"16" help:"Connections for requests, at most. Jobs have their own besides."`
	AcquireTimeout           time.Duration `env:"GATEHOUSE_ACQUIRE_TIMEOUT" default:"500ms" help:"Longest wait of a request for one of these connections; then it is answered 503."`
	StatementTimeout         time.Duration `env:"GATEHOUSE_STATEMENT_TIMEOUT" default:"2s" help:"Longest statement of a request. Shorter than the request timeout."`
	LockTimeout              time.Duration `env:"GATEHOUSE_LOCK_TIMEOUT" default:"1s" help:"Longest wait for one lock."`
	IdleInTransactionTimeout time.Duration `env:"GATEHOUSE_IDLE_IN_TRANSACTION_TIMEOUT" default:"5s" help:"Longest pause between two statements of a transaction."`

	RequestTimeout time.Duration `env:"GATEHOUSE_REQUEST_TIMEOUT" default:"8s" help:"Longest request. Shorter than the edge waits for an answer (10s)."`
	MaxInFlight    int           `env:"GATEHOUSE_MAX_IN_FLIGHT" default:"128" help:"Requests handled at once, at most, a quarter of them from whoever need not be signed in; more are answered 503."`
	Workers        int           `env:"GATEHOUSE_WORKERS" default:"4" help:"Jobs worked on at once. 0: this process enqueues and does not work."`

	Directory    string `env:"GATEHOUSE_DIRECTORY" required:"" placeholder:"FILE" help:"JSON file that says where tenants and sign-in names are at home."`
	DirectoryKey string `env:"GATEHOUSE_DIRECTORY_KEY" required:"" placeholder:"HEX|file:PATH" help:"Secret of the directory's hashes, 32 bytes or more, the same in every region."`

	SessionKey      string        `env:"GATEHOUSE_SESSION_KEY" required:"" placeholder:"FILE" help:"Ed25519 key that signs sessions: PKCS #8, PEM, mode 0600."`
	SessionIssuer   string        `env:"GATEHOUSE_SESSION_ISSUER" required:"" placeholder:"ISS" help:"Sessions' iss: under it the edge knows this region's key."`
	SessionAudience string        `env:"GATEHOUSE_SESSION_AUDIENCE" required:"" placeholder:"AUD" help:"Sessions' aud."`
	SessionCookie   string        `env:"GATEHOUSE_SESSION_COOKIE" default:"__Host-session" help:"Name of the session cookie, the same at the edge. Without __Host- it works over plain http, and is safe there on loopback alone."`
	SessionLife     time.Duration `env:"GATEHOUSE_SESSION_LIFE" default:"1h" help:"How long a session's token is good; a renewal begins it anew."`
	SessionMaxLife  time.Duration `env:"GATEHOUSE_SESSION_MAX_LIFE" default:"12h" help:"How long after the sign-in a session can be renewed: then it is over."`

	EdgeKeys   string `env:"GATEHOUSE_EDGE_KEYS" placeholder:"POP=SOURCE,…" help:"Keys of the POPs that are believed: for each its name and a JWKS file or URL."`
	EdgeSecret string `env:"GATEHOUSE_EDGE_SECRET" placeholder:"SECRET|file:PATH" help:"In place of keys: a secret of 32 bytes or more that all POPs share. Who has it can speak for any user."`

	NATSURL         string        `name:"nats-url" env:"NATS_URL" placeholder:"URL" help:"NATS server of the feed that tells POPs of ended sessions: tls://host:4222, or nats:// on loopback. Unset: no feed."`
	NATSCredentials string        `name:"nats-credentials" env:"GATEHOUSE_NATS_CREDENTIALS" placeholder:"FILE" help:"NATS user credentials or the seed of an NKey, mode 0600."`
	NATSCA          string        `name:"nats-ca" env:"GATEHOUSE_NATS_CA" placeholder:"FILE" help:"Certificates of the authorities that the NATS server's is checked with, PEM. Unset: the system's."`
	LongestSession  time.Duration `env:"GATEHOUSE_LONGEST_SESSION" default:"24h" help:"Longest life of a session of any issuer that the POPs believe: so long POPs remember that one has ended."`

	StorefrontTenant string `env:"GATEHOUSE_STOREFRONT_TENANT" placeholder:"TENANT" help:"Tenant whose products anyone may read at /products/…. Unset: none."`

	DrainDelay      time.Duration `env:"GATEHOUSE_DRAIN_DELAY" default:"5s" help:"On SIGTERM: how long requests are still taken after /readyz began to say 503."`
	ShutdownTimeout time.Duration `env:"GATEHOUSE_SHUTDOWN_TIMEOUT" default:"20s" help:"Then: how long requests, and after them jobs, may take to end."`
	LogLevel        string        `env:"GATEHOUSE_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error."`
}

// config is what the flags say, read and found right.
type config struct {
	level     zapcore.Level
	directory *directory.Directory
	sessions  *accounts.Sessions
	edgeKeys  handoff.KeySource

	operatorToken string // empty: nobody has one
}

// config refuses with the flag and what would be right, all faults at once.
func (s *Serve) config() (*config, error) {
	var faults []error
	refuse := func(flag string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", flag, err))
		}
	}
	var c config
	var err error
	if c.level, err = zapcore.ParseLevel(s.LogLevel); err != nil {
		refuse("--log-level", err)
	}
	if !handoff.ValidRegion(s.Region) {
		refuse("--region", fmt.Errorf("%q: must be 1 to 63 of a-z, 0-9 and '-'", s.Region))
	}
	for flag, address := range map[string]string{"--listen": s.Listen, "--operator-listen": s.OperatorListen} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			refuse(flag, fmt.Errorf("%q: must be host:port", address))
		}
	}
	refuse("--pool-size", atLeast(1, s.PoolSize))
	refuse("--max-in-flight", atLeast(1, s.MaxInFlight))
	refuse("--workers", atLeast(0, s.Workers))
	s.deadlines(refuse)
	c.directory, err = s.loadDirectory()
	refuse("--directory", err)
	if c.directory != nil && s.StorefrontTenant != "" {
		if home, _ := c.directory.Home(s.StorefrontTenant); home != s.Region {
			refuse("--storefront-tenant", fmt.Errorf("%q: its home in the directory is %q, must be this region", s.StorefrontTenant, home))
		}
	}
	c.sessions, err = s.loadSessions()
	refuse("--session-key", err)
	if s.NATSURL != "" {
		refuse("--nats-url", s.broker().Check())
	}
	if s.SessionMaxLife < s.SessionLife {
		refuse("--session-max-life", fmt.Errorf("%s: must not be shorter than --session-life, %s", s.SessionMaxLife, s.SessionLife))
	}
	if s.LongestSession < s.SessionMaxLife {
		refuse("--longest-session", fmt.Errorf("%s: must not be shorter than --session-max-life, %s", s.LongestSession, s.SessionMaxLife))
	}
	c.operatorToken, err = s.loadOperatorToken()
	refuse("--operator-token", err)
	c.edgeKeys, err = s.loadEdgeKeys()
	refuse("--edge-keys", err)
	return &c, errors.Join(faults...)
}

// broker is the server of the feed.
func (s *Serve) broker() link.Server {
	return link.Server{URL: s.NATSURL, Credentials: s.NATSCredentials, CA: s.NATSCA}
}

// deadlines holds the order of handoff's deadlines for other values too.
func (s *Serve) deadlines(refuse func(string, error)) {
	for flag, d := range map[string]time.Duration{
		"--acquire-timeout": s.AcquireTimeout, "--statement-timeout": s.StatementTimeout, "--lock-timeout": s.LockTimeout,
		"--idle-in-transaction-timeout": s.IdleInTransactionTimeout, "--request-timeout": s.RequestTimeout,
		"--shutdown-timeout": s.ShutdownTimeout,
	} {
		if d < time.Millisecond {
			refuse(flag, fmt.Errorf("%s: must be 1ms or more", d))
		}
	}
	if s.DrainDelay < 0 {
		refuse("--drain-delay", fmt.Errorf("%s: must not be negative", s.DrainDelay))
	}
	if s.AcquireTimeout >= s.RequestTimeout {
		refuse("--acquire-timeout", fmt.Errorf("%s: must be shorter than --request-timeout, %s", s.AcquireTimeout, s.RequestTimeout))
	}
	if s.LockTimeout > s.StatementTimeout {
		refuse("--lock-timeout", fmt.Errorf("%s: must not be longer than --statement-timeout, %s", s.LockTimeout, s.StatementTimeout))
	}
	if s.StatementTimeout >= s.RequestTimeout {
		refuse("--statement-timeout", fmt.Errorf("%s: must be shorter than --request-timeout, %s, so that PostgreSQL gives up first", s.StatementTimeout, s.RequestTimeout))
	}
}

func atLeast(least, n int) error {
	if n < least {
		return fmt.Errorf("%d: must be %d or more", n, least)
	}
	return nil
}

func (s *Serve) loadDirectory() (*directory.Directory, error) {
	text, err := secret(s.DirectoryKey)
	if err != nil {
		return nil, fmt.Errorf("--directory-key: %w", err)
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) < directory.MinKey {
		return nil, fmt.Errorf("--directory-key: must be %d or more hexadecimal digits (openssl rand -hex 32)", 2*directory.MinKey)
	}
	return directory.Load(s.Directory, key)
}

func (s *Serve) loadSessions() (*accounts.Sessions, error) {
	key, err := accounts.LoadKey(s.SessionKey)
	if err != nil {
		return nil, err
	}
	return accounts.NewSessions(key, accounts.Sessions{
		Issuer: s.SessionIssuer, Audience: s.SessionAudience, Region: s.Region,
		Cookie: s.SessionCookie, Life: s.SessionLife, MaxLife: s.SessionMaxLife,
	})
}

func (s *Serve) loadOperatorToken() (string, error) {
	token, err := secret(s.OperatorToken)
	if err != nil || s.OperatorToken == "" {
		return "", err
	}
	if len(token) < accounts.MinOperatorToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("it has %d bytes or more of printable ASCII without spaces (openssl rand -hex 32)", accounts.MinOperatorToken)
	}
	return token, nil
}

// loadEdgeKeys reads --edge-keys or --edge-secret, of which there must be one.
func (s *Serve) loadEdgeKeys() (handoff.KeySource, error) {
	switch {
	case (s.EdgeKeys == "") == (s.EdgeSecret == ""):
		return nil, errors.New("either this or --edge-secret is required, for example fra=fra.jwks.json,iad=https://iad.example" + handoff.JWKSPath)
	case s.EdgeSecret != "":
		text, err := secret(s.EdgeSecret)
		if err != nil {
			return nil, fmt.Errorf("--edge-secret: %w", err)
		}
		set, err := jwks.Secret([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("--edge-secret: %w", err)
		}
		return sharedSecret{set}, nil
	}
	keys := popKeys{files: handoff.StaticKeys{}, urls: handoff.RemoteKeys{}}
	for entry := range strings.SplitSeq(s.EdgeKeys, ",") {
		pop, source, _ := strings.Cut(strings.TrimSpace(entry), "=")
		if !handoff.ValidRegion(pop) || source == "" {
			return nil, fmt.Errorf("%q: must be POP=FILE or POP=URL", entry)
		}
		if keys.files[pop] != nil || keys.urls[pop] != nil {
			return nil, fmt.Errorf("POP %q stands twice", pop)
		}
		if err := keys.add(pop, source); err != nil {
			return nil, fmt.Errorf("POP %q: %w", pop, err)
		}
	}
	return keys, nil
}

// popKeys are keys of POPs, some from files, some published.
type popKeys struct {
	files handoff.StaticKeys
	urls  handoff.RemoteKeys
}

func (k popKeys) add(pop, source string) error {
	if strings.Contains(source, "://") {
		if err := jwks.CheckURL(source); err != nil {
			return err
		}
		k.urls[pop] = &jwks.Remote{URL: source}
		return nil
	}
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	set, err := jwks.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	k.files[pop] = set
	return nil
}

// AssertionKey implements [handoff.KeySource].
func (k popKeys) AssertionKey(ctx context.Context, pop, id string) (jwks.Key, bool, error) {
	if k.files[pop] != nil {
		return k.files.AssertionKey(ctx, pop, id)
	}
	return k.urls.AssertionKey(ctx, pop, id)
}

// sharedSecret is every POP's key.
type sharedSecret struct{ set *jwks.Set }

// AssertionKey implements [handoff.KeySource].
func (s sharedSecret) AssertionKey(_ context.Context, _, id string) (jwks.Key, bool, error) {
	key, found := s.set.Find(id)
	return key, found, nil
}

// secret is value itself or, as file:PATH, what that file holds, less the
// newline at its end.
func secret(value string) (string, error) {
	path, ok := strings.CutPrefix(value, "file:")
	if !ok {
		return value, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("%s has mode %#o: others may read the secret; chmod 600 %s", path, mode, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}
