package caddymodule_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

const (
	googlebot = "User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)\n"
	gptbot    = "User-Agent: Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)\n"
)

// TestCaddy_botsAreTagged asks a real Caddy, behind a proxy that it trusts and past
// it: the placeholders, the matcher, the log, the metric, and a file that changes.
func TestCaddy_botsAreTagged(t *testing.T) {
	dir := t.TempDir()
	log, ranges := filepath.Join(dir, "access.log"), filepath.Join(dir, "googlebot.json")
	put(t, ranges, `{"prefixes":[{"ipv4Prefix":"192.0.2.0/24"}]}`)
	s, _ := newSite(t, `log {
		output file `+log+`
	}
	edge_guard
	edge_bot
	metrics /metrics
	@proven edge_bot search {
		verified
	}
	header @proven X-Proven yes
	@odd edge_bot {
		min_score 80
	}
	header @odd X-Odd yes
	respond / "{edge.bot.class} {edge.bot.score} {edge.bot.reason} [{edge.bot.verified}]"`)
	s.issuer += "\n\t\tbots {\n\t\t\tagent googlebot {\n\t\t\t\tranges " + ranges + "\n\t\t\t}\n\t\t}"
	behind := s
	behind.globals = "servers {\n\t\ttrusted_proxies static 127.0.0.0/8\n\t}"
	config := behind.String()
	address := edgetest.Run(t, config)
	ask := func(headers string) edgetest.Answer {
		return edgetest.Raw(t, address, "GET / HTTP/1.1\nHost: pop.example\n"+headers+"\n")
	}
	proven, impostor := "search 0 address [googlebot]", "impostor 100 address_not_published []"
	for _, row := range []struct{ headers, want, proven, odd string }{
		{googlebot + "X-Forwarded-For: 192.0.2.7\n", proven, "yes", ""},
		{googlebot + "X-Forwarded-For: 198.51.100.7\n", impostor, "", "yes"},
		{googlebot, impostor, "", "yes"},
		{googlebot + "X-Forwarded-For: 198.51.100.7\nForwarded: for=192.0.2.7\nX-Real-Ip: 192.0.2.7\nX-Edge-Bot: googlebot\nX-Edge-Verified: googlebot\nX-Edge-Assertion: x\n", impostor, "", "yes"},
		{gptbot + "X-Forwarded-For: 192.0.2.7\n", "ai_crawler 35 user_agent:gptbot []", "", ""},
		{"User-Agent: a\nUser-Agent: b\n", "unknown 80 user_agent:several []", "", "yes"},
		{"User-Agent: " + strings.Repeat("Googlebot ", 800) + "\nX-Forwarded-For: 192.0.2.7\n", "unknown 80 user_agent:oversize []", "", "yes"},
	} {
		if a := ask(row.headers); a.Body != row.want || a.Header.Get("X-Proven") != row.proven || a.Header.Get("X-Odd") != row.odd {
			t.Errorf("%.80q: %d %q %v, want %q", row.headers, a.StatusCode, a.Body, a.Header, row.want)
		}
	}
	lines := waitFor(t, log, 2)
	for i, want := range []string{`"bot_verified":"googlebot"`, `"bot_class":"impostor","bot_name":"googlebot","bot_reason":"address_not_published"`} {
		if !strings.Contains(lines[i], want) || strings.Contains(lines[i], "bot_action") || !strings.Contains(lines[i], `"bot_score":`+[]string{"0", "100"}[i]) {
			t.Errorf("line %d: %s", i, lines[i])
		}
	}
	metrics := func() string { return edgetest.Raw(t, address, "GET /metrics HTTP/1.1\nHost: pop.example\n\n").Body }
	metric := func(want string) bool { return strings.Contains(metrics(), want+"\n") }
	proofs := func() string {
		_, after, _ := strings.Cut(metrics(), handoff.MetricBots+`{action="",agent="googlebot",class="search"} `)
		count, _, _ := strings.Cut(after, "\n")
		return count
	}
	before := proofs()
	ask(googlebot + "X-Forwarded-For: 192.0.2.7\n")
	if after := proofs(); before == "" || after == before {
		t.Errorf("the metric does not count: %q, then %q", before, after)
	}
	stale := handoff.MetricFileStale + `{file="` + ranges + `"} `
	from := func(network string) string { return ask(googlebot + "X-Forwarded-For: " + network + "\n").Body }
	put(t, ranges, "198.51.100.0/24 # moved")
	eventually(t, "the change of the file", func() bool { return from("198.51.100.7") == proven && from("192.0.2.7") == impostor })
	put(t, ranges, "198.51.100.0/24\nhalf a li")
	eventually(t, "the metric of a bad file", func() bool { return metric(stale + "1") })
	for range 2 {
		if from("198.51.100.7") != proven {
			t.Error("the last good file does not answer")
		}
		if err := edgetest.Load(strings.Replace(config, "respond", "header X-Reloaded yes\n\trespond", 1)); err != nil {
			t.Fatalf("a reload of the config while the file is bad: %v", err)
		}
		address = edgetest.Address(t)
	}
	put(t, ranges, "203.0.113.0/24")
	eventually(t, "the good file", func() bool { return metric(stale+"0") && from("203.0.113.7") == proven })

	// Nobody is trusted: what a client says of its address is not asked.
	untrusted := edgetest.Run(t, s.String())
	if a := edgetest.Raw(t, untrusted, "GET / HTTP/1.1\nHost: pop.example\n"+googlebot+"X-Forwarded-For: 203.0.113.7\n\n"); a.Body != impostor {
		t.Errorf("a client that lies about its address: %q", a.Body)
	}
}

// TestCaddy_botsAreRefusedOnlyWithoutASession asks routes with a session check, an
// optional one and none.
func TestCaddy_botsAreRefusedOnlyWithoutASession(t *testing.T) {
	log := filepath.Join(t.TempDir(), "access.log")
	for _, mode := range []string{"enforce", "shadow"} {
		s, token := newSite(t, `log {
		output file `+log+`
	}
	edge_guard
	edge_bot {
		refuse ai_crawler tool
		`+mode+`
	}
	handle /app {
		edge_session
		respond app
	}
	handle /shop {
		edge_session {
			optional
		}
		respond shop
	}
	handle {
		respond open
	}`)
		address := edgetest.Run(t, s.String())
		refused := 403
		if mode == "shadow" {
			refused = 200
		}
		app := 401 // for shadow: what edge_session says
		if mode == "enforce" {
			app = 403
		}
		bearer, cookie := "Authorization: Bearer "+token+"\n", "Cookie: session="+token+"\n"
		forged := "Cookie: session=" + token[:len(token)-4] + "AAAA\n"
		curl := "User-Agent: curl/8.11.0\nAccept: */*\n"
		for _, row := range []struct {
			path, headers string
			status        int
		}{
			{"/app", gptbot, app}, {"/app", gptbot + bearer, 200}, {"/app", gptbot + cookie, 200}, {"/app", gptbot + forged, 401},
			{"/shop", gptbot, refused}, {"/shop", gptbot + bearer, 200}, {"/shop", gptbot + cookie, 200}, {"/shop", gptbot + forged, refused},
			{"/", gptbot, refused}, {"/", gptbot + cookie, 200}, {"/", gptbot + "Cookie: session=\n", 200}, {"/", gptbot + "Cookie: xsession=1\n", refused},
			{"/", curl, 200}, {"/shop", curl, 200}, {"/app", curl, 401}, {"/", "User-Agent: curl/8.11.0\nAccept: text/html\n", refused},
			{"/", "User-Agent: git/2.47.0\n", 200}, {"/", "User-Agent: Mozilla/5.0 Firefox/133.0\nAccept: text/html\n", 200},
		} {
			a := edgetest.Raw(t, address, "GET "+row.path+" HTTP/1.1\nHost: pop.example\n"+row.headers+"\n")
			if a.StatusCode != row.status {
				t.Errorf("%s: %s %.60q: %d, want %d", mode, row.path, row.headers, a.StatusCode, row.status)
			}
			if row.status == 403 && (!strings.Contains(a.Body, "bot-refused") || a.Header.Get("Cache-Control") != "no-store") {
				t.Errorf("%s: %s %.60q: %v %s", mode, row.path, row.headers, a.Header, a.Body)
			}
		}
	}
	lines := waitFor(t, log, 36)
	for i, want := range map[int]string{
		0: "refused", 1: "signed_in", 3: "left_to_other", 7: "refused", 9: "unsettled", 12: "not_a_page", 16: "", 17: "",
		18: "would_refuse", 19: "signed_in", 21: "left_to_other", 25: "would_refuse", 27: "unsettled",
	} {
		if got := strings.Contains(lines[i], `"bot_action":"`+want+`"`); got != (want != "") || want == "" && strings.Contains(lines[i], "bot_action") {
			t.Errorf("line %d, want %q: %s", i, want, lines[i])
		}
	}
}

// TestCaddy_signedAgents asks with Web Bot Auth signatures, over a reload.
func TestCaddy_signedAgents(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	keys := edgetest.Write(t, "keys.json", []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"`+x+`"}]}`))
	s, _ := newSite(t, `edge_guard
	edge_bot
	respond "{edge.bot.class} {edge.bot.reason} [{edge.bot.verified}]"`)
	s.issuer += "\n\t\tbots {\n\t\t\tauthority pop.example\n\t\t\tagent shopper {\n\t\t\t\tclass ai_agent\n\t\t\t\tsignature_agent https://shopper.example\n\t\t\t\tkeys " + keys + "\n\t\t\t}\n\t\t}"
	address := edgetest.Run(t, s.String())
	sign := func(nonce string) string {
		now := time.Now().Unix()
		input := fmt.Sprintf(`("@authority" "@method" "@path" "signature-agent";key="s");created=%d;expires=%d;keyid=%q;nonce=%q;tag="web-bot-auth"`, now, now+60, thumbprint(x), nonce)
		base := "\"@authority\": pop.example\n\"@method\": GET\n\"@path\": /a\n\"signature-agent\";key=\"s\": \"https://shopper.example\"\n\"@signature-params\": " + input
		return "Signature-Input: s=" + input + "\nSignature: s=:" + base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(base))) + ":\nSignature-Agent: s=\"https://shopper.example\"\n"
	}
	ask := func(path, host, headers string) string {
		return edgetest.Raw(t, address, "GET "+path+" HTTP/1.1\nHost: "+host+"\nUser-Agent: Mozilla/5.0 Chrome/131.0\nAccept-Language: en\n"+headers+"\n").Body
	}
	const proven = "ai_agent signature [shopper]"
	first := sign("n1")
	for _, row := range []struct{ path, host, headers, want string }{
		{"/a", "pop.example", first, proven},
		{"/a", "pop.example", first, "impostor signature_replayed []"},
		{"/b", "pop.example", sign("n2"), "impostor signature_mismatch []"},
		{"/a", "evil.example", sign("n3"), "browser signature_authority []"},
		{"/a", "POP.example:80", sign("n4"), proven},
		{"/a", "pop.example", strings.Replace(sign("n5"), "Signature-Input", "signature-input", 1) + "Connection: close, Signature\n", proven},
		{"/a", "pop.example", "", "browser user_agent:browser []"},
	} {
		if got := ask(row.path, row.host, row.headers); got != row.want {
			t.Errorf("%s%s: %q, want %q", row.host, row.path, got, row.want)
		}
	}
	for _, config := range []string{s.String(), strings.Replace(s.String(), "agent shopper", "agent other {\nranges "+edgetest.Write(t, "ranges", []byte("192.0.2.0/24"))+"\n}\nagent shopper", 1)} {
		if err := edgetest.Load(config); err != nil {
			t.Fatal(err)
		}
		address = edgetest.Address(t)
		if got := ask("/a", "pop.example", first); got != "impostor signature_replayed []" {
			t.Errorf("after a reload: %q", got)
		}
	}
}

// thumbprint names an Ed25519 key (RFC 8037, appendix A.3).
func thumbprint(x string) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
