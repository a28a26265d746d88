package accounts

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHasher_checksWhatItHashed(t *testing.T) {
	t.Parallel()
	h := newHasher()
	stored, err := h.hash(t.Context(), "café")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("stored as %s", stored)
	}
	decomposed, err := normalizePassword("cafe\u0301")
	if err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]bool{"café": true, decomposed: true, "cafe": false, "": false, "café ": false} {
		if good, outdated, err := h.check(t.Context(), stored, typed); good != want || outdated || err != nil {
			t.Errorf("%q: %t, %t, %v", typed, good, outdated, err)
		}
	}
	if good, _, err := h.check(t.Context(), h.dummy, ""); good || err != nil {
		t.Errorf("the dummy: %t, %v", good, err)
	}
}

// TestPHC_knownAnswer is a vector of the reference implementation
// (github.com/P-H-C/phc-winner-argon2, src/test.c: argon2id, v=19, t=2, m=256, p=1).
func TestPHC_knownAnswer(t *testing.T) {
	t.Parallel()
	const stored = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	if good, outdated, err := newHasher().check(t.Context(), stored, "password"); !good || !outdated || err != nil {
		t.Errorf("%t, %t, %v", good, outdated, err)
	}
}

func TestPHC_refuses(t *testing.T) {
	t.Parallel()
	salt, hash := base64.RawStdEncoding.EncodeToString(make([]byte, 16)), base64.RawStdEncoding.EncodeToString(make([]byte, 32))
	good := "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + hash
	if _, _, _, err := parsePHC(good); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		"", "plain", "$2y$10$abc", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=19456", "m=4294967295", 1), strings.Replace(good, "m=19456", "m=1", 1),
		strings.Replace(good, "t=2", "t=0", 1), strings.Replace(good, "t=2", "t=1000", 1), strings.Replace(good, "p=1", "p=0", 1),
		strings.Replace(good, "p=1", "p=256", 1), strings.Replace(good, "m=19456", "m=+19456", 1), strings.Replace(good, "t=2,", "t=2, ", 1),
		good + "=", good + "$", strings.Replace(good, salt, "", 1), strings.Replace(good, hash, "AAAA", 1), good + "\n",
		strings.Replace(good, "p=1", "p=1,data=x", 1),
	} {
		if _, _, _, err := parsePHC(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Fuzz(func(t *testing.T, s string) {
		c, salt, hash, err := parsePHC(s)
		if err == nil && (encode(c, salt, hash) != s || c.memory > most.memory || c.time > most.time) {
			t.Errorf("%q was read as %+v", s, c)
		}
	})
}

func TestSessions_refuses(t *testing.T) {
	t.Parallel()
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	good := Sessions{Issuer: "i", Audience: "a", Region: "eu"}
	if s, err := NewSessions(key, good); err != nil || s.Cookie != DefaultCookie || s.Life != DefaultSessionLife || s.MaxLife != DefaultSessionMaxLife {
		t.Fatalf("%+v, %v", s, err)
	}
	for name, row := range map[string]struct {
		key    ed25519.PrivateKey
		change func(*Sessions)
	}{
		"no key":              {nil, func(*Sessions) {}},
		"no issuer":           {key, func(s *Sessions) { s.Issuer = "" }},
		"no audience":         {key, func(s *Sessions) { s.Audience = "" }},
		"no region":           {key, func(s *Sessions) { s.Region = "" }},
		"short life":          {key, func(s *Sessions) { s.Life = time.Second }},
		"negative life":       {key, func(s *Sessions) { s.Life = -time.Hour }},
		"ends before a token": {key, func(s *Sessions) { s.Life, s.MaxLife = time.Hour, time.Minute }},
		"cookie's name":       {key, func(s *Sessions) { s.Cookie = "a b" }},
		"half a prefix":       {key, func(s *Sessions) { s.Cookie = "__Secure-session" }},
	} {
		s := good
		row.change(&s)
		if _, err := NewSessions(row.key, s); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestSessions_hostCookieIsSecure(t *testing.T) {
	t.Parallel()
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	s, err := NewSessions(key, Sessions{Issuer: "i", Audience: "a", Region: "eu"})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"x", ""} {
		c := s.cookie(token, time.Now().Add(time.Hour))
		// RFC 6265bis, section 4.1.3.2: Secure, Path=/ and no Domain.
		if !c.Secure || c.Path != "/" || c.Domain != "" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
			t.Errorf("%s", c)
		}
	}
}

func TestLoadKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, mode os.FileMode, blocks ...*pem.Block) string {
		var data []byte
		for _, block := range blocks {
			data = append(data, pem.EncodeToMemory(block)...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	block := func(key any) *pem.Block {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	}
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, mode := range []os.FileMode{0o600, 0o400} {
		got, err := LoadKey(write("good.pem", mode, block(key)))
		if err != nil || !got.Equal(key) {
			t.Errorf("mode %o: %v", mode, err)
		}
		_ = os.Remove(filepath.Join(dir, "good.pem"))
	}
	for name, row := range map[string]struct{ path, want string }{
		"absent":         {filepath.Join(dir, "nowhere"), "no such file"},
		"group may read": {write("group.pem", 0o640, block(key)), "chmod 600"},
		"all may read":   {write("all.pem", 0o604, block(key)), "chmod 600"},
		"another type":   {write("ec.pem", 0o600, block(ec)), "Ed25519"},
		"two keys":       {write("two.pem", 0o600, block(key), block(key)), "one PEM block"},
		"no PEM":         {write("empty.pem", 0o600), "one PEM block"},
		"broken":         {write("broken.pem", 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "broken.pem"},
	} {
		if _, err := LoadKey(row.path); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q in it", name, err, row.want)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	h := newHasher()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.hash(context.Background(), "correct horse battery staple"); err != nil {
			b.Fatal(err)
		}
	}
}
