package limit

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

var login = Policy{Quota: 60, Window: time.Minute, Burst: 30}

const second = int64(time.Second)

func TestTake_allowsTheBurstAndThenTheRate(t *testing.T) {
	t.Parallel()
	table := New(100)
	k := table.Pair("", "ada")
	for i := range 30 {
		want := Result{Allowed: true, Remaining: 29 - i, Wait: time.Second}
		if got := table.Take(k, login, 5); got != want {
			t.Fatalf("request %d: %+v, want %+v", i, got, want)
		}
	}
	if got, want := table.Take(k, login, 5), (Result{Wait: time.Second}); got != want {
		t.Fatalf("after the burst: %+v, want %+v", got, want)
	}
	if got := table.Take(k, login, second/4); got.Allowed || got.Wait != 3*time.Second/4+5 {
		t.Fatalf("a quarter of a second later: %+v", got)
	}
	if got := table.Take(k, login, second+5); !got.Allowed || got.Remaining != 0 {
		t.Fatalf("a second later: %+v", got)
	}
	if got := table.Take(k, login, second+5); got.Allowed {
		t.Fatal("two a second later")
	}
	if got := table.Take(k, login, 3600*second); !got.Allowed || got.Remaining != 29 {
		t.Fatalf("an hour later: %+v", got)
	}
	if got := table.Take(table.Pair("", "grace"), login, 5); got.Remaining != 29 {
		t.Fatalf("somebody else: %+v", got)
	}
}

func TestLook_countsNothing(t *testing.T) {
	t.Parallel()
	table := New(1)
	k := table.Pair("", "ada")
	p := Policy{Quota: 1, Window: time.Second, Burst: 1}
	for range 3 {
		if got := table.Look(k, p, 0); !got.Allowed || got.Remaining != 0 {
			t.Fatalf("%+v", got)
		}
	}
	if !table.Take(k, p, 0).Allowed || table.Look(k, p, 0).Allowed {
		t.Error("a look counted, or a take did not")
	}
}

func TestReturn_givesBackWhatWasTaken(t *testing.T) {
	t.Parallel()
	table := New(1)
	k := table.Pair("", "ada")
	p := Policy{Quota: 1, Window: time.Second, Burst: 2}
	table.Take(k, p, 0)
	table.Take(k, p, 0)
	table.Return(k, p)
	table.Return(table.Pair("", "nobody"), p)
	if !table.Take(k, p, 0).Allowed || table.Take(k, p, 0).Allowed {
		t.Error("one should be allowed, and not two")
	}
}

// TestTable_nobodyEverGetsMoreThanHisPolicy: however many keys come, in whatever
// order and into however small a table, no key is allowed more in any stretch of
// time than its burst and the rate. Filling the table does not reset a debt.
func TestTable_nobodyEverGetsMoreThanHisPolicy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := New(rapid.IntRange(1, 40).Draw(t, "slots"))
		p := Policy{
			Quota: rapid.IntRange(1, 100).Draw(t, "quota"), Burst: rapid.IntRange(1, 10).Draw(t, "burst"),
			Window: time.Duration(rapid.IntRange(1, 100).Draw(t, "window")) * time.Second,
		}
		allowed := map[int][]int64{}
		now := int64(0)
		for range rapid.IntRange(1, 400).Draw(t, "requests") {
			now += rapid.Int64Range(0, int64(p.Interval())/2).Draw(t, "pause")
			who := rapid.IntRange(0, 60).Draw(t, "who")
			if who > 50 { // he who would like to be forgotten comes often
				who = 0
			}
			if table.Take(table.Pair("", fmt.Sprint(who)), p, now).Allowed {
				allowed[who] = append(allowed[who], now)
			}
		}
		for who, times := range allowed {
			for i := range times {
				for j := i; j < len(times); j++ {
					stretch := times[j] - times[i]
					if most := int64(p.Burst) + stretch/int64(p.Interval()); int64(j-i+1) > most {
						t.Fatalf("%d was allowed %d requests in %s, not %d", who, j-i+1, time.Duration(stretch), most)
					}
				}
			}
		}
	})
}

// TestTable_isExactWhileItHasRoom holds the table against a map that forgets
// nothing.
func TestTable_isExactWhileItHasRoom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := New(1000) // of 20 keys no set overflows
		p := Policy{Quota: rapid.IntRange(1, 100).Draw(t, "quota"), Burst: rapid.IntRange(1, 10).Draw(t, "burst"), Window: time.Minute}
		interval := int64(p.Interval())
		paid := map[int]int64{}
		now := int64(0)
		for range rapid.IntRange(1, 300).Draw(t, "requests") {
			now += rapid.Int64Range(0, 2*interval).Draw(t, "pause")
			who := rapid.IntRange(0, 19).Draw(t, "who")
			debt := max(paid[who]-now, 0)
			want := debt+interval <= interval*int64(p.Burst)
			if want {
				debt += interval
				paid[who] = now + debt
			}
			got := table.Take(table.Pair("", fmt.Sprint(who)), p, now)
			if got.Allowed != want || got.Shared || got.Remaining != int((interval*int64(p.Burst)-debt)/interval) {
				t.Fatalf("%+v, want %v with a debt of %d of %d", got, want, debt, interval)
			}
			// After Wait there is one more, and not a moment before.
			if got.Remaining < p.Burst {
				k := table.Pair("", fmt.Sprint(who))
				after, before := table.Look(k, p, now+int64(got.Wait)), table.Look(k, p, now+int64(got.Wait)-1)
				if !after.Allowed || after.Remaining != got.Remaining || before.Allowed && before.Remaining >= got.Remaining {
					t.Fatalf("%+v: then %+v, and %+v before", got, after, before)
				}
			}
		}
	})
}

// TestTable_aFloodOfKeysForgetsNoDebtor: an attacker at his limit sends from
// a million other addresses, and is at his limit still.
func TestTable_aFloodOfKeysForgetsNoDebtor(t *testing.T) {
	t.Parallel()
	table := New(1 << 10)
	attacker := table.Address(netip.MustParseAddr("192.0.2.1"), 32, 64)
	for table.Take(attacker, login, 0).Allowed {
	}
	addr := netip.MustParseAddr("2001:db8::")
	var shared int
	for i := range 1_000_000 {
		raw := addr.As16()
		raw[4], raw[5], raw[6], raw[7] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		if table.Take(table.Address(netip.AddrFrom16(raw), 32, 64), login, 1).Shared {
			shared++
		}
	}
	if table.Look(attacker, login, second-1).Allowed {
		t.Error("the attacker is forgotten")
	}
	if shared == 0 {
		t.Error("a million keys found room for a thousand")
	}
	if !table.Look(table.Pair("", "a stranger, when the flood is over"), login, 31*second).Allowed {
		t.Error("a stranger is refused when all debts are paid")
	}
}

// TestTable_hasRoomForWhatItSays: with as many debtors as it was made for, hardly
// a newcomer shares.
func TestTable_hasRoomForWhatItSays(t *testing.T) {
	t.Parallel()
	const keys = 1 << 16
	table := New(keys)
	shared := 0
	for i := range keys {
		if table.Take(table.Pair("", fmt.Sprint(i)), login, 0).Shared {
			shared++
		}
	}
	if shared > keys/100 {
		t.Errorf("%d of %d had to share", shared, keys)
	}
	if size := uintptr(len(table.sets)) * unsafe.Sizeof(table.sets[0]); size < 32*keys || size > 64*keys {
		t.Errorf("%d bytes for %d keys", size, keys)
	}
}

func TestNew_makesWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{-1, 0, 1, 7, 8, 9, 1000, 1 << 16, 100_000} {
		table := New(keys)
		if slots := len(table.sets) * ways; slots < 2*keys || slots > 4*max(keys, ways) {
			t.Errorf("%d keys have %d slots", keys, slots)
		}
	}
}

func TestTable_keys(t *testing.T) {
	t.Parallel()
	table := New(10)
	addr := netip.MustParseAddr
	same := func(a, b string) bool {
		return table.Address(addr(a), 32, 64) == table.Address(addr(b), 32, 64)
	}
	for _, row := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::ffff:1:2:3", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"192.0.2.1", "2001:db8::1", false},
	} {
		if got := same(row.a, row.b); got != row.same {
			t.Errorf("%s and %s are the same: %v", row.a, row.b, got)
		}
	}
	if table.Address(addr("192.0.2.1"), 24, 64) != table.Address(addr("192.0.2.9"), 24, 64) {
		t.Error("24 bits: two of a network are told apart")
	}
	if table.Address(netip.Addr{}, 32, 64) == 0 {
		t.Error("no address has the key of a free slot")
	}
	if table.Pair("a", "bc") == table.Pair("ab", "c") {
		t.Error("where the first text ends does not matter")
	}
	if one, other := New(10), New(10); one.Pair("a", "b") == other.Pair("a", "b") {
		t.Error("the hash has no secret")
	}
}

func TestPolicy_check(t *testing.T) {
	t.Parallel()
	for _, p := range []Policy{
		{0, time.Minute, 1}, {MaxQuota + 1, time.Minute, 1}, {1, time.Millisecond, 1}, {1, 25 * time.Hour, 1},
		{1, time.Second + 1, 1}, {1, time.Minute, 0}, {1, time.Minute, MaxBurst + 1}, {1, 24 * time.Hour, 33},
	} {
		if p.Check() == nil {
			t.Errorf("%+v is let through", p)
		}
	}
	for _, p := range []Policy{login, {1, 24 * time.Hour, 32}, {MaxQuota, time.Second, MaxBurst}} {
		if err := p.Check(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// TestTable_manyAtOnce: with many at one key no request too many is allowed.
func TestTable_manyAtOnce(t *testing.T) {
	t.Parallel()
	table := New(1)
	k := table.Pair("", "ada")
	var allowed atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range int64(1000) {
				if table.Take(k, login, i).Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if allowed.Load() != 30 {
		t.Errorf("%d were allowed", allowed.Load())
	}
}

func BenchmarkTake(b *testing.B) {
	table := New(1 << 16)
	addr := netip.MustParseAddr("2001:db8::1")
	b.ReportAllocs()
	now := int64(0)
	for b.Loop() {
		now += second
		if !table.Take(table.Address(addr, 32, 64), login, now).Allowed {
			b.Fatal("refused")
		}
	}
}

// BenchmarkTake_million is the same with a million keys, which no cache holds.
func BenchmarkTake_million(b *testing.B) {
	table := New(1 << 20)
	b.ReportAllocs()
	now, i := int64(0), uint32(0)
	for b.Loop() {
		now += 1000
		i += 2654435761
		raw := [16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 20), byte(i >> 12), byte(i>>4) & 0xf0}
		table.Take(table.Address(netip.AddrFrom16(raw), 32, 64), login, now)
	}
}
