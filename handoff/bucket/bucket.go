// Package bucket puts a user, a tenant or a visitor into a bucket that is the
// same at every point of presence, with nothing stored: GrowthBook's hash, so
// that an SDK of theirs in a region or a browser finds the same variant.
//
// The rules are GrowthBook's "Build Your Own SDK" document, the published
// vectors are in testdata.
package bucket

import (
	"math"
	"strconv"
)

// Of is where value stands between 0 and 1, in steps of 1/10000, by hash version
// 2: two seeds put the same value into buckets that have nothing to do with each
// other.
func Of(seed, value string) float64 {
	var text [10]byte // an uint32 in decimal has ten digits at most
	inner := fnv1a(fnv1a(offset32, seed), value)
	return float64(fnv1a(offset32, strconv.AppendUint(text[:0], uint64(inner), 10))%10000) / 10000
}

// Space is a slice of a namespace. Experiments whose slices do not overlap have
// no user in common.
type Space struct {
	// Name of the namespace.
	Name string `json:"name"`
	// From and To bound the slice: From is in it and To is not, 0 ≤ From < To ≤ 1.
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

// Holds reports whether value is in the slice. GrowthBook places values in a
// namespace by its hash version 1.
func (s Space) Holds(value string) bool {
	at := float64(fnv1a(fnv1a(fnv1a(offset32, value), "__"), s.Name)%1000) / 1000
	return at >= s.From && at < s.To
}

// Range is the part of the buckets that one variant has.
type Range struct{ From, To float64 }

// Holds reports whether a bucket is in the range.
func (r Range) Holds(at float64) bool { return at >= r.From && at < r.To }

// Ranges lays variants of these weights one after the other, and gives each the
// first part, coverage, of its place: a growing coverage takes more in and moves
// nobody. A border is rounded to 1e-9, for sums of the same weights in another
// order to meet it.
func Ranges(weights []float64, coverage float64) []Range {
	ranges := make([]Range, len(weights))
	begin := 0.0
	for i, weight := range weights {
		ranges[i] = Range{round(begin), round(begin + coverage*weight)}
		begin += weight // not rounded: the errors would add up, and move later borders
	}
	return ranges
}

func round(border float64) float64 { return math.Round(border*1e9) / 1e9 }

// offset32 and prime32 are those of FNV-1a with 32 bits. It is written out because
// hash/fnv would allocate on every request.
const (
	offset32 uint32 = 2166136261
	prime32  uint32 = 16777619
)

func fnv1a[T string | []byte](h uint32, data T) uint32 {
	for i := range len(data) {
		h = (h ^ uint32(data[i])) * prime32
	}
	return h
}
