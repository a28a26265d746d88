package link_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
)

// authority is a certificate authority and a server's certificate for 127.0.0.1.
func authority(t *testing.T) (ca string, config *tls.Config) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	root, rootKey := template("a broker's authority"), newKey()
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	rootDER := sign(root, root, rootKey, rootKey)
	leaf, leafKey := template("a broker"), newKey()
	leaf.IPAddresses, leaf.ExtKeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leafDER := sign(leaf, root, leafKey, rootKey)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o644)
	return ca, &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}},
	}
}

func write(t *testing.T, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// site is a broker as one runs it in production: TLS, and users whom an account's key
// has signed, with nothing about them in the server.
type site struct {
	url, ca string
	account nkeys.KeyPair
}

func newSite(t *testing.T) *site {
	t.Helper()
	pair := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		key, err := create()
		if err != nil {
			t.Fatal(err)
		}
		public, _ := key.PublicKey()
		return key, public
	}
	operator, operatorID := pair(nkeys.CreateOperator)
	account, accountID := pair(nkeys.CreateAccount)
	_, systemID := pair(nkeys.CreateAccount)
	encode := func(claims jwt.Claims) string {
		text, err := claims.Encode(operator)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	house := jwt.NewOperatorClaims(operatorID)
	house.SystemAccount = systemID
	gatehouse := jwt.NewAccountClaims(accountID)
	gatehouse.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1}
	resolver := &server.MemAccResolver{}
	for id, claims := range map[string]jwt.Claims{accountID: gatehouse, systemID: jwt.NewAccountClaims(systemID)} {
		if err := resolver.Store(id, encode(claims)); err != nil {
			t.Fatal(err)
		}
	}
	trusted, err := jwt.DecodeOperatorClaims(encode(house))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{account: account}
	var config *tls.Config
	s.ca, config = authority(t)
	broker, err := server.NewServer(&server.Options{
		ServerName: "broker", Host: "127.0.0.1", Port: server.RANDOM_PORT, TLSConfig: config, TLSTimeout: 5,
		TrustedOperators: []*jwt.OperatorClaims{trusted}, SystemAccount: systemID, AccountResolver: resolver,
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxMemory: 16 << 20, JetStreamMaxStore: 4 << 30, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	broker.Start()
	t.Cleanup(func() { broker.Shutdown(); broker.WaitForShutdown() })
	if !broker.ReadyForConnections(15 * time.Second) {
		t.Fatal("the broker did not come up")
	}
	s.url = "tls://" + broker.Addr().String()
	return s
}

// credentials are a file for a user who may do p, or anything, until a time.
func (s *site) credentials(t *testing.T, path string, p *link.Permissions, until time.Time) {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	claims := jwt.NewUserClaims(public)
	claims.Expires = until.Unix()
	if p != nil {
		claims.Pub.Allow, claims.Sub.Allow = p.Publish, p.Subscribe
	}
	text, err := claims.Encode(s.account)
	if err != nil {
		t.Fatal(err)
	}
	content, err := jwt.FormatUserConfig(text, seed)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, content, 0o600)
}

func TestDial_credentialsOverTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	file := func(name string, p *link.Permissions) link.Server {
		path := filepath.Join(dir, name+".creds")
		s.credentials(t, path, p, time.Now().Add(time.Hour))
		return link.Server{URL: s.url, Credentials: path, CA: s.ca}
	}
	dial := func(server link.Server, name, inbox string) *nats.Conn {
		conn, err := link.Dial(server, name, inbox)
		if err != nil {
			t.Fatal(name, err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := link.MakeStream(ctx, dial(file("administrator", nil), "administrator", "_INBOX"), "eu"); err != nil {
		t.Fatal(err)
	}
	regionInbox, regionMay := link.Region("eu")
	region, err := jetstream.New(dial(file("eu", &regionMay), "eu", regionInbox))
	if err != nil {
		t.Fatal(err)
	}
	subject := strings.Replace(feed.Subjects("eu")[0], ">", "heartbeat", 1)
	if _, err := region.Publish(ctx, subject, []byte("it is well")); err != nil {
		t.Fatal("the region is not heard: ", err)
	}

	popInbox, popMay := link.POP("fra")
	pop := file("fra", &popMay)
	var taken string
	enough := errors.New("enough")
	err = link.Reader{
		Server: pop, Name: "fra", Inbox: popInbox, Subjects: []string{link.POPSubjects},
		From:    func(*jetstream.StreamInfo) uint64 { return 1 },
		Take:    func(_ string, document []byte, _ uint64) error { taken = string(document); return enough },
		Current: func() {},
	}.Read(ctx)
	if !errors.Is(err, enough) || taken != "it is well" {
		t.Errorf("the POP reads %q: %v", taken, err)
	}
	forger, err := jetstream.New(dial(pop, "fra", popInbox))
	if err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if _, err := forger.Publish(short, subject, []byte("forged")); err == nil {
		t.Error("a POP speaks as a region")
	}
}

func TestDial_refuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := newSite(t)
	dir := t.TempDir()
	good := filepath.Join(dir, "good.creds")
	s.credentials(t, good, nil, time.Now().Add(time.Hour))
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, content []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		write(t, path, content, mode)
		return path
	}
	ended := filepath.Join(dir, "ended.creds")
	s.credentials(t, ended, nil, time.Now().Add(-time.Minute))
	foreign := filepath.Join(dir, "foreign.creds")
	other.credentials(t, foreign, nil, time.Now().Add(time.Hour))
	for name, c := range map[string]struct {
		server link.Server
		says   string
	}{
		"nothing to show":               {link.Server{URL: s.url, CA: s.ca}, "uthorization"},
		"an authority not trusted":      {link.Server{URL: s.url, Credentials: good}, "unknown authority"},
		"another authority":             {link.Server{URL: s.url, Credentials: good, CA: other.ca}, "x509"},
		"no file with authorities":      {link.Server{URL: s.url, Credentials: good, CA: good}, "root certificate"},
		"a plain connection":            {link.Server{URL: strings.Replace(s.url, "tls:", "nats:", 1), Credentials: good}, "x509"},
		"a file that others may read":   {link.Server{URL: s.url, Credentials: file("open", content, 0o640), CA: s.ca}, "chmod 600"},
		"a file that is not there":      {link.Server{URL: s.url, Credentials: filepath.Join(dir, "none"), CA: s.ca}, "no such file"},
		"a directory":                   {link.Server{URL: s.url, Credentials: dir, CA: s.ca}, dir},
		"a file too large":              {link.Server{URL: s.url, Credentials: file("large", make([]byte, 65<<10), 0o600), CA: s.ca}, "65536"},
		"no credentials":                {link.Server{URL: s.url, Credentials: file("junk", []byte("junk"), 0o600), CA: s.ca}, "neither"},
		"credentials without their key": {link.Server{URL: s.url, Credentials: file("half", content[:strings.Index(string(content), "************************* IMPORTANT")], 0o600), CA: s.ca}, "seed"},
		"credentials that have ended":   {link.Server{URL: s.url, Credentials: ended, CA: s.ca}, "uthorization"},
		"another account's":             {link.Server{URL: s.url, Credentials: foreign, CA: s.ca}, "uthorization"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := link.Dial(c.server, "fra", "_INBOX")
			if err == nil {
				conn.Close()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("says %q, not %q", err, c.says)
			}
		})
	}
}

// What a region shows may end while it is connected: it is let in again with what then
// stands in the file, and has not given up before.
func TestDial_credentialsAreRenewed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := filepath.Join(t.TempDir(), "eu.creds")
	s.credentials(t, path, nil, time.Now().Add(3*time.Second))
	refused := make(chan error, 64)
	again := make(chan struct{}, 1)
	conn, err := link.Dial(link.Server{URL: s.url, Credentials: path, CA: s.ca}, "eu", "_INBOX",
		nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case refused <- err:
			default:
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			select {
			case again <- struct{}{}:
			default:
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 4 { // nats.go gives up after two
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrAuthExpired) && !errors.Is(err, nats.ErrAuthorization) {
				t.Fatal(err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("credentials that have ended are still good: ", conn.Status())
		}
	}
	select {
	case <-again: // within the second that was their last
	default:
	}
	s.credentials(t, path, nil, time.Now().Add(time.Hour))
	select {
	case <-again:
	case <-time.After(30 * time.Second):
		t.Fatal("the new credentials are not used: ", conn.Status(), conn.LastError())
	}
}
