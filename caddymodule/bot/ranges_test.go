package bot

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// googlebotJSON is as Google publishes it, shortened.
const googlebotJSON = `{"creationTime": "2025-01-01T14:46:00.000000", "prefixes": [
	{"ipv6Prefix": "2001:4860:4801:10::/64"}, {"ipv6Prefix": "2001:4860:4801:11::/64"},
	{"ipv4Prefix": "192.178.4.0/27"}, {"ipv4Prefix": "66.249.64.0/27"}, {"ipv4Prefix": "66.249.64.32/27"}]}`

func TestNetworks_holdWhatIsPublished(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		file    string
		in, out []string
	}{
		"published": {googlebotJSON,
			[]string{"66.249.64.0", "66.249.64.31", "66.249.64.32", "66.249.64.63", "192.178.4.1", "2001:4860:4801:10::1", "2001:4860:4801:11:ffff:ffff:ffff:ffff"},
			[]string{"66.249.63.255", "66.249.64.64", "192.178.3.255", "192.178.4.32", "0.0.0.0", "255.255.255.255", "2001:4860:4801:12::", "2001:4860:4801:f::", "::", "::ffff:66.249.64.1"}},
		"lines": {"\ufeff# ours\r\n192.0.2.0/24 # the office\n\n 198.51.100.7\n2001:db8::/32\n2001:db8::/48\n192.0.2.128/25",
			[]string{"192.0.2.0", "192.0.2.255", "198.51.100.7", "2001:db8:ffff::1"},
			[]string{"192.0.1.255", "192.0.3.0", "198.51.100.6", "198.51.100.8", "2001:db9::"}},
	} {
		n, err := parseNetworks([]byte(row.file))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, a := range row.in {
			if !n.holds(netip.MustParseAddr(a)) {
				t.Errorf("%s does not hold %s", name, a)
			}
		}
		for _, a := range row.out {
			if n.holds(netip.MustParseAddr(a)) {
				t.Errorf("%s holds %s", name, a)
			}
		}
		if n.holds(netip.Addr{}) {
			t.Errorf("%s holds no address", name)
		}
	}
}

func TestNetworks_refuseAFileWithOneFault(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"":                              "no network",
		"# nothing\n":                   "no network",
		`{"prefixes": []}`:              "no network",
		`{}`:                            "no network",
		"192.0.2.0/24\nnonsense":        "line 2",
		"192.0.2.1/24":                  "bits beside",
		"0.0.0.0/0":                     "too wide",
		"10.0.0.0/7":                    "too wide",
		"::/0":                          "too wide",
		"::ffff:192.0.2.0/120":          "write it as IPv4",
		"fe80::1%eth0":                  "neither",
		"192.0.2.0/33":                  "neither",
		"<html><body>404</body></html>": "neither",
		`{"prefixes": [{"ipv4Prefix": "192.0.2.0/24"}, {}]}`:                            "prefix 1",
		`{"prefixes": [{"ipv4Prefix": "192.0.2.0/24", "ipv6Prefix": "2001:db8::/32"}]}`: "prefix 0",
		`{"prefixes": [{"ipv4Prefix": "2001:db8::/32"}]}`:                               "other family",
		`{"prefixes": [{"ipv6Prefix": "192.0.2.0/24"}]}`:                                "other family",
		`{"prefixes": [{"ipv4Prefix": "192.0.2.0/24"}]`:                                 "JSON",
		`{"prefixes": [], "prefixes": [{"ipv4Prefix": "192.0.2.0/24"}]}`:                "JSON",
		`{"prefixes": {"ipv4Prefix": "192.0.2.0/24"}}`:                                  "JSON",
		strings.Repeat("192.0.2.0/24\n", maxNetworks+1):                                 "over 16384",
		strings.Repeat("# a long comment\n", maxRangesBytes/16):                         "bytes",
	} {
		if n, err := parseNetworks([]byte(file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %d spans, %v, want %q", file, len(n), err, want)
		}
	}
}

func FuzzRanges(f *testing.F) {
	for _, seed := range []string{googlebotJSON, "192.0.2.0/24\n2001:db8::/32 # x\n198.51.100.7", "{", `{"prefixes":[{"ipv4Prefix":"1.0.0.0/8"}]}`, "::/19", "255.255.255.255\nffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		f.Add([]byte(seed), "192.0.2.1")
	}
	f.Fuzz(func(t *testing.T, data []byte, address string) {
		n, err := parseNetworks(data)
		if err != nil {
			if n != nil {
				t.Fatal("an error and networks")
			}
			return
		}
		for i, s := range n {
			if s.first.Compare(s.last) > 0 || s.first.BitLen() != s.last.BitLen() || i > 0 && n[i-1].last.Compare(s.first) >= 0 {
				t.Fatalf("span %d of %v is out of place", i, n)
			}
			if !n.holds(s.first) || !n.holds(s.last) {
				t.Fatalf("%v does not hold its own bounds", s)
			}
		}
		a, err := netip.ParseAddr(address)
		if err != nil {
			return
		}
		slow := false
		for _, s := range n {
			slow = slow || a.Compare(s.first) >= 0 && a.Compare(s.last) <= 0
		}
		if n.holds(a) != slow {
			t.Fatalf("%s in %v: %v", a, n, !slow)
		}
	})
}

func BenchmarkNetworks(b *testing.B) {
	var file strings.Builder
	for i := range 1600 {
		fmt.Fprintf(&file, "66.%d.%d.0/27\n", i/256, i%256)
	}
	n, err := parseNetworks([]byte(file.String()))
	if err != nil {
		b.Fatal(err)
	}
	a := netip.MustParseAddr("66.3.7.9")
	b.ReportAllocs()
	for b.Loop() {
		if !n.holds(a) {
			b.Fatal("not held")
		}
	}
}
