package bot

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// The key of RFC 9421, appendix B.1.4, and its thumbprint as the draft has it.
const (
	vectorX     = "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"
	vectorKeyID = "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U"
)

// noon is when the tests take place.
var noon = time.Unix(1735689700, 0)

// signer signs as an agent does.
type signer struct {
	key    ed25519.PrivateKey
	keyID  string
	agent  string // Signature-Agent
	target string
	host   string
	method string

	label, components, params, agentField string // what the client sends, where it differs
	nonce                                 string
	created, expires                      int64
	tag                                   string
	header                                http.Header
}

func newSigner(seed byte, agent string) signer {
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32)))
	return signer{
		key: key, keyID: thumbprint(key.Public().(ed25519.PublicKey)), agent: agent,
		target: "/shelf?a=1", host: "www.example.com", method: "GET", label: "sig1", nonce: "n-1", tag: signatureTag,
		components: `"@authority" "signature-agent";key="sig1"`,
		created:    noon.Unix() - 10, expires: noon.Unix() + 300,
	}
}

// jwk is the public key as a directory has it.
func (s signer) jwk() string {
	return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q,"kid":%q,"use":"sig"}`,
		base64.RawURLEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey)), s.keyID)
}

// request signs a request. base, where it is given, is signed in place of the right one.
func (s signer) request(base ...string) *http.Request {
	params := s.params
	if params == "" {
		params = fmt.Sprintf(`;created=%d;expires=%d;keyid=%q;alg="ed25519"`, s.created, s.expires, s.keyID)
		if s.nonce != "" {
			params += fmt.Sprintf(";nonce=%q", s.nonce)
		}
		params += fmt.Sprintf(";tag=%q", s.tag)
	}
	field := s.agentField
	if field == "" {
		field = fmt.Sprintf("%s=%q", s.label, s.agent)
	}
	path, query, _ := strings.Cut(s.target, "?")
	values := map[string]string{
		`"@authority"`: s.host, `"@method"`: s.method, `"@path"`: path, `"@query"`: "?" + query, `"@scheme"`: "http",
		`"@target-uri"`: "http://" + s.host + s.target, `"signature-agent";key="sig1"`: fmt.Sprintf("%q", s.agent), `"signature-agent"`: field,
		`"x-list"`: "a, b",
	}
	var b strings.Builder
	if s.components != "" {
		for c := range strings.SplitSeq(s.components, " ") {
			fmt.Fprintf(&b, "%s: %s\n", c, values[c])
		}
	}
	input := "(" + s.components + ")" + params
	fmt.Fprintf(&b, `"@signature-params": %s`, input)
	text := b.String()
	if len(base) > 0 {
		text = base[0]
	}
	h := http.Header{"User-Agent": {"Shopper/1.0"}, "X-List": {" a", "b "}}
	for name, lines := range s.header {
		h[name] = lines
	}
	h["Signature-Input"] = []string{s.label + "=" + input}
	h["Signature"] = []string{s.label + "=:" + base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, []byte(text))) + ":"}
	if field != "-" {
		h["Signature-Agent"] = []string{field}
	}
	r := edgetest.Request(s.method, s.target, h)
	r.Host = s.host
	return r
}

// signing is a knowledge of two agents that sign.
func signing(t testing.TB, agents ...signer) *knowledge {
	t.Helper()
	config := &edge.Bots{Authority: []string{"www.example.com", "*.shop.example"}}
	for i, s := range agents {
		config.Agents = append(config.Agents, &edge.BotAgent{Name: fmt.Sprintf("agent%d", i), Class: decision.BotAIAgent,
			SignatureAgent: s.agent, Keys: edgetest.Write(t, "keys.json", []byte(`{"keys":[`+s.jwk()+`]}`))})
	}
	k := newKnowledge(config)
	k.now = func() time.Time { return noon }
	if err := k.follow(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// tagged tags a request.
func (k *knowledge) tagged(r *http.Request) decision.Bot {
	d := &decision.Decision{Target: r.RequestURI}
	k.tag(d, r)
	d.Bot.Name = "" // see TestTag_namesTheClient
	return d.Bot
}

func TestSignature_theDraftsVectorsVerify(t *testing.T) {
	t.Parallel()
	keys, err := parseDirectory([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"NFcWBst6DXG-N35nHdzMrioWntdzNZghQSkjHNMMSjw","x":"` + vectorX + `","use":"sig"}]}`))
	if err != nil || keys[vectorKeyID].key == nil {
		t.Fatalf("%v: %v has no key of the draft's thumbprint", err, keys)
	}
	dictionary := http.Header{
		"Signature-Agent": {`agent2="https://signature-agent.test"`},
		"Signature-Input": {`sig2=("@authority" "signature-agent";key="agent2");created=1735689600;keyid="` + vectorKeyID + `";alg="ed25519";expires=4889289600;nonce="n9p433xm+NJ3ph3upfBIGmsuwHw387YV7Q/F+6BSpGCVjYCqQw6rznNA8PVVLySrAWsv0hQtFioQb6E1YsauiA==";tag="web-bot-auth"`},
		"Signature":       {`sig2=:RdNFx5Bj6au3YgAMQL/RzmUlZE8QZLIaXGRpw985hWnwPfMxT228NMk6ehRS1PSl4e8PhbNZACSanGdhEwYCCg==:`},
	}
	older := http.Header{
		"Signature-Agent": {`"https://signature-agent.test"`},
		"Signature-Input": {`sig2=("@authority" "signature-agent");created=1735689600;keyid="` + vectorKeyID + `";alg="ed25519";expires=1735693200;nonce="e8N7S2MFd/qrd6T2R3tdfAuuANngKI7LFtKYI/vowzk4lAZYadIX6wW25MwG7DCT9RUKAJ0qVkU0mEeLElW1qg==";tag="web-bot-auth"`},
		"Signature":       {`sig2=:jdq0SqOwHdyHr9+r5jw3iYZH6aNGKijYp/EstF4RQTQdi5N5YYKrD+mCT1HA1nZDsi6nJKuHxUi/5Syp3rLWBA==:`},
	}
	a := &agent{name: "test", class: decision.BotAIAgent, url: "https://signature-agent.test", nonces: newNonces(10)}
	a.keys.Set(&keys)
	k := &knowledge{words: everyday, agents: []*agent{a}, authority: []string{"example.com"}, signing: true, now: func() time.Time { return noon }}
	ask := func(h http.Header, host string) decision.Bot {
		r := edgetest.Request("GET", "/path/to/resource", h)
		r.Host = host
		return k.tagged(r)
	}
	if got := ask(older, "EXAMPLE.com:80"); got.Verified != "test" || got.Reason != "signature" || got.Score != 0 {
		t.Errorf("the vector of an hour: %+v", got)
	}
	// The other is good for a hundred years, which is refused before the key is asked.
	if got := ask(dictionary, "example.com"); got.Verified != "" || got.Reason != "signature_too_long" {
		t.Errorf("the vector of a century: %+v", got)
	}
	r := edgetest.Request("GET", "/", dictionary)
	inputs, reason := taggedOf(t, r)
	list, url, why := covered(r, inputs[0])
	base, bad := signatureBase(r, &decision.Decision{}, "example.com", list, inputs[0].input)
	signature, ok := signatureOf(r, "sig2")
	if reason != "" || why != "" || bad != "" || url != a.url || !ok || !ed25519.Verify(keys[vectorKeyID].key, []byte(base), signature) {
		t.Errorf("%q %q %q %q: the base is\n%s", reason, why, bad, url, base)
	}
}

func TestSignature_holds(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*signer){
		"plain":                func(*signer) {},
		"more components":      func(s *signer) { s.components += ` "@method" "@path" "@query" "@scheme" "x-list"` },
		"target-uri":           func(s *signer) { s.components = `"@target-uri" "signature-agent";key="sig1"` },
		"without a query":      func(s *signer) { s.target = "/shelf"; s.components += ` "@target-uri" "@query"` },
		"another site of ours": func(s *signer) { s.host = "fr.shop.example" },
		"no nonce, short":      func(s *signer) { s.nonce = ""; s.expires = s.created + 300 },
		"a day":                func(s *signer) { s.expires = s.created + 24*3600 },
		"a clock ahead":        func(s *signer) { s.created = noon.Unix() + 29 },
		"member of another key": func(s *signer) {
			s.agentField = `other="https://shopper.example"`
			s.components = `"@authority" "signature-agent";key="other"`
		},
		"older form": func(s *signer) {
			s.agentField = `"https://shopper.example"`
			s.components = `"@authority" "signature-agent"`
		},
		"a slash": func(s *signer) { s.agent = "https://Shopper.example:443/" },
		"typed":   func(s *signer) { s.agentField = `sig1="https://shopper.example";type=directory` },
		"no algorithm": func(s *signer) {
			s.params = fmt.Sprintf(`;created=%d;expires=%d;keyid=%q;tag="web-bot-auth";nonce="x"`, s.created, s.expires, s.keyID)
		},
		"said by a browser": func(s *signer) { s.header = http.Header{"User-Agent": {"Mozilla/5.0 Chrome/131"}} },
		"no User-Agent":     func(s *signer) { s.header = http.Header{"User-Agent": nil} },
	} {
		s := newSigner('a', "https://shopper.example")
		k := signing(t, s)
		change(&s)
		r := s.request()
		switch name { // components whose value the table of request does not know
		case "member of another key":
			r = s.request(`"@authority": www.example.com` + "\n" + `"signature-agent";key="other": "https://shopper.example"` + "\n" + `"@signature-params": ` + strings.TrimPrefix(r.Header.Get("Signature-Input"), "sig1="))
		case "typed":
			r = s.request(`"@authority": www.example.com` + "\n" + `"signature-agent";key="sig1": "https://shopper.example";type=directory` + "\n" + `"@signature-params": ` + strings.TrimPrefix(r.Header.Get("Signature-Input"), "sig1="))
		}
		if got := k.tagged(r); got.Verified != "agent0" || got.Class != decision.BotAIAgent || got.Score != 0 || got.Reason != "signature" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestSignature_doesNotHold is what a hostile client sends.
func TestSignature_doesNotHold(t *testing.T) {
	t.Parallel()
	const url = "https://shopper.example"
	set := func(name string, lines ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = lines }
	}
	for name, row := range map[string]struct {
		sign func(*signer)
		then func(*http.Request)
		want string
	}{
		"for another host":               {nil, func(r *http.Request) { r.Host = "fr.shop.example" }, "impostor signature_mismatch"},
		"for a host that is not ours":    {func(s *signer) { s.host = "evil.example" }, nil, "unknown signature_authority"},
		"below a site of ours":           {func(s *signer) { s.host = "a.b.shop.example" }, nil, "unknown signature_authority"},
		"expired":                        {func(s *signer) { s.created, s.expires = noon.Unix()-100, noon.Unix() }, nil, "unknown signature_expired"},
		"from the future":                {func(s *signer) { s.created = noon.Unix() + 31 }, nil, "unknown signature_not_yet_valid"},
		"expires before it was created":  {func(s *signer) { s.expires = s.created }, nil, "unknown signature_malformed"},
		"over a day":                     {func(s *signer) { s.expires = s.created + 24*3600 + 1 }, nil, "unknown signature_too_long"},
		"no nonce, long":                 {func(s *signer) { s.nonce = ""; s.expires = s.created + 301 }, nil, "unknown signature_without_nonce"},
		"a huge nonce":                   {func(s *signer) { s.nonce = strings.Repeat("n", 257) }, nil, "unknown signature_malformed"},
		"another tag":                    {func(s *signer) { s.tag = "not-web-bot-auth" }, nil, "unknown signature_without_tag"},
		"a key of nobody":                {func(s *signer) { *s = newSigner('x', url) }, nil, "unknown signature_unknown_key"},
		"a key that claims another's id": {func(s *signer) { id := s.keyID; *s = newSigner('x', url); s.keyID = id }, nil, "impostor signature_mismatch"},
		"another agent's key":            {func(s *signer) { *s = newSigner('b', url) }, nil, "impostor signature_agent"},
		"another agent's URL":            {func(s *signer) { s.agent = "https://other.example" }, nil, "impostor signature_agent"},
		"the URL of nobody":              {func(s *signer) { s.agent = "https://nobody.example" }, nil, "impostor signature_agent"},
		"another path":                   {func(s *signer) { s.components += ` "@path"` }, func(r *http.Request) { r.RequestURI = "/admin" }, "impostor signature_mismatch"},
		"another query":                  {func(s *signer) { s.components += ` "@query"` }, func(r *http.Request) { r.RequestURI = "/shelf?a=2" }, "impostor signature_mismatch"},
		"another method":                 {func(s *signer) { s.components += ` "@method"` }, func(r *http.Request) { r.Method = "DELETE" }, "impostor signature_mismatch"},
		"another header":                 {func(s *signer) { s.components += ` "x-list"` }, set("X-List", "a, c"), "impostor signature_mismatch"},
		"Signature-Agent changed":        {nil, set("Signature-Agent", `sig1="https://shopper.example";x`), "impostor signature_mismatch"},
		"Signature-Agent gone":           {nil, set("Signature-Agent"), "unknown signature_without_agent"},
		"Signature-Agent not covered":    {func(s *signer) { s.components = `"@authority"` }, nil, "unknown signature_without_agent"},
		"Signature-Agent by http":        {func(s *signer) { s.agent = "http://shopper.example" }, nil, "unknown signature_without_agent"},
		"a directory with a path":        {func(s *signer) { s.agent = url + "/x" }, nil, "unknown signature_without_agent"},
		"an unknown type":                {func(s *signer) { s.agentField = `sig1="https://shopper.example";type=magic` }, nil, "unknown signature_without_agent"},
		"authority not covered":          {func(s *signer) { s.components = `"signature-agent";key="sig1" "@path"` }, nil, "unknown signature_without_authority"},
		"nothing covered":                {func(s *signer) { s.components = "" }, nil, "unknown signature_components"},
		"a component twice":              {func(s *signer) { s.components += ` "@authority"` }, nil, "unknown signature_components"},
		"a response's component":         {func(s *signer) { s.components += ` "@status"` }, nil, "unknown signature_components"},
		"a component of parameters":      {func(s *signer) { s.components += ` "x-list";sf` }, nil, "unknown signature_components"},
		"a header that is not there":     {func(s *signer) { s.components += ` "x-none"` }, nil, "unknown signature_components"},
		"an upper-case component":        {func(s *signer) { s.components += ` "X-List"` }, nil, "unknown signature_malformed"},
		"many components":                {func(s *signer) { s.components += strings.Repeat(` "x-list"`, 15) }, nil, "unknown signature_components"},
		"another algorithm": {func(s *signer) {
			s.params = fmt.Sprintf(`;created=%d;expires=%d;keyid=%q;alg="rsa-pss-sha512";tag="web-bot-auth"`, s.created, s.expires, s.keyID)
		}, nil, "unknown signature_algorithm"},
		"no algorithm at all": {func(s *signer) {
			s.params = fmt.Sprintf(`;created=%d;expires=%d;keyid=%q;alg=none;tag="web-bot-auth"`, s.created, s.expires, s.keyID)
		}, nil, "unknown signature_malformed"},
		"created missing": {func(s *signer) { s.params = fmt.Sprintf(`;expires=%d;keyid=%q;tag="web-bot-auth"`, s.expires, s.keyID) }, nil, "unknown signature_malformed"},
		"expires missing": {func(s *signer) { s.params = fmt.Sprintf(`;created=%d;keyid=%q;tag="web-bot-auth"`, s.created, s.keyID) }, nil, "unknown signature_malformed"},
		"created as text": {func(s *signer) {
			s.params = fmt.Sprintf(`;created="%d";expires=%d;keyid=%q;tag="web-bot-auth"`, s.created, s.expires, s.keyID)
		}, nil, "unknown signature_malformed"},
		"no keyid": {func(s *signer) {
			s.params = fmt.Sprintf(`;created=%d;expires=%d;tag="web-bot-auth"`, s.created, s.expires)
		}, nil, "unknown signature_malformed"},
		"no signature":              {nil, set("Signature"), "unknown signature_malformed"},
		"a short signature":         {nil, set("Signature", "sig1=:AAAA:"), "unknown signature_malformed"},
		"a signature of zeros":      {nil, set("Signature", "sig1=:"+base64.StdEncoding.EncodeToString(make([]byte, 64))+":"), "impostor signature_mismatch"},
		"another label's signature": {nil, func(r *http.Request) { r.Header["Signature"] = []string{"x" + r.Header.Get("Signature")} }, "unknown signature_malformed"},
		"no dictionary":             {nil, set("Signature-Input", `("@authority");tag="web-bot-auth"`), "unknown signature_malformed"},
		"no inner list":             {nil, set("Signature-Input", `sig1=1;tag="web-bot-auth"`), "unknown signature_malformed"},
		"two that are known": {nil, func(r *http.Request) {
			r.Header["Signature-Input"] = append(r.Header["Signature-Input"], "x"+r.Header.Get("Signature-Input"))
		}, "unknown signature_many"},
		"five": {nil, func(r *http.Request) {
			set("Signature-Input", strings.Repeat(`a=();tag="web-bot-auth";keyid="a",`, 1)+`b=();tag="web-bot-auth";keyid="a",c=();tag="web-bot-auth";keyid="a",d=();tag="web-bot-auth";keyid="a",e=();tag="web-bot-auth";keyid="a"`)(r)
		}, "unknown signature_many"},
		"a thousand lines": {nil, func(r *http.Request) {
			r.Header["Signature-Input"] = make([]string, 1000)
			r.Header["Signature-Input"][0] = signatureTag
		}, "unknown signature_oversize"},
		"a huge input":                  {nil, set("Signature-Input", `sig1=();tag="web-bot-auth";x="`+strings.Repeat("a", 5000)+`"`), "unknown signature_oversize"},
		"a huge signature":              {nil, set("Signature", "sig1=:"+strings.Repeat("A", 5000)+":"), "unknown signature_oversize"},
		"a huge agent":                  {nil, set("Signature-Agent", `sig1="https://`+strings.Repeat("a", 1100)+`"`), "unknown signature_oversize"},
		"a huge header that is covered": {func(s *signer) { s.components += ` "x-list"` }, set("X-List", strings.Repeat("a", 20000)), "unknown signature_oversize"},
	} {
		s := newSigner('a', url)
		k := signing(t, s, newSigner('b', "https://other.example"))
		if row.sign != nil {
			row.sign(&s)
		}
		r := s.request()
		r.Header.Set("User-Agent", "Shopper/1.0")
		if row.then != nil {
			row.then(r)
		}
		got := k.tagged(r)
		if text := string(got.Class) + " " + got.Reason; text != row.want || got.Verified != "" || got.Score < scoreOdd {
			t.Errorf("%s: %+v, want %s", name, got, row.want)
		}
	}
}

func TestSignature_isGoodOnce(t *testing.T) {
	t.Parallel()
	s := newSigner('a', "https://shopper.example")
	k := signing(t, s)
	now := noon
	k.now = func() time.Time { return now }
	first := s.request()
	if got := k.tagged(first); got.Verified == "" {
		t.Fatalf("%+v", got)
	}
	for name, again := range map[string]func() *http.Request{
		"as it was":           func() *http.Request { return first },
		"for another path":    func() *http.Request { r := s.request(); r.RequestURI = "/other"; return r },
		"the nonce once more": func() *http.Request { s := s; s.expires += 60; return s.request() },
	} {
		if got := k.tagged(again()); got.Class != decision.BotImpostor || got.Reason != "signature_replayed" || got.Score != 100 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	s.nonce = "n-2"
	if got := k.tagged(s.request()); got.Verified == "" {
		t.Errorf("a new nonce: %+v", got)
	}
	// Only asked about ("caddy edge explain"): nothing is remembered.
	s.nonce = "n-3"
	for range 2 {
		d := &decision.Decision{Target: s.target, DryRun: true}
		if k.tag(d, s.request()); d.Bot.Verified == "" {
			t.Errorf("asked about: %+v", d.Bot)
		}
	}
	// What somebody else signs fills nothing.
	forged := newSigner('x', s.agent)
	forged.keyID = s.keyID
	for i := range 100 {
		forged.nonce = fmt.Sprint("forged-", i)
		k.tagged(forged.request())
	}
	if n := k.agents[0].nonces.size(); n != 2 {
		t.Errorf("%d nonces are remembered, want 2", n)
	}
	// Once they have expired they are forgotten, and no use either.
	now = noon.Add(7 * time.Minute)
	if got := k.tagged(first); got.Reason != "signature_expired" {
		t.Errorf("later: %+v", got)
	}
	s.nonce, s.created, s.expires = "n-4", now.Unix(), now.Unix()+60
	if got := k.tagged(s.request()); got.Verified == "" || k.agents[0].nonces.size() != 1 {
		t.Errorf("later: %+v, %d nonces", got, k.agents[0].nonces.size())
	}
}

// TestNonces_takeNoMoreThanTheirLimit: an agent that signs more than is remembered
// is not believed further, in place of forgetting what could be sent again.
func TestNonces_takeNoMoreThanTheirLimit(t *testing.T) {
	t.Parallel()
	s := newSigner('a', "https://shopper.example")
	k := signing(t, s)
	k.agents[0].nonces = newNonces(100)
	for i := range 100 {
		s.nonce = fmt.Sprint(i)
		if got := k.tagged(s.request()); got.Verified == "" {
			t.Fatalf("%d: %+v", i, got)
		}
	}
	s.nonce = "100"
	if got := k.tagged(s.request()); got.Verified != "" || got.Reason != "signature_nonces_full" || got.Class == decision.BotImpostor {
		t.Errorf("one more: %+v", got)
	}
	s.nonce = "0"
	if got := k.tagged(s.request()); got.Reason != "signature_replayed" {
		t.Errorf("the first again: %+v", got)
	}
}

func TestDirectory_keysThatDoNotCount(t *testing.T) {
	t.Parallel()
	good := newSigner('a', "").jwk()
	for name, key := range map[string]string{
		"private part":  strings.Replace(good, `"use"`, `"d":"AAAA","use"`, 1),
		"encryption":    strings.Replace(good, `"sig"`, `"enc"`, 1),
		"signing alone": strings.Replace(good, `"use":"sig"`, `"key_ops":["sign"]`, 1),
		"algorithm":     strings.Replace(good, `"use"`, `"alg":"HS256","use"`, 1),
		"curve":         strings.Replace(good, `"Ed25519"`, `"X25519"`, 1),
		"type":          strings.Replace(good, `"OKP"`, `"oct"`, 1),
		"short":         `{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`,
		"padded":        strings.Replace(good, `","kid"`, `=","kid"`, 1),
		"milliseconds":  strings.Replace(good, `"use"`, `"exp":1735689600000,"use"`, 1),
		"negative":      strings.Replace(good, `"use"`, `"nbf":-1,"use"`, 1),
		"a number":      "1",
	} {
		if keys, err := parseDirectory([]byte(`{"keys":[` + key + `]}`)); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
		other := newSigner('b', "")
		if keys, err := parseDirectory([]byte(`{"keys":[` + key + `,` + other.jwk() + `]}`)); err != nil || len(keys) != 1 {
			t.Errorf("%s takes a good key with it: %v %v", name, keys, err)
		}
	}
	for name, data := range map[string]string{
		"empty": "", "a name twice": `{"keys":[` + strings.Replace(good, `"use"`, `"x":"AAAA","use"`, 1) + `]}`, "no keys": `{"keys":[]}`, "twice": `{"keys":[],"keys":[` + good + `]}`, "html": "<html>",
		"many": `{"keys":[` + strings.TrimSuffix(strings.Repeat(good+",", 65), ",") + `]}`, "huge": strings.Repeat(" ", 300<<10),
	} {
		if keys, err := parseDirectory([]byte(data)); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
	}
}

func TestSignature_keyOutOfForce(t *testing.T) {
	t.Parallel()
	for name, member := range map[string]string{"not yet": fmt.Sprintf(`"nbf":%d`, noon.Unix()+1), "no more": fmt.Sprintf(`"exp":%d`, noon.Unix())} {
		s := newSigner('a', "https://shopper.example")
		k := signing(t, s)
		keys, err := parseDirectory([]byte(`{"keys":[` + strings.Replace(s.jwk(), `"use"`, member+`,"use"`, 1) + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		k.agents[0].keys.Set(&keys)
		if got := k.tagged(s.request()); got.Verified != "" || got.Reason != "signature_key_not_in_force" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func taggedOf(t testing.TB, r *http.Request) ([]signed, string) {
	t.Helper()
	inputs, err := httpsfv.UnmarshalDictionary(r.Header["Signature-Input"])
	if err != nil {
		t.Fatal(err)
	}
	return tagged(inputs)
}

func FuzzSignature(f *testing.F) {
	s := newSigner('a', "https://shopper.example")
	r := s.request()
	f.Add(r.Header.Get("Signature-Input"), r.Header.Get("Signature"), r.Header.Get("Signature-Agent"), "www.example.com", "/shelf?a=1")
	s.components += ` "@method" "@path" "@query" "@scheme" "@target-uri" "x-list"`
	r = s.request()
	f.Add(r.Header.Get("Signature-Input"), r.Header.Get("Signature"), r.Header.Get("Signature-Agent"), "www.example.com:80", "*")
	f.Add(`sig1=("@authority" "signature-agent");tag="web-bot-auth"`, "sig1=:AAAA:", `"https://shopper.example"`, "", "")
	f.Add(`a=();tag="web-bot-auth",b=1`, "a", "b", "[::1]:443", "//")
	k := signing(f, newSigner('a', "https://shopper.example"))
	good := r.Header.Get("Signature")
	f.Fuzz(func(t *testing.T, input, signature, agent, host, target string) {
		r := edgetest.Request("GET", "/", http.Header{"Signature-Input": {input}, "Signature": {signature}, "Signature-Agent": {agent}, "X-List": {"a", "b"}})
		r.Host, r.RequestURI = host, target
		got := k.tagged(r)
		if got.Class == decision.BotNone || got.Reason == "" {
			t.Fatalf("%+v", got)
		}
		// Nobody has the key here: what holds is one of the seeds' two signatures.
		if got.Verified != "" && !strings.Contains(signature, good[6:40]) && !strings.Contains(signature, firstOf(t)[6:40]) {
			t.Fatalf("%q %q %q %q %q: %+v", input, signature, agent, host, target, got)
		}
	})
}

func firstOf(testing.TB) string {
	return newSigner('a', "https://shopper.example").request().Header.Get("Signature")
}

func FuzzDirectory(f *testing.F) {
	good := newSigner('a', "").jwk()
	for _, seed := range []string{`{"keys":[` + good + `]}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + vectorX + `","nbf":1,"exp":2}]}`, `{"keys":[1,` + good + `]}`, "{}", "[]", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseDirectory(data)
		if err != nil {
			if keys != nil {
				t.Fatal("an error and keys")
			}
			return
		}
		if len(keys) == 0 || len(keys) > 64 {
			t.Fatalf("%d keys", len(keys))
		}
		for id, k := range keys {
			if len(k.key) != ed25519.PublicKeySize || id != thumbprint(k.key) {
				t.Fatalf("%s is %v", id, k)
			}
		}
	})
}

func BenchmarkSignature(b *testing.B) {
	s := newSigner('a', "https://shopper.example")
	s.nonce, s.expires = "", s.created+60 // so that one request is good many times
	k := signing(b, s)
	for name, r := range map[string]*http.Request{
		"": s.request(), "signature_mismatch": s.request("nonsense"),
		"signature_unknown_key": newSigner('x', s.agent).request(),
		"no_signature":          edgetest.Request("GET", "/", http.Header{"User-Agent": {"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"}}),
	} {
		b.Run(cmp.Or(name, "holds"), func(b *testing.B) {
			d := &decision.Decision{Target: s.target}
			b.ReportAllocs()
			for b.Loop() {
				d.Bot = decision.Bot{}
				k.tag(d, r)
			}
			if strings.HasPrefix(name, "signature") && d.Bot.Reason != name || (d.Bot.Verified != "") != (name == "") {
				b.Fatalf("tagged %+v", d.Bot)
			}
		})
	}
}
