package edge

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// Bounds of [Cache].
const (
	DefaultCacheMemory = 256 << 20
	DefaultDiskFrom    = 1 << 20
	minCacheMemory     = 1 << 20
	minDiskFrom        = 4 << 10
)

// Cache bounds what this POP's caches keep, all together.
type Cache struct {
	// Memory is how many bytes answers may take that are stored or on their way.
	// Default: 256 MiB.
	Memory int64 `json:"memory,omitempty"`

	// Disk is a directory for the bodies of large answers, of this process alone. What
	// is there is not used by the next one. Default: they are in memory too.
	Disk string `json:"disk,omitempty"`

	// DiskSize is how many bytes they may take there. Required with Disk.
	DiskSize int64 `json:"disk_size,omitempty"`

	// DiskFrom is from how many bytes on a body is large. Default: 1 MiB.
	DiskFrom int64 `json:"disk_from,omitempty"`
}

func (c *Cache) check() error {
	switch {
	case c == nil:
		return nil
	case c.Memory != 0 && c.Memory < minCacheMemory:
		return fmt.Errorf("memory %d: %s is the least", c.Memory, humanize.IBytes(minCacheMemory))
	case c.Disk == "" && (c.DiskSize != 0 || c.DiskFrom != 0):
		return errors.New("disk_from and disk_size go with disk: name a directory")
	case c.Disk != "" && c.DiskSize <= 0:
		return errors.New("disk: say how many bytes it may take, such as 10GiB")
	case c.DiskFrom != 0 && c.DiskFrom < minDiskFrom:
		return fmt.Errorf("disk_from %d: %s is the least", c.DiskFrom, humanize.IBytes(minDiskFrom))
	}
	return nil
}

// CacheLimits gives what edge_cache may keep, with the defaults.
func (a *App) CacheLimits() (c Cache) {
	if a.Cache != nil {
		c = *a.Cache
	}
	if c.Memory == 0 {
		c.Memory = DefaultCacheMemory
	}
	if c.DiskFrom == 0 {
		c.DiskFrom = DefaultDiskFrom
	}
	return c
}

// unmarshalCache reads cache:
//
//	cache {
//		memory <size>
//		disk <directory> <size>
//		disk_from <size>
//	}
func (a *App) unmarshalCache(d *caddyfile.Dispenser) error {
	if a.Cache != nil {
		return d.Err("cache stands twice")
	}
	a.Cache = new(Cache)
	if d.NextArg() {
		return d.Errf("cache takes a block and no argument, got %q", d.Val())
	}
	whole := *d
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		whole = *d
		if err := a.Cache.unmarshalOption(d); err != nil {
			return err
		}
	}
	if err := a.Cache.check(); err != nil {
		return whole.WrapErr(fmt.Errorf("cache: %w", err))
	}
	return nil
}

func (c *Cache) unmarshalOption(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "memory":
		return Size(d, &c.Memory, "")
	case "disk":
		args := d.RemainingArgs()
		if len(args) != 2 || args[0] == "" {
			return d.Errf("disk takes a directory and a size, got %q", args)
		}
		if c.Disk != "" {
			return d.Err("disk stands twice")
		}
		var ok bool
		if c.DiskSize, ok = parseSize(args[1]); !ok {
			return d.Errf("disk %q: it is a size such as 10GiB", args[1])
		}
		c.Disk = args[0]
		return nil
	case "disk_from":
		return Size(d, &c.DiskFrom, "")
	}
	return Unknown(d, "cache", "memory", "disk", "disk_from")
}
