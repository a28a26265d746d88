package edge

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Target is where a directive sends a request: an address of which everything
// that decides about the place is written in the configuration, and which ends,
// if it is to, in what the client asked for. So it can never lead to a site that
// the configuration does not name.
type Target struct {
	// Host is that of an absolute address, in lower case and with its port. Empty: this site.
	Host string
	// Path is the path before what the client asked for, "/de" for example. It
	// does not end in a slash where something follows.
	Path string

	base string // what stands before tail
	tail tail
}

type tail int

const (
	tailNone tail = iota
	tailPath      // {path}
	tailURI       // {uri}
)

// The placeholders, as the Caddyfile writes them out.
var tails = [...]struct {
	short, long string
	tail        tail
}{
	{"{uri}", "{http.request.uri}", tailURI},
	{"{path}", "{http.request.uri.path}", tailPath},
}

// ParseTarget reads a target: a path or an https address (http for a loopback host)
// without a query, and at its end {uri}, the path and query that the client
// asked for, {path}, the path alone, or neither. Both are put there byte for byte.
func ParseTarget(text string) (Target, error) {
	var t Target
	t.base = text
	for _, one := range tails {
		for _, placeholder := range []string{one.short, one.long} {
			if before, found := strings.CutSuffix(text, placeholder); found && t.tail == tailNone {
				t.base, t.tail = before, one.tail
			}
		}
	}
	if err := t.parseBase(); err != nil {
		return Target{}, fmt.Errorf("%q: %w", shorten(text), err)
	}
	return t, nil
}

func (t *Target) parseBase() error {
	if strings.ContainsAny(t.base, "{}") {
		return errors.New("{uri} or {path} may stand at the end, and no other placeholder anywhere")
	}
	t.Path = t.base
	if !strings.HasPrefix(t.base, "/") {
		u, err := url.Parse(t.base)
		if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" ||
			u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
			return errors.New("it is a path such as /de{uri} or an address such as https://files.example.com{path}")
		}
		t.Host, t.Path = strings.ToLower(u.Host), u.EscapedPath()
	}
	switch {
	case t.Path == "" && t.Host == "":
		return errors.New("it needs a path or a host before {uri} or {path}: else it is where the request is already")
	case strings.Contains(t.Path, "?"):
		return errors.New("it holds no query of its own")
	case t.Path != "" && handoff.CheckPath(t.Path) != nil:
		return handoff.CheckPath(t.Path)
	case t.tail != tailNone && strings.HasSuffix(t.Path, "/"):
		return errors.New("{uri} and {path} begin with a slash themselves")
	}
	return nil
}

func isLoopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

// shorten writes a target as the Caddyfile's author did.
func shorten(text string) string {
	for _, one := range tails {
		text = strings.ReplaceAll(text, one.long, one.short)
	}
	return text
}

// Of gives the address for a request for u, whose path CheckPath has let through.
func (t *Target) Of(u *url.URL) string {
	if t.tail == tailNone {
		return t.base
	}
	target := t.base + slashed(u.EscapedPath())
	if t.tail == tailURI && u.RawQuery != "" {
		target += "?" + u.RawQuery
	}
	return target
}

// Rewrite makes u ask for the target, which is a path of this site. The query
// stays as it is.
func (t *Target) Rewrite(u *url.URL) {
	if t.tail == tailNone {
		u.Path, u.RawPath = t.Path, ""
		if plain, err := url.PathUnescape(t.Path); err == nil {
			u.Path, u.RawPath = plain, t.Path
		}
		return
	}
	escaped := t.Path + slashed(u.EscapedPath())
	plain, err := url.PathUnescape(t.Path)
	if err != nil { // not reachable: ParseTarget has looked at it
		plain = t.Path
	}
	u.Path, u.RawPath = plain+slashed(u.Path), escaped
}

func slashed(path string) string {
	if !strings.HasPrefix(path, "/") {
		return "/" + path
	}
	return path
}

// Holds reports whether a request for that host and path is at the target
// already, or below it.
func (t *Target) Holds(host, path string) bool {
	if t.Host != "" && !strings.EqualFold(host, t.Host) {
		return false
	}
	below := strings.TrimSuffix(t.Path, "/")
	if len(path) < len(below) || !strings.EqualFold(path[:len(below)], below) { // Caddy matches paths without their case
		return false
	}
	rest := path[len(below):]
	return rest == "" || rest[0] == '/'
}
