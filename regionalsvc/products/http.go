package products

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/api"
)

// cacheControl lets every cache keep a page for a minute, show it for ten more
// while it is fetched anew, and for a day while this region cannot answer
// (RFC 9111, section 5.2.2.10; RFC 5861).
const cacheControl = "public, s-maxage=60, stale-while-revalidate=600, stale-if-error=86400"

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// Routes are the endpoints of this capability.
func (s *Service) Routes() []api.Route {
	return []api.Route{
		{Pattern: "GET /products/{slug}", Access: api.Anyone, Handle: s.page},
		{Pattern: "PUT /api/products/{slug}", Handle: s.change},
	}
}

// page answers with a product's page. It is the same for everybody, so it looks
// at nobody's identity.
func (s *Service) page(w http.ResponseWriter, r *http.Request) error {
	p, err := s.Find(r.Context(), r.PathValue("slug"))
	if err != nil {
		return err
	}
	var body bytes.Buffer
	err = pageTemplate.Execute(&body, struct{ Name, Price, Currency, Changed string }{
		p.Name, price(p.PriceCents), p.Currency, p.UpdatedAt.Format(time.RFC3339),
	})
	if err != nil {
		return fmt.Errorf("render product %s: %w", p.Slug, err)
	}
	sum := sha256.Sum256(body.Bytes())
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	if !matches(r, tag) {
		return problem.New(http.StatusPreconditionFailed, problem.Conflict, "")
	}
	r.Header.Del("Range") // which may be ignored (RFC 9110, section 14.2); a bad one would be answered in plain text
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", cacheControl)
	h.Set("Cache-Groups", `"`+group(p.Slug)+`"`) // a list of one structured field string
	h.Set("Etag", tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body.Bytes())) // If-None-Match, HEAD
	return nil
}

// matches evaluates If-Match (RFC 9110, section 13.1.1). http.ServeContent would too,
// and would answer 412 without a problem.
func matches(r *http.Request, tag string) bool {
	wanted := r.Header.Values("If-Match")
	if len(wanted) == 0 {
		return true
	}
	return slices.ContainsFunc(strings.Split(strings.Join(wanted, ","), ","), func(one string) bool {
		one = strings.TrimSpace(one)
		return one == "*" || one == tag
	})
}

// group names the cache entries that a change of the product makes stale (RFC 9875,
// section 2).
func group(slug string) string { return "product:" + slug }

// price writes minor units with two decimals.
func price(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

func (s *Service) change(w http.ResponseWriter, r *http.Request) error {
	in, err := api.Decode[Input](r)
	if err != nil {
		return err
	}
	p, err := s.Change(r.Context(), api.Who(r), r.PathValue("slug"), in)
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, p)
}
