package signedurl

import (
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata anew")

// vectors is testdata/vectors.json: links as any language has to make them, and
// requests as any has to judge them.
type vectors struct {
	Keys  string `json:"keys"`
	Links []struct {
		Name    string `json:"name"`
		Link    link   `json:"link"`
		Message string `json:"message"` // what is signed
		Signed  string `json:"signed"`
	} `json:"links"`
	Requests []struct {
		Name    string `json:"name"`
		Method  string `json:"method"`
		Host    string `json:"host,omitempty"`
		Target  string `json:"target"`
		Tenant  string `json:"tenant,omitempty"`
		Client  string `json:"client,omitempty"`
		Now     int64  `json:"now"`
		Verdict string `json:"verdict"`
	} `json:"requests"`
}

type link struct {
	Target    string   `json:"target"`
	Prefix    string   `json:"prefix,omitempty"`
	Free      []string `json:"free,omitempty"`
	Method    string   `json:"method,omitempty"`
	Host      string   `json:"host,omitempty"`
	Tenant    string   `json:"tenant,omitempty"`
	Network   string   `json:"network,omitempty"`
	Expires   int64    `json:"expires"`
	NotBefore int64    `json:"notBefore,omitempty"`
}

// verdicts are the words of the vectors for the errors.
var verdicts = map[string]error{
	"holds": nil, "missing": ErrMissing, "malformed": ErrMalformed, "duplicate": ErrDuplicate, "version": ErrVersion, "key": ErrKey, "signature": ErrSignature,
	"expired": ErrExpired, "not yet": ErrNotYet, "method": ErrMethod, "host": ErrHost, "path": ErrPath, "tenant": ErrTenant, "network": ErrNetwork,
}

func TestVectors(t *testing.T) {
	const file = "testdata/vectors.json"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	k := parse(t, v.Keys)
	signed := map[string]string{}
	for i := range v.Links {
		row := &v.Links[i]
		l := Link{Target: row.Link.Target, Prefix: row.Link.Prefix, Free: row.Link.Free, Method: row.Link.Method, Host: row.Link.Host, Tenant: row.Link.Tenant, Expires: time.Unix(row.Link.Expires, 0)}
		if row.Link.Network != "" {
			l.Network = netip.MustParsePrefix(row.Link.Network)
		}
		if row.Link.NotBefore != 0 {
			l.NotBefore = time.Unix(row.Link.NotBefore, 0)
		}
		got, message := sign(t, k, l), messageOf(t, k, l)
		signed["{"+row.Name+"}"] = got
		if *update {
			row.Signed, row.Message = got, message
		}
		if got != row.Signed || message != row.Message {
			t.Errorf("%s: %s\n%q", row.Name, got, message)
		}
	}
	for i := range v.Requests {
		row := &v.Requests[i]
		if *update {
			for name, target := range signed {
				row.Target = strings.ReplaceAll(row.Target, name, target)
			}
		}
		r := Request{Method: row.Method, Host: row.Host, Target: row.Target, Tenant: row.Tenant, Now: time.Unix(row.Now, 0)}
		if row.Client != "" {
			r.Client = netip.MustParseAddr(row.Client)
		}
		want, known := verdicts[row.Verdict]
		if _, err := k.Verify(r); !known || !errors.Is(err, want) {
			t.Errorf("%s: %v, want %s", row.Name, err, row.Verdict)
		}
	}
	if *update {
		out, err := json.MarshalIndent(v, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		out = []byte(strings.NewReplacer(`\u0026`, "&").Replace(string(out)))
		if err := os.WriteFile(file, append(out, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// messageOf gives what Sign signs.
func messageOf(t *testing.T, k *Keys, l Link) string {
	t.Helper()
	f, err := l.fields()
	if err != nil {
		t.Fatal(err)
	}
	f.key = k.keys[0].id
	path, query, _ := strings.Cut(l.Target, "?")
	rest, err := split(query)
	if err != nil {
		t.Fatal(err)
	}
	if f.prefix != "" {
		return string(f.message("prefix", f.prefix, rest.signed(f.free)))
	}
	return string(f.message("path", canonicalPath(path), rest.signed(f.free)))
}
