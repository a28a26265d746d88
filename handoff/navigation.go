package handoff

import (
	"net/http"
	"strconv"
	"strings"
)

// IsNavigation reports whether a browser wants to show a page: GET or HEAD with
// Sec-Fetch-Mode: navigate (Fetch Metadata, section 2.2) or, from a browser that
// sends no such header at all, with text/html named in Accept. "*/*" does not
// name it: programs send that. It is the one definition for whoever answers
// a browser otherwise than a program: with a redirect, where a program gets a
// status.
func IsNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	if modes, ok := r.Header["Sec-Fetch-Mode"]; ok {
		return len(modes) == 1 && modes[0] == "navigate"
	}
	for field := range r.Header {
		if strings.HasPrefix(field, "Sec-Fetch-") {
			return false
		}
	}
	return namesHTML(r.Header["Accept"])
}

// namesHTML looks for text/html among the media ranges of Accept (RFC 9110,
// section 12.5.1). One with the weight 0 is "not acceptable".
func namesHTML(lines []string) bool {
	for _, line := range lines {
		for media := range strings.SplitSeq(line, ",") {
			kind, parameters, _ := strings.Cut(media, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/html") && !weighsNothing(parameters) {
				return true
			}
		}
	}
	return false
}

func weighsNothing(parameters string) bool {
	for parameter := range strings.SplitSeq(parameters, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if strings.EqualFold(key, "q") {
			weight, err := strconv.ParseFloat(value, 64)
			return err == nil && weight == 0
		}
	}
	return false
}
