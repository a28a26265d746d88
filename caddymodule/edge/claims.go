package edge

import (
	"errors"
	"fmt"
	"slices"
)

// maxClaimName bounds the name of a claim in bytes.
const maxClaimName = 255

// ReadClaims has the values of these claims kept with every session that is
// verified, beside those that are always read. It is for Provision alone: by the
// first request the list is whole.
func (a *App) ReadClaims(names ...string) {
	for _, name := range names {
		if at, found := slices.BinarySearch(a.claims, name); !found {
			a.claims = slices.Insert(a.claims, at, name)
		}
	}
}

// ClaimsRead are the names given to [App.ReadClaims], sorted.
func (a *App) ClaimsRead() []string { return a.claims }

// CheckClaimName refuses what no claim is called (RFC 7519, section 4: a string,
// compared with its case).
func CheckClaimName(name string) error {
	switch {
	case name == "":
		return errors.New("a claim has a name")
	case len(name) > maxClaimName:
		return fmt.Errorf("claim %.32q…: its name has %d bytes, at most %d are read", name, len(name), maxClaimName)
	}
	return nil
}
