package idempotency

import (
	"strings"
	"testing"
)

func TestReadKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", MaxKey)
	for _, row := range []struct {
		values []string
		key    string
		bad    bool
	}{
		{nil, "", false},
		{[]string{"k"}, "k", false},
		{[]string{`"k"`}, "k", false},
		{[]string{" k\t"}, "k", false},
		{[]string{`"a \"b\" \\ c"`}, `a "b" \ c`, false},
		{[]string{`"a, b"`}, "a, b", false},
		{[]string{long}, long, false},
		{[]string{`"` + long + `"`}, long, false},
		{[]string{""}, "", true},
		{[]string{`""`}, "", true},
		{[]string{`"`}, "", true},
		{[]string{`"k`}, "", true},
		{[]string{`"k" x`}, "", true},
		{[]string{`"k";a=1`}, "", true},
		{[]string{`"k\n"`}, "", true},
		{[]string{`"k\`}, "", true},
		{[]string{`"a", "b"`}, "", true},
		{[]string{"a, b"}, "", true},
		{[]string{"a", "a"}, "", true},
		{[]string{long + "k"}, "", true},
		{[]string{"k\x00"}, "", true},
		{[]string{"k\x7f"}, "", true},
		{[]string{"ключ"}, "", true},
	} {
		key, err := readKey(row.values)
		if key != row.key || (err != nil) != row.bad {
			t.Errorf("%q: %q, %v", row.values, key, err)
		}
	}
}

func FuzzReadKey(f *testing.F) {
	for _, seed := range []string{"k", `"k"`, `"\""`, `"\`, "a,b", "\x7f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, err := readKey([]string{value})
		if err != nil {
			return
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		again, err := readKey([]string{quoted})
		if err != nil || again != key {
			t.Errorf("%q is %q, but quoted %q, %v", value, key, again, err)
		}
	})
}
