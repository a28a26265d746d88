package handoff_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// A Go service becomes a region by one middleware. The POP here is played by a
// Signer and a server that publishes its key.
func ExampleVerifier() {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := handoff.NewSigner(private)
	if err != nil {
		log.Fatal(err)
	}
	pop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(jwks.Marshal([]jwks.Key{signer.Key()}))
	}))
	defer pop.Close()

	verifier := &handoff.Verifier{
		Region:  "eu",
		Keys:    handoff.RemoteKeys{"fra": {URL: pop.URL + handoff.JWKSPath}},
		Refused: func(_ *http.Request, err error) { fmt.Println("refused:", err) },
	}
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		who := handoff.FromContext(r.Context()).Identity()
		fmt.Println(r.Method, "for tenant", who.Tenant, "by", who.Subject, "may approve:", who.Has("approver"))
	})
	region := httptest.NewServer(verifier.Middleware(handler))
	defer region.Close()

	ada := handoff.Identity{Tenant: "acme", Subject: "ada", SubjectIssuer: "gatehouse:eu", Roles: []string{"approver"}}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r, err := http.NewRequest(method, region.URL+"/api/orders", nil)
		if err != nil {
			log.Fatal(err)
		}
		assertion, err := signer.Sign(handoff.NewClaims("fra", "eu", "eu", ada, time.Now())) // bound to no request
		if err != nil {
			log.Fatal(err)
		}
		r.Header.Set(handoff.HeaderAssertion, assertion)
		r.Header.Set(handoff.HeaderRequestID, "an-id-of-this-request")
		r.Header.Set(handoff.HeaderTenant, ada.Tenant)
		r.Header.Set(handoff.HeaderHomeRegion, "eu")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		_ = answer.Body.Close()
		fmt.Println(answer.Status)
	}
	// Output:
	// GET for tenant acme by ada may approve: true
	// 200 OK
	// refused: the assertion is not bound to this request
	// 401 Unauthorized
}

// The edge binds the assertion of a write to the very request that it sends.
func ExampleClaims_Bind() {
	signer, err := handoff.NewSigner(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		log.Fatal(err)
	}
	claims := handoff.NewClaims("fra", "eu", "eu", handoff.Identity{}, time.Now())
	claims.Bind("an-id-of-this-request", http.MethodPost, "/api/orders?draft=1")
	if _, err := signer.Sign(claims); err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Method, claims.Path)
	// Output: POST /api/orders?draft=1
}

func ExampleReturnTo() {
	for _, target := range []string{"/app/orders?page=2", "//evil.example/", "/\\evil.example", "https://evil.example/"} {
		fmt.Println(handoff.ReturnTo(target, "/app"))
	}
	// Output:
	// /app/orders?page=2
	// /app
	// /app
	// /app
}

func ExampleCheckPath() {
	for _, target := range []string{"/api/orders?cursor=a", "/public/..%2fapp", "/app;x=1/"} {
		fmt.Println(handoff.CheckPath(target))
	}
	// Output:
	// <nil>
	// the path holds an encoded slash, backslash, dot or control character, or is encoded twice
	// the path holds a path parameter (';')
}
