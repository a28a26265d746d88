package directory

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

var key = bytes.Repeat([]byte{7}, MinKey)

func file() File {
	return File{
		Tenants: map[string]Tenant{"acme": {Home: "eu"}, "globex": {Home: "us"}},
		Logins:  map[string]Login{LoginHash(key, "ada@acme.example"): {Home: "eu", Tenant: "acme"}},
	}
}

func TestDirectory_loadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(file())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "directory.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Load(path, key)
	if err != nil {
		t.Fatal(err)
	}
	if home, ok := d.Home("globex"); !ok || home != "us" {
		t.Errorf("globex is at %q, %t", home, ok)
	}
	if _, ok := d.Home("initech"); ok {
		t.Error("a tenant that was never written is known")
	}
	if got := d.Regions(); !slices.Equal(got, []string{"eu", "us"}) {
		t.Errorf("regions %q", got)
	}
}

func TestLogin_isFoundInEverySpelling(t *testing.T) {
	t.Parallel()
	d, err := New(file(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, typed := range []string{"ada@acme.example", " Ada@ACME.example\n"} {
		if home, tenant, ok := d.Login(typed); !ok || home != "eu" || tenant != "acme" {
			t.Errorf("%q: %q, %q, %t", typed, home, tenant, ok)
		}
	}
	for _, typed := range []string{"", "ada", "eve@acme.example", "ada@acme.example\x00", strings.Repeat("a", 1<<20) + "@acme.example"} {
		if _, _, ok := d.Login(typed); ok {
			t.Errorf("%.40q is known", typed)
		}
	}
}

func TestLogin_needsTheKey(t *testing.T) {
	t.Parallel()
	d, err := New(file(), bytes.Repeat([]byte{8}, MinKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := d.Login("ada@acme.example"); ok {
		t.Error("a sign-in name was found under another key")
	}
}

func TestParse_refuses(t *testing.T) {
	t.Parallel()
	hash := LoginHash(key, "ada@acme.example")
	for name, row := range map[string]struct {
		data string
		key  []byte
		want string
	}{
		"short key":        {`{}`, key[:31], "31 bytes"},
		"unknown member":   {`{"tenant":{}}`, key, "unknown"},
		"duplicate tenant": {`{"tenants":{"a":{"home":"eu"},"a":{"home":"us"}}}`, key, "duplicate"},
		"tenant's name":    {`{"tenants":{"A":{"home":"eu"}}}`, key, `tenant "A"`},
		"home's name":      {`{"tenants":{"a":{"home":"E U"}}}`, key, `home "E U"`},
		"a home's epoch":   {`{"tenants":{"a":{"home":"eu","epoch":-1}}}`, key, `epoch -1`},
		"no home":          {`{"tenants":{"a":{}}}`, key, `home ""`},
		"hash":             {`{"tenants":{"a":{"home":"eu"}},"logins":{"ada@acme.example":{"home":"eu","tenant":"a"}}}`, key, "hexadecimal"},
		"upper-case hash":  {`{"tenants":{"a":{"home":"eu"}},"logins":{"` + strings.ToUpper(hash) + `":{"home":"eu","tenant":"a"}}}`, key, "hexadecimal"},
		"login's tenant":   {`{"logins":{"` + hash + `":{"home":"eu","tenant":"a"}}}`, key, "not among"},
		"login's home":     {`{"tenants":{"a":{"home":"eu"}},"logins":{"` + hash + `":{"home":"us","tenant":"a"}}}`, key, `at home in "eu"`},
	} {
		if _, err := Parse([]byte(row.data), row.key); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q in it", name, err, row.want)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	f.Add(" Ada@ACME.example")
	f.Add("a@b\x00")
	f.Fuzz(func(t *testing.T, typed string) {
		name, err := Normalize(typed)
		if err != nil {
			return
		}
		again, err := Normalize(name)
		if err != nil || again != name {
			t.Errorf("%q becomes %q, and that %q, %v", typed, name, again, err)
		}
	})
}
