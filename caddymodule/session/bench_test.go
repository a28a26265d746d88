package session

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edgetest"
)

// BenchmarkVerify is the check of the token alone: proved from nothing, and
// known from the cache.
func BenchmarkVerify(b *testing.B) {
	for _, algorithm := range []string{"EdDSA", "ES256", "RS256", "HS256"} {
		f := newFixture(b, algorithm)
		token := f.token(b, nil)
		b.Run(algorithm+"/cold", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.verifier.prove(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(algorithm+"/cached", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := f.verifier.verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSession is the handler with a cached token, in a request that is
// made anew each time; "base" is the making alone.
func BenchmarkSession(b *testing.B) {
	f := newFixture(b, "EdDSA")
	cookie := []string{"session=" + f.token(b, nil)}
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	r := edgetest.Request("GET", "/app", nil)
	w := httptest.NewRecorder()
	d, _ := decision.Begin(w, r, "request-1", decision.Options{POP: "fra"})
	made := *d
	b.Run("base", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			*d = made
			r.Header["Cookie"] = cookie[:1:1]
			if err := next.ServeHTTP(w, r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			*d = made
			r.Header["Cookie"] = cookie[:1:1]
			if err := f.ServeHTTP(w, r, next); err != nil || d.Auth != decision.AuthSession {
				b.Fatal(err, d.Auth)
			}
		}
	})
}

// BenchmarkFlood is one distinct token after the other, good and bad ones, with
// the memory that is held in the end: run it with -benchtime 1000000x.
func BenchmarkFlood(b *testing.B) {
	for name, claims := range map[string]func(int) jwt.MapClaims{
		"valid":   distinct,
		"invalid": func(i int) jwt.MapClaims { return jwt.MapClaims{"sub": strconv.Itoa(i), "aud": "billing"} },
	} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b, "HS256")
			before := heap()
			b.ResetTimer()
			for i := range b.N {
				_, _, err := f.verifier.verify(b.Context(), f.token(b, claims(i)))
				if (err == nil) != (name == "valid") {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			f.verifier.verdicts.cache.CleanUp()
			b.ReportMetric(float64(heap()-before)/(1<<20), "MiB-held")
		})
	}
}
