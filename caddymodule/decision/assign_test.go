package decision

import (
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

func TestDecision_variantsAreInAStableOrder(t *testing.T) {
	t.Parallel()
	d, _, r, _ := begin(t, Options{})
	for _, v := range []Variant{{"search", "v2"}, {"checkout", "short"}, {"price", "b"}} {
		if !d.Assign(v.Experiment, v.Name) {
			t.Errorf("%v was not taken", v)
		}
	}
	if d.Assign("search", "v1") {
		t.Error("a second assignment was taken")
	}
	if got := d.VariantKey(); got != "checkout=short,price=b,search=v2" {
		t.Errorf("key %q", got)
	}
	d.FlagsBy(func(key string) (string, bool) { return "value of " + key, key == "dark" })
	repl := replacer(r)
	for text, want := range map[string]string{
		"{edge.variant.search}": "v2", "{edge.variant.other}": "", "{edge.flag.dark}": "value of dark",
	} {
		if got := repl.ReplaceAll(text, ""); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}

func TestDecision_flagIsEmptyWithoutFlags(t *testing.T) {
	t.Parallel()
	_, _, r, _ := begin(t, Options{})
	if got := replacer(r).ReplaceAll("{edge.flag.dark}", ""); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestDecision_ownCookieKeepsAnAnswerOutOfSharedCaches(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]string{
		"": "private, no-cache", "public, s-maxage=60": "private, no-cache", "no-store": "no-store", "Private, No-Store": "Private, No-Store",
	} {
		d, w, _, rec := begin(t, Options{})
		d.SetCookie(&http.Cookie{Name: "id", Value: "1", Path: "/"})
		w.Header().Set("Cache-Control", sent)
		w.Header().Set("CDN-Cache-Control", "max-age=600")
		w.Header().Set("Expires", "Thu, 01 Jan 2037 00:00:00 GMT")
		w.Header().Add("Set-Cookie", "theirs=1")
		w.WriteHeader(200)
		h := rec.Result().Header
		if got := h.Get("Cache-Control"); got != want {
			t.Errorf("%q became %q, want %q", sent, got, want)
		}
		if h.Get("CDN-Cache-Control") != "" || h.Get("Expires") != "" {
			t.Errorf("%v lets a cache store it", h)
		}
		if got := strings.Join(h["Set-Cookie"], "; "); got != "theirs=1; id=1; Path=/" {
			t.Errorf("cookies %q", got)
		}
	}
}

func TestDecision_exposureIsLogged(t *testing.T) {
	t.Parallel()
	d, _, _, _ := begin(t, Options{})
	d.Assign("checkout", "short")
	d.Expose("checkout", "short")
	d.AnonymousID = "v1"
	e := zapcore.NewMapObjectEncoder()
	if err := d.MarshalLogObject(e); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		handoff.FieldVariants: "checkout=short", handoff.FieldExposures: "checkout=short", handoff.FieldAnonymousID: "v1",
	} {
		if e.Fields[field] != want {
			t.Errorf("%s is %v, want %q", field, e.Fields[field], want)
		}
	}
}
