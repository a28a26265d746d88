package experiment

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff/definition"
)

// overridePurpose is what the signature of an override is for.
const overridePurpose = "edge-override"

// overrideExpiry is the word before the time at which an override ends.
const overrideExpiry = definition.OverrideExpiry

// maxOverrides bounds how many experiments one cookie decides.
const maxOverrides = 16

// SignOverride gives the value of the override cookie that puts whoever sends it
// on the sides given, experiment to variant, until expires.
//
// The value is "experiment=variant&…&exp=SECONDS", signed as [edge.App.SignCookie]
// does for the purpose "edge-override".
func SignOverride(app *edge.App, sides map[string]string, expires time.Time) (string, error) {
	values := url.Values{overrideExpiry: {strconv.FormatInt(expires.Unix(), 10)}}
	for experiment, variant := range sides {
		values.Set(experiment, variant)
	}
	return app.SignCookie(overridePurpose, values.Encode())
}

// override is what a signed cookie says, nil where there is none in force.
func (e *Experiment) override(lines []string, now time.Time) map[string]string {
	value, ok := readCookie(lines, e.OverrideCookie)
	if !ok {
		return nil
	}
	payload, ok := e.app.OpenCookie(overridePurpose, value)
	if !ok {
		return nil
	}
	return readOverride(payload, now)
}

// readOverride reads the payload of an override, nil when it is malformed or
// past. It was signed by somebody who may; read strictly, it says one thing.
func readOverride(payload string, now time.Time) map[string]string {
	sides := map[string]string{}
	var expires int64
	for pair := range strings.SplitSeq(payload, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name == overrideExpiry {
			at, err := strconv.ParseInt(value, 10, 64)
			if err != nil || expires != 0 {
				return nil
			}
			expires = at
			continue
		}
		if _, twice := sides[name]; twice || !definition.ValidName(name) || !definition.ValidName(value) || len(sides) == maxOverrides {
			return nil
		}
		sides[name] = value
	}
	if expires <= now.Unix() {
		return nil
	}
	return sides
}
