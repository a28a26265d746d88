package cache

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/cache/store"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// Stock is what a POP has stored, for its operator.
type Stock struct{ s *shared }

// StockOf gives what the caches of app's configuration have stored. ok is false where
// there is no cache.
func StockOf(app *edge.App) (stock Stock, ok bool) {
	s, ok := edge.Found[*shared](app, sharedKey)
	return Stock{s}, ok
}

// Summary is what is stored, in figures.
type Summary struct {
	// Stored, Reserved and Limit are bytes of memory: of what is stored, of what is on
	// its way, and what both may take together.
	Stored   int64 `json:"stored"`
	Reserved int64 `json:"reserved"`
	Limit    int64 `json:"limit"`
	// Disk is how many bytes the bodies of large answers take on the disk, and DiskLimit
	// how many they may. Absent: there is no disk.
	Disk      int64 `json:"disk,omitzero"`
	DiskLimit int64 `json:"disk_limit,omitzero"`
	// Objects counts each variant and each part for itself.
	Objects int `json:"objects"`
	// Evicted, Purged and Replaced were taken out since the POP began to store: for
	// want of room, by a purge, and for a newer one.
	Evicted  int64 `json:"evicted"`
	Purged   int64 `json:"purged"`
	Replaced int64 `json:"replaced"`
	// Purges counts those of the feed, of an operator, and by requests.
	Purges uint64 `json:"purges"`
}

// Summary gives the figures.
func (k Stock) Summary() Summary {
	s := k.s.store.Stats()
	sum := Summary{
		Stored: s.Stored, Reserved: s.Reserved, Limit: s.Limit, Objects: s.Objects,
		Evicted: s.Evicted, Purged: s.Purged, Replaced: s.Renewed, Purges: s.Purges,
	}
	if d := k.s.disk.Load(); d != nil {
		sum.Disk, sum.DiskLimit, _, _ = d.Usage()
	}
	return sum
}

// Item is one stored answer.
type Item struct {
	Host string `json:"host"`
	// URI is path and query as the origin was asked.
	URI    string `json:"uri"`
	Policy string `json:"policy"`
	// Tenant and User, an issuer and a subject, are whose it is. Absent: everybody's.
	Tenant string `json:"tenant,omitzero"`
	User   string `json:"user,omitzero"`
	Status int    `json:"status"`
	// Age and TTL are in seconds. What is stale has a TTL below zero.
	Age int64 `json:"age"`
	TTL int64 `json:"ttl"`
	// Purged is set where a soft purge lets it be used as a stale one at most.
	Purged bool `json:"purged,omitzero"`
	// Size is that of the body in bytes, and Memory what all of it takes.
	Size   int64    `json:"size"`
	Memory int64    `json:"memory"`
	Hits   int64    `json:"hits"`
	Groups []string `json:"groups,omitempty"`
	// Part is the range of a 206.
	Part string `json:"part,omitzero"`
}

// Listing asks what is stored.
type Listing struct {
	// Prefix is a path, or a whole URL, that the answers' begin with. Empty: all.
	Prefix string `json:"prefix,omitzero"`
	// Tenant narrows it to one's. Empty: everybody's.
	Tenant string `json:"tenant,omitzero"`
	// By is "size", the largest first, or "hits", the most used. Default: size.
	By string `json:"by,omitzero"`
	// Limit is how many, 1000 at most. Default: 50.
	Limit int `json:"limit,omitzero"`
}

const (
	defaultListed = 50
	maxListed     = 1000
)

// List gives the stored answers that are asked for, and how many there are of that
// kind. It looks at everything, and keeps few of it.
func (k Stock) List(l Listing) (items []Item, all int, err error) {
	host, prefix := "", ""
	if l.Prefix != "" {
		if host, prefix, err = handfeed.Target(l.Prefix); err != nil {
			return nil, 0, fmt.Errorf("prefix: %w", err)
		}
	}
	size := func(i Item) int64 { return max(i.Memory, i.Size) } // the body may be on a disk
	order := func(a, b Item) int { return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.URI, b.URI)) }
	switch l.By {
	case "", "size":
	case "hits":
		order = func(a, b Item) int { return cmp.Or(cmp.Compare(b.Hits, a.Hits), cmp.Compare(a.URI, b.URI)) }
	default:
		return nil, 0, fmt.Errorf("by %q: it is size or hits", l.By)
	}
	switch {
	case l.Tenant != "" && !handoff.ValidTenant(l.Tenant):
		return nil, 0, errNoTenant
	case l.Limit < 0 || l.Limit > maxListed:
		return nil, 0, fmt.Errorf("limit %d: it is 1 to %d", l.Limit, maxListed)
	}
	limit := cmp.Or(l.Limit, defaultListed)
	now := time.Now()
	items = []Item{}
	k.each(func(key string, o *store.Object, purged bool) {
		if host != "" && o.Tags.Host != host || !strings.HasPrefix(o.Tags.URI, prefix) || l.Tenant != "" && o.Tags.Tenant != l.Tenant {
			return
		}
		all++
		if items = append(items, item(key, o, purged, now)); len(items) >= 4*limit {
			slices.SortFunc(items, order)
			items = items[:limit]
		}
	})
	slices.SortFunc(items, order)
	return items[:min(limit, len(items))], all, nil
}

// each calls f with all that could be answered with.
func (k Stock) each(f func(key string, o *store.Object, purged bool)) {
	k.s.store.Each(func(key string, objects []*store.Object) bool {
		for _, o := range objects {
			if standing := k.s.store.Standing(o); standing != store.Invalid {
				f(key, o, standing == store.Stale)
			}
		}
		return true
	})
}

func item(key string, o *store.Object, purged bool, now time.Time) Item {
	p, _ := partsOf(key)
	i := Item{
		Host: o.Tags.Host, URI: o.Tags.URI, Policy: p.policy, Tenant: p.tenant, Status: o.Status,
		Age: int64(o.Timing.Age(now) / time.Second), TTL: int64(o.Timing.Left(now) / time.Second), Purged: purged,
		Size: o.Body.Size, Memory: o.Weight(), Hits: o.Hits.Load(), Groups: o.Tags.Groups,
	}
	if p.subject != "" {
		i.User = p.issuer + " " + p.subject
	}
	if o.Part != nil {
		i.Part = o.Part.String()
	}
	return i
}

// Variant is one of the answers that are stored for a URL.
type Variant struct {
	Item
	// Stored is when it came, or was last validated.
	Stored time.Time `json:"stored"`
	// Vary are the request fields by which it was chosen. What the request had there is
	// not told: it may be anybody's secret.
	Vary []string `json:"vary,omitempty"`
	// Header are the fields that say what it is and how long it may be used.
	Header map[string][]string `json:"header"`
}

// told are the fields of [Variant.Header]. Set-Cookie is not among them.
var told = []string{
	"Age", "Cache-Control", "Cache-Groups", "Cdn-Cache-Control", "Content-Encoding", "Content-Language", "Content-Type", "Date", "Etag",
	"Expires", "Last-Modified", "Vary",
}

// Refused says why an answer was not stored.
type Refused struct {
	Why    string    `json:"why"`
	At     time.Time `json:"at"`
	Policy string    `json:"policy"`
	Tenant string    `json:"tenant,omitzero"`
}

// Show gives what is stored for a URL, of a tenant or, where that is empty, of anybody.
// Where nothing is, it gives why the last answer was not stored, if that was within
// the hour, and the URL had a host.
func (k Stock) Show(target, tenant string) (variants []Variant, refused *Refused, err error) {
	host, uri, err := handfeed.Target(target)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("url: %w", err)
	case tenant != "" && !handoff.ValidTenant(tenant):
		return nil, nil, errNoTenant
	}
	now := time.Now()
	variants = []Variant{}
	k.each(func(key string, o *store.Object, purged bool) {
		if o.Tags.URI != uri || host != "" && o.Tags.Host != host || tenant != "" && o.Tags.Tenant != tenant {
			return
		}
		v := Variant{Item: item(key, o, purged, now), Stored: o.Timing.At.UTC(), Vary: o.Vary, Header: map[string][]string{}}
		for _, field := range told {
			if lines := o.Header[field]; len(lines) > 0 {
				v.Header[field] = lines
			}
		}
		variants = append(variants, v)
	})
	slices.SortFunc(variants, func(a, b Variant) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), b.Stored.Compare(a.Stored)) })
	if len(variants) == 0 && host != "" {
		if r, ok := k.s.refused.GetIfPresent(k.s.hash(host + uri)); ok && (tenant == "" || r.Tenant == tenant) {
			r.At = r.At.UTC()
			refused = &r
		}
	}
	return variants, refused, nil
}

// Purging says what is to be purged: by one of URL, Prefix, Group and All.
type Purging struct {
	// URL is a whole one, or a path with its query: of all hosts.
	URL string `json:"url,omitzero"`
	// Prefix is what URLs begin with, in the same form.
	Prefix string `json:"prefix,omitzero"`
	// Group is a cache group (RFC 9875).
	Group string `json:"group,omitzero"`
	All   bool   `json:"all,omitzero"`
	// Tenant narrows it to one's. Empty: whoever's it is.
	Tenant string `json:"tenant,omitzero"`
	// Soft leaves it to be used as what is stale may be.
	Soft bool `json:"soft,omitzero"`
}

// Purge purges, and says how many stored answers that reached. What is on its way is
// reached, too, and not counted.
func (k Stock) Purge(p Purging) (reached int, err error) {
	what, err := p.read()
	if err != nil {
		return 0, err
	}
	reached = k.s.store.Reached(what)
	k.s.store.Purge(what)
	return reached, nil
}

// Check says what is wrong with it.
func (p *Purging) Check() error {
	_, err := p.read()
	return err
}

var errNoTenant = errors.New("tenant is no tenant's name")

func (p *Purging) read() (what store.Purge, err error) {
	what = store.Purge{Tenant: p.Tenant, Everyone: p.Tenant == "", Soft: p.Soft}
	named := 0
	for _, is := range [...]bool{p.URL != "", p.Prefix != "", p.Group != "", p.All} {
		if is {
			named++
		}
	}
	switch {
	case named != 1:
		return what, fmt.Errorf("it names %d of url, prefix, group and all: one says what is purged", named)
	case p.Tenant != "" && !handoff.ValidTenant(p.Tenant):
		return what, errNoTenant
	case p.URL != "":
		what.Reach = store.URI
		if what.Host, what.Value, err = handfeed.Target(p.URL); err != nil {
			return what, fmt.Errorf("url: %w", err)
		}
	case p.Prefix != "":
		what.Reach = store.Prefix
		if what.Host, what.Value, err = handfeed.Target(p.Prefix); err != nil {
			return what, fmt.Errorf("prefix: %w", err)
		}
	case p.Group != "":
		what.Reach, what.Value = store.Group, p.Group
		if err := handfeed.CheckGroup(p.Group); err != nil {
			return what, err
		}
	default:
		what.Reach = store.All
	}
	return what, nil
}
