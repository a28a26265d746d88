package marker

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// marksAt makes marks whose clock stands.
func marksAt(t testing.TB, app *edge.App, now time.Time) *Marks {
	t.Helper()
	m := New(app, life)
	m.now = func() time.Time { return now }
	return m
}

// life of a mark.
const life = 30 * time.Second

var (
	ada = handoff.Identity{Tenant: "acme", Subject: "ada", SubjectIssuer: "https://eu.example", Session: "s-1"}
	now = time.Unix(1_800_000_000, 0)
)

// request is one with its decision, as edge_guard begins it.
func request(method, target string) (*http.Request, *decision.Decision) {
	r := edgetest.Request(method, target, http.Header{})
	d, _ := decision.Begin(httptest.NewRecorder(), r, "r-1", decision.Options{POP: "fra"})
	return r, d
}

// sealedBy is a marker of who's write.
func sealedBy(t testing.TB, m *Marks, who handoff.Identity, position string) string {
	t.Helper()
	sealed, err := m.sealer.Seal(marker{m.now(), m.now().Add(m.life), whoseOf(&who), position}.bytes())
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestMarker_isReadBackByAnyPOPUntilItIsOver(t *testing.T) {
	t.Parallel()
	app := edgetest.App(t)
	here, there := marksAt(t, app, now), marksAt(t, edgetest.App(t), now)
	sealed := sealedBy(t, here, ada, "0/16B3748")
	if len(sealed) > maxMarker || strings.Contains(sealed, "16B3748") || strings.ContainsAny(sealed, "=+/; ,") {
		t.Errorf("%d bytes: %s", len(sealed), sealed)
	}
	for after, want := range map[time.Duration]bool{0: true, life - time.Millisecond: true, life: false, time.Hour: false} {
		there.now = func() time.Time { return now.Add(after) }
		if mark, ok := there.read(sealed, &ada); ok != want || ok && mark != (Mark{"0/16B3748", now}) {
			t.Errorf("after %s: %v, %v", after, mark, ok)
		}
	}
	if again := sealedBy(t, here, ada, "0/16B3748"); again == sealed {
		t.Error("two markers are alike: the nonce is not random")
	}
	longest := sealedBy(t, here, ada, strings.Repeat("x", maxPosition))
	if _, ok := here.read(longest, &ada); !ok {
		t.Errorf("a marker of %d bytes is not read", len(longest))
	}
}

func TestMarker_isThatSessionsAlone(t *testing.T) {
	t.Parallel()
	m := marksAt(t, edgetest.App(t), now)
	sealed := sealedBy(t, m, ada, "0/1")
	for name, change := range map[string]func(*handoff.Identity){
		"another tenant":        func(i *handoff.Identity) { i.Tenant = "globex" },
		"another session":       func(i *handoff.Identity) { i.Session = "s-2" },
		"another issuer":        func(i *handoff.Identity) { i.SubjectIssuer = "https://us.example" },
		"the same text, parted": func(i *handoff.Identity) { i.SubjectIssuer, i.Session = "https://eu.examples-", "1" },
		"nothing left over":     func(i *handoff.Identity) { i.Session = "" },
	} {
		who := ada
		change(&who)
		if mark, ok := m.read(sealed, &who); ok || mark != (Mark{}) {
			t.Errorf("%s reads it: %v", name, mark)
		}
	}
	renewed := ada
	renewed.Roles = []string{"approver"} // a renewal keeps the session
	if _, ok := m.read(sealed, &renewed); !ok {
		t.Error("it is lost at a renewal")
	}
	nobody := handoff.Identity{}
	if mark, ok := m.read(sealed, &nobody); !ok || mark != (Mark{At: now}) {
		t.Errorf("where no session is looked at: %v, %v", mark, ok)
	}
}

func TestMarker_forgeriesArePassedOver(t *testing.T) {
	t.Parallel()
	app := edgetest.App(t)
	m := marksAt(t, app, now)
	sealed := sealedBy(t, m, ada, "0/16B3748")
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw { // each byte of nonce, text and tag counts
		forged := bytes.Clone(raw)
		forged[i] ^= 1
		if _, ok := m.read(base64.RawURLEncoding.EncodeToString(forged), &ada); ok {
			t.Errorf("byte %d can be changed", i)
		}
	}
	for n := range raw {
		if _, ok := m.read(base64.RawURLEncoding.EncodeToString(raw[:n]), &ada); ok {
			t.Errorf("the first %d bytes are enough", n)
		}
	}
	other, err := app.Sealer("another purpose").Seal(marker{now, now.Add(time.Hour), whoseOf(&ada), "0/1"}.bytes())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := app.SignCookie(markerPurpose, "x")
	if err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string]string{
		"nothing": "", "plain": "0/16B3748", "sealed for another purpose": other, "a signed cookie": signed,
		"padded": sealed + "=", "more": sealed + "AAAA", "upper case": strings.ToUpper(sealed), "long": strings.Repeat("A", 1<<20),
		"plain bytes": base64.RawURLEncoding.EncodeToString(marker{now, now.Add(time.Hour), whoseOf(&ada), "0/1"}.bytes()),
	} {
		if mark, ok := m.read(sent, &ada); ok || mark != (Mark{}) {
			t.Errorf("%s: %v", name, mark)
		}
	}
	// What POPs sealed and this one does not understand: another version, a position
	// that is none.
	for name, plain := range map[string][]byte{
		"version 1":  append([]byte{1}, marker{now, now.Add(time.Hour), whoseOf(&ada), "0/1"}.bytes()[1:]...),
		"short":      {markerVersion},
		"empty":      {},
		"a position": marker{now, now.Add(time.Hour), whoseOf(&ada), "0/1\r\nX: y"}.bytes(),
		"a long one": marker{now, now.Add(time.Hour), whoseOf(&ada), strings.Repeat("x", maxPosition+1)}.bytes(),
	} {
		sealed, err := m.sealer.Seal(plain)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.read(sealed, &ada); ok {
			t.Errorf("%s is read", name)
		}
	}
}

// The cookie is for cookie sessions, the header for bearer tokens: a page of another
// site that can set neither must not choose for the other.
func TestMarker_whereItIsLookedFor(t *testing.T) {
	t.Parallel()
	m := marksAt(t, edgetest.App(t), now)
	host := marksAt(t, edgetest.App(t), now)
	host.host = true
	good, others := sealedBy(t, m, ada, "0/1"), sealedBy(t, m, handoff.Identity{Tenant: "globex", SubjectIssuer: "i", Session: "s"}, "0/9")
	for _, row := range []struct {
		name    string
		m       *Marks
		auth    decision.Auth
		header  string
		cookies []string
		want    bool
		at      string
	}{
		{"a cookie", m, decision.AuthSession, "", []string{"a=b; edge_wrote=" + good}, true, "0/1"},
		{"a cookie on a second line", m, decision.AuthSession, "", []string{"a=b", "c=d;edge_wrote=" + good + ";e"}, true, "0/1"},
		{"a cookie of nobody's", m, decision.AuthNone, "", []string{"edge_wrote=" + good}, true, ""},
		{"two, one of them another's", m, decision.AuthSession, "", []string{"edge_wrote=" + others + "; edge_wrote=" + good}, true, "0/1"},
		{"behind three of another's", m, decision.AuthSession, "", []string{strings.Repeat("edge_wrote="+others+"; ", 3) + "edge_wrote=" + good}, true, "0/1"},
		{"behind so many that nobody looks", m, decision.AuthSession, "", []string{strings.Repeat("edge_wrote="+others+"; ", maxMarkers) + "edge_wrote=" + good}, false, ""},
		{"another's", m, decision.AuthSession, "", []string{"edge_wrote=" + others}, false, ""},
		{"another case", m, decision.AuthSession, "", []string{"Edge_Wrote=" + good}, false, ""},
		{"another name", m, decision.AuthSession, "", []string{"xedge_wrote=" + good + "; edge_wrote2=" + good}, false, ""},
		{"in quotes", m, decision.AuthSession, "", []string{`edge_wrote="` + good + `"`}, false, ""},
		{"the name alone", m, decision.AuthSession, "", []string{"edge_wrote"}, false, ""},
		{"a header with a cookie's session", m, decision.AuthSession, good, nil, false, ""},
		{"a header with nobody's", m, decision.AuthNone, good, nil, false, ""},
		{"a header with a bearer token's", m, decision.AuthBearer, good, nil, true, "0/1"},
		{"a cookie with a bearer token's", m, decision.AuthBearer, "", []string{"edge_wrote=" + good}, false, ""},
		{"the plain name where https is a must", host, decision.AuthSession, "", []string{"edge_wrote=" + good}, false, ""},
		{"the host's name", host, decision.AuthSession, "", []string{"__Host-edge_wrote=" + good}, true, "0/1"},
		{"the host's name over plain HTTP", m, decision.AuthSession, "", []string{"__Host-edge_wrote=" + good}, false, ""},
		{"none are made", nil, decision.AuthSession, good, []string{"edge_wrote=" + good}, false, ""},
	} {
		r, d := request("GET", "/")
		r.Header["Cookie"] = row.cookies
		d.Auth, d.SentMarker = row.auth, row.header
		if row.auth != decision.AuthNone {
			d.Identity = ada
		}
		if mark, ok := row.m.Recent(r, d); ok != row.want || mark.Position != row.at || ok && !mark.At.Equal(now) {
			t.Errorf("%s: %v, %v", row.name, mark, ok)
		}
	}
}

func TestMarker_withoutASessionNoneIsMade(t *testing.T) {
	t.Parallel()
	m := marksAt(t, edgetest.App(t), now)
	for name, who := range map[string]handoff.Identity{"nobody": {}, "no session": {Tenant: "acme", Subject: "ada", SubjectIssuer: "i"}} {
		_, d := request("POST", "/")
		d.Identity, d.Auth = who, decision.AuthBearer
		h := http.Header{}
		m.Keep(d, false, h, "0/1")
		if len(h) != 0 {
			t.Errorf("%s: %v", name, h)
		}
	}
}

// FuzzMarker: what is sealed is read back; what is not is never believed; and what
// is sealed and is no marker is none.
func FuzzMarker(f *testing.F) {
	m := marksAt(f, edgetest.App(f), now)
	good := sealedBy(f, m, ada, "0/16B3748")
	for _, seed := range []string{"", good, good[1:], good + "A", "0/16B3748", strings.Repeat("A", 64), strings.Repeat("A", 300), "é", "=", "A\nA"} {
		f.Add(seed, []byte(seed))
	}
	f.Add("x", marker{now, now.Add(time.Minute), whoseOf(&ada), "0/1"}.bytes())
	f.Add("x", marker{now, now, whoseOf(&ada), ""}.bytes())
	f.Fuzz(func(t *testing.T, sent string, plain []byte) {
		// Another process that fuzzes has sealed its own, under the same secret.
		opened, sealedHere := m.sealer.Open(sent)
		written, isMark := parseMarker(opened)
		if mark, ok := m.read(sent, &ada); ok && !(sealedHere && isMark && written.whose == whoseOf(&ada)) || mark != (Mark{}) && !ok {
			t.Fatalf("%q is believed", sent)
		}
		said, ok := parseMarker(plain)
		if ok && !bytes.Equal(said.bytes(), plain) {
			t.Fatalf("%x is read as %+v", plain, said)
		}
		sealed, err := m.sealer.Seal(plain)
		if err != nil {
			t.Fatal(err)
		}
		if _, opens := m.sealer.Open(sealed[1:]); opens {
			t.Fatal("a part of what was sealed opens")
		}
		mark, read := m.read(sealed, &ada)
		want := ok && len(sealed) <= maxMarker && said.whose == whoseOf(&ada) && now.Before(said.ends)
		if read != want || read && mark != (Mark{said.position, said.made}) {
			t.Fatalf("%x: %v, %v", plain, mark, read)
		}
	})
}

func BenchmarkMarker(b *testing.B) {
	m := marksAt(b, edgetest.App(b), now)
	good := sealedBy(b, m, ada, "0/16B3748")
	for name, cookie := range map[string]string{"none": "theme=dark; lang=en; session=x", "one": "theme=dark; edge_wrote=" + good} {
		b.Run(name, func(b *testing.B) {
			r, d := request("GET", "/")
			r.Header["Cookie"] = []string{cookie}
			d.Identity, d.Auth = ada, decision.AuthSession
			b.ReportAllocs()
			for b.Loop() {
				m.Recent(r, d)
			}
		})
	}
}
