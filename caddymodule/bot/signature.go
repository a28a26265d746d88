package bot

import (
	"crypto/ed25519"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// Limits on a signed request. One of Web Bot Auth has two components, a
// Signature-Input of 250 bytes and one signature.
const (
	maxSignatureFields = 4096 // bytes of Signature-Input, and of Signature
	maxSignatureAgent  = 1024
	maxSignatureLines  = 8
	maxSignatures      = 4 // with our tag
	maxComponents      = 16
	maxBase            = 16 << 10
	maxNonce           = 256

	// maxLife is how long a signature may be good for: the draft recommends a day
	// at most.
	maxLife = 24 * time.Hour
	// maxLifeWithoutNonce is the same for one that can be sent again by whoever read it.
	maxLifeWithoutNonce = 5 * time.Minute
	// skew is how far an agent's clock may be ahead.
	skew = 30 * time.Second
)

// signatureTag is that of Web Bot Auth.
const signatureTag = "web-bot-auth"

// Names of the fields (RFC 9421, section 4; the draft, section "Signature-Agent").
const (
	fieldInput     = "Signature-Input"
	fieldSignature = "Signature"
	fieldAgent     = "Signature-Agent"
)

// verdict is what a signature says. Its zero value: there was none.
type verdict struct {
	agent  *agent // whom it proves, or who is named in vain; nil: nobody known
	reason string
	proven bool
	lie    bool // it was not made by that agent for this request
}

func weak(reason string) verdict               { return verdict{reason: reason} }
func lie(reason string, of *agent) verdict     { return verdict{reason: reason, agent: of, lie: true} }
func (v verdict) none() bool                   { return v == verdict{} }
func unproven(reason string, a *agent) verdict { return verdict{reason: reason, agent: a} }

// signed is one signature as it came: its label, what it covers and the parameters.
type signed struct {
	label string
	input httpsfv.InnerList
	keyID string
}

// signature checks what Web Bot Auth asks for
// (draft-ietf-webbotauth-httpsig-protocol, over RFC 9421): one Ed25519 signature
// with the tag "web-bot-auth", by a key of the agent whose URL Signature-Agent
// names, which covers that field and the authority, is in force now, and was not
// used before.
//
// RFC 9421 signatures with another tag are somebody else's business.
func (k *knowledge) signature(r *http.Request, d *decision.Decision) verdict {
	lines := r.Header[fieldInput]
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, signatureTag) }) {
		return verdict{}
	}
	if tooLong(lines, maxSignatureFields) || tooLong(r.Header[fieldSignature], maxSignatureFields) || tooLong(r.Header[fieldAgent], maxSignatureAgent) {
		return weak("signature_oversize")
	}
	inputs, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return weak("signature_malformed")
	}
	candidates, reason := tagged(inputs)
	if reason != "" {
		return weak(reason)
	}
	candidates = slices.DeleteFunc(candidates, func(s signed) bool { return !k.knowsKey(s.keyID) })
	switch len(candidates) {
	case 0:
		return weak("signature_unknown_key")
	case 1:
		return k.verify(r, d, candidates[0])
	}
	return weak("signature_many") // one check is what a request may cost
}

func tooLong(lines []string, limit int) bool {
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	return size > limit || len(lines) > maxSignatureLines
}

// tagged gives the signatures of Web Bot Auth. None may be there, although its name
// stood somewhere.
func tagged(inputs *httpsfv.Dictionary) (found []signed, reason string) {
	for _, label := range inputs.Names() {
		member, _ := inputs.Get(label)
		list, ok := member.(httpsfv.InnerList)
		if !ok {
			return nil, "signature_malformed"
		}
		if tag, _ := text(list.Params, "tag"); tag != signatureTag {
			continue
		}
		keyID, ok := text(list.Params, "keyid")
		if !ok {
			return nil, "signature_malformed"
		}
		if len(found) == maxSignatures {
			return nil, "signature_many"
		}
		found = append(found, signed{label, list, keyID})
	}
	if len(found) == 0 {
		return nil, "signature_without_tag"
	}
	return found, ""
}

// verify checks one signature whose key is somebody's, cheapest first.
func (k *knowledge) verify(r *http.Request, d *decision.Decision, s signed) verdict {
	now := k.now()
	until, reason := window(s.input.Params, now)
	if reason != "" {
		return weak(reason)
	}
	authority := authorityOf(r)
	if !k.ours(authority) {
		return weak("signature_authority")
	}
	components, url, reason := covered(r, s)
	if reason != "" {
		return weak(reason)
	}
	// The pair decides, and not the key alone: an agent can publish the key of another.
	who, key, ok := k.pair(url, s.keyID)
	if !ok {
		return lie("signature_agent", k.holder(s.keyID))
	}
	if !key.holds(now) {
		return unproven("signature_key_not_in_force", who)
	}
	signature, ok := signatureOf(r, s.label)
	if !ok {
		return unproven("signature_malformed", who)
	}
	base, reason := signatureBase(r, d, authority, components, s.input)
	if reason != "" {
		return unproven(reason, who)
	}
	if !ed25519.Verify(key.key, []byte(base), signature) {
		return lie("signature_mismatch", who)
	}
	if nonce, ok := text(s.input.Params, "nonce"); ok && !d.DryRun {
		switch fresh, full := who.nonces.use(s.keyID, nonce, now, until); {
		case full:
			return unproven("signature_nonces_full", who)
		case !fresh:
			return lie("signature_replayed", who)
		}
	}
	return verdict{agent: who, reason: "signature", proven: true}
}

// window reads the parameters of a signature that say for how long it is good
// (RFC 9421, section 2.3).
func window(p *httpsfv.Params, now time.Time) (until time.Time, reason string) {
	created, ok1 := number(p, "created")
	expires, ok2 := number(p, "expires")
	nonce, hasNonce := text(p, "nonce")
	_, nonceThere := p.Get("nonce")
	algorithm, hasAlgorithm := text(p, "alg")
	_, algorithmThere := p.Get("alg")
	switch {
	case !ok1 || !ok2 || expires <= created, nonceThere != hasNonce, algorithmThere != hasAlgorithm:
		return time.Time{}, "signature_malformed"
	case hasAlgorithm && algorithm != "ed25519":
		return time.Time{}, "signature_algorithm"
	case hasNonce && (nonce == "" || len(nonce) > maxNonce):
		return time.Time{}, "signature_malformed"
	}
	from, until := time.Unix(created, 0), time.Unix(expires, 0)
	switch life := expires - created; {
	case from.After(now.Add(skew)):
		return until, "signature_not_yet_valid"
	case !now.Before(until):
		return until, "signature_expired"
	case life > int64(maxLife/time.Second):
		return until, "signature_too_long"
	case !hasNonce && life > int64(maxLifeWithoutNonce/time.Second):
		return until, "signature_without_nonce"
	}
	return until, ""
}

// component is one thing that a signature covers: its name and, for a member of
// a dictionary, that member's key.
type component struct {
	name, key string
	keyed     bool
	id        httpsfv.Item
}

// covered reads what a signature covers, and the URL in Signature-Agent for which
// it vouches: that of the member with its own label or, where it covers one member
// alone, of that; the older form of the field is one string.
func covered(r *http.Request, s signed) (list []component, url, reason string) {
	if len(s.input.Items) == 0 || len(s.input.Items) > maxComponents {
		return nil, "", "signature_components"
	}
	var authority bool
	var agents []component
	for _, item := range s.input.Items {
		name, ok := item.Value.(string)
		if !ok || name == "" || name != strings.ToLower(name) {
			return nil, "", "signature_malformed"
		}
		c := component{name: name, id: item}
		switch names := item.Params.Names(); {
		case len(names) == 0:
		case len(names) == 1 && names[0] == "key" && name[0] != '@':
			if c.key, c.keyed = text(item.Params, "key"); !c.keyed {
				return nil, "", "signature_malformed"
			}
		default: // sf, bs, tr, req, name: nothing that an agent needs
			return nil, "", "signature_components"
		}
		if slices.ContainsFunc(list, func(other component) bool {
			return other.name == c.name && other.keyed == c.keyed && other.key == c.key
		}) {
			return nil, "", "signature_components" // RFC 9421, section 2.5: each once
		}
		list = append(list, c)
		switch name {
		case "@authority", "@target-uri":
			authority = true
		case "signature-agent":
			agents = append(agents, c)
		}
	}
	if !authority {
		return nil, "", "signature_without_authority"
	}
	url, ok := signatureAgent(r.Header[fieldAgent], s.label, agents)
	if !ok {
		return nil, "", "signature_without_agent"
	}
	return list, url, ""
}

// signatureAgent gives the URL that a signature vouches for.
func signatureAgent(lines []string, label string, agents []component) (string, bool) {
	i := slices.IndexFunc(agents, func(c component) bool { return c.key == label })
	switch {
	case len(lines) == 0 || len(agents) == 0:
		return "", false
	case i < 0 && len(agents) > 1:
		return "", false
	case i < 0:
		i = 0
	}
	if !agents[i].keyed {
		item, err := httpsfv.UnmarshalItem(lines)
		if err != nil {
			return "", false
		}
		return agentURL(item)
	}
	members, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return "", false
	}
	member, _ := members.Get(agents[i].key)
	item, ok := member.(httpsfv.Item)
	if !ok {
		return "", false
	}
	return agentURL(item)
}

// agentURL reads a member of Signature-Agent, which names an origin, or by its type
// another document with keys.
func agentURL(item httpsfv.Item) (string, bool) {
	value, ok := item.Value.(string)
	if !ok {
		return "", false
	}
	kind := httpsfv.Token("directory")
	if given, there := item.Params.Get("type"); there {
		if kind, ok = given.(httpsfv.Token); !ok {
			return "", false
		}
	}
	u, ok := normalURL(value)
	switch {
	case !ok, kind != "directory" && kind != "jwks_uri" && kind != "cimd":
		return "", false
	case kind == "directory" && strings.Count(u, "/") != 2:
		return "", false // no origin
	}
	return u, true
}

// normalURL writes an https URL in the one form in which it is compared (RFC 3986,
// section 6.2): no query, no fragment, no default port, no lonely slash.
func normalURL(text string) (string, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	path := u.EscapedPath()
	if path == "/" {
		path = ""
	}
	return "https://" + strings.TrimSuffix(strings.ToLower(u.Host), ":443") + path, true
}

// signatureOf gives the bytes of the signature with that label.
func signatureOf(r *http.Request, label string) ([]byte, bool) {
	members, err := httpsfv.UnmarshalDictionary(r.Header[fieldSignature])
	if err != nil {
		return nil, false
	}
	member, _ := members.Get(label)
	item, ok := member.(httpsfv.Item)
	if !ok {
		return nil, false
	}
	signature, ok := item.Value.([]byte)
	return signature, ok && len(signature) == ed25519.SignatureSize
}

// signatureBase writes what was signed (RFC 9421, section 2.5).
func signatureBase(r *http.Request, d *decision.Decision, authority string, list []component, input httpsfv.InnerList) (base, reason string) {
	var b strings.Builder
	for _, c := range list {
		id, err := httpsfv.Marshal(c.id)
		if err != nil {
			return "", "signature_malformed"
		}
		value, ok := valueOf(r, d, authority, c)
		if !ok || strings.ContainsAny(value, "\r\n") {
			return "", "signature_components"
		}
		b.WriteString(id)
		b.WriteString(": ")
		b.WriteString(value)
		b.WriteByte('\n')
		if b.Len() > maxBase {
			return "", "signature_oversize"
		}
	}
	params, err := httpsfv.Marshal(httpsfv.List{input})
	if err != nil {
		return "", "signature_malformed"
	}
	b.WriteString(`"@signature-params": `)
	b.WriteString(params)
	return b.String(), ""
}

// valueOf gives the value of a component (RFC 9421, sections 2.1 and 2.2). False:
// the request does not have it, or it is not one that is known here.
func valueOf(r *http.Request, d *decision.Decision, authority string, c component) (string, bool) {
	path, query, asked := strings.Cut(d.Target, "?")
	if path == "" || path[0] != '/' { // as in OPTIONS *
		path = "/"
	}
	switch c.name {
	case "@method":
		return r.Method, true
	case "@authority":
		return authority, true
	case "@scheme":
		return edge.Scheme(r), true
	case "@path":
		return path, true
	case "@query":
		return "?" + query, true
	case "@target-uri":
		uri := edge.Scheme(r) + "://" + authority + path
		if asked {
			uri += "?" + query
		}
		return uri, true
	}
	if c.name[0] == '@' {
		return "", false
	}
	lines := r.Header[textproto.CanonicalMIMEHeaderKey(c.name)]
	if len(lines) == 0 {
		return "", false
	}
	if c.keyed {
		return memberOf(lines, c.key)
	}
	trimmed := make([]string, len(lines))
	for i, l := range lines {
		trimmed[i] = textproto.TrimString(l)
	}
	return strings.Join(trimmed, ", "), true
}

// memberOf writes one member of a field that is a dictionary (RFC 9421, section
// 2.1.2).
func memberOf(lines []string, key string) (string, bool) {
	if tooLong(lines, maxSignatureFields) {
		return "", false
	}
	members, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return "", false
	}
	var value string
	switch member, _ := members.Get(key); m := member.(type) {
	case httpsfv.Item:
		value, err = httpsfv.Marshal(m)
	case httpsfv.InnerList:
		value, err = httpsfv.Marshal(httpsfv.List{m})
	default:
		return "", false
	}
	return value, err == nil
}

// authorityOf is the authority that the client asked, in its normal form (RFC 9421,
// section 2.2.3).
func authorityOf(r *http.Request) string {
	host := strings.ToLower(r.Host)
	if name, port, err := net.SplitHostPort(host); err == nil &&
		(port == "443" && edge.Scheme(r) == "https" || port == "80" && edge.Scheme(r) == "http") {
		if strings.Contains(name, ":") {
			return "[" + name + "]"
		}
		return name
	}
	return host
}

// text and number read a parameter of that type.
func text(p *httpsfv.Params, name string) (string, bool) {
	value, _ := p.Get(name)
	s, ok := value.(string)
	return s, ok
}

func number(p *httpsfv.Params, name string) (int64, bool) {
	value, _ := p.Get(name)
	n, ok := value.(int64)
	return n, ok && n > 0
}
