package signedurl_test

import (
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff/signedurl"
)

// A region hands out a link to an invoice that holds for a quarter of an hour,
// for the customer's own tenant.
func ExampleKeys_Sign() {
	keys, err := signedurl.ParseKeys([]byte("k1:bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE="))
	if err != nil {
		panic(err)
	}
	now := time.Unix(1790000000, 0)
	link, err := keys.Sign(signedurl.Link{
		Target:  "/files/invoice-7.pdf",
		Tenant:  "acme",
		Expires: signedurl.ExpiresIn(now, 15*time.Minute, time.Minute),
	})
	fmt.Println(link, err)
	// Output: /files/invoice-7.pdf?edge-v=1&edge-kid=k1&edge-exp=1790000940&edge-tenant=acme&edge-sig=BZmtyJqIduoMvvUMDnY8OPQm6FlZCEVJXCaaLm1DfD0 <nil>
}
