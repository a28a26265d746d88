package region

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
)

// keepSession has an answer that sets the session's cookie, as a sign-in or a
// renewal does, stored and shared by nobody, whatever the region says of it: not by
// a cache here, which comes after this, and not by one behind. One stored copy of it
// would sign others in as this user.
func keepSession(h http.Header, cookie string) {
	for _, line := range h["Set-Cookie"] {
		if name, _, _ := strings.Cut(line, "="); textproto.TrimString(name) == cookie {
			edge.NoStore(h)
			return
		}
	}
}
