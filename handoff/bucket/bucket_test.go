package bucket

import (
	"encoding/json"
	"math"
	"os"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// vectors reads rows of testdata/growthbook.json.
func vectors(t *testing.T, name string) [][]json.RawMessage {
	t.Helper()
	data, err := os.ReadFile("testdata/growthbook.json")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]json.RawMessage
	var rows [][]json.RawMessage
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file[name], &rows); err != nil || len(rows) < 5 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	return rows
}

func read(t *testing.T, row []json.RawMessage, into ...any) {
	t.Helper()
	for i := range into {
		if err := json.Unmarshal(row[i], into[i]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOf_publishedVectors(t *testing.T) {
	t.Parallel()
	for _, row := range vectors(t, "hash") {
		var seed, value string
		var want float64
		read(t, row, &seed, &value, &want)
		if got := Of(seed, value); got != want {
			t.Errorf("Of(%q, %q) = %v, want %v", seed, value, got, want)
		}
	}
}

func TestRanges_publishedVectors(t *testing.T) {
	t.Parallel()
	for _, row := range vectors(t, "ranges") {
		var weights []float64
		var coverage float64
		var want [][2]float64
		read(t, row, &weights, &coverage, &want)
		for i, got := range Ranges(weights, coverage) {
			if math.Abs(got.From-want[i][0]) > 1e-9 || math.Abs(got.To-want[i][1]) > 1e-9 {
				t.Errorf("Ranges(%v, %v)[%d] = %v, want %v", weights, coverage, i, got, want[i])
			}
		}
	}
}

func TestSpace_publishedVectors(t *testing.T) {
	t.Parallel()
	for _, row := range vectors(t, "namespaces") {
		var value string
		var s Space
		var want bool
		read(t, row, &value, &s.Name, &s.From, &s.To, &want)
		if got := s.Holds(value); got != want {
			t.Errorf("%+v holds %q: %v, want %v", s, value, got, want)
		}
	}
}

// TestRanges_changeOfWeightsMovesOnlyWhomItMust holds for two variants to any
// weights, and for more to weight that goes from one to the next.
func TestRanges_changeOfWeightsMovesOnlyWhomItMust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := randomWeights(t)
		after := append([]float64(nil), before...)
		from := rapid.IntRange(0, len(before)-2).Draw(t, "from")
		to := from + 1
		if rapid.Bool().Draw(t, "backwards") {
			from, to = to, from
		}
		share := before[from] * float64(rapid.IntRange(0, 100).Draw(t, "percent")) / 100
		after[from] -= share
		after[to] += share
		old, now := Ranges(before, 1), Ranges(after, 1)
		moved := 0
		for i := range 10000 {
			at := float64(i) / 10000
			was, is := variant(old, at), variant(now, at)
			if was == is {
				continue
			}
			moved++
			if was != from || is != to {
				t.Fatalf("bucket %v went from %d to %d; weight went from %d to %d", at, was, is, from, to)
			}
		}
		if want := share * 10000; math.Abs(float64(moved)-want) > 2 {
			t.Fatalf("%d buckets of 10000 moved, for a weight of %v", moved, share)
		}
	})
}

// The border between the third and the fourth is 0.2 before and after: rounding
// errors that add up would put it beside a bucket.
func TestRanges_aBorderThatStaysMovesNobody(t *testing.T) {
	t.Parallel()
	before := []float64{1. / 215, 4. / 215, 38. / 215, 1. / 215, 71. / 215, 100. / 215}
	after := append([]float64(nil), before...)
	after[1] -= before[1] / 100
	after[2] += before[1] / 100
	was, is := variant(Ranges(before, 1), 0.2), variant(Ranges(after, 1), 0.2)
	if was != 3 || is != 3 {
		t.Errorf("bucket 0.2 went from %d to %d, want 3 and 3", was, is)
	}
}

func TestRanges_growingCoverageMovesNobody(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		weights := randomWeights(t)
		less := rapid.Float64Range(0, 1).Draw(t, "less")
		more := rapid.Float64Range(less, 1).Draw(t, "more")
		old, now := Ranges(weights, less), Ranges(weights, more)
		for i := range 10000 {
			at := float64(i) / 10000
			was, is := variant(old, at), variant(now, at)
			if was >= 0 && was != is {
				t.Fatalf("bucket %v went from %d to %d", at, was, is)
			}
		}
	})
}

// TestOf_spreadsEvenly is a coarse guard against a slip in the hash.
func TestOf_spreadsEvenly(t *testing.T) {
	t.Parallel()
	var tenths [10]int
	for i := range 100_000 {
		tenths[int(Of("checkout", "user-"+strconv.Itoa(i))*10)]++
	}
	for i, n := range tenths {
		if n < 9_500 || n > 10_500 {
			t.Errorf("%d of 100000 values are in tenth %d", n, i)
		}
	}
}

func randomWeights(t *rapid.T) []float64 {
	parts := rapid.SliceOfN(rapid.IntRange(1, 100), 2, 6).Draw(t, "parts")
	total := 0
	for _, p := range parts {
		total += p
	}
	weights := make([]float64, len(parts))
	for i, p := range parts {
		weights[i] = float64(p) / float64(total)
	}
	return weights
}

func variant(ranges []Range, at float64) int {
	for i, r := range ranges {
		if r.Holds(at) {
			return i
		}
	}
	return -1
}

func BenchmarkOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = Of("checkout", "2f6c7d1e-9a53-4b0e-8c1d-7f3a5e9b2c40")
	}
}
