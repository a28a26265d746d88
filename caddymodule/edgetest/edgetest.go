// Package edgetest runs Caddy inside a test, makes keys and sessions for
// it, and speaks to it byte by byte. The test imports package caddymodule by
// itself, so that the handlers' own tests can use this package too.
//
// There is one Caddy in a process: a test that calls [Run] is not parallel.
package edgetest

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // what Caddy itself has
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// Globals stands first in the global options of every configuration here.
const Globals = `
	admin off
	persist_config off
	auto_https off
	grace_period 1s
	log {
		output discard
	}
`

// Adapt turns a Caddyfile into JSON.
func Adapt(caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// Load adapts and runs a Caddyfile in place of whatever runs.
func Load(caddyfile string) error {
	config, err := Adapt(caddyfile)
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// Run runs a Caddyfile until the test ends, and gives the address of its server
// srv0, which should listen on 127.0.0.1:0.
func Run(t testing.TB, caddyfile string) string {
	t.Helper()
	if err := Load(caddyfile); err != nil {
		t.Fatalf("load: %v\n%s", err, caddyfile)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return Address(t)
}

// Address is where srv0 of the running configuration listens.
func Address(t testing.TB) string {
	t.Helper()
	return Server(t).Listeners()[0].Addr().String()
}

// Server is srv0 of the running configuration.
func Server(t testing.TB) *caddyhttp.Server {
	t.Helper()
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*caddyhttp.App).Servers["srv0"]
}

// H3 is the port on which the site at url speaks HTTP/3, as it tells client over
// HTTP/2. It says so once the goroutine has begun that listens there.
func H3(t testing.TB, client http.RoundTripper, url string) (port string) {
	t.Helper()
	for range 500 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/.well-known/edge-jwks.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.ProtoMajor != 2 {
			t.Fatalf("%s, and not HTTP/2", res.Proto)
		}
		if said := altSvc.FindStringSubmatch(res.Header.Get("Alt-Svc")); said != nil {
			return said[1]
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no Alt-Svc says where HTTP/3 is")
	return ""
}

var altSvc = regexp.MustCompile(`h3=":(\d+)"`)

// Answer is what came back over a connection of its own.
type Answer struct {
	*http.Response
	Body string
}

// Raw sends a request as it stands, with "\n" as line ends and Connection: close
// added unless a line of that name is there, and reads the answer: nothing is
// tidied on its way.
func Raw(t testing.TB, address, request string) Answer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	head, body, _ := strings.Cut(request, "\n\n")
	if !strings.Contains(strings.ToLower(head), "\nconnection:") {
		head += "\nConnection: close"
	}
	wire := strings.ReplaceAll(strings.TrimRight(head, "\n"), "\n", "\r\n") + "\r\n\r\n" + strings.ReplaceAll(body, "\n", "\r\n")
	if _, err := io.WriteString(conn, wire); err != nil {
		t.Fatalf("send %q: %v", request, err)
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("answer to %q: %v", request, err)
	}
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("answer to %q: %v", request, err)
	}
	return Answer{res, string(read)}
}

// Key makes a private key that signs with algorithm: EdDSA, ES256 or RS256, or
// the secret of HS256.
func Key(t testing.TB, algorithm string) any {
	t.Helper()
	var key any
	var err error
	switch algorithm {
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "HS256":
		key = []byte("a secret of more than thirty-two bytes")
	default:
		t.Fatalf("no key for %s", algorithm)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Public is the public half of key.
func Public(key any) any {
	if signer, ok := key.(crypto.Signer); ok {
		return signer.Public()
	}
	return key
}

// Write puts data into a file of the test's own that only its owner can read.
func Write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// PEM writes a private key as PKCS #8.
func PEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Certificate writes a certificate that 127.0.0.1 signs for itself, and its key.
func Certificate(t testing.TB) (certificate, key string) {
	t.Helper()
	private, ok := Key(t, "ES256").(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("no key")
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return Write(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), Write(t, "key.pem", PEM(t, private))
}

// KeyFile writes the public keys as a JWKS that an issuer's key_file can name.
func KeyFile(t testing.TB, keys ...jwks.Key) string {
	t.Helper()
	return Write(t, "jwks.json", jwks.Marshal(keys))
}

// CookieSecret signs the cookies of [App].
const CookieSecret = "a secret for cookies of at least 32 bytes"

// App provisions and starts an edge app that stands alone, for the tests of
// handlers: POP fra, region eu, and the issuers given.
func App(t testing.TB, issuers ...*edge.Issuer) *edge.App {
	t.Helper()
	app := &edge.App{
		POP: "fra", DefaultRegion: "eu", SessionCookie: "session",
		Regions:   []*edge.Region{{Name: "eu", Upstreams: []string{"127.0.0.1:9"}}},
		Assertion: &edge.Assertion{KeyFiles: []string{Write(t, "assertion.pem", PEM(t, Key(t, "EdDSA")))}},
		Issuers:   issuers,

		CookieSecretFiles: []string{Write(t, "cookie.secret", []byte(CookieSecret))},
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := app.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return app
}

// Request is a request as Caddy hands it to its handlers.
func Request(method, target string, header http.Header) *http.Request {
	r := httptest.NewRequest(method, "http://pop.example/", nil)
	if u, err := url.ParseRequestURI(target); err == nil {
		r.URL = u
	}
	r.RequestURI = target
	if header != nil {
		r.Header = header
	}
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
}

// Claims are those of a good session that ends in an hour, with changes laid
// over them; a nil value takes a claim away.
func Claims(issuer, audience string, changes jwt.MapClaims) jwt.MapClaims {
	now := time.Now()
	claims := jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": "ada", "sid": "s-1", "tenant_id": "acme", "region": "eu",
		"roles": []string{"clerk"}, "iat": now.Unix(), "auth_time": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
	return claims
}

// Token signs claims with key; header values are laid over those that the
// library sets.
func Token(t testing.TB, algorithm string, key any, claims jwt.Claims, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(algorithm), claims)
	for name, value := range header {
		if value == nil {
			delete(token.Header, name)
		} else {
			token.Header[name] = value
		}
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
