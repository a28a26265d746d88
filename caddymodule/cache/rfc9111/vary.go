package rfc9111

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
)

// VariesOnAll reports whether no other request can be answered with this response:
// a member of Vary is "*" (RFC 9110, section 12.5.5).
func VariesOnAll(h http.Header) bool { return slices.Contains(VaryFields(h), "*") }

// VaryFields names the request fields that selected a response, in canonical
// spelling, sorted, each once.
func VaryFields(h http.Header) []string {
	var fields []string
	for _, line := range h["Vary"] {
		for line != "" {
			var name string
			if name, line = cutMember(line); name != "" {
				fields = append(fields, http.CanonicalHeaderKey(name))
			}
		}
	}
	slices.Sort(fields)
	return slices.Compact(fields)
}

// Secondary is the part of a cache key that the fields of Vary make (RFC 9111,
// section 4.1). Two requests select the same response if and only if it is equal:
// lines are one list, and white space around members is nothing, but a field that is
// absent is equal to an absent one alone. normalize may map the values of a field to
// one that stands for all that mean the same, and is asked with the list; nil: it is
// the list.
func Secondary(fields []string, request http.Header, normalize func(field, list string) string) string {
	if len(fields) == 0 {
		return ""
	}
	var b []byte
	for _, field := range fields {
		b = appendPart(b, field)
		lines, ok := request[field]
		if !ok {
			b = append(b, 0)
			continue
		}
		list := collapse(lines)
		if normalize != nil {
			list = normalize(field, list)
		}
		b = append(b, 1)
		b = appendPart(b, list)
	}
	return string(b)
}

// collapse makes one list of a field's lines, with ", " between its members and no
// empty ones.
func collapse(lines []string) string {
	if len(lines) == 1 && !strings.ContainsAny(lines[0], ", \t") {
		return lines[0]
	}
	var members []string
	for _, line := range lines {
		for line != "" {
			var member string
			if member, line = cutMember(line); member != "" {
				members = append(members, member)
			}
		}
	}
	return strings.Join(members, ", ")
}

// Key makes a cache key of parts, such that no two lists of parts make the same: the
// length of each stands before it.
func Key(parts ...string) string {
	n := 0
	for _, part := range parts {
		n += len(part) + binary.MaxVarintLen32
	}
	b := make([]byte, 0, n)
	for _, part := range parts {
		b = appendPart(b, part)
	}
	return string(b)
}

func appendPart(b []byte, part string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}
