package flags

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/bucket"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
)

func handler(t testing.TB, definitions ...*Definition) *Flags {
	t.Helper()
	f := &Flags{Flags: definitions, Country: "{http.request.header.X-Country}"}
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	if err := f.take(nil); err != nil {
		t.Fatal(err)
	}
	return f
}

func ada() handoff.Identity {
	return handoff.Identity{Tenant: "acme", Subject: "ada", SubjectIssuer: "gatehouse:eu", Roles: []string{"admin"}}
}

// call is one request of the tests.
type call struct {
	method, path, body string
	header             http.Header
	who                handoff.Identity
}

// do sends c through f; what f passes on is answered with 418.
func do(t testing.TB, f *Flags, c call) (*http.Response, string, *http.Request) {
	t.Helper()
	if c.method == "" {
		c.method = http.MethodPost
	}
	if c.path == "" {
		c.path = Path
	}
	if c.header == nil {
		c.header = http.Header{}
	}
	if _, ok := c.header["Content-Type"]; !ok {
		c.header.Set("Content-Type", "application/json")
	}
	r := edgetest.Request(c.method, c.path, c.header)
	r.Body = io.NopCloser(strings.NewReader(c.body))
	rec := httptest.NewRecorder()
	d, w := decision.Begin(rec, r, "request-1", decision.Options{POP: "fra"})
	d.Identity = c.who
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	})
	if err := f.ServeHTTP(w, r, next); err != nil {
		t.Fatal(err)
	}
	res := rec.Result()
	body, _ := io.ReadAll(res.Body)
	return res, string(body), r
}

func darkMode() *Definition {
	return &Definition{Key: "dark", Public: true, Rules: []Rule{
		{Variant: "on", Audience: edge.Audience{Tenants: []string{"acme"}, Roles: []string{"admin"}, Countries: []string{"DE"}}},
	}}
}

func form() *Definition {
	return &Definition{Key: "checkout.form", Public: true, Default: "long", Variants: []Variant{
		{Name: "short", Value: jsontext.Value(`{ "fields": 3 }`)}, {Name: "long", Value: jsontext.Value(`{"fields":12}`)},
	}}
}

func secret() *Definition { return &Definition{Key: "billing-v2", Default: "on"} }

func TestFlags_bulkIsOFREP(t *testing.T) {
	t.Parallel()
	f := handler(t, darkMode(), form(), secret())
	res, body, _ := do(t, f, call{body: `{"context":{"targetingKey":"x"}}`, who: ada(), header: http.Header{"X-Country": {"DE"}}})
	const want = `{"flags":[{"key":"checkout.form","value":{"fields":12},"reason":"STATIC","variant":"long"},` +
		`{"key":"dark","value":true,"reason":"TARGETING_MATCH","variant":"on"}]}`
	if res.StatusCode != 200 || body != want {
		t.Errorf("%d %s\nwant %s", res.StatusCode, body, want)
	}
	for header, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "private, no-cache", "Content-Length": strconv.Itoa(len(want)),
	} {
		if got := res.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	_, body, _ = do(t, f, call{body: `{}`})
	if !strings.Contains(body, `{"key":"dark","value":false,"reason":"DEFAULT","variant":"off"}`) {
		t.Errorf("nobody gets %s", body)
	}
}

func TestFlags_clientIsNotBelieved(t *testing.T) {
	t.Parallel()
	f := handler(t, darkMode())
	_, body, _ := do(t, f, call{body: `{"context":{"targetingKey":"ada","tenant":"acme","tenants":["acme"],"roles":["admin"],"country":"DE"}}`})
	if !strings.Contains(body, `"value":false`) {
		t.Errorf("a context was believed: %s", body)
	}
}

func TestFlags_etagAnswers304UntilAnAnswerChanges(t *testing.T) {
	t.Parallel()
	f := handler(t, darkMode())
	res, _, _ := do(t, f, call{body: `{}`})
	etag := res.Header.Get("Etag")
	for _, sent := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
		res, body, _ := do(t, f, call{body: `{}`, header: http.Header{"If-None-Match": {sent}}})
		if res.StatusCode != 304 || body != "" || res.Header.Get("Etag") != etag || res.Header.Get("Content-Type") != "" {
			t.Errorf("%s: %d %q %v", sent, res.StatusCode, body, res.Header)
		}
	}
	header := http.Header{"If-None-Match": {etag}, "X-Country": {"DE"}}
	if res, _, _ := do(t, f, call{body: `{}`, header: header, who: ada()}); res.StatusCode != 200 || res.Header.Get("Etag") == etag {
		t.Errorf("another session's answer: %d with %s", res.StatusCode, res.Header.Get("Etag"))
	}
	changed, err := definition.ParseFlags([]byte(`{"flags":[{"key":"new","public":true}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.take(changed); err != nil {
		t.Fatal(err)
	}
	if res, _, _ := do(t, f, call{body: `{}`, header: http.Header{"If-None-Match": {etag}}}); res.StatusCode != 200 {
		t.Errorf("after a change of the flags: %d", res.StatusCode)
	}
}

func TestFlags_single(t *testing.T) {
	t.Parallel()
	f := handler(t, darkMode(), form(), secret())
	res, body, _ := do(t, f, call{path: Path + "/checkout.form", body: `{"context":{}}`})
	if res.StatusCode != 200 || body != `{"key":"checkout.form","value":{"fields":12},"reason":"STATIC","variant":"long"}` {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for _, key := range []string{"none", "billing-v2", "dark/x", "Dark"} {
		res, body, _ := do(t, f, call{path: Path + "/" + key, body: `{}`})
		if res.StatusCode != 404 || body != fmt.Sprintf(`{"key":%q,"errorCode":"FLAG_NOT_FOUND","errorDetails":"There is no such flag."}`, key) {
			t.Errorf("%s: %d %s", key, res.StatusCode, body)
		}
	}
}

func TestFlags_refusesWhatIsNoEvaluation(t *testing.T) {
	t.Parallel()
	f := handler(t, darkMode())
	typed := func(values ...string) http.Header { return http.Header{"Content-Type": values} }
	for name, row := range map[string]struct {
		call
		status int
		code   string
	}{
		"GET":               {call{method: "GET"}, 405, codeGeneral},
		"HEAD":              {call{method: "HEAD"}, 405, codeGeneral},
		"PUT":               {call{method: "PUT", body: `{}`}, 405, codeGeneral},
		"a form":            {call{header: typed("application/x-www-form-urlencoded"), body: `{}`}, 415, codeGeneral},
		"text/plain":        {call{header: typed("text/plain"), body: `{}`}, 415, codeGeneral},
		"no type":           {call{header: typed(), body: `{}`}, 415, codeGeneral},
		"two types":         {call{header: typed("application/json", "text/plain"), body: `{}`}, 415, codeGeneral},
		"another charset":   {call{header: typed("application/json; charset=utf-16"), body: `{}`}, 415, codeGeneral},
		"compressed":        {call{header: http.Header{"Content-Encoding": {"gzip"}}, body: `{}`}, 415, codeGeneral},
		"too large":         {call{body: `{"context":{"a":"` + strings.Repeat("x", maxBody) + `"}}`}, 413, codeGeneral},
		"empty":             {call{}, 400, codeParse},
		"no object":         {call{body: `[]`}, 400, codeParse},
		"null":              {call{body: `null`}, 400, codeParse},
		"broken":            {call{body: `{"context":{}`}, 400, codeParse},
		"trailing":          {call{body: `{"context":{}} {}`}, 400, codeParse},
		"duplicate names":   {call{body: `{"context":{"a":1,"a":2}}`}, 400, codeParse},
		"bad UTF-8":         {call{body: "{\"context\":{\"a\":\"\xff\"}}"}, 400, codeParse},
		"context a list":    {call{body: `{"context":[]}`}, 400, codeContext},
		"context null":      {call{body: `{"context":null}`}, 400, codeContext},
		"targetingKey 1":    {call{body: `{"context":{"targetingKey":1}}`}, 400, codeContext},
		"targetingKey null": {call{body: `{"context":{"targetingKey":null}}`}, 400, codeContext},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{Path, Path + "/dark"} {
				c := row.call
				c.path, c.header = path, c.header.Clone()
				res, body, _ := do(t, f, c)
				var got struct{ Key, ErrorCode, ErrorDetails string }
				if err := json.Unmarshal([]byte(body), &got); err != nil {
					t.Fatalf("%d %s: %v", res.StatusCode, body, err)
				}
				if res.StatusCode != row.status || got.ErrorCode != row.code || got.ErrorDetails == "" || (got.Key == "dark") != (path != Path) {
					t.Errorf("%s: %d %s, want %d %s", path, res.StatusCode, body, row.status, row.code)
				}
				if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Etag") != "" {
					t.Errorf("an error is cacheable: %v", res.Header)
				}
				if (res.StatusCode == 405) != (res.Header.Get("Allow") == "POST") {
					t.Errorf("Allow: %q", res.Header.Get("Allow"))
				}
			}
		})
	}
}

func TestFlags_passesOnWhatIsNotOFREP(t *testing.T) {
	t.Parallel()
	f := handler(t, darkMode(), form(), secret(), &Definition{Key: "greeting", Default: "hello", Variants: []Variant{{Name: "hello", Value: jsontext.Value(`"a \"b\""`)}}})
	for _, path := range []string{"/", Path + "x", "/x" + Path, "/ofrep/v1/configuration"} {
		res, _, r := do(t, f, call{path: path, who: ada(), header: http.Header{"X-Country": {"DE"}}})
		if res.StatusCode != 418 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		const text = "{edge.flag.dark} {edge.flag.billing-v2} {edge.flag.checkout.form} {edge.flag.greeting} [{edge.flag.none}]"
		if got := repl.ReplaceAll(text, ""); got != `true true {"fields":12} a "b" []` {
			t.Errorf("%s: placeholders %s", path, got)
		}
	}
}

func TestFlags_coverageIsOfUsersAndOnlyGrows(t *testing.T) {
	t.Parallel()
	with := func(share float64) *Flags {
		d := darkMode()
		d.Rules = []Rule{{Variant: "on", Coverage: &share}}
		return handler(t, d)
	}
	less, more := with(0.1), with(0.3)
	in := 0
	for i := range 1000 {
		who := handoff.Identity{Tenant: "acme", Subject: "u" + strconv.Itoa(i)}
		_, few, _ := do(t, less, call{body: `{}`, who: who})
		_, many, _ := do(t, more, call{body: `{}`, who: who})
		if strings.Contains(few, "true") && !strings.Contains(many, "true") {
			t.Errorf("%s lost the flag as it grew", who.Subject)
		}
		if got := strings.Contains(many, `"value":true,"reason":"SPLIT"`); got != (bucket.Of("dark", who.Subject) < 0.3) {
			t.Errorf("%s: %s", who.Subject, many)
		} else if got {
			in++
		}
	}
	if in < 240 || in > 360 {
		t.Errorf("%d of 1000 have it", in)
	}
	if _, body, _ := do(t, more, call{body: `{}`}); !strings.Contains(body, `"value":false`) {
		t.Errorf("nobody has %s", body)
	}
}

func TestParse_isStrict(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		``, `[]`, `{"flag":[]}`, `{"flags":[{"key":"a","Public":true}]}`, `{"flags":[],"flags":[]}`, `{"flags":[{"key":"a","rules":[{"variant":"on","tenant":"acme"}]}]}`,
	} {
		if _, err := definition.ParseFlags([]byte(data)); err == nil {
			t.Errorf("%s is taken", data)
		}
	}
	more, err := definition.ParseFlags([]byte(`{"flags":[{"key":"a","rules":[{"variant":"on","tenants":["acme"],"coverage":0.5}]}]}`))
	if err != nil || more[0].Rules[0].Tenants[0] != "acme" {
		t.Errorf("%v, %v", more, err)
	}
}

func TestCompile_bounds(t *testing.T) {
	t.Parallel()
	var many []*Definition
	for i := range definition.MaxFlags + 1 {
		many = append(many, &Definition{Key: "f" + strconv.Itoa(i)})
	}
	for name, definitions := range map[string][]*Definition{
		"flags": many, "null": {nil}, "rules": {{Key: "a", Rules: make([]Rule, definition.MaxRules+1)}},
		"broken value": {{Key: "a", Variants: []Variant{{Name: "on", Value: jsontext.Value("{")}}, Default: "on"}}, "no value": {{Key: "a", Variants: []Variant{{Name: "on"}}, Default: "on"}},
	} {
		if _, err := compile(definitions); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzReadContext holds that what is taken is one JSON object for encoding/json
// too.
func FuzzReadContext(f *testing.F) {
	for _, seed := range []string{`{}`, `{"context":{}}`, `{"context":{"targetingKey":"a"}}`, `{"context":null}`, `{"context":{"a":1,"a":2}}`, `[]`, ``, `{"context":{"targetingKey":{}}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if readContext(data) != nil {
			return
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(data, &object); err != nil || object == nil {
			t.Errorf("%q is taken: %v", data, err)
		}
	})
}

// BenchmarkBulk is the whole answer for 100 public flags with rules.
func BenchmarkBulk(b *testing.B) {
	var definitions []*Definition
	for i := range 100 {
		d := darkMode()
		d.Key = "flag-" + strconv.Itoa(i)
		definitions = append(definitions, d)
	}
	f := handler(b, definitions...)
	const body = `{"context":{"targetingKey":"ada"}}`
	b.ReportAllocs()
	for b.Loop() {
		res, _, _ := do(b, f, call{body: body, who: ada(), header: http.Header{"X-Country": {"DE"}}})
		if res.StatusCode != 200 {
			b.Fatal(res.StatusCode)
		}
	}
}
