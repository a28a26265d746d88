package bot

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// Limits on a file of networks. Google's largest has 40 KB and 1,600 networks.
const (
	maxRangesBytes = jwks.MaxBytes
	maxNetworks    = 16384
)

// The widest networks that are believed to be one agent's. A wider one is a
// mistake, and would make half of the world verified.
const (
	minBits4 = 8
	minBits6 = 19
)

// networks is a set of addresses: spans that are sorted and apart.
type networks []span

type span struct{ first, last netip.Addr }

// holds reports whether the address is in the set. IPv4 addresses are as such.
func (n networks) holds(a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(n, a, func(s span, a netip.Addr) int { return s.first.Compare(a) })
	if found {
		return true
	}
	return i > 0 && a.Compare(n[i-1].last) <= 0
}

// published is the form in which Google, Microsoft and others publish their
// networks. They have more members than these.
type published struct {
	Prefixes []struct {
		IPv4 string `json:"ipv4Prefix"`
		IPv6 string `json:"ipv6Prefix"`
	} `json:"prefixes"`
}

// parseNetworks reads a file of networks: that JSON, or one address or network a
// line, with what follows a '#' left out. One fault refuses the whole: half a list
// would make impostors of the other half.
func parseNetworks(data []byte) (networks, error) {
	if len(data) > maxRangesBytes {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(data), maxRangesBytes)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var list []netip.Prefix
	var err error
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		list, err = parsePublished(trimmed)
	} else {
		list, err = parseLines(data)
	}
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, errors.New("it holds no network")
	case len(list) > maxNetworks:
		return nil, fmt.Errorf("%d networks, at most %d are read", len(list), maxNetworks)
	}
	return merge(list), nil
}

func parsePublished(data []byte) ([]netip.Prefix, error) {
	var p published
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("not the JSON of a list of networks: %w", err)
	}
	list := make([]netip.Prefix, 0, len(p.Prefixes))
	for i, entry := range p.Prefixes {
		text := entry.IPv4
		if text == "" {
			text = entry.IPv6
		}
		if (entry.IPv4 == "") == (entry.IPv6 == "") {
			return nil, fmt.Errorf("prefix %d has not one of ipv4Prefix and ipv6Prefix", i)
		}
		network, err := parseNetwork(text)
		if err != nil {
			return nil, fmt.Errorf("prefix %d: %w", i, err)
		}
		if network.Addr().Is4() != (entry.IPv4 != "") {
			return nil, fmt.Errorf("prefix %d: %s is of the other family", i, network)
		}
		list = append(list, network)
	}
	return list, nil
}

func parseLines(data []byte) ([]netip.Prefix, error) {
	var list []netip.Prefix
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(list) == maxNetworks {
			return nil, fmt.Errorf("over %d networks", maxNetworks)
		}
		network, err := parseNetwork(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		list = append(list, network)
	}
	return list, nil
}

// parseNetwork reads a network in CIDR form, or an address.
func parseNetwork(text string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%.64q is neither a network such as 192.0.2.0/24 nor an address", text)
		}
		network = netip.PrefixFrom(addr, addr.BitLen())
	}
	switch {
	case network.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%s: write it as IPv4", network)
	case network != network.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits beside its network, which is %s", network, network.Masked())
	case network.Addr().Is4() && network.Bits() < minBits4, network.Addr().Is6() && network.Bits() < minBits6:
		return netip.Prefix{}, fmt.Errorf("%s is too wide to be one agent's", network)
	}
	return network, nil
}

// merge sorts networks, and makes one span of those that overlap.
func merge(list []netip.Prefix) networks {
	spans := make([]span, len(list))
	for i, p := range list {
		spans[i] = span{p.Addr(), last(p)}
	}
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	merged := spans[:1]
	for _, s := range spans[1:] {
		if top := &merged[len(merged)-1]; s.first.Compare(top.last) <= 0 {
			if s.last.Compare(top.last) > 0 {
				top.last = s.last
			}
			continue
		}
		merged = append(merged, s)
	}
	return slices.Clone(merged)
}

// last is the highest address of a network.
func last(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		bits := p.Addr().As4()
		fill(bits[:], p.Bits())
		return netip.AddrFrom4(bits)
	}
	bits := p.Addr().As16()
	fill(bits[:], p.Bits())
	return netip.AddrFrom16(bits)
}

// fill sets every bit from the one given on.
func fill(address []byte, from int) {
	for i := from; i < len(address)*8; i++ {
		address[i/8] |= 0x80 >> (i % 8)
	}
}
