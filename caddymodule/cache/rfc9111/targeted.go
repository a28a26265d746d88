package rfc9111

import (
	"net/http"
	"time"
)

// Targeted reads the directives for a cache whose target list is targets, in
// canonical spelling and the most specific first: CDN-Cache-Control, for example
// (RFC 9213, section 2.2). The first of these fields that is there and is a
// dictionary decides alone, and Cache-Control and Expires are then ignored. Without
// one, Cache-Control decides.
//
// A field counts as a whole or not at all: one that is empty, that is no
// dictionary, or that gives a directive we know a value of another type, is passed
// over (section 2.1).
func Targeted(h http.Header, targets []string) Response {
	for _, target := range targets {
		if lines, ok := h[target]; ok {
			if d, ok := parseTargeted(lines); ok {
				return d
			}
		}
	}
	return ParseResponse(h)
}

func parseTargeted(lines []string) (Response, bool) {
	d, sound, members := Response{Targeted: true}, true, 0
	seconds := func(s *Seconds, value bare, inner bool) {
		if inner || value.kind != 'i' {
			sound = false
			return
		}
		// A number below zero is none that says how long (RFC 9111, section 1.2.2).
		*s = Seconds{Given: true, Valid: value.integer >= 0, Value: time.Duration(min(value.integer, maxSeconds)) * time.Second}
	}
	flag := func(b *bool, value bare, inner bool) {
		if inner || value.kind != 'b' {
			sound = false
			return
		}
		*b = value.integer == 1
	}
	// no-cache and private may name fields, as a string; we keep the whole back.
	qualified := func(b *bool, value bare, inner bool) {
		if !inner && value.kind == 's' {
			*b = true
			return
		}
		flag(b, value, inner)
	}
	ok := dictionary(lines, func(key string, value bare, inner bool) {
		members++
		switch key {
		case "max-age":
			seconds(&d.MaxAge, value, inner)
		case "s-maxage":
			seconds(&d.SMaxAge, value, inner)
		case "stale-while-revalidate":
			seconds(&d.StaleWhileRevalidate, value, inner)
		case "stale-if-error":
			seconds(&d.StaleIfError, value, inner)
		case "no-store":
			flag(&d.NoStore, value, inner)
		case "no-cache":
			qualified(&d.NoCache, value, inner)
		case "private":
			qualified(&d.Private, value, inner)
		case "public":
			flag(&d.Public, value, inner)
		case "must-revalidate":
			flag(&d.MustRevalidate, value, inner)
		case "proxy-revalidate":
			flag(&d.ProxyRevalidate, value, inner)
		case "must-understand":
			flag(&d.MustUnderstand, value, inner)
		case "no-transform":
			flag(&d.NoTransform, value, inner)
		case "immutable":
			flag(&d.Immutable, value, inner)
		}
	})
	return d, ok && sound && members > 0
}

// maxGroups and maxGroup bound what is kept of Cache-Groups: RFC 9875, section 2.1,
// asks for 32 of 32 characters at least.
const (
	maxGroups = 128
	maxGroup  = 256
)

// Groups reads Cache-Groups, or Cache-Group-Invalidation (RFC 9875, sections 2 and
// 3): a list of strings, which are compared byte for byte. A field that is none is
// ignored, and so is a group that is empty or too long, and those after the 128th.
func Groups(h http.Header, field string) []string {
	list, ok := strs(h[field])
	if !ok {
		return nil
	}
	kept := list[:0]
	for _, group := range list {
		if group != "" && len(group) <= maxGroup && len(kept) < maxGroups {
			kept = append(kept, group)
		}
	}
	return kept
}
