package feed_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// spoken is a message and who publishes it.
type spoken struct {
	region  string
	message feed.Message
}

// drawStates makes messages about few things, so that they meet, alike or not.
func drawStates(t *rapid.T) []spoken {
	few := rapid.SampledFrom([]string{"a", "b"})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) spoken {
		seq := feed.Sequence(rapid.Int64Range(1, 6).Draw(t, "seq"))
		exp := now.Unix() + rapid.Int64Range(1, 100).Draw(t, "exp")
		gone := rapid.Bool().Draw(t, "gone")
		var m feed.Message
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			m = feed.Tenant{Tenant: few.Draw(t, "tenant"), Home: few.Draw(t, "home"), State: feed.Active, Epoch: int64(seq)}
		case 1:
			d := feed.Definition{Sequence: seq, Kind: feed.Flags, Name: few.Draw(t, "name"), Body: jsontext.Value(fmt.Sprintf(`{"flags":[{"key":"k%d"}]}`, rapid.IntRange(0, 1).Draw(t, "body")))}
			if gone {
				d.Body, d.Expires = nil, exp
			}
			m = d
		case 2:
			v := feed.KV{Sequence: seq, Bucket: "b", Tenant: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "of"), Key: few.Draw(t, "key"), Value: few.Draw(t, "value")}
			if gone {
				v.Value, v.Expires = "", exp
			}
			m = v
		default:
			m = rapid.SampledFrom([]feed.Purge{
				{Group: "g"}, {Group: "*"}, {URL: "/a"}, {Prefix: "/a"}, {Group: "g", Soft: true}, {Group: "*", Soft: true},
			}).Draw(t, "purge")
			p := m.(feed.Purge)
			p.Sequence, p.Tenant, p.Expires = seq, few.Draw(t, "tenant"), exp
			m = p
		}
		return spoken{few.Draw(t, "region"), m}
	}), 0, 16).Draw(t, "states")
}

func hear(t interface{ Fatal(...any) }, s *feed.State, all []spoken) *feed.State {
	for _, one := range all {
		if _, err := s.Apply(one.region, one.message, now); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// answers is all that a state says to who asks.
func answers(s *feed.State) string {
	var b strings.Builder
	for _, name := range []string{"a", "b"} {
		home, known := s.Home(name)
		fmt.Fprintln(&b, home, known, string(s.Definition(feed.Flags, name)))
		for _, tenant := range []string{"", "a", "b"} {
			value, ok := s.Value("b", tenant, name)
			fmt.Fprintln(&b, value, ok, s.Purged(tenant, "g"), s.Purged(tenant, "h"))
		}
	}
	var purges []string
	s.Purges(func(p feed.Purge) {
		p.Expires = 0 // of two with one sequence, which no region says, either stands
		purges = append(purges, fmt.Sprintf("%+v", p))
	})
	slices.Sort(purges)
	return b.String() + strings.Join(purges, "\n")
}

func TestTables_orderAndRepetitionDoNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawStates(t)
		other := rapid.Permutation(append(all, all[:rapid.IntRange(0, len(all)).Draw(t, "repeated")]...)).Draw(t, "order")
		a, b := hear(t, feed.NewState(feed.Limits{}), all), hear(t, feed.NewState(feed.Limits{}), other)
		if answers(a) != answers(b) {
			t.Fatalf("%s\nin another order\n%s", answers(a), answers(b))
		}
	})
}

// However often everything is kept and read back, and whatever is heard twice
// because of it, the answers are those of a state that lived on.
func TestTables_aSnapshotAndTheTailAreTheWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawStates(t)
		lived := hear(t, feed.NewState(feed.Limits{}), all)
		cut := rapid.IntRange(0, len(all)).Draw(t, "cut")
		again := rapid.IntRange(0, cut).Draw(t, "position kept")
		text, err := json.Marshal(hear(t, feed.NewState(feed.Limits{}), all[:cut]))
		if err != nil {
			t.Fatal(err)
		}
		crashed := feed.NewState(feed.Limits{})
		if err := json.Unmarshal(text, crashed); err != nil {
			t.Fatal(err)
		}
		hear(t, crashed, all[again:])
		if answers(lived) != answers(crashed) {
			t.Fatalf("%s\nafter a crash\n%s\n%s", answers(lived), answers(crashed), text)
		}
	})
}

// The latest of each thing, worked out anew from all messages.
func TestTables_theLatestStands(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawStates(t)
		s := hear(t, feed.NewState(feed.Limits{}), all)
		latest := int64(0)
		var homes []string
		purged := feed.Sequence(0)
		for _, one := range all {
			switch m := one.message.(type) {
			case feed.Tenant:
				if m.Tenant == "a" && m.Epoch > latest {
					latest, homes = m.Epoch, nil
				}
				if m.Tenant == "a" && m.Epoch == latest {
					homes = append(homes, m.Home)
				}
			case feed.Purge:
				if m.Tenant == "a" && m.Group != "" && !m.Soft { // a soft one, or a URL's, is of less
					purged = max(purged, m.Sequence)
				}
			}
		}
		got, known := s.Home("a")
		if known != (latest > 0) || got.Epoch != latest || known && !strings.Contains(strings.Join(homes, " "), got.Home) {
			t.Errorf("a is at home at %+v, %v; want one of %q at epoch %d", got, known, homes, latest)
		}
		if got := s.Purged("a", "g"); got != purged {
			t.Errorf("purged up to %d, want %d", got, purged)
		}
	})
}

func TestValue_isTheTenantsOwnOrEverybodys(t *testing.T) {
	t.Parallel()
	s := feed.NewState(feed.Limits{})
	hear(t, s, []spoken{
		{"eu", feed.KV{Sequence: 1, Bucket: "greetings", Tenant: "acme", Key: "hello", Value: "acme's"}},
		{"eu", feed.KV{Sequence: 1, Bucket: "greetings", Key: "hello", Value: "everybody's"}},
		{"eu", feed.KV{Sequence: 1, Bucket: "greetings", Tenant: "acme", Key: "secret", Value: "acme's alone"}},
	})
	for _, row := range []struct{ bucket, tenant, key, want string }{
		{"greetings", "acme", "hello", "acme's"},
		{"greetings", "globex", "hello", "everybody's"},
		{"greetings", "", "hello", "everybody's"},
		{"greetings", "acme", "secret", "acme's alone"},
		{"greetings", "globex", "secret", ""},
		{"greetings", "", "secret", ""},
		{"other", "acme", "hello", ""},
		{"greetings", "acme", "other", ""},
	} {
		if got, ok := s.Value(row.bucket, row.tenant, row.key); got != row.want || ok != (row.want != "") {
			t.Errorf("%+v: %q, %v", row, got, ok)
		}
	}
	hear(t, s, []spoken{{"eu", feed.KV{Sequence: 2, Bucket: "greetings", Tenant: "acme", Key: "hello", Expires: now.Unix() + 10}}})
	if got, _ := s.Value("greetings", "acme", "hello"); got != "everybody's" {
		t.Errorf("the tenant's own is gone, and the answer %q", got)
	}
}

// A reading of everything ends with each region's heartbeat: what that region did
// not say again is gone, and nothing of another's.
func TestReread_dropsWhatItsRegionSaysNoMore(t *testing.T) {
	t.Parallel()
	s := feed.NewState(feed.Limits{})
	var told []feed.Message
	s.Changed = func(m feed.Message) { told = append(told, m) }
	value := func(key string) feed.KV { return feed.KV{Sequence: 5, Bucket: "b", Key: key, Value: "v"} }
	set := feed.Definition{Sequence: 5, Kind: feed.Flags, Name: "web", Body: jsontext.Value(`{"flags":[]}`)}
	revoked := feed.Revocation{Tenant: "gone", At: 1, Expires: now.Unix() + 100}
	hear(t, s, []spoken{
		{"eu", value("stays")}, {"eu", value("goes")}, {"us", value("other")}, {"eu", set}, {"eu", revoked},
		{"eu", feed.Tenant{Tenant: "acme", Home: "eu", State: feed.Active, Epoch: 3}},
	})
	s.Reread()
	older := value("stays")
	older.Sequence = 4 // of a region that was put back to an earlier state
	hear(t, s, []spoken{
		{"eu", older}, {"eu", feed.Tenant{Tenant: "acme", Home: "eu", State: feed.Active, Epoch: 3}},
	})
	present := func(key string) bool { _, ok := s.Value("b", "", key); return ok }
	if !present("goes") || s.Definition(feed.Flags, "web") == nil {
		t.Error("something was dropped before the region had said all")
	}
	hear(t, s, []spoken{{"eu", feed.Heartbeat{Region: "eu", At: now}}})
	if present("goes") || s.Definition(feed.Flags, "web") != nil {
		t.Error("what eu says no more is still there")
	}
	if !present("stays") || !present("other") {
		t.Error("what is still said, or another region's, was dropped")
	}
	if _, known := s.Home("acme"); !known || !s.Revoked(&feed.Session{Tenant: "gone"}) {
		t.Error("a home or a revocation was dropped")
	}
	if last, ok := told[len(told)-1].(feed.Definition); len(told) != 2 || !ok || last.Body != nil {
		t.Errorf("told %+v, want that the set is gone last", told)
	}
	// A heartbeat that is only one more drops nothing.
	hear(t, s, []spoken{{"eu", value("later")}, {"eu", feed.Heartbeat{Region: "eu", At: now}}})
	if !present("later") || !present("stays") {
		t.Error("a heartbeat dropped something")
	}
}

func TestTables_areBounded(t *testing.T) {
	t.Parallel()
	s := feed.NewState(feed.Limits{Tenants: 10, Values: 100, ValueBytes: 1000, Definitions: 2, DefinitionBytes: 100, Purges: 10})
	sizes := func(of string) (n, size int) {
		s.Sizes(func(table string, entries, bytes int) {
			if table == of {
				n, size = entries, bytes
			}
		})
		return n, size
	}
	refused := 0
	apply := func(m feed.Message) {
		if _, err := s.Apply("eu", m, now); errors.Is(err, feed.ErrNoRoom) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		seq := feed.Sequence(i + 1)
		apply(feed.Tenant{Tenant: fmt.Sprint("t", i), Home: "eu", State: feed.Active, Epoch: 1})
		apply(feed.KV{Sequence: seq, Bucket: "b", Key: fmt.Sprint("k", i), Value: "0123456789"})
		apply(feed.Purge{Sequence: seq, Group: fmt.Sprint("g", i), Expires: now.Unix() + 100})
		apply(feed.Definition{Sequence: seq, Kind: feed.Flags, Name: fmt.Sprint("n", i), Body: jsontext.Value(`{"flags":[]}`)})
	}
	for table, most := range map[string]int{feed.TableTenants: 10, feed.TableValues: 100, feed.TablePurges: 10, feed.TableDefinitions: 2} {
		if n, _ := sizes(table); n > most {
			t.Errorf("%s holds %d, at most %d", table, n, most)
		}
	}
	if _, size := sizes(feed.TableValues); size > 1000 {
		t.Errorf("%d bytes of values", size)
	}
	if refused == 0 || len(s.Incomplete()) != 3 {
		t.Errorf("%d refused, incomplete %q: it does not say so", refused, s.Incomplete())
	}
	for i := range 1000 { // too much is purged, never too little
		if s.Purged("", fmt.Sprint("g", i)) < feed.Sequence(i+1) {
			t.Fatalf("the purge of g%d is forgotten", i)
		}
	}
	kept := feed.NewState(feed.Limits{})
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, kept)
	}
	if err != nil || len(kept.Incomplete()) != 3 || kept.Purged("", "g500") < 501 {
		t.Errorf("%v: the snapshot forgets that it is not complete, %q, or purges", err, kept.Incomplete())
	}

	// A value that grows out of its bucket leaves no old one behind, a definition does.
	s = feed.NewState(feed.Limits{ValueBytes: 20, DefinitionBytes: 20})
	apply(feed.KV{Sequence: 1, Bucket: "b", Key: "k", Value: "small"})
	apply(feed.KV{Sequence: 2, Bucket: "b", Key: "k", Value: strings.Repeat("large", 10)})
	apply(feed.Definition{Sequence: 1, Kind: feed.Flags, Name: "n", Body: jsontext.Value(`{"flags":[]}`)})
	apply(feed.Definition{Sequence: 2, Kind: feed.Flags, Name: "n", Body: jsontext.Value(`{"flags":[{"key":"on"}]}`)})
	if value, ok := s.Value("b", "", "k"); ok {
		t.Errorf("the old value %q answers for one that has no room", value)
	}
	if s.Definition(feed.Flags, "n") == nil {
		t.Error("the last good definition is gone")
	}
	if !s.Room(s.Incomplete()) {
		t.Error("there is room in the values, and it says no")
	}
}

func TestTables_whatIsGoneIsForgottenInTheEnd(t *testing.T) {
	t.Parallel()
	s := feed.NewState(feed.Limits{})
	put := feed.KV{Sequence: 1, Bucket: "b", Key: "k", Value: "v"}
	gone := feed.KV{Sequence: 2, Bucket: "b", Key: "k", Expires: now.Unix() + 10}
	hear(t, s, []spoken{{"eu", put}, {"eu", gone}, {"eu", put}})
	if _, ok := s.Value("b", "", "k"); ok {
		t.Error("an older message brought it back")
	}
	s.Expire(now.Add(10 * time.Second))
	s.Sizes(func(table string, entries, bytes int) {
		if entries != 0 || bytes != 0 {
			t.Errorf("%s: %d entries, %d bytes are left", table, entries, bytes)
		}
	})
}

func TestParse_readsTheFurtherKinds(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("0a", 32)
	for want, m := range map[string]feed.Message{
		"eu.gatehouse.tenant.acme":          feed.Tenant{Tenant: "acme", Home: "eu", State: feed.Moving, Epoch: 7},
		"eu.gatehouse.definition.flags.web": feed.Definition{Sequence: 1, Kind: feed.Flags, Name: "web", Expires: 5},
		"eu.gatehouse.kv.greetings.":        feed.KV{Sequence: 1, Bucket: "greetings", Tenant: "acme", Key: "a.b", Value: "\u2028<&\""},
		"eu.gatehouse.purge.":               feed.Purge{Sequence: 1, Tenant: "acme", Group: "product:coffee", Expires: 5},
		"eu.gatehouse.purge":                feed.Purge{Sequence: 1, URL: "https://shop.example/a?b", Expires: 5},
		"eu.gatehouse.purg":                 feed.Purge{Sequence: 1, Tenant: "acme", Prefix: "/app/", Soft: true, Expires: 5},
		"eu.regions.login." + hash:          feed.Login{Sequence: 1, Hash: hash, Tenant: "acme"},
	} {
		subject, text, err := feed.Encode("eu", m)
		if err != nil || !strings.HasPrefix(subject, want) {
			t.Fatal(subject, err)
		}
		if region, got, err := feed.Parse(subject, text); err != nil || region != "eu" || fmt.Sprint(got) != fmt.Sprint(m) {
			t.Errorf("%s %s: %s %+v %v", subject, text, region, got, err)
		}
		if _, _, err := feed.Parse(strings.Replace(subject, "eu.", "us.", 1), text); err != nil {
			t.Errorf("%s from another region: %v", subject, err)
		}
	}
	// The sequence may come later, and is then the same as if it had been there.
	unstamped, document, err := feed.Encode("eu", feed.KV{Bucket: "b", Key: "k", Value: "v"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := feed.Parse(unstamped, document); !errors.Is(err, feed.ErrMalformed) {
		t.Errorf("without a sequence: %v", err)
	}
	if _, m, err := feed.Parse(unstamped, feed.Stamp(document, 9)); err != nil || m.(feed.KV) != (feed.KV{Sequence: 9, Bucket: "b", Key: "k", Value: "v"}) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestParse_refusesOfTheFurtherKinds(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ subject, document string }{
		"another tenant's subject":   {"eu.gatehouse.tenant.globex", `{"tenant":"acme","home":"eu","state":"active","epoch":1}`},
		"no epoch":                   {"eu.gatehouse.tenant.acme", `{"tenant":"acme","home":"eu","state":"active"}`},
		"a negative epoch":           {"eu.gatehouse.tenant.acme", `{"tenant":"acme","home":"eu","state":"active","epoch":-1}`},
		"an unknown state":           {"eu.gatehouse.tenant.acme", `{"tenant":"acme","home":"eu","state":"lost","epoch":1}`},
		"a home that is none":        {"eu.gatehouse.tenant.acme", `{"tenant":"acme","home":"EU","state":"active","epoch":1}`},
		"a set of another kind":      {"eu.gatehouse.definition.rules.web", `{"seq":1,"kind":"rules","name":"web","body":{}}`},
		"a set with a dot":           {"eu.gatehouse.definition.flags.a.b", `{"seq":1,"kind":"flags","name":"a.b","body":{}}`},
		"neither body nor gone":      {"eu.gatehouse.definition.flags.web", `{"seq":1,"kind":"flags","name":"web"}`},
		"a body that is no object":   {"eu.gatehouse.definition.flags.web", `{"seq":1,"kind":"flags","name":"web","body":[]}`},
		"a body with a name twice":   {"eu.gatehouse.definition.flags.web", `{"seq":1,"kind":"flags","name":"web","body":{"a":1,"a":2}}`},
		"a sequence below zero":      {"eu.gatehouse.definition.flags.web", `{"seq":-1,"kind":"flags","name":"web","body":{}}`},
		"another key's subject":      {"eu.gatehouse.kv.b.AAAAAAAAAAAAAAAAAAAAAA", `{"seq":1,"bucket":"b","key":"k","value":"v"}`},
		"a login among POPs":         {"eu.gatehouse.login." + strings.Repeat("0a", 32), `{"seq":1,"hash":"` + strings.Repeat("0a", 32) + `","tenant":"acme"}`},
		"a heartbeat among regions":  {"eu.regions.heartbeat", `{"region":"eu","at":"2027-01-01T00:00:00Z"}`},
		"a login's hash in capitals": {"eu.regions.login." + strings.Repeat("0A", 32), `{"seq":1,"hash":"` + strings.Repeat("0A", 32) + `","tenant":"acme"}`},
	} {
		if _, m, err := feed.Parse(row.subject, []byte(row.document)); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	for name, m := range map[string]feed.Message{
		"a key with a space": feed.KV{Bucket: "b", Key: "a b", Value: "v"},
		"a brace":            feed.KV{Bucket: "b", Key: "a}", Value: "v"},
		"a large value":      feed.KV{Bucket: "b", Key: "k", Value: strings.Repeat("v", feed.MaxValue+1)},
		"no UTF-8":           feed.KV{Bucket: "b", Key: "k", Value: "\xff"},
		"a value and gone":   feed.KV{Bucket: "b", Key: "k", Value: "v", Expires: 1},
		"no group":           feed.Purge{Expires: 1},
		"a purge for ever":   feed.Purge{Group: "g"},
		"a group of none":    feed.Purge{Group: "café", Expires: 1},
		"two at once":        feed.Purge{Group: "g", URL: "/a", Expires: 1},
		"a URL and a prefix": feed.Purge{URL: "/a", Prefix: "/a", Expires: 1},
		"no URL":             feed.Purge{URL: "a", Expires: 1},
		"a prefix of none":   feed.Purge{Prefix: "//a/", Expires: 1},
		"a large URL":        feed.Purge{URL: "/" + strings.Repeat("a", feed.MaxTarget), Expires: 1},
		"a large body":       feed.Definition{Kind: feed.Flags, Name: "n", Body: jsontext.Value(`{"flags":[{"key":"` + strings.Repeat("v", feed.MaxDefinition) + `"}]}`)},
		"a flag twice":       feed.Definition{Kind: feed.Flags, Name: "n", Body: jsontext.Value(`{"flags":[{"key":"a"},{"key":"a"}]}`)},
		"no default":         feed.Definition{Kind: feed.Flags, Name: "n", Body: jsontext.Value(`{"flags":[{"key":"a","variants":[{"name":"x","value":1}]}]}`)},
		"flags as the other": feed.Definition{Kind: feed.Experiments, Name: "n", Body: jsontext.Value(`{"flags":[]}`)},
		"one variant":        feed.Definition{Kind: feed.Experiments, Name: "n", Body: jsontext.Value(`{"experiments":[{"name":"a","variants":[{"name":"x"}]}]}`)},
		"a null flag":        feed.Definition{Kind: feed.Flags, Name: "n", Body: jsontext.Value(`{"flags":[null]}`)},
	} {
		if _, _, err := feed.Encode("eu", m); err == nil {
			t.Errorf("%s was published", name)
		}
	}
	for _, b := range []string{"a", "\"", "\\", "<"} { // the longest URL, however its bytes are written
		if _, _, err := feed.Encode("eu", feed.Purge{Tenant: strings.Repeat("t", 63), Prefix: "/?" + strings.Repeat(b, feed.MaxTarget-2), Expires: 1}); err != nil {
			t.Errorf("%q: %v", b, err)
		}
	}
	// The largest value there is can be published, however its bytes are written.
	for _, b := range []string{"v", "\"", "\\", "\n", "\x01", "é", "\u2028"} {
		if _, _, err := feed.Encode("eu", feed.KV{Bucket: "b", Key: "k", Value: strings.Repeat(b, feed.MaxValue/len(b))}); err != nil {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func BenchmarkState_asked(b *testing.B) {
	s := feed.NewState(feed.Limits{})
	for i := range 50_000 {
		for _, m := range []feed.Message{
			feed.Tenant{Tenant: fmt.Sprint("t", i), Home: "eu", State: feed.Active, Epoch: 1},
			feed.KV{Sequence: 1, Bucket: "b", Tenant: "acme", Key: fmt.Sprint("k", i), Value: "v"},
		} {
			if _, err := s.Apply("eu", m, now); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("home", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Home("t777")
		}
	})
	b.Run("value", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Value("b", "acme", "k777")
		}
	})
}
