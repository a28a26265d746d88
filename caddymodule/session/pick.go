package session

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/handoff/strictjwt"
)

// pick gives the values of the claims of those names, of a token that was
// verified: of a string itself, of a number or a boolean its text, of an array
// those of its members. Null and objects have no value. Nothing is decoded where
// no name is asked for.
func pick(token string, names []string) (map[string][]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return nil, fmt.Errorf("%w: payload: %w", strictjwt.ErrMalformed, err)
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, fmt.Errorf("%w: payload: %w", strictjwt.ErrMalformed, err)
	}
	picked := make(map[string][]string, len(names))
	for _, name := range names {
		if values := valuesOf(members[name]); len(values) > 0 {
			picked[name] = values
		}
	}
	return picked, nil
}

// valuesOf reads a claim; what is valid JSON and has no value here has none.
func valuesOf(claim jsontext.Value) []string {
	if claim.Kind() != '[' {
		if value, ok := scalar(claim); ok {
			return []string{value}
		}
		return nil
	}
	var several []jsontext.Value
	if err := json.Unmarshal(claim, &several); err != nil {
		return nil
	}
	var values []string
	for _, one := range several {
		if value, ok := scalar(one); ok {
			values = append(values, value)
		}
	}
	return values
}

func scalar(claim jsontext.Value) (string, bool) {
	switch claim.Kind() {
	case '"':
		var text string
		err := json.Unmarshal(claim, &text)
		return text, err == nil
	case '0', 't', 'f':
		return strings.TrimSpace(string(claim)), true
	}
	return "", false
}
