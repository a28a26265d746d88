package edge

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// Bounds of [Cache.Memory].
const (
	DefaultCacheMemory = 256 << 20
	minCacheMemory     = 1 << 20
)

// Cache bounds what this POP's caches keep, all together.
type Cache struct {
	// Memory is how many bytes answers may take that are stored or on their way.
	// Default: 256 MiB.
	Memory int64 `json:"memory,omitempty"`
}

func (c *Cache) check() error {
	if c != nil && c.Memory != 0 && c.Memory < minCacheMemory {
		return fmt.Errorf("memory %d: %s is the least", c.Memory, humanize.IBytes(minCacheMemory))
	}
	return nil
}

// CacheMemory is how many bytes edge_cache may keep.
func (a *App) CacheMemory() int64 {
	if a.Cache == nil || a.Cache.Memory == 0 {
		return DefaultCacheMemory
	}
	return a.Cache.Memory
}

// unmarshalCache reads cache:
//
//	cache {
//		memory <size>
//	}
func (a *App) unmarshalCache(d *caddyfile.Dispenser) error {
	if a.Cache != nil {
		return d.Err("cache stands twice")
	}
	a.Cache = new(Cache)
	if d.NextArg() {
		return d.Errf("cache takes a block and no argument, got %q", d.Val())
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "memory" {
			return Unknown(d, "cache", "memory")
		}
		var text string
		if err := One(d, &text); err != nil {
			return err
		}
		n, err := humanize.ParseBytes(text)
		if err != nil || n > 1<<50 {
			return d.Errf("memory %q is no size such as 256MiB", text)
		}
		a.Cache.Memory = int64(n)
		if err := a.Cache.check(); err != nil {
			return d.WrapErr(fmt.Errorf("cache: %w", err))
		}
	}
	return nil
}
