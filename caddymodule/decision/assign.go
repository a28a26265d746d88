package decision

import (
	"net/http"
	"slices"
	"strings"
)

// Variant is the side of an experiment that a request is on.
type Variant struct{ Experiment, Name string }

// Assign records the variant of an experiment. The first stands: whatever has
// been decided by it would otherwise be wrong. It reports whether it was the
// first.
func (d *Decision) Assign(experiment, variant string) bool {
	at, found := slices.BinarySearchFunc(d.Variants, experiment, func(v Variant, name string) int {
		return strings.Compare(v.Experiment, name)
	})
	if found {
		return false
	}
	d.Variants = slices.Insert(d.Variants, at, Variant{experiment, variant})
	return true
}

// Variant is the request's variant of an experiment, empty when it is not in it.
func (d *Decision) Variant(experiment string) string {
	for _, v := range d.Variants { // a handful
		if v.Experiment == experiment {
			return v.Name
		}
	}
	return ""
}

// VariantKey is all variants in one text, sorted by experiment, as in
// "checkout=short,search=v2". Answers of two requests with another VariantKey may
// differ. Empty: the request is in no experiment.
func (d *Decision) VariantKey() string { return joined(d.Variants) }

// Expose records that the request's client met a variant for the first time.
func (d *Decision) Expose(experiment, variant string) {
	d.exposures = append(d.exposures, Variant{experiment, variant})
}

// FlagsBy lets value answer for {edge.flag.NAME}, with false for a flag that is
// not there. The last stands.
func (d *Decision) FlagsBy(value func(key string) (string, bool)) { d.flag = value }

// SetCookie sends a cookie of the edge's own with the answer, whoever makes it,
// and keeps that answer out of every shared cache: they may store an answer and
// its cookie alike (RFC 9111, section 7.3), and would give one visitor's to all.
func (d *Decision) SetCookie(c *http.Cookie) {
	if text := c.String(); text != "" {
		d.cookies = append(d.cookies, text)
	}
}

// stampCookies puts the cookies into the answer's header.
func (d *Decision) stampCookies(h http.Header) {
	if len(d.cookies) == 0 {
		return
	}
	for _, c := range d.cookies {
		h.Add("Set-Cookie", c)
	}
	h.Del("Cdn-Cache-Control") // would decide in place of the other (RFC 9213, section 2.1)
	h.Del("Surrogate-Control")
	h.Del("Expires")
	if !strings.Contains(strings.ToLower(strings.Join(h["Cache-Control"], ",")), "no-store") {
		h.Set("Cache-Control", "private, no-cache")
	}
}

// joined writes variants as experiment=variant, with commas between.
func joined(variants []Variant) string {
	switch len(variants) {
	case 0:
		return ""
	case 1:
		return variants[0].Experiment + "=" + variants[0].Name
	}
	var b strings.Builder
	for i, v := range variants {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(v.Experiment)
		b.WriteByte('=')
		b.WriteString(v.Name)
	}
	return b.String()
}

// assigned answers for {edge.variant.NAME}, {edge.flag.NAME} and
// {edge.kv.BUCKET.KEY}. What is not there is empty.
func (d *Decision) assigned(key string) (any, bool) {
	if experiment, ok := strings.CutPrefix(key, "edge.variant."); ok {
		return d.Variant(experiment), true
	}
	if flag, ok := strings.CutPrefix(key, "edge.flag."); ok {
		if d.flag == nil {
			return "", true
		}
		value, _ := d.flag(flag)
		return value, true
	}
	if of, ok := strings.CutPrefix(key, "edge.kv."); ok {
		bucket, name, _ := strings.Cut(of, ".")
		if d.values == nil {
			return "", true
		}
		value, _ := d.values(bucket, d.Identity.Tenant, name)
		return value, true
	}
	return nil, false
}
