package edge

import (
	"errors"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// unmarshalHealth reads health, which may be bare: checks with the defaults.
func unmarshalHealth(d *caddyfile.Dispenser, into **Health) error {
	if *into != nil {
		return d.Err("health stands twice")
	}
	h := new(Health)
	*into = h
	var err error
	if h.Off, err = isOff(d, "health"); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch d.Val() {
		case "uri":
			err = One(d, &h.URI)
		case "port":
			err = count(d, &h.Port)
		case "interval":
			err = once(d, &h.Interval)
		case "timeout":
			err = once(d, &h.Timeout)
		case "fails":
			err = count(d, &h.Fails)
		case "passes":
			err = count(d, &h.Passes)
		default:
			err = Unknown(d, "health", "uri", "port", "interval", "timeout", "fails", "passes")
		}
		if err == nil {
			err = at(d, h.check())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func unmarshalBreaker(d *caddyfile.Dispenser, into **Breaker) error {
	if *into != nil {
		return d.Err("breaker stands twice")
	}
	b := new(Breaker)
	*into = b
	var err error
	if b.Off, err = isOff(d, "breaker"); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch d.Val() {
		case "failures":
			err = count(d, &b.Failures)
		case "ratio":
			err = b.unmarshalRatio(d)
		case "window":
			err = once(d, &b.Window)
		case "open":
			err = once(d, &b.Open)
		case "max_open":
			err = once(d, &b.MaxOpen)
		case "trials":
			err = count(d, &b.Trials)
		default:
			err = Unknown(d, "breaker", "failures", "ratio", "window", "open", "max_open", "trials")
		}
		if err == nil {
			err = at(d, b.check())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Breaker) unmarshalRatio(d *caddyfile.Dispenser) error {
	if b.Ratio != 0 {
		return d.Err("ratio stands twice")
	}
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	var err error
	if b.Ratio, err = Share(text); err == nil && b.Ratio == 0 {
		err = errors.New("a breaker that opens at no failure never closes: 1% or more")
	}
	if err != nil {
		return d.Errf("ratio: %w", err)
	}
	return nil
}
