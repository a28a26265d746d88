package bot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"

	"go4.org/netipx"
)

// maxPrefixes bounds a file of ranges: the largest that crawlers publish have some
// hundreds.
const maxPrefixes = 20_000

// proof is what a crawler has published, while requests read it.
type proof struct {
	ranges atomic.Pointer[netipx.IPSet]
	keys   atomic.Pointer[keys]
}

// SetRanges puts the ranges in a file's data in force, see [ParseRanges].
func (c *Crawler) SetRanges(data []byte) error {
	ranges, err := ParseRanges(data)
	if err == nil {
		c.proof.ranges.Store(ranges)
	}
	return err
}

// ParseRanges reads the addresses that a crawler publishes: as JSON in the form that
// search engines use, {"prefixes":[{"ipv4Prefix":"192.0.2.0/24"},
// {"ipv6Prefix":"2001:db8::/32"}]}, or as text with a prefix or an address on each
// line, where # begins a comment.
//
// A range that is no single crawler's, /7 of IPv4 or /15 of IPv6 and shorter, is an
// error: a slip there would let everybody pass for it. So is an empty file.
func ParseRanges(data []byte) (*netipx.IPSet, error) {
	var texts []string
	if trimmed := bytes.TrimSpace(data); bytes.HasPrefix(trimmed, []byte("{")) {
		var file struct {
			Prefixes []struct {
				V4 string `json:"ipv4Prefix"`
				V6 string `json:"ipv6Prefix"`
			} `json:"prefixes"`
		}
		if err := json.Unmarshal(trimmed, &file); err != nil {
			return nil, fmt.Errorf("ranges: %w", err)
		}
		for i, p := range file.Prefixes {
			if (p.V4 == "") == (p.V6 == "") {
				return nil, fmt.Errorf("ranges: prefixes[%d] has not one of ipv4Prefix and ipv6Prefix", i)
			}
			texts = append(texts, p.V4+p.V6)
		}
	} else {
		for line := range bytes.Lines(data) {
			text, _, _ := strings.Cut(string(line), "#")
			if text = strings.TrimSpace(text); text != "" {
				texts = append(texts, text)
			}
		}
	}
	switch {
	case len(texts) == 0:
		return nil, errors.New("ranges: the file has none")
	case len(texts) > maxPrefixes:
		return nil, fmt.Errorf("ranges: %d are over the limit of %d", len(texts), maxPrefixes)
	}
	var set netipx.IPSetBuilder
	for _, text := range texts {
		prefix, err := parsePrefix(text)
		if err != nil {
			return nil, err
		}
		set.AddPrefix(prefix)
	}
	return set.IPSet()
}

func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, single := netip.ParseAddr(text)
		if single != nil || addr.Zone() != "" {
			return prefix, fmt.Errorf("ranges: %q is no prefix and no address", text)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return prefix, fmt.Errorf("ranges: %q: write an IPv4 range as one", text)
	}
	least := 16
	if prefix.Addr().Is4() {
		least = 8
	}
	if prefix.Bits() < least {
		return prefix, fmt.Errorf("ranges: %q is more than a crawler has: /%d at the most", text, least)
	}
	return prefix.Masked(), nil
}
