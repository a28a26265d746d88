package jwks_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// edJWK is a good key with that id.
func edJWK(id string) string {
	return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, id, b64(edPublic(id)))
}

func edPublic(id string) ed25519.PublicKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, id)
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}

var rsa2048 = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func rsaJWK(n *big.Int, e int64, more string) string {
	return fmt.Sprintf(`{"kty":"RSA","kid":"r","n":%q,"e":%q%s}`, b64(n.Bytes()), b64(big.NewInt(e).Bytes()), more)
}

func p256JWK(t testing.TB, change func(point []byte)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(point)
	}
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":"p","x":%q,"y":%q}`, b64(point[1:33]), b64(point[33:]))
}

// TestParse_whatIsLeftOut: each of these keys verifies nothing, alone it makes
// no set, and beside a good key it takes nothing away.
func TestParse_whatIsLeftOut(t *testing.T) {
	t.Parallel()
	n := rsa2048().N
	weak := new(big.Int).Rsh(n, 1024)
	weak.SetBit(weak, 0, 1)
	huge := new(big.Int).Lsh(big.NewInt(1), 8200)
	huge.SetBit(huge, 0, 1)
	x := b64(edPublic("a"))
	for _, row := range []struct{ name, key, why string }{
		{"type unknown", `{"kty":"LWE","kid":"q"}`, ""},
		{"type absent", `{"kid":"q"}`, ""},
		{"curve unknown", `{"kty":"OKP","crv":"X25519","kid":"q","x":"` + x + `"}`, ""},
		{"curve P-521", `{"kty":"EC","crv":"P-521","kid":"q","x":"AA","y":"AA"}`, ""},
		{"curve of bitcoin", `{"kty":"EC","crv":"secp256k1","kid":"q","x":"AA","y":"AA"}`, ""},
		{"symmetric", `{"kty":"oct","kid":"q","alg":"HS256","k":"` + b64(make([]byte, 32)) + `"}`, ""},
		{"for encryption", `{"kty":"OKP","crv":"Ed25519","use":"enc","x":"` + x + `"}`, ""},
		{"for another operation", `{"kty":"OKP","crv":"Ed25519","key_ops":["sign"],"x":"` + x + `"}`, ""},
		{"algorithm unknown", `{"kty":"RSA","alg":"RSA-OAEP","n":"` + b64(n.Bytes()) + `","e":"AQAB"}`, ""},
		{"algorithm of another type", `{"kty":"OKP","crv":"Ed25519","alg":"RS256","x":"` + x + `"}`, "no algorithm of"},
		{"algorithm symmetric on a public key", `{"kty":"OKP","crv":"Ed25519","alg":"HS256","x":"` + x + `"}`, "no algorithm of"},
		{"private part", `{"kty":"OKP","crv":"Ed25519","x":"` + x + `","d":"` + x + `"}`, "this key is lost"},
		{"Ed25519 too short", `{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`, "not an Ed25519 public key"},
		{"Ed25519 without x", `{"kty":"OKP","crv":"Ed25519"}`, "not an Ed25519 public key"},
		{"x not base64url", `{"kty":"OKP","crv":"Ed25519","x":"` + x[:42] + `="}`, "not an Ed25519 public key"},
		{"x a number", `{"kty":"OKP","crv":"Ed25519","x":1}`, "x"},
		{"kid a number", `{"kty":"OKP","crv":"Ed25519","kid":1,"x":"` + x + `"}`, "kid"},
		{"a key that is no object", `"key"`, "string"},
		{"point off the curve", p256JWK(t, func(p []byte) { p[64] ^= 1 }), "not a point of P-256"},
		{"point at zero", p256JWK(t, func(p []byte) { clear(p[1:]) }), "not a point of P-256"},
		{"point over the field", p256JWK(t, func(p []byte) {
			for i := range p[1:33] {
				p[1+i] = 0xff
			}
		}), "not a point of P-256"},
		{"P-256 named P-384", strings.Replace(p256JWK(t, nil), "P-256", "P-384", 1), "not a point of P-384"},
		{"RSA weak", rsaJWK(weak, 65537, ""), "an RSA key of 1024 bits, 2048 to 8192 are read"},
		{"RSA too large", rsaJWK(huge, 65537, ""), "not an RSA public key"},
		{"RSA exponent 1", rsaJWK(n, 1, ""), "not an RSA public key"},
		{"RSA exponent even", rsaJWK(n, 65536, ""), "not an RSA public key"},
		{"RSA exponent over 31 bits", rsaJWK(n, 1<<32-1, ""), "not an RSA public key"},
		{"RSA exponent over 32 bits", rsaJWK(n, 1<<33+1, ""), "not an RSA public key"},
		{"RSA modulus even", rsaJWK(new(big.Int).Add(n, big.NewInt(1)), 65537, ""), "not an RSA public key"},
		{"RSA without n", `{"kty":"RSA","e":"AQAB"}`, "an RSA key of 0 bits"},
		{"RSA private", rsaJWK(n, 65537, `,"d":"AAAA"`), "this key is lost"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, err := jwks.Parse([]byte(`{"keys":[` + row.key + `]}`))
			if err == nil || !strings.Contains(err.Error(), "no key that can verify here") || !strings.Contains(err.Error(), row.why) {
				t.Errorf("alone: %v", err)
			}
			set, err := jwks.Parse([]byte(`{"keys":[` + row.key + `,` + edJWK("good") + `]}`))
			if err != nil {
				t.Fatalf("beside a good key: %v", err)
			}
			if _, ok := set.Find("good"); !ok || set.Len() != 1 {
				t.Errorf("beside a good key: %v", set.Keys())
			}
		})
	}
}

func TestParse_whatNoSetMayBe(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range jwks.MaxKeys + 1 {
		many = append(many, edJWK(fmt.Sprint("k", i)))
	}
	for _, row := range []struct{ name, set, why string }{
		{"empty", ``, "not JSON"},
		{"HTML", `<html>`, "not JSON"},
		{"a list", `[` + edJWK("a") + `]`, "not JSON"},
		{"trailing garbage", `{"keys":[` + edJWK("a") + `]}x`, "not JSON"},
		{"keys twice", `{"keys":[` + edJWK("a") + `],"keys":[` + edJWK("b") + `]}`, "not JSON"},
		{"a member twice in a key", `{"keys":[{"kty":"OKP","kty":"RSA"}]}`, "not JSON"},
		{"not UTF-8", "{\"keys\":[{\"kty\":\"\xff\"}]}", "not JSON"},
		{"no keys", `{"keys":[]}`, "no key that can verify"},
		{"keys null", `{"keys":null}`, "no key that can verify"},
		{"KEYS", `{"KEYS":[` + edJWK("a") + `]}`, "no key that can verify"},
		{"keys absent", `{}`, "no key that can verify"},
		{"one key too many", `{"keys":[` + strings.Join(many, ",") + `]}`, "65 keys, at most 64 are read"},
		{"one byte too many", `{"keys":[` + edJWK("a") + `]}` + strings.Repeat(" ", jwks.MaxBytes), "at most 262144 are read"},
		{"an id twice", `{"keys":[` + edJWK("a") + `,` + strings.Replace(edJWK("b"), `"kid":"b"`, `"kid":"a"`, 1) + `]}`, `key id "a" stands twice`},
		{"two keys without an id", `{"keys":[` + edJWK("") + `,` + strings.Replace(edJWK("b"), `"kid":"b",`, ``, 1) + `]}`, `key id "" stands twice`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if _, err := jwks.Parse([]byte(row.set)); err == nil || !strings.Contains(err.Error(), row.why) {
				t.Errorf("%v, want %q", err, row.why)
			}
		})
	}
	if set, err := jwks.Parse([]byte(`{"keys":[` + strings.Join(many[1:], ",") + `]}`)); err != nil || set.Len() != jwks.MaxKeys {
		t.Errorf("as many keys as are read: %v", err)
	}
}

func TestMarshal_isReadBackAndHoldsNoSecret(t *testing.T) {
	t.Parallel()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte(strings.Repeat("topsecret", 4))
	keys := []jwks.Key{
		{ID: "ed", Algorithm: "EdDSA", Material: edPublic("ed")},
		{ID: "p256", Algorithm: "ES256", Material: &p256.PublicKey},
		{ID: "p384", Material: &p384.PublicKey},
		{ID: "rsa", Material: &rsa2048().PublicKey},
		{ID: "hs", Algorithm: "HS256", Material: secret},
	}
	data := jwks.Marshal(keys)
	if strings.Contains(string(data), b64(secret)) || strings.Contains(string(data), "oct") || strings.Contains(string(data), `"d"`) {
		t.Fatalf("a secret is published: %s", data)
	}
	set, err := jwks.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if set.Len() != 4 {
		t.Errorf("%d keys", set.Len())
	}
	for _, want := range keys[:4] {
		got, ok := set.Find(want.ID)
		if !ok || got.Algorithm != want.Algorithm || jwks.Thumbprint(got.Material) != jwks.Thumbprint(want.Material) {
			t.Errorf("%s came back as %+v", want.ID, got)
		}
	}
	if got := string(jwks.Marshal(nil)); got != `{"keys":[]}` {
		t.Errorf("no keys are written as %s", got)
	}
}

// TestThumbprint_ofTheRFCs holds it to RFC 7638, section 3.1, and RFC 8037,
// appendix A.3.
func TestThumbprint_ofTheRFCs(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ key, want string }{
		{`{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB"}`,
			"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		{`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
	} {
		set, err := jwks.Parse([]byte(`{"keys":[` + row.key + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := jwks.Thumbprint(set.Keys()[0].Material); got != row.want {
			t.Errorf("%s, want %s", got, row.want)
		}
	}
	if got := jwks.Thumbprint([]byte("a secret")); got != "" {
		t.Errorf("a secret has the thumbprint %q", got)
	}
}

func TestSet_find(t *testing.T) {
	t.Parallel()
	one, err := jwks.NewSet(jwks.Key{ID: "a", Material: edPublic("a")})
	if err != nil {
		t.Fatal(err)
	}
	two, err := jwks.NewSet(jwks.Key{ID: "a", Material: edPublic("a")}, jwks.Key{Material: edPublic("b")})
	if err != nil {
		t.Fatal(err)
	}
	nameless, err := jwks.Secret(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name  string
		set   *jwks.Set
		id    string
		found bool
	}{
		{"by id", one, "a", true},
		{"a token without kid, one key", one, "", true},
		{"another id", one, "b", false},
		{"a token without kid, two keys", two, "", false},
		{"by id among two", two, "a", true},
		{"the secret without an id answers for any", nameless, "anything", true},
		{"no set", nil, "a", false},
	} {
		if _, found := row.set.Find(row.id); found != row.found {
			t.Errorf("%s: %t", row.name, found)
		}
	}
}

func TestNewSet_refusesWhatCannotOrMustNotVerify(t *testing.T) {
	t.Parallel()
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		key  jwks.Key
	}{
		{"nothing", jwks.Key{}},
		{"a private key", jwks.Key{Material: private}},
		{"a string", jwks.Key{Material: strings.Repeat("x", 32)}},
		{"a short secret", jwks.Key{Material: make([]byte, 31)}},
		{"an empty Ed25519 key", jwks.Key{Material: ed25519.PublicKey{}}},
		{"a nil RSA key", jwks.Key{Material: (*rsa.PublicKey)(nil)}},
		{"a nil EC key", jwks.Key{Material: (*ecdsa.PublicKey)(nil)}},
		{"an EC key of P-224", jwks.Key{Material: &p224.PublicKey}},
		{"an algorithm of another type", jwks.Key{Algorithm: "ES256", Material: edPublic("a")}},
	} {
		if _, err := jwks.NewSet(row.key); err == nil {
			t.Errorf("%s is taken for a key", row.name)
		}
	}
	if _, err := jwks.Secret(make([]byte, 31)); err == nil || err.Error() != "the secret has 31 bytes, HS256 needs at least 32" {
		t.Error(err)
	}
}

func TestParsePEM(t *testing.T) {
	t.Parallel()
	block := func(kind string, key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	set, err := jwks.ParsePEM([]byte(block("PUBLIC KEY", edPublic("a")) + block("PUBLIC KEY", &rsa2048().PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := set.Find(jwks.Thumbprint(edPublic("a"))); !ok || set.Len() != 2 {
		t.Errorf("read %v", set.Keys())
	}
	private, err := x509.MarshalPKCS8PrivateKey(rsa2048())
	if err != nil {
		t.Fatal(err)
	}
	weak := &rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Rsh(rsa2048().N, 1024), 0, 1), E: 65537}
	for _, row := range []struct{ name, pem, why string }{
		{"empty", "", "no PEM block"},
		{"no PEM", "not PEM at all", "no PEM block"},
		{"a private key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), `"PRIVATE KEY" is no public key`},
		{"broken DER", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})), "PEM public key"},
		{"broken certificate", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "PEM certificate"},
		{"weak RSA", block("PUBLIC KEY", weak), "an RSA key of 1024 bits"},
		{"the same key twice", block("PUBLIC KEY", edPublic("a")) + block("PUBLIC KEY", edPublic("a")), "stands twice"},
	} {
		if _, err := jwks.ParsePEM([]byte(row.pem)); err == nil || !strings.Contains(err.Error(), row.why) {
			t.Errorf("%s: %v, want %q", row.name, err, row.why)
		}
	}
}

func FuzzJWKS(f *testing.F) {
	for _, seed := range []string{
		`{"keys":[` + edJWK("a") + `]}`,
		`{"keys":[` + edJWK("a") + `,{"kty":"oct","k":"AAAA"}]}`,
		`{"keys":[` + p256JWK(f, nil) + `]}`,
		`{"keys":[` + rsaJWK(rsa2048().N, 65537, `,"use":"sig","alg":"PS256"`) + `]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`,
		`{"keys":[null]}`, `{"keys":{}}`, `[]`, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := jwks.Parse(data)
		if err != nil {
			return
		}
		if set.Len() == 0 || set.Len() > jwks.MaxKeys {
			t.Fatalf("%d keys", set.Len())
		}
		for _, key := range set.Keys() {
			if _, secret := key.Material.([]byte); secret {
				t.Fatal("a secret was read from a key set")
			}
		}
		// What was read can be published, and is read back as the same keys.
		again, err := jwks.Parse(jwks.Marshal(set.Keys()))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range set.Keys() {
			if got, ok := again.Find(key.ID); !ok || jwks.Thumbprint(got.Material) != jwks.Thumbprint(key.Material) {
				t.Errorf("key %q came back as %+v", key.ID, got)
			}
		}
	})
}
