package edge

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// Detached reports whether the app does not run: see [App.Detach].
func (a *App) Detached() bool { return a.detached }

// Detach makes an app ready to answer in a process that does not run it, as
// "caddy edge explain --config" does: it reads files, and Caddy's storage, and
// asks nobody. There is no feed, and no key set that has to be fetched. What could
// not be read comes back, for people; requests that need it are refused. It comes
// after the configuration was provisioned, and before anything else.
func (a *App) Detach() (missing []string) {
	note := func(format string, args ...any) { missing = append(missing, fmt.Sprintf(format, args...)) }
	a.load.Do(func() {
		a.detached = true
		var err error
		if a.keys, err = a.Assertion.load(); err != nil {
			note("assertion: %v", err)
		}
		if err = a.loadCookieSecrets(); err != nil {
			note("%v", err)
		}
		for _, i := range a.Issuers {
			if err := i.load(a); err != nil {
				i.static, _ = jwks.NewSet() // knows no key
				note("issuer %q: %v", i.Name, err)
			}
			if i.remote != nil && i.remote.keys.State().Set == nil {
				note("issuer %q: its keys would have to be fetched, and Caddy's storage has none here: its sessions get 503", i.Name)
			}
		}
		if a.Feed != nil {
			note("the feed is not followed here: what was revoked, and where tenants have moved, is not known")
		}
	})
	for _, f := range a.starts {
		if err := f(); err != nil {
			note("%v", err)
		}
	}
	return missing
}
