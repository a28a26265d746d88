package region

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
)

// tableOf is what the feed says of acme; an epoch of 0: nothing.
func tableOf(home string, epoch int64) table {
	return func(tenant string) (string, int64, bool) {
		if tenant != "acme" || epoch == 0 {
			return "", 0, false
		}
		return home, epoch, true
	}
}

func TestChoose_pinTableOrLearntClaimCountryPOP(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		pin      string
		table    table
		learnt   lesson
		claim    string
		country  string
		want     string
		because  decision.Reason
		noTenant bool
	}{
		{name: "the pin before all", pin: "eu", table: tableOf("us", 9), learnt: lesson{home: "us", epoch: 9}, claim: "us", country: "US", want: "eu", because: decision.ReasonPin},
		{name: "the table before the claim", table: tableOf("us", 1), claim: "eu", country: "DE", want: "us", because: decision.ReasonTable},
		{name: "the table's larger epoch", table: tableOf("us", 3), learnt: lesson{home: "eu", epoch: 2}, claim: "eu", want: "us", because: decision.ReasonTable},
		{name: "the learnt larger epoch", table: tableOf("us", 3), learnt: lesson{home: "eu", epoch: 4}, claim: "us", want: "eu", because: decision.ReasonLearnt},
		{name: "epochs alike: the table has caught up", table: tableOf("us", 3), learnt: lesson{home: "us", epoch: 3}, claim: "eu", want: "us", because: decision.ReasonTable},
		{name: "learnt without an epoch, the feed has said nothing since", table: tableOf("us", 3), learnt: lesson{home: "eu", epoch: 3, bare: true}, claim: "us", want: "eu", because: decision.ReasonLearnt},
		{name: "learnt without an epoch, the feed has spoken", table: tableOf("us", 4), learnt: lesson{home: "eu", epoch: 3, bare: true}, claim: "eu", want: "us", because: decision.ReasonTable},
		{name: "learnt, and no feed", learnt: lesson{home: "us", epoch: 0, bare: true}, claim: "eu", want: "us", because: decision.ReasonLearnt},
		{name: "a table's region that is not here", table: tableOf("mars", 9), learnt: lesson{home: "us", epoch: 1}, claim: "eu", want: "us", because: decision.ReasonLearnt},
		{name: "a table's region that is not here, nothing learnt", table: tableOf("mars", 9), claim: "eu", want: "eu", because: decision.ReasonClaim},
		{name: "a learnt region that is gone", table: tableOf("us", 1), learnt: lesson{home: "mars", epoch: 9}, claim: "eu", want: "us", because: decision.ReasonTable},
		{name: "the claim before the country", claim: "us", country: "DE", want: "us", because: decision.ReasonClaim},
		{name: "a claim that is not here", claim: "mars", country: "US", want: "us", because: decision.ReasonCountry},
		{name: "the country before the POP", country: "us", want: "us", because: decision.ReasonCountry},
		{name: "the POP", want: "eu", because: decision.ReasonPOP},
		{name: "nobody has no table", table: tableOf("us", 9), learnt: lesson{home: "us", epoch: 9}, noTenant: true, want: "eu", because: decision.ReasonPOP},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "")
			b.region.To = row.pin
			if row.table != nil {
				b.region.table = row.table
			}
			if row.learnt.home != "" {
				b.region.learnt.remember("acme", "", row.learnt)
			}
			r, d := request("GET", "/")
			if !row.noTenant {
				sessionOf(d, "acme")
			}
			d.ClaimedHome = row.claim
			if row.country != "" {
				r.Header.Set("Country", row.country)
			}
			if home, why := b.region.choose(r, d); home != row.want || why != row.because {
				t.Errorf("%s because of %s, want %s because of %s", home, why, row.want, row.because)
			}
		})
	}
}

// What is remembered of a tenant never goes back to an older move, but for what the
// very region that it names denies.
func TestLearnt_byTheLargerEpoch(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		old   lesson
		asked string
		told  lesson
		want  lesson
	}{
		{"newer", lesson{home: "us", epoch: 1}, "us", lesson{home: "eu", epoch: 2}, lesson{home: "eu", epoch: 2}},
		{"older, from a third", lesson{home: "us", epoch: 2}, "ap", lesson{home: "eu", epoch: 1}, lesson{home: "us", epoch: 2}},
		{"older, from the one it names", lesson{home: "us", epoch: 1 << 62}, "us", lesson{home: "eu", epoch: 3}, lesson{home: "eu", epoch: 3}},
		{"alike", lesson{home: "us", epoch: 2}, "ap", lesson{home: "us", epoch: 2}, lesson{home: "us", epoch: 2}},
		{"without an epoch", lesson{home: "us", epoch: 5}, "ap", lesson{home: "eu", epoch: 3, bare: true}, lesson{home: "eu", epoch: 5, bare: true}},
		{"with one after none", lesson{home: "us", epoch: 5, bare: true}, "ap", lesson{home: "eu", epoch: 5}, lesson{home: "eu", epoch: 5}},
	} {
		l, err := newLearnt()
		if err != nil {
			t.Fatal(err)
		}
		l.remember("acme", "", row.old)
		l.remember("acme", row.asked, row.told)
		if got := l.of("acme"); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
		l.forget("acme", "mars")
		if l.of("acme").home == "" {
			t.Errorf("%s: another region's answer made it forgotten", row.name)
		}
		l.forget("acme", row.want.home)
		if got := l.of("acme"); got != (lesson{}) {
			t.Errorf("%s: %+v is left", row.name, got)
		}
		_ = l.Close()
	}
}

func TestEpochIn(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		lines []string
		epoch int64
		ok    bool
	}{
		{nil, 0, true},
		{[]string{"1"}, 1, true},
		{[]string{"9223372036854775807"}, 1<<63 - 1, true},
		{[]string{"9223372036854775808"}, 0, false},
		{[]string{"99999999999999999999"}, 0, false},
		{[]string{"0"}, 0, false},
		{[]string{"01"}, 0, false},
		{[]string{""}, 0, false},
		{[]string{"+1"}, 0, false},
		{[]string{"-1"}, 0, false},
		{[]string{"1 "}, 0, false},
		{[]string{"1e3"}, 0, false},
		{[]string{"1_000"}, 0, false},
		{[]string{"0x1f"}, 0, false},
		{[]string{"١"}, 0, false},
		{[]string{"1", "1"}, 0, false},
		{[]string{"1,2"}, 0, false},
	} {
		epoch, ok := epochIn(http.Header{"X-Edge-Home-Epoch": row.lines})
		if row.lines == nil {
			epoch, ok = epochIn(http.Header{})
		}
		if ok != row.ok || ok && epoch != row.epoch {
			t.Errorf("%q: %d, %v", row.lines, epoch, ok)
		}
	}
}

// FuzzEpoch: whatever a region sends is a number written in the one way, or none.
func FuzzEpoch(f *testing.F) {
	for _, seed := range []string{"1", "0", "", "-1", "+1", "01", "9223372036854775807", "9223372036854775808", "1 ", "1e3", "१", "1\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		epoch, ok := parseEpoch(text)
		if ok && (epoch < 1 || strconv.FormatInt(epoch, 10) != text) {
			t.Errorf("%q is read as %d", text, epoch)
		}
		if want, err := strconv.ParseInt(text, 10, 64); !ok && err == nil && strconv.FormatInt(want, 10) == text && want > 0 {
			t.Errorf("%q is not read", text)
		}
	})
}
