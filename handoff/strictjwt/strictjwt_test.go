package strictjwt_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

const (
	issuer   = "https://issuer.example"
	stranger = "https://stranger.example"
	now      = 1_800_000_000
)

type claims struct {
	jwt.RegisteredClaims
	Tenant string         `json:"tenant_id"`
	Extra  map[string]any `json:"extra"`
}

// keyRing holds one key of every type, made once.
type keyRing struct {
	ed   ed25519.PrivateKey
	p256 *ecdsa.PrivateKey
	p384 *ecdsa.PrivateKey
	rsa  *rsa.PrivateKey
}

var ring = sync.OnceValue(func() keyRing {
	// From a fixed seed, so that the processes of a fuzzing run share it.
	ed := ed25519.NewKeyFromSeed([]byte("an Ed25519 seed for these tests!"))
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsa2048, err3 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2, err3); err != nil {
		panic(err)
	}
	return keyRing{ed: ed, p256: p256, p384: p384, rsa: rsa2048}
})

func (k keyRing) public() map[string]any {
	return map[string]any{
		"ed": k.ed.Public(), "p256": &k.p256.PublicKey, "p384": &k.p384.PublicKey, "rsa": &k.rsa.PublicKey,
	}
}

// find answers for the two issuers. The stranger's keys have the same ids and
// other material.
func find(t testing.TB) strictjwt.Find {
	t.Helper()
	var own []jwks.Key
	for id, material := range ring().public() {
		own = append(own, jwks.Key{ID: id, Material: material})
	}
	ownSet, err := jwks.NewSet(own...)
	if err != nil {
		t.Fatal(err)
	}
	otherPublic, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherSet, err := jwks.NewSet(jwks.Key{ID: "ed", Material: otherPublic}, jwks.Key{ID: "theirs", Material: ring().ed.Public()})
	if err != nil {
		t.Fatal(err)
	}
	sets := map[string]*jwks.Set{issuer: ownSet, stranger: otherSet}
	return func(iss string, h strictjwt.Header) (jwks.Key, error) {
		set, ok := sets[iss]
		if !ok {
			return jwks.Key{}, strictjwt.ErrIssuer
		}
		key, ok := set.Find(h.KeyID)
		if !ok {
			return jwks.Key{}, fmt.Errorf("%w: %q", strictjwt.ErrKey, h.KeyID)
		}
		return key, nil
	}
}

var policy = strictjwt.Policy{
	Audience: "eu", Leeway: 10 * time.Second, MaxLife: time.Hour,
	Now: func() time.Time { return time.Unix(now, 0) },
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// sign signs header and body as they stand, whatever they hold.
func sign(t testing.TB, method jwt.SigningMethod, key any, header, body string) string {
	t.Helper()
	signed := encode(header) + "." + encode(body)
	signature, err := method.Sign(signed, key)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func edSigned(t testing.TB, header, body string) string {
	t.Helper()
	return sign(t, jwt.SigningMethodEdDSA, ring().ed, header, body)
}

const (
	goodHeader = `{"alg":"EdDSA","kid":"ed"}`
	goodBody   = `{"iss":"https://issuer.example","aud":"eu","exp":1800000060,"iat":1800000000,"tenant_id":"acme"}`
)

func verify(t testing.TB, raw string) (*claims, error) {
	t.Helper()
	c := new(claims)
	_, err := strictjwt.Verify(raw, c, policy, find(t))
	return c, err
}

func TestVerify_everyAlgorithmWithItsKey(t *testing.T) {
	t.Parallel()
	k := ring()
	for _, row := range []struct {
		method  jwt.SigningMethod
		id      string
		private any
	}{
		{jwt.SigningMethodEdDSA, "ed", k.ed},
		{jwt.SigningMethodES256, "p256", k.p256},
		{jwt.SigningMethodES384, "p384", k.p384},
		{jwt.SigningMethodRS256, "rsa", k.rsa},
		{jwt.SigningMethodPS256, "rsa", k.rsa},
	} {
		t.Run(row.method.Alg(), func(t *testing.T) {
			t.Parallel()
			raw := sign(t, row.method, row.private, fmt.Sprintf(`{"alg":%q,"kid":%q}`, row.method.Alg(), row.id), goodBody)
			c, err := verify(t, raw)
			if err != nil {
				t.Fatal(err)
			}
			if c.Tenant != "acme" || c.Issuer != issuer || c.ExpiresAt.Unix() != now+60 {
				t.Errorf("claims are %+v", c)
			}
		})
	}
}

func TestVerify_sharedSecret(t *testing.T) {
	t.Parallel()
	secret := []byte("a secret of at least thirty-two bytes")
	set, err := jwks.Secret(secret)
	if err != nil {
		t.Fatal(err)
	}
	raw := sign(t, jwt.SigningMethodHS256, secret, `{"alg":"HS256"}`, goodBody)
	byKid := func(_ string, h strictjwt.Header) (jwks.Key, error) {
		key, _ := set.Find(h.KeyID)
		return key, nil
	}
	if _, err := strictjwt.Verify(raw, new(claims), policy, byKid); err != nil {
		t.Error(err)
	}
	if _, err := strictjwt.Verify(edSigned(t, goodHeader, goodBody), new(claims), policy, byKid); !errors.Is(err, strictjwt.ErrAlgorithm) {
		t.Errorf("an EdDSA token against a secret: %v", err)
	}
}

// TestVerify_algorithmIsTheKeys: no key verifies with an algorithm of another
// type of key, though the signature is made as well as it can be.
func TestVerify_algorithmIsTheKeys(t *testing.T) {
	t.Parallel()
	for id, public := range ring().public() {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		raw := der
		if key, ok := public.(ed25519.PublicKey); ok {
			raw = key
		}
		for form, secret := range map[string][]byte{
			"bytes": raw,
			"DER":   der,
			"PEM":   pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
			"JWKS":  jwks.Marshal([]jwks.Key{{ID: id, Material: public}}),
			"empty": {},
		} {
			for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
				token := sign(t, method, secret, fmt.Sprintf(`{"alg":%q,"kid":%q}`, method.Alg(), id), goodBody)
				if _, err := verify(t, token); !errors.Is(err, strictjwt.ErrAlgorithm) {
					t.Errorf("%s with the %s of %s: %v", method.Alg(), form, id, err)
				}
			}
		}
	}
	for _, row := range []struct{ alg, id string }{
		{"ES256", "ed"}, {"EdDSA", "p256"}, {"ES384", "p256"}, {"ES256", "p384"}, {"RS256", "p256"}, {"PS256", "ed"},
	} {
		token := encode(fmt.Sprintf(`{"alg":%q,"kid":%q}`, row.alg, row.id)) + "." + encode(goodBody) + "." + encode(strings.Repeat("x", 64))
		if _, err := verify(t, token); !errors.Is(err, strictjwt.ErrAlgorithm) {
			t.Errorf("%s with key %s: %v", row.alg, row.id, err)
		}
	}
}

func TestVerify_hostileHeader(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 300)
	for _, row := range []struct {
		name, header string
		want         error
	}{
		{"none", `{"alg":"none"}`, strictjwt.ErrAlgorithm},
		{"None", `{"alg":"None"}`, strictjwt.ErrAlgorithm},
		{"NONE", `{"alg":"NONE"}`, strictjwt.ErrAlgorithm},
		{"nOnE with kid", `{"alg":"nOnE","kid":"ed"}`, strictjwt.ErrAlgorithm},
		{"alg empty", `{"alg":"","kid":"ed"}`, strictjwt.ErrAlgorithm},
		{"alg absent", `{"kid":"ed"}`, strictjwt.ErrAlgorithm},
		{"alg null", `{"alg":null,"kid":"ed"}`, strictjwt.ErrAlgorithm},
		{"alg a number", `{"alg":1,"kid":"ed"}`, strictjwt.ErrMalformed},
		{"alg a list", `{"alg":["EdDSA"],"kid":"ed"}`, strictjwt.ErrMalformed},
		{"alg in another case", `{"alg":"eddsa","kid":"ed"}`, strictjwt.ErrAlgorithm},
		{"ALG instead of alg", `{"ALG":"EdDSA","kid":"ed"}`, strictjwt.ErrAlgorithm},
		{"alg that golang-jwt has and nobody asked for", `{"alg":"RS1","kid":"rsa"}`, strictjwt.ErrAlgorithm},
		{"alg twice", `{"alg":"none","alg":"EdDSA","kid":"ed"}`, strictjwt.ErrMalformed},
		{"alg twice by an escape", `{"alg":"EdDSA","\u0061lg":"none","kid":"ed"}`, strictjwt.ErrMalformed},
		{"kid twice", `{"alg":"EdDSA","kid":"ed","kid":"p256"}`, strictjwt.ErrMalformed},
		{"name twice deep inside", `{"alg":"EdDSA","kid":"ed","x":{"a":1,"a":2}}`, strictjwt.ErrMalformed},
		{"kid absent among several keys", `{"alg":"EdDSA"}`, strictjwt.ErrKey},
		{"kid empty", `{"alg":"EdDSA","kid":""}`, strictjwt.ErrKey},
		{"kid null", `{"alg":"EdDSA","kid":null}`, strictjwt.ErrKey},
		{"kid a number", `{"alg":"EdDSA","kid":0}`, strictjwt.ErrMalformed},
		{"kid unknown", `{"alg":"EdDSA","kid":"other"}`, strictjwt.ErrKey},
		{"kid a path", `{"alg":"EdDSA","kid":"../../../../dev/null"}`, strictjwt.ErrKey},
		{"kid a device", `{"alg":"EdDSA","kid":"/proc/sys/kernel/randomize_va_space"}`, strictjwt.ErrKey},
		{"kid SQL", `{"alg":"EdDSA","kid":"x' UNION SELECT 'secret'--"}`, strictjwt.ErrKey},
		{"kid a command", `{"alg":"EdDSA","kid":"|/bin/sh"}`, strictjwt.ErrKey},
		{"kid of another issuer", `{"alg":"EdDSA","kid":"theirs"}`, strictjwt.ErrKey},
		{"kid with a NUL", `{"alg":"EdDSA","kid":"ed\u0000"}`, strictjwt.ErrKey},
		{"kid too long", `{"alg":"EdDSA","kid":"` + long + `"}`, strictjwt.ErrMalformed},
		{"kid in another case", `{"alg":"EdDSA","kid":"ED"}`, strictjwt.ErrKey},
		{"crit a list", `{"alg":"EdDSA","kid":"ed","crit":["exp"],"exp":1}`, strictjwt.ErrCritical},
		{"crit names a registered header", `{"alg":"EdDSA","kid":"ed","crit":["alg"]}`, strictjwt.ErrCritical},
		{"crit empty", `{"alg":"EdDSA","kid":"ed","crit":[]}`, strictjwt.ErrCritical},
		{"crit null", `{"alg":"EdDSA","kid":"ed","crit":null}`, strictjwt.ErrCritical},
		{"crit false", `{"alg":"EdDSA","kid":"ed","crit":false}`, strictjwt.ErrCritical},
		{"crit a string", `{"alg":"EdDSA","kid":"ed","crit":"b64"}`, strictjwt.ErrCritical},
		{"b64 false", `{"alg":"EdDSA","kid":"ed","b64":false}`, strictjwt.ErrCritical},
		{"b64 false and critical", `{"alg":"EdDSA","kid":"ed","b64":false,"crit":["b64"]}`, strictjwt.ErrCritical},
		{"b64 null", `{"alg":"EdDSA","kid":"ed","b64":null}`, strictjwt.ErrCritical},
		{"typ of a logout token", `{"alg":"EdDSA","kid":"ed","typ":"logout+jwt"}`, strictjwt.ErrType},
		{"typ of an assertion", `{"alg":"EdDSA","kid":"ed","typ":"edge-assertion+jwt"}`, strictjwt.ErrType},
		{"typ application alone", `{"alg":"EdDSA","kid":"ed","typ":"application/"}`, strictjwt.ErrType},
		{"header a list", `["alg","EdDSA"]`, strictjwt.ErrMalformed},
		{"header null", `null`, strictjwt.ErrAlgorithm},
		{"header empty", ``, strictjwt.ErrMalformed},
		{"header with trailing garbage", goodHeader + `x`, strictjwt.ErrMalformed},
		{"header with a second object", goodHeader + `{}`, strictjwt.ErrMalformed},
		{"header with a byte order mark", "\ufeff" + goodHeader, strictjwt.ErrMalformed},
		{"header not UTF-8", "{\"alg\":\"EdDSA\",\"kid\":\"ed\xff\"}", strictjwt.ErrMalformed},
		{"header with half a surrogate", `{"alg":"EdDSA","kid":"ed\ud800"}`, strictjwt.ErrMalformed},
		{"header with a comment", `{"alg":"EdDSA",/**/"kid":"ed"}`, strictjwt.ErrMalformed},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if _, err := verify(t, edSigned(t, row.header, goodBody)); !errors.Is(err, row.want) {
				t.Errorf("header %.90s: %v, want %v", row.header, err, row.want)
			}
		})
	}
}

// TestVerify_tokenBringsNoKeyOfItsOwn: the headers that name or hold a key are
// passed over; the key is the issuer's.
func TestVerify_tokenBringsNoKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := strings.TrimSuffix(strings.TrimPrefix(string(jwks.Marshal([]jwks.Key{{ID: "ed", Material: public}})), `{"keys":[`), `]}`)
	for _, member := range []string{
		`"jwk":` + own,
		`"jku":"https://attacker.example/jwks.json"`,
		`"x5u":"https://attacker.example/cert.pem"`,
		`"x5c":["MIIB"]`,
		`"x5t":"AAAA"`,
	} {
		header := `{"alg":"EdDSA","kid":"ed",` + member + `}`
		if _, err := verify(t, sign(t, jwt.SigningMethodEdDSA, private, header, goodBody)); !errors.Is(err, strictjwt.ErrSignature) {
			t.Errorf("signed by the attacker with %.30s: %v", member, err)
		}
		if _, err := verify(t, edSigned(t, header, goodBody)); err != nil {
			t.Errorf("signed by the issuer with %.30s: %v", member, err)
		}
	}
}

func TestVerify_hostileClaims(t *testing.T) {
	t.Parallel()
	body := func(members string) string { return `{"iss":"https://issuer.example",` + members + `}` }
	const times = `"exp":1800000060,"iat":1800000000`
	for _, row := range []struct {
		name, body string
		want       error // nil: accepted
	}{
		{"good", goodBody, nil},
		{"no exp", body(`"aud":"eu","iat":1800000000`), strictjwt.ErrClaims},
		{"exp null", body(`"aud":"eu","iat":1800000000,"exp":null`), strictjwt.ErrClaims},
		{"exp a string", body(`"aud":"eu","iat":1800000000,"exp":"1800000060"`), strictjwt.ErrMalformed},
		{"exp a word", body(`"aud":"eu","iat":1800000000,"exp":"never"`), strictjwt.ErrMalformed},
		{"exp true", body(`"aud":"eu","iat":1800000000,"exp":true`), strictjwt.ErrMalformed},
		{"exp a list", body(`"aud":"eu","iat":1800000000,"exp":[1800000060]`), strictjwt.ErrMalformed},
		{"exp NaN", body(`"aud":"eu","iat":1800000000,"exp":NaN`), strictjwt.ErrMalformed},
		{"exp Infinity", body(`"aud":"eu","iat":1800000000,"exp":Infinity`), strictjwt.ErrMalformed},
		{"exp 1e400", body(`"aud":"eu","iat":1800000000,"exp":1e400`), strictjwt.ErrMalformed},
		{"exp 1e300", body(`"aud":"eu","iat":1800000000,"exp":1e300`), strictjwt.ErrMalformed},
		{"exp 2^63", body(`"aud":"eu","iat":1800000000,"exp":9223372036854775808`), strictjwt.ErrMalformed},
		{"exp of the year 10000", body(`"aud":"eu","iat":1800000000,"exp":253402300800`), strictjwt.ErrMalformed},
		{"exp negative", body(`"aud":"eu","iat":1800000000,"exp":-1`), strictjwt.ErrMalformed},
		{"exp of 9999", body(`"aud":"eu","iat":1800000000,"exp":253402300799`), strictjwt.ErrClaims}, // lives too long
		{"exp zero", body(`"aud":"eu","iat":0,"exp":0`), strictjwt.ErrExpired},
		{"exp a fraction", body(`"aud":"eu","iat":1800000000,"exp":1800000060.75`), nil},
		{"exp with an exponent", body(`"aud":"eu","iat":1800000000,"exp":1.80000006e9`), nil},
		{"exp now, within leeway", body(`"aud":"eu","iat":1799999990,"exp":1800000000`), nil},
		{"exp past, last second of leeway", body(`"aud":"eu","iat":1799999980,"exp":1799999991`), nil},
		{"exp past, leeway over", body(`"aud":"eu","iat":1799999980,"exp":1799999990`), strictjwt.ErrExpired},
		{"exp twice", body(`"aud":"eu","iat":1800000000,"exp":1,"exp":1800000060`), strictjwt.ErrMalformed},
		{"EXP instead of exp", body(`"aud":"eu","iat":1800000000,"EXP":1800000060`), strictjwt.ErrClaims},
		{"no iat where the life is bounded", body(`"aud":"eu","exp":1800000060`), strictjwt.ErrClaims},
		{"iat a string", body(`"aud":"eu","iat":"1800000000","exp":1800000060`), strictjwt.ErrMalformed},
		{"iat ahead within leeway", body(`"aud":"eu","iat":1800000010,"exp":1800000060`), nil},
		{"iat in the future", body(`"aud":"eu","iat":1800000011,"exp":1800000060`), strictjwt.ErrNotYet},
		{"life over the limit by a second", body(`"aud":"eu","iat":1800000000,"exp":1800003601`), strictjwt.ErrClaims},
		{"nbf past", body(`"aud":"eu","nbf":1700000000,` + times), nil},
		{"nbf ahead within leeway", body(`"aud":"eu","nbf":1800000010,` + times), nil},
		{"nbf in the future", body(`"aud":"eu","nbf":1800000011,` + times), strictjwt.ErrNotYet},
		{"nbf a string", body(`"aud":"eu","nbf":"0",` + times), strictjwt.ErrMalformed},
		{"aud a list with ours", body(`"aud":["us","eu"],` + times), nil},
		{"aud a list without ours", body(`"aud":["us","ap"],` + times), strictjwt.ErrAudience},
		{"aud another", body(`"aud":"us",` + times), strictjwt.ErrAudience},
		{"aud a prefix", body(`"aud":"e",` + times), strictjwt.ErrAudience},
		{"aud in another case", body(`"aud":"EU",` + times), strictjwt.ErrAudience},
		{"aud absent", body(times), strictjwt.ErrClaims},
		{"aud empty", body(`"aud":"",` + times), strictjwt.ErrClaims},
		{"aud an empty list", body(`"aud":[],` + times), strictjwt.ErrClaims},
		{"aud null", body(`"aud":null,` + times), strictjwt.ErrMalformed},
		{"aud a number", body(`"aud":0,` + times), strictjwt.ErrMalformed},
		{"aud an object", body(`"aud":{"eu":true},` + times), strictjwt.ErrMalformed},
		{"aud a list with a number", body(`"aud":["eu",1],` + times), strictjwt.ErrMalformed},
		{"aud a list with null", body(`"aud":["eu",null],` + times), strictjwt.ErrMalformed},
		{"iss absent", `{"aud":"eu",` + times + `}`, strictjwt.ErrIssuer},
		{"iss empty", `{"iss":"","aud":"eu",` + times + `}`, strictjwt.ErrIssuer},
		{"iss unknown", `{"iss":"https://nobody.example","aud":"eu",` + times + `}`, strictjwt.ErrIssuer},
		{"iss of another with its kid", `{"iss":"https://stranger.example","aud":"eu",` + times + `}`, strictjwt.ErrSignature},
		{"iss a list", `{"iss":["https://issuer.example"],"aud":"eu",` + times + `}`, strictjwt.ErrMalformed},
		{"iss twice", body(`"iss":"https://stranger.example","aud":"eu",` + times), strictjwt.ErrMalformed},
		{"tenant_id twice", body(`"tenant_id":"acme","tenant_id":"globex","aud":"eu",` + times), strictjwt.ErrMalformed},
		{"tenant_id a number", body(`"tenant_id":1,"aud":"eu",` + times), strictjwt.ErrMalformed},
		{"name twice deep inside", body(`"extra":{"a":{"b":1,"b":2}},"aud":"eu",` + times), strictjwt.ErrMalformed},
		{"name twice inside what is not read", body(`"unread":{"a":1,"a":2},"aud":"eu",` + times), strictjwt.ErrMalformed},
		{"trailing garbage", goodBody + `x`, strictjwt.ErrMalformed},
		{"trailing object", goodBody + `{}`, strictjwt.ErrMalformed},
		{"not UTF-8", body("\"tenant_id\":\"ac\xffme\",\"aud\":\"eu\"," + times), strictjwt.ErrMalformed},
		{"overlong UTF-8", body("\"tenant_id\":\"\xc0\xaf\",\"aud\":\"eu\"," + times), strictjwt.ErrMalformed},
		{"claims a list", `[` + goodBody + `]`, strictjwt.ErrMalformed},
		{"claims a string", `"{}"`, strictjwt.ErrMalformed},
		{"claims null", `null`, strictjwt.ErrIssuer},
		{"claims empty", ``, strictjwt.ErrMalformed},
		{"claims an empty object", `{}`, strictjwt.ErrIssuer},
		{"deep JSON", body(`"extra":{"a":` + strings.Repeat(`[`, 2000) + strings.Repeat(`]`, 2000) + `},"aud":"eu",` + times), nil},
		{"deep JSON left open", body(`"extra":{"a":` + strings.Repeat(`[`, 5000)), strictjwt.ErrMalformed},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if _, err := verify(t, edSigned(t, goodHeader, row.body)); !errors.Is(err, row.want) {
				t.Errorf("claims %.120s: %v, want %v", row.body, err, row.want)
			}
		})
	}
}

// TestVerify_namesAreComparedWithTheirCase: encoding/json would read TENANT_ID
// as tenant_id, and the last one would win.
func TestVerify_namesAreComparedWithTheirCase(t *testing.T) {
	t.Parallel()
	c, err := verify(t, edSigned(t, goodHeader, strings.Replace(goodBody, `"tenant_id":"acme"`, `"tenant_id":"acme","TENANT_ID":"globex","Tenant_Id":"globex"`, 1)))
	if err != nil || c.Tenant != "acme" {
		t.Errorf("tenant %q, %v", c.Tenant, err)
	}
	c, err = verify(t, edSigned(t, goodHeader, strings.Replace(goodBody, `tenant_id`, `TENANT_ID`, 1)))
	if err != nil || c.Tenant != "" {
		t.Errorf("tenant %q, %v", c.Tenant, err)
	}
}

func TestVerify_form(t *testing.T) {
	t.Parallel()
	good := edSigned(t, goodHeader, goodBody)
	parts := strings.Split(good, ".")
	header, body, signature := parts[0], parts[1], parts[2]
	// 64 bytes are 86 characters, the last of which has four bits to spare.
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", signature[85])
	spare := signature[:85] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last|1])
	for _, row := range []struct {
		name, raw string
		want      error
	}{
		{"empty", "", strictjwt.ErrMalformed},
		{"one part", header, strictjwt.ErrMalformed},
		{"two parts", header + "." + body, strictjwt.ErrMalformed},
		{"two parts and a dot", header + "." + body + ".", strictjwt.ErrSignature},
		{"four parts", good + "." + signature, strictjwt.ErrMalformed},
		{"five parts", strings.Join([]string{header, body, body, body, signature}, "."), strictjwt.ErrMalformed},
		{"JWE", encode(`{"alg":"dir","enc":"A256GCM"}`) + "..aXY.Y2lwaGVy.dGFn", strictjwt.ErrMalformed},
		{"JWE header in three parts", encode(`{"alg":"RSA-OAEP","enc":"A256GCM"}`) + "." + body + "." + signature, strictjwt.ErrAlgorithm},
		{"only dots", "..", strictjwt.ErrMalformed},
		{"ten thousand dots", strings.Repeat(".", 8000), strictjwt.ErrMalformed},
		{"JSON serialization", `{"payload":"` + body + `","signature":"` + signature + `"}`, strictjwt.ErrMalformed},
		{"signature of another length", header + "." + body + "." + signature[:84], strictjwt.ErrSignature},
		{"signature empty", header + "." + body + ".", strictjwt.ErrSignature},
		{"claims empty", header + ".." + signature, strictjwt.ErrMalformed},
		{"header empty", "." + body + "." + signature, strictjwt.ErrMalformed},
		{"header and claims exchanged", body + "." + header + "." + signature, strictjwt.ErrAlgorithm},
		{"padding", header + "." + body + "." + signature + "==", strictjwt.ErrMalformed},
		{"spare bits set", header + "." + body + "." + spare, strictjwt.ErrMalformed},
		{"line break in the signature", header + "." + body + "." + signature[:40] + "\n" + signature[40:], strictjwt.ErrMalformed},
		{"carriage return at the end", good + "\r", strictjwt.ErrMalformed},
		{"space before", " " + good, strictjwt.ErrMalformed},
		{"space after", good + " ", strictjwt.ErrMalformed},
		{"Bearer before", "Bearer " + good, strictjwt.ErrMalformed},
		{"standard alphabet", strings.NewReplacer("-", "+", "_", "/").Replace(header + "." + body + "." + strings.Repeat("-_", 43)), strictjwt.ErrMalformed},
		{"NUL", header + "." + body + "." + signature + "\x00", strictjwt.ErrMalformed},
		{"two in one header", good + "," + good, strictjwt.ErrMalformed},
		{"too large", good + strings.Repeat("A", strictjwt.DefaultMaxBytes), strictjwt.ErrTooLarge},
		{"far too large", strings.Repeat("A.", 8<<20), strictjwt.ErrTooLarge},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if row.raw == good {
				t.Fatal("the row does not alter the token")
			}
			if _, err := verify(t, row.raw); !errors.Is(err, row.want) {
				t.Errorf("%v, want %v", err, row.want)
			}
		})
	}
	for n := range len(good) {
		if _, err := verify(t, good[:n]); err == nil {
			t.Fatalf("cut after %d of %d bytes, accepted", n, len(good))
		}
	}
}

// TestVerify_anyFlippedBitIsRefused turns each bit of each algorithm's
// signature, of the header and of the claims.
func TestVerify_anyFlippedBitIsRefused(t *testing.T) {
	t.Parallel()
	k := ring()
	finder := find(t)
	for _, row := range []struct {
		method  jwt.SigningMethod
		id      string
		private any
	}{
		{jwt.SigningMethodEdDSA, "ed", k.ed}, {jwt.SigningMethodES256, "p256", k.p256},
		{jwt.SigningMethodRS256, "rsa", k.rsa}, {jwt.SigningMethodPS256, "rsa", k.rsa},
	} {
		t.Run(row.method.Alg(), func(t *testing.T) {
			t.Parallel()
			raw := sign(t, row.method, row.private, fmt.Sprintf(`{"alg":%q,"kid":%q}`, row.method.Alg(), row.id), goodBody)
			parts := strings.Split(raw, ".")
			for p := range parts {
				decoded, err := base64.RawURLEncoding.DecodeString(parts[p])
				if err != nil {
					t.Fatal(err)
				}
				for bit := range 8 * len(decoded) {
					decoded[bit/8] ^= 1 << (bit % 8)
					flipped := append([]string{}, parts...)
					flipped[p] = base64.RawURLEncoding.EncodeToString(decoded)
					if _, err := strictjwt.Verify(strings.Join(flipped, "."), new(claims), policy, finder); err == nil {
						t.Errorf("bit %d of part %d turned, accepted", bit, p)
					}
					decoded[bit/8] ^= 1 << (bit % 8)
				}
			}
		})
	}
}

func TestPolicy_type(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		want, typ string
		ok        bool
	}{
		{"", "", true}, {"", "JWT", true}, {"", "jwt", true}, {"", "at+jwt", true}, {"", "application/at+jwt", true},
		{"", "Application/JWT", true}, {"", "dpop+jwt", false}, {"", "JWTx", false},
		{"edge-assertion+jwt", "edge-assertion+jwt", true}, {"edge-assertion+jwt", "application/Edge-Assertion+JWT", true},
		{"edge-assertion+jwt", "JWT", false}, {"edge-assertion+jwt", "", false},
	} {
		p := policy
		p.Type = row.want
		raw := edSigned(t, fmt.Sprintf(`{"alg":"EdDSA","kid":"ed","typ":%q}`, row.typ), goodBody)
		_, err := strictjwt.Verify(raw, new(claims), p, find(t))
		if (err == nil) != row.ok || err != nil && !errors.Is(err, strictjwt.ErrType) {
			t.Errorf("typ %q where %q is asked for: %v", row.typ, row.want, err)
		}
	}
}

func TestPolicy_maxBytesCountsBeforeDecoding(t *testing.T) {
	t.Parallel()
	raw := edSigned(t, goodHeader, goodBody)
	p := policy
	p.MaxBytes = len(raw)
	if _, err := strictjwt.Verify(raw, new(claims), p, find(t)); err != nil {
		t.Error(err)
	}
	p.MaxBytes--
	if _, err := strictjwt.Verify(raw, new(claims), p, find(t)); !errors.Is(err, strictjwt.ErrTooLarge) {
		t.Error(err)
	}
}

// TestVerify_absentKeysAreNoVerdict: a caller answers 503 to ErrKeysAbsent and
// 401 to the others, so that the two must not be mixed up.
func TestVerify_absentKeysAreNoVerdict(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	_, err := strictjwt.Verify(edSigned(t, goodHeader, goodBody), new(claims), policy, func(string, strictjwt.Header) (jwks.Key, error) {
		return jwks.Key{}, fmt.Errorf("%w: %w", strictjwt.ErrKeysAbsent, down)
	})
	if !errors.Is(err, strictjwt.ErrKeysAbsent) || !errors.Is(err, down) {
		t.Error(err)
	}
	_, err = strictjwt.Verify(edSigned(t, goodHeader, goodBody), new(claims), policy, func(string, strictjwt.Header) (jwks.Key, error) {
		return jwks.Key{}, errors.New("some other fault")
	})
	if !errors.Is(err, strictjwt.ErrKey) || errors.Is(err, strictjwt.ErrKeysAbsent) {
		t.Error(err)
	}
	// The zero Key verifies nothing.
	_, err = strictjwt.Verify(edSigned(t, goodHeader, goodBody), new(claims), policy, func(string, strictjwt.Header) (jwks.Key, error) {
		return jwks.Key{}, nil
	})
	if !errors.Is(err, strictjwt.ErrAlgorithm) {
		t.Error(err)
	}
}

type validated struct{ claims }

func (v *validated) Validate() error {
	if v.Tenant != "globex" {
		return errors.New("only globex")
	}
	return nil
}

func TestVerify_hearsTheClaimsOwnValidation(t *testing.T) {
	t.Parallel()
	_, err := strictjwt.Verify(edSigned(t, goodHeader, goodBody), new(validated), policy, find(t))
	if !errors.Is(err, strictjwt.ErrClaims) {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	finder := find(f)
	for _, seed := range []string{
		edSigned(f, goodHeader, goodBody),
		edSigned(f, `{"alg":"EdDSA","kid":"ed","crit":[]}`, goodBody),
		edSigned(f, goodHeader, `{"iss":"https://issuer.example","aud":["eu"],"exp":1.8e9}`),
		sign(f, jwt.SigningMethodHS256, []byte("k"), `{"alg":"HS256"}`, goodBody),
		encode(`{"alg":"none"}`) + "." + encode(goodBody) + ".",
		"", ".", "..", "...", "a.b.c",
	} {
		f.Add(seed)
	}
	genuine := edSigned(f, goodHeader, goodBody)
	f.Fuzz(func(t *testing.T, raw string) {
		// Only what was signed with the issuer's key is ever accepted, in
		// exactly one spelling.
		if _, err := strictjwt.Verify(raw, new(claims), policy, finder); err == nil && raw != genuine {
			t.Errorf("accepted: %q", raw)
		}
		// The claims reader meets arbitrary JSON when the signature is good.
		signed := edSigned(t, goodHeader, raw)
		c := new(claims)
		if _, err := strictjwt.Verify(signed, c, policy, finder); err == nil {
			if c.Issuer != issuer || c.ExpiresAt == nil || c.IssuedAt == nil || c.ExpiresAt.Sub(c.IssuedAt.Time) > time.Hour {
				t.Errorf("accepted %q as %+v", raw, c)
			}
		}
		// And so does the header reader.
		if h, err := strictjwt.Peek(encode(raw)+".e30.", 0); err == nil && !jwks.Supported(h.Algorithm) {
			t.Errorf("header %q gives %+v", raw, h)
		}
	})
}
