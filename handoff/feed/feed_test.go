package feed_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

var now = time.Unix(1_800_000_000, 0)

// drawMessages makes messages about few names, so that they meet.
func drawMessages(t *rapid.T) []feed.Message {
	few := rapid.SampledFrom([]string{"a", "b", "c"})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) feed.Message {
		at := now.Unix() + rapid.Int64Range(-5, 5).Draw(t, "at")
		r := feed.Revocation{At: at, Expires: at + rapid.Int64Range(1, 100).Draw(t, "life")}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			r.Issuer, r.Session = few.Draw(t, "iss"), few.Draw(t, "sid")
		case 1:
			r.Issuer, r.Subject = "a", few.Draw(t, "sub")
			r.Except = rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "except")
		case 2:
			r.Tenant = few.Draw(t, "tenant")
		default:
			return feed.Heartbeat{Region: "eu", At: time.Unix(at, 0)}
		}
		return r
	}), 0, 12).Draw(t, "messages")
}

func apply(t interface{ Fatal(...any) }, messages []feed.Message) *feed.State {
	s := feed.NewState(feed.Limits{})
	for _, m := range messages {
		if _, err := s.Apply("eu", m, now); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func document(t interface{ Fatal(...any) }, s *feed.State) string {
	var kept struct {
		Revocations []feed.Revocation    `json:"revocations"`
		Heard       map[string]time.Time `json:"heard"`
	}
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for _, r := range kept.Revocations {
		set[feed.ID(r)] = true
	}
	text, err = json.Marshal(map[string]any{"set": set, "heard": kept.Heard}, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestState_orderAndRepetitionDoNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		messages := drawMessages(t)
		other := rapid.Permutation(append(messages, messages[:rapid.IntRange(0, len(messages)).Draw(t, "repeated")]...)).Draw(t, "order")
		if a, b := document(t, apply(t, messages)), document(t, apply(t, other)); a != b {
			t.Fatalf("%s\nin another order\n%s", a, b)
		}
	})
}

// What the state answers is what looking at every message would answer.
func TestState_refusesWhatAnyMessageEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		messages := drawMessages(t)
		s := apply(t, messages)
		few := rapid.SampledFrom([]string{"a", "b", "c"})
		asked := feed.Session{
			Issuer: few.Draw(t, "iss"), ID: few.Draw(t, "sid"), Subject: few.Draw(t, "sub"), Tenant: few.Draw(t, "tenant"),
			AuthTime: now.Unix() + rapid.Int64Range(-6, 6).Draw(t, "auth_time"),
		}
		want := false
		for _, m := range messages {
			r, ok := m.(feed.Revocation)
			if !ok || r.Expires <= now.Unix() {
				continue
			}
			switch {
			case r.Session != "":
				want = want || r.Issuer == asked.Issuer && r.Session == asked.ID
			case r.Subject != "":
				want = want || r.Issuer == asked.Issuer && r.Subject == asked.Subject && asked.AuthTime <= r.At && r.Except != asked.ID
			default:
				want = want || r.Tenant == asked.Tenant && asked.AuthTime <= r.At
			}
		}
		if got := s.Revoked(&asked); got != want {
			t.Fatalf("%+v revoked: %v, want %v", asked, got, want)
		}
		kept := feed.NewState(feed.Limits{})
		text, err := json.Marshal(s)
		if err == nil {
			err = json.Unmarshal(text, kept)
		}
		if err != nil || kept.Revoked(&asked) != want || !kept.Heard("eu").Equal(s.Heard("eu")) {
			t.Fatalf("the snapshot answers otherwise: %v\n%s", err, text)
		}
	})
}

func TestState_whatExpiresIsForgotten(t *testing.T) {
	t.Parallel()
	s := feed.NewState(feed.Limits{})
	for _, r := range []feed.Revocation{
		{Issuer: "i", Session: "s", At: 1, Expires: now.Unix() + 10},
		{Issuer: "i", Subject: "u", At: 1, Expires: now.Unix() + 10},
		{Tenant: "t", At: 1, Expires: now.Unix() + 10},
		{Issuer: "i", Session: "over", At: 1, Expires: now.Unix()},
	} {
		if _, err := s.Apply("eu", r, now); err != nil {
			t.Fatal(err)
		}
	}
	if s.Len() != 3 {
		t.Errorf("%d entries, want 3: one has expired", s.Len())
	}
	s.Expire(now.Add(10 * time.Second))
	if s.Len() != 0 {
		t.Errorf("%d entries are left", s.Len())
	}
}

func TestState_fullForgetsNothing(t *testing.T) {
	t.Parallel()
	s := feed.NewState(feed.Limits{Revocations: 1})
	r := feed.Revocation{Issuer: "i", Session: "s", At: 1, Expires: now.Unix() + 10}
	if changed, err := s.Apply("eu", r, now); err != nil || !changed {
		t.Fatal(changed, err)
	}
	other := r
	other.Session = "other"
	if _, err := s.Apply("eu", other, now); !errors.Is(err, feed.ErrFull) {
		t.Errorf("%v, want %v", err, feed.ErrFull)
	}
	if changed, err := s.Apply("eu", r, now); err != nil || changed {
		t.Errorf("the same again: %v, %v", changed, err)
	}
	if !s.Revoked(&feed.Session{Issuer: "i", ID: "s"}) {
		t.Error("a full table forgot what it had")
	}
}

// A heartbeat of a clock that goes ahead would hide for so long that its region is
// cut off.
func TestState_aHeartbeatOfTheFutureIsOneOfNow(t *testing.T) {
	t.Parallel()
	s := feed.NewState(feed.Limits{})
	if _, err := s.Apply("eu", feed.Heartbeat{Region: "eu", At: now.Add(time.Hour)}, now); err != nil || !s.Heard("eu").Equal(now) {
		t.Errorf("heard %s, %v; want %s", s.Heard("eu"), err, now)
	}
}

func TestParse_readsWhatEncodeWrites(t *testing.T) {
	t.Parallel()
	for _, m := range []feed.Message{
		feed.Heartbeat{Region: "eu", At: now.UTC()},
		feed.Revocation{Issuer: "gatehouse:eu", Session: "s", At: 1, Expires: 2},
		feed.Revocation{Issuer: "gatehouse:eu", Subject: "u", Except: "s", At: 1, Expires: 2},
		feed.Revocation{Tenant: "acme", At: 1, Expires: 2},
	} {
		subject, text, err := feed.Encode("eu", m)
		if err != nil || !strings.HasPrefix(subject, "eu.gatehouse.") {
			t.Fatal(subject, err)
		}
		if region, got, err := feed.Parse(subject, text); err != nil || region != "eu" || got != m {
			t.Errorf("%s %s: %s %+v %v", subject, text, region, got, err)
		}
	}
}

func TestParse_refuses(t *testing.T) {
	t.Parallel()
	good := feed.Revocation{Issuer: "i", Session: "s", At: 1, Expires: 2}
	subject, text, err := feed.Encode("eu", good)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		subject, document string
		want              error
	}{
		"a later kind":                {"eu.gatehouse.promoted.acme", `{}`, feed.ErrUnknownKind},
		"another's subject":           {subject + "x", string(text), feed.ErrMalformed},
		"no region":                   {".gatehouse.heartbeat", `{}`, feed.ErrMalformed},
		"an unknown member":           {subject, `{"iss":"i","sid":"s","at":1,"exp":2,"x":1}`, feed.ErrMalformed},
		"a member twice":              {subject, `{"iss":"i","sid":"s","at":1,"at":1,"exp":2}`, feed.ErrMalformed},
		"a member in another case":    {subject, `{"ISS":"i","sid":"s","at":1,"exp":2}`, feed.ErrMalformed},
		"session and user":            {subject, `{"iss":"i","sid":"s","sub":"u","at":1,"exp":2}`, feed.ErrMalformed},
		"no issuer":                   {subject, `{"sid":"s","at":1,"exp":2}`, feed.ErrMalformed},
		"a tenant with an issuer":     {subject, `{"iss":"i","tenant":"acme","at":1,"exp":2}`, feed.ErrMalformed},
		"a session with an exemption": {subject, `{"iss":"i","sid":"s","except":"s","at":1,"exp":2}`, feed.ErrMalformed},
		"for ever":                    {subject, `{"iss":"i","sid":"s","at":1,"exp":99999999999}`, feed.ErrMalformed},
		"too long":                    {subject, `{"iss":"` + strings.Repeat("i", feed.MaxBytes) + `","sid":"s","at":1,"exp":2}`, feed.ErrMalformed},
		"a heartbeat of another":      {"us.gatehouse.heartbeat", `{"region":"eu","at":"2027-01-01T00:00:00Z"}`, feed.ErrMalformed},
		"what follows":                {subject, string(text) + "{}", feed.ErrMalformed},
	} {
		if _, m, err := feed.Parse(row.subject, []byte(row.document)); !errors.Is(err, row.want) {
			t.Errorf("%s: %+v, %v; want %v", name, m, err, row.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("eu.gatehouse.heartbeat", []byte(`{"region":"eu","at":"2027-01-01T00:00:00Z"}`))
	f.Add("eu.gatehouse.revoked.session.x", []byte(`{"iss":"i","sid":"s","at":1,"exp":2}`))
	f.Fuzz(func(t *testing.T, subject string, text []byte) {
		region, m, err := feed.Parse(subject, text)
		if err != nil {
			return
		}
		again, document, err := feed.Encode(region, m)
		if err != nil || again != subject {
			t.Fatalf("%q was read from %q, and is written to %q: %v\n%s", m, subject, again, err, document)
		}
	})
}

func BenchmarkState(b *testing.B) {
	s := feed.NewState(feed.Limits{})
	exp := time.Now().Add(time.Hour).Unix()
	for i := range 100_000 {
		id := "5f0b9a3e-0000-4000-8000-" + string(rune('a'+i%26)) + time.Unix(int64(i), 0).UTC().Format("150405")
		for _, r := range []feed.Revocation{
			{Issuer: "gatehouse:eu", Session: id, At: 1, Expires: exp},
			{Issuer: "gatehouse:eu", Subject: id, At: 1, Expires: exp},
		} {
			if _, err := s.Apply("eu", r, now); err != nil {
				b.Fatal(err)
			}
		}
	}
	if _, err := s.Apply("eu", feed.Revocation{Tenant: "gone", At: 1, Expires: exp}, now); err != nil {
		b.Fatal(err)
	}
	asked := feed.Session{
		Issuer: "gatehouse:eu", ID: "5f0b9a3e-1c7e-4f0e-9d5c-0e6c3b1f2a4d", Subject: "0e6c3b1f-1c7e-4f0e-9d5c-5f0b9a3e2a4d",
		Tenant: "acme", AuthTime: now.Unix(),
	}
	b.ReportAllocs()
	for b.Loop() {
		if s.Revoked(&asked) {
			b.Fatal("revoked")
		}
	}
}
