package experiment

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/bucket"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
)

func halves(name, by string) *Definition {
	return &Definition{Name: name, By: by, Variants: []Variant{{Name: "a"}, {Name: "b"}}}
}

func handler(t testing.TB, definitions ...*Definition) *Experiment {
	t.Helper()
	e := &Experiment{Experiments: definitions, Country: "{http.request.header.X-Country}"}
	if err := e.use(edgetest.App(t), caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Cleanup() })
	return e
}

// outcome is what became of one request.
type outcome struct {
	*decision.Decision
	header http.Header
}

func (o outcome) logged(t *testing.T, field string) string {
	t.Helper()
	fields := zapcore.NewMapObjectEncoder()
	if err := o.MarshalLogObject(fields); err != nil {
		t.Fatal(err)
	}
	text, _ := fields.Fields[field].(string)
	return text
}

// ask sends a request of id through e.
func ask(t testing.TB, e *Experiment, id handoff.Identity, header http.Header) outcome {
	t.Helper()
	if header == nil {
		header = http.Header{}
	}
	r := edgetest.Request("GET", "/", header)
	rec := httptest.NewRecorder()
	d, w := decision.Begin(rec, r, "request-1", decision.Options{POP: "fra"})
	d.Identity = id
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	if err := e.ServeHTTP(w, r, next); err != nil {
		t.Fatal(err)
	}
	return outcome{d, rec.Result().Header}
}

func ada() handoff.Identity {
	return handoff.Identity{Tenant: "acme", Subject: "ada", SubjectIssuer: "gatehouse:eu", Roles: []string{"admin"}}
}

func cookie(pairs ...string) http.Header { return http.Header{"Cookie": {strings.Join(pairs, "; ")}} }

func TestExperiment_visitorKeepsTheSide(t *testing.T) {
	t.Parallel()
	e := handler(t, halves("banner", ByAnonymous))
	first := ask(t, e, handoff.Identity{}, nil)
	set, err := http.ParseSetCookie(first.header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	if set.Name != DefaultCookie || !set.Secure || !set.HttpOnly || set.Path != "/" || set.Domain != "" || set.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie %v", set)
	}
	if got := first.header.Get("Cache-Control"); got != "private, no-cache" {
		t.Errorf("an answer with a visitor's id is cacheable: %q", got)
	}
	if side := first.Variant("banner"); side == "" || first.logged(t, handoff.FieldExposures) != "banner="+side {
		t.Errorf("side %q, exposures %q", side, first.logged(t, handoff.FieldExposures))
	}
	for range 3 {
		again := ask(t, e, handoff.Identity{}, cookie("other=1", set.Name+"="+set.Value))
		if again.VariantKey() != first.VariantKey() || again.AnonymousID != first.AnonymousID {
			t.Errorf("%s became %s", first.VariantKey(), again.VariantKey())
		}
		if again.header.Get("Set-Cookie") != "" || again.logged(t, handoff.FieldExposures) != "" {
			t.Error("the cookie or the exposure came again")
		}
		if again.logged(t, handoff.FieldVariants) == "" {
			t.Error("the variants are not in the log")
		}
	}
}

func TestExperiment_forgedVisitorIsNobody(t *testing.T) {
	t.Parallel()
	e := handler(t, halves("banner", ByAnonymous))
	id := strings.Repeat("A", 22)
	good, err := e.app.SignCookie(visitorPurpose, id)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, _ := e.app.SignCookie(overridePurpose, id)
	short, _ := e.app.SignCookie(visitorPurpose, "A")
	name := DefaultCookie + "="
	for what, header := range map[string]http.Header{
		"unsigned":         cookie(name + id),
		"another purpose":  cookie(name + elsewhere),
		"another id":       cookie(name + strings.Replace(good, "A", "B", 1)),
		"another form":     cookie(name + short),
		"twice":            cookie(name+good, name+good),
		"twice, two lines": {"Cookie": {name + good, name + good}},
		"another case":     cookie(strings.ToUpper(name) + good),
		"too long":         cookie(name + strings.Repeat("A", maxCookie) + good),
		"quoted":           cookie(name + `"` + good + `"`),
	} {
		if got := ask(t, e, handoff.Identity{}, header); got.AnonymousID == id || got.header.Get("Set-Cookie") == "" {
			t.Errorf("%s: the visitor is %q", what, got.AnonymousID)
		}
	}
	if got := ask(t, e, handoff.Identity{}, cookie(name+good)); got.AnonymousID != id {
		t.Errorf("the good one: the visitor is %q", got.AnonymousID)
	}
}

func TestExperiment_unitDecides(t *testing.T) {
	t.Parallel()
	e := handler(t, halves("mine", ByUser), halves("ours", ByTenant))
	side := func(seed, unit string) string {
		if bucket.Of(seed, unit) < 0.5 {
			return "a"
		}
		return "b"
	}
	for i := range 50 {
		id := handoff.Identity{Tenant: "t" + strconv.Itoa(i%5), Subject: "u" + strconv.Itoa(i), SubjectIssuer: "gatehouse:eu"}
		got := ask(t, e, id, nil)
		if want := "mine=" + side("mine", id.Subject) + ",ours=" + side("ours", id.Tenant); got.VariantKey() != want {
			t.Errorf("%v: %s, want %s", id, got.VariantKey(), want)
		}
		id.SubjectIssuer = "gatehouse:us" // the tenant moved
		if moved := ask(t, e, id, nil); moved.VariantKey() != got.VariantKey() {
			t.Errorf("%v changed sides by a move", id)
		}
	}
	if got := ask(t, e, handoff.Identity{}, nil); got.VariantKey() != "" || got.header.Get("Set-Cookie") != "" {
		t.Errorf("without a unit: %q, cookie %q", got.VariantKey(), got.header.Get("Set-Cookie"))
	}
}

func TestExperiment_isForItsAudience(t *testing.T) {
	t.Parallel()
	x := halves("checkout", ByUser)
	x.Audience = edge.Audience{Tenants: []string{"acme"}, Roles: []string{"admin", "owner"}, Countries: []string{"DE"}}
	e := handler(t, x)
	in := func(id handoff.Identity, country string) bool {
		return ask(t, e, id, http.Header{"X-Country": {country}}).Variant("checkout") != ""
	}
	if !in(ada(), "DE") || !in(ada(), "de") {
		t.Error("who fits is not in it")
	}
	clerk, elsewhere := ada(), ada()
	clerk.Roles, elsewhere.Tenant = []string{"clerk"}, "globex"
	for what, out := range map[string]bool{
		"role": in(clerk, "DE"), "tenant": in(elsewhere, "DE"), "country": in(ada(), "FR"),
		"no country": in(ada(), ""), "junk for a country": in(ada(), "{DE}"), "nobody": in(handoff.Identity{}, "DE"),
	} {
		if out {
			t.Errorf("another %s is in it", what)
		}
	}
}

func TestExperiment_namespacesDoNotOverlap(t *testing.T) {
	t.Parallel()
	first, second := halves("first", ByUser), halves("second", ByUser)
	first.Namespace = &bucket.Space{Name: "cart", From: 0, To: 0.5}
	second.Namespace = &bucket.Space{Name: "cart", From: 0.5, To: 1}
	e := handler(t, first, second)
	for i := range 200 {
		id := ada()
		id.Subject = "u" + strconv.Itoa(i)
		if d := ask(t, e, id, nil); len(d.Variants) != 1 {
			t.Errorf("%s is in %s", id.Subject, d.VariantKey())
		}
	}
}

func TestExperiment_coverageLeavesTheRestOut(t *testing.T) {
	t.Parallel()
	x := halves("checkout", ByUser)
	share := 0.2
	x.Coverage = &share
	e := handler(t, x)
	in := 0
	for i := range 2000 {
		id := ada()
		id.Subject = "u" + strconv.Itoa(i)
		if ask(t, e, id, nil).Variant("checkout") != "" {
			in++
		}
	}
	if in < 320 || in > 480 {
		t.Errorf("%d of 2000 are in it, with a coverage of 0.2", in)
	}
}

func TestExperiment_signedOverrideDecides(t *testing.T) {
	t.Parallel()
	none := 0.0
	x := halves("checkout", ByUser)
	x.Coverage = &none
	e := handler(t, x)
	sign := func(sides map[string]string, expires time.Time) string {
		t.Helper()
		value, err := SignOverride(e.app, sides, expires)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	later := time.Now().Add(time.Hour)
	good := sign(map[string]string{"checkout": "b", "gone": "x"}, later)
	name := DefaultOverrideCookie + "="
	got := ask(t, e, handoff.Identity{}, cookie(name+good))
	if got.Variant("checkout") != "b" || len(got.Variants) != 1 {
		t.Errorf("sides %v", got.Variants)
	}
	if exposed := got.logged(t, handoff.FieldExposures); exposed != "" {
		t.Errorf("a test counts as the exposure %s", exposed)
	}
	asVisitor, _ := e.app.SignCookie(visitorPurpose, "checkout=b&exp="+strconv.FormatInt(later.Unix(), 10))
	for what, value := range map[string]string{
		"expired":         sign(map[string]string{"checkout": "b"}, time.Now().Add(-time.Second)),
		"unknown side":    sign(map[string]string{"checkout": "c"}, later),
		"another purpose": asVisitor,
		"unsigned":        strings.SplitN(good, ".", 2)[0],
		"changed":         strings.Replace(good, "checkout=b", "checkout=a", 1),
	} {
		if got := ask(t, e, handoff.Identity{}, cookie(name+value)); got.VariantKey() != "" {
			t.Errorf("%s: sides %v", what, got.Variants)
		}
	}
}

// TestOverride_documentedForm has a value that OpenSSL made, as
// docs/CADDYFILE.md says.
func TestOverride_documentedForm(t *testing.T) {
	t.Parallel()
	value, err := SignOverride(edgetest.App(t), map[string]string{"checkout": "short"}, time.Unix(4102444800, 0))
	if want := "checkout=short&exp=4102444800.URFR43XPT53oU1dYIb_4nWU-5tlOH3R2dhDnM7geTwI"; err != nil || value != want {
		t.Errorf("value %q, %v", value, err)
	}
}

func TestReadOverride_isStrict(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	many := "exp=2000"
	for i := range maxOverrides + 1 {
		many += fmt.Sprintf("&x%d=a", i)
	}
	for _, payload := range []string{
		"", "a=b", "a=b&exp=", "a=b&exp=1000", "a=b&exp=x", "a=b&exp=2000&exp=3000", "a=b&a=c&exp=2000", "A=b&exp=2000", "a=B&exp=2000",
		"a&exp=2000", "=b&exp=2000", "a=%62&exp=2000", "a=b&&exp=2000", "a=b&exp=99999999999999999999", many,
	} {
		if sides := readOverride(payload, now); len(sides) > 0 {
			t.Errorf("%q says %v", payload, sides)
		}
	}
	if sides := readOverride("a=b&exp=2000&c=d", now); len(sides) != 2 || sides["a"] != "b" || sides["c"] != "d" {
		t.Errorf("got %v", sides)
	}
}

// TestExperiment_anotherSetDecidesAtOnce is what a source does.
func TestExperiment_anotherSetDecidesAtOnce(t *testing.T) {
	t.Parallel()
	e := handler(t, halves("checkout", ByUser))
	more, err := definition.ParseExperiments([]byte(`{"experiments":[{"name":"search","variants":[{"name":"v1","weight":1},{"name":"v2"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.take(more); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, e, ada(), nil); got.Variant("search") != "v1" || got.Variant("checkout") == "" {
		t.Errorf("sides %v", got.Variants)
	}
	twice, _ := definition.ParseExperiments([]byte(`{"experiments":[{"name":"checkout","variants":[{"name":"a"},{"name":"b"}]}]}`))
	if err := e.take(twice); err == nil || !strings.Contains(err.Error(), "stands twice") {
		t.Errorf("an experiment in both: %v", err)
	}
	if got := ask(t, e, ada(), nil); got.Variant("search") != "v1" {
		t.Error("a refused source changed something")
	}
}

func TestParse_isStrict(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		``, `[]`, `{"experiment":[]}`, `{"experiments":[{"name":"a","Variants":[]}]}`, `{"experiments":[],"experiments":[]}`,
		"{\"experiments\":[{\"name\":\"\xff\"}]}", `{"experiments":[]} {}`,
	} {
		if _, err := definition.ParseExperiments([]byte(data)); err == nil {
			t.Errorf("%s is taken", data)
		}
	}
}

func TestCompile_boundsTheFile(t *testing.T) {
	t.Parallel()
	var many []*Definition
	for i := range definition.MaxExperiments + 1 {
		many = append(many, halves("x"+strconv.Itoa(i), ByUser))
	}
	if _, err := compile(many); err == nil {
		t.Error("too many are taken")
	}
	if _, err := compile([]*Definition{nil}); err == nil {
		t.Error("null is taken")
	}
}

func TestExposures_areBounded(t *testing.T) {
	t.Parallel()
	x, err := newExposures()
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for i := range 2 * exposureEntries {
		x.first(exposed{"checkout", "a", strconv.Itoa(i)}, false)
	}
	x.met.CleanUp()
	if n := x.met.EstimatedSize(); n > exposureEntries {
		t.Errorf("%d are remembered", n)
	}
}

// FuzzReadCookie holds that a value is one that net/http finds too, once.
func FuzzReadCookie(f *testing.F) {
	for _, seed := range []string{"", "id=1", "id=1; id=2", "a=1; id=1; b=2", "id", "id=", ";;id=1;", `id="1"`, "ID=1", " id = 1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		value, ok := readCookie([]string{line}, "id")
		if !ok {
			return
		}
		var found []string
		for pair := range strings.SplitSeq(line, ";") {
			if v, is := strings.CutPrefix(textproto.TrimString(pair), "id="); is {
				found = append(found, v)
			}
		}
		if !slices.Equal(found, []string{value}) {
			t.Errorf("%q gives %q, of %q", line, value, found)
		}
	})
}

func FuzzReadOverride(f *testing.F) {
	for _, seed := range []string{"", "a=b&exp=2000", "exp=2000", "a=b&exp=2000&exp=1", "a=b", "a=b&a=c&exp=9", "%61=b&exp=2000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		sides := readOverride(payload, time.Unix(1000, 0))
		if sides == nil {
			return
		}
		values, err := url.ParseQuery(payload)
		if err != nil || len(values) != len(sides)+1 {
			t.Fatalf("%q says %v; as a query it is %v, %v", payload, sides, values, err)
		}
		for name, side := range sides {
			if !slices.Equal(values[name], []string{side}) {
				t.Errorf("%q: %s is %q, as a query %q", payload, name, side, values[name])
			}
		}
	})
}

// BenchmarkAssign is three experiments, one of them a visitor's, for a request
// whose sides were met before.
func BenchmarkAssign(b *testing.B) {
	e := handler(b, halves("mine", ByUser), halves("ours", ByTenant), halves("banner", ByAnonymous))
	id := strings.Repeat("A", 22)
	value, err := e.app.SignCookie(visitorPurpose, id)
	if err != nil {
		b.Fatal(err)
	}
	for name, header := range map[string]http.Header{"visitor": cookie("a=1", DefaultCookie+"="+value), "new visitor": {}} {
		b.Run(name, func(b *testing.B) {
			r := edgetest.Request("GET", "/", header)
			b.ReportAllocs()
			for b.Loop() {
				d := decision.Decision{Identity: ada()}
				if err := e.assign(r, &d); err != nil || len(d.Variants) != 3 {
					b.Fatal(err, d.Variants)
				}
			}
		})
	}
}
