package bot

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/maypok86/otter/v2"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// Signature is what became of a Web Bot Auth signature. It is the reason of a tag.
type Signature string

// Faults of a signature.
const (
	SignatureHolds     Signature = ReasonSignature
	SignatureMalformed Signature = "signature_malformed"
	SignatureAgent     Signature = "signature_agent"     // Signature-Agent names nobody whose keys are here
	SignatureKey       Signature = "signature_key"       // its keyid is none of the agent's
	SignatureCovers    Signature = "signature_covers"    // it does not cover what it must
	SignatureTime      Signature = "signature_time"      // it has expired, is of the future, or is good for too long
	SignatureReplayed  Signature = "signature_replayed"  // its nonce was seen before
	SignatureInvalid   Signature = "signature_invalid"   // it is not of this request
	SignatureAlgorithm Signature = "signature_algorithm" // another than ed25519
)

// Bounds of what is read.
const (
	maxSignatureHeader = 8 << 10         // bytes of Signature-Input and of Signature
	maxSignatures      = 8               // members of either
	maxComponents      = 16              // of a signature
	maxSignatureLife   = 24 * time.Hour  // draft-ietf-webbotauth-httpsig-protocol, section 4.2
	clockSkew          = 5 * time.Second // between us and a crawler
	maxNonce           = 128             // bytes
)

// webBotAuth is the tag of the signatures that are for us (RFC 9421, section 2.3;
// draft-ietf-webbotauth-httpsig-protocol, section 4.2).
const webBotAuth = "web-bot-auth"

// keys are a crawler's, by thumbprint.
type keys map[string]ed25519.PublicKey

// SetKeys puts the key directory in a file's data in force: the JWKS that the crawler
// publishes at /.well-known/http-message-signatures-directory
// (draft-ietf-webbotauth-http-message-signatures-directory). A key that is not
// Ed25519 is passed over; a directory without one that is, is an error.
func (c *Crawler) SetKeys(data []byte) error {
	set, err := jwks.Parse(data)
	if err != nil {
		return err
	}
	found := keys{}
	for _, key := range set.Keys() {
		if public, ok := key.Material.(ed25519.PublicKey); ok {
			found[jwks.Thumbprint(public)] = public // keyid is the thumbprint, whatever kid says
		}
	}
	if len(found) == 0 {
		return errors.New("key directory: no Ed25519 key")
	}
	c.proof.keys.Store(&found)
	return nil
}

// signed judges a request by its signature. decided is false where none is tagged as
// a bot's: other signatures are somebody else's to look at.
func (b *Book) signed(r *http.Request, now time.Time, dry bool) (tag decision.Bot, decided bool) {
	label, params, fault := pick(r.Header)
	if label == "" && fault == "" {
		return tag, false
	}
	var c *Crawler
	if fault == "" {
		c, fault = b.verify(r, label, params, now, dry)
	}
	if fault != SignatureHolds {
		tag = decision.Bot{Class: ClassImpostor, Score: 100, Reason: string(fault)}
		if c != nil {
			tag.Name = c.Name
		}
		return tag, true
	}
	return decision.Bot{Class: c.Class, Name: c.Name, Score: 100, Reason: ReasonSignature, Verified: true}, true
}

// pick finds the first signature that is tagged for us.
func pick(h http.Header) (label string, covered httpsfv.InnerList, fault Signature) {
	if size(h["Signature-Input"]) > maxSignatureHeader || size(h["Signature"]) > maxSignatureHeader {
		return "", covered, SignatureMalformed
	}
	inputs, err := httpsfv.UnmarshalDictionary(h["Signature-Input"])
	if err != nil || len(inputs.Names()) > maxSignatures {
		return "", covered, SignatureMalformed
	}
	for _, name := range inputs.Names() {
		member, _ := inputs.Get(name)
		list, ok := member.(httpsfv.InnerList)
		if !ok {
			return "", covered, SignatureMalformed
		}
		if tag, _ := param[string](list.Params, "tag"); tag == webBotAuth {
			return name, list, ""
		}
	}
	return "", covered, ""
}

func size(lines []string) (n int) {
	for _, line := range lines {
		n += len(line)
	}
	return n
}

func param[T any](params *httpsfv.Params, name string) (value T, ok bool) {
	if params == nil {
		return value, false
	}
	v, ok := params.Get(name)
	if !ok {
		return value, false
	}
	value, ok = v.(T)
	return value, ok
}

// verify holds one signature against the rules, the cheap ones first: whoever has
// no key costs us no Ed25519.
func (b *Book) verify(r *http.Request, label string, covered httpsfv.InnerList, now time.Time, dry bool) (*Crawler, Signature) {
	c := b.signers[signatureAgent(r.Header, label)]
	if c == nil {
		return nil, SignatureAgent
	}
	if alg, ok := covered.Params.Get("alg"); ok && alg != "ed25519" {
		return c, SignatureAlgorithm
	}
	created, ok := param[int64](covered.Params, "created")
	expires, also := param[int64](covered.Params, "expires")
	begins, ends := time.Unix(created, 0), time.Unix(expires, 0)
	if !ok || !also || begins.After(now.Add(clockSkew)) || !ends.After(now) || ends.Sub(begins) > maxSignatureLife {
		return c, SignatureTime
	}
	id, _ := param[string](covered.Params, "keyid")
	known := c.proof.keys.Load()
	if known == nil || (*known)[id] == nil {
		return c, SignatureKey
	}
	base, fault := base(r, label, covered)
	if fault != "" {
		return c, fault
	}
	signatures, err := httpsfv.UnmarshalDictionary(r.Header["Signature"])
	if err != nil {
		return c, SignatureMalformed
	}
	member, _ := signatures.Get(label)
	item, _ := member.(httpsfv.Item)
	signature, ok := item.Value.([]byte)
	if !ok {
		return c, SignatureMalformed
	}
	if !ed25519.Verify((*known)[id], base, signature) {
		return c, SignatureInvalid
	}
	if nonce, ok := param[string](covered.Params, "nonce"); ok {
		switch {
		case len(nonce) > maxNonce:
			return c, SignatureMalformed
		case !b.nonces.first(id+" "+nonce, ends.Sub(now), dry):
			return c, SignatureReplayed
		}
	}
	return c, SignatureHolds
}

// signatureAgent gives the origin that Signature-Agent names: a dictionary whose
// member has the label of the signature, or a string as in the drafts before.
func signatureAgent(h http.Header, label string) string {
	lines := h["Signature-Agent"]
	if len(lines) == 0 || size(lines) > maxSignatureHeader {
		return ""
	}
	if item, err := httpsfv.UnmarshalItem(lines); err == nil {
		origin, _ := item.Value.(string)
		return strings.TrimSuffix(origin, "/")
	}
	named, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return ""
	}
	member, _ := named.Get(label)
	item, _ := member.(httpsfv.Item)
	origin, _ := item.Value.(string)
	return strings.TrimSuffix(origin, "/")
}

// base makes what is signed (RFC 9421, section 2.5). The authority must be covered, or
// one crawler's request would be good for another site; and so must Signature-Agent.
func base(r *http.Request, label string, covered httpsfv.InnerList) ([]byte, Signature) {
	if len(covered.Items) > maxComponents {
		return nil, SignatureMalformed
	}
	var b strings.Builder
	authority, agent := false, false
	seen := map[string]bool{}
	for _, item := range covered.Items {
		name, ok := item.Value.(string)
		id, err := httpsfv.Marshal(item)
		if !ok || err != nil || seen[id] { // each once (section 2)
			return nil, SignatureMalformed
		}
		seen[id] = true
		value, ok := component(r, name, item.Params)
		if !ok {
			return nil, SignatureCovers
		}
		authority = authority || name == "@authority" || name == "@target-uri"
		agent = agent || name == "signature-agent"
		b.WriteString(id)
		b.WriteString(": ")
		b.WriteString(value)
		b.WriteByte('\n')
	}
	if !authority || !agent {
		return nil, SignatureCovers
	}
	params, err := httpsfv.Marshal(covered)
	if err != nil {
		return nil, SignatureMalformed
	}
	fmt.Fprintf(&b, "%q: %s", "@signature-params", params)
	return []byte(b.String()), ""
}

// component gives the value of what a signature covers (RFC 9421, sections 2.1 and
// 2.2). Of the parameters we know key alone, which picks a member of a dictionary
// (section 2.1.2); whoever signs with another is not understood.
func component(r *http.Request, name string, params *httpsfv.Params) (string, bool) {
	key, keyed := param[string](params, "key")
	if params != nil {
		for _, p := range params.Names() {
			if p != "key" || !keyed || name != "signature-agent" {
				return "", false
			}
		}
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	target := r.RequestURI
	path, query, _ := strings.Cut(target, "?")
	switch name {
	case "@authority":
		return authorityOf(r.Host, scheme), true
	case "@method":
		return r.Method, true
	case "@scheme":
		return scheme, true
	case "@target-uri":
		return scheme + "://" + authorityOf(r.Host, scheme) + target, strings.HasPrefix(target, "/")
	case "@request-target":
		return target, true
	case "@path":
		return path, true
	case "@query":
		return "?" + query, true
	}
	if strings.HasPrefix(name, "@") || name != strings.ToLower(name) {
		return "", false
	}
	lines, ok := r.Header[http.CanonicalHeaderKey(name)]
	if !ok {
		return "", false
	}
	if keyed {
		d, err := httpsfv.UnmarshalDictionary(lines)
		if err != nil {
			return "", false
		}
		member, ok := d.Get(key)
		if !ok {
			return "", false
		}
		item, ok := member.(httpsfv.Item)
		if !ok {
			return "", false
		}
		text, err := httpsfv.Marshal(item)
		return text, err == nil
	}
	trimmed := make([]string, len(lines))
	for i, line := range lines {
		trimmed[i] = strings.TrimSpace(line)
	}
	return strings.Join(trimmed, ", "), true
}

// authorityOf is @authority (RFC 9421, section 2.2.3): in lower case, without the
// scheme's own port.
func authorityOf(host, scheme string) string {
	host = strings.ToLower(host)
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// nonces remembers what was signed with, for as long as it could be sent again. It
// is bounded, and this POP's alone.
type nonces struct {
	seen *otter.Cache[string, time.Duration]
}

// maxNonces bounds the memory: at most some 20 MB.
const maxNonces = 100_000

func newNonces() (*nonces, error) {
	seen, err := otter.New(&otter.Options[string, time.Duration]{
		MaximumSize: maxNonces,
		ExpiryCalculator: otter.ExpiryCreatingFunc(func(e otter.Entry[string, time.Duration]) time.Duration {
			return e.Value
		}),
	})
	return &nonces{seen}, err
}

// first reports whether a nonce was not seen before.
func (n *nonces) first(nonce string, life time.Duration, dry bool) bool {
	if dry {
		_, seen := n.seen.GetIfPresent(nonce)
		return !seen
	}
	_, added := n.seen.SetIfAbsent(nonce, life)
	return added
}

func (n *nonces) close() { n.seen.StopAllGoroutines() }
