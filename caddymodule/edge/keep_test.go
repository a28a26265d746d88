package edge

import (
	"context"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// slowStorage takes its time to store.
type slowStorage struct {
	certmagic.Storage
	began, go_ chan struct{}
}

func (s *slowStorage) Store(context.Context, string, []byte) error {
	close(s.began)
	<-s.go_
	return nil
}

// A POP that stops has kept what it was about to keep: its storage may be gone then.
func TestSource_aPOPThatStopsKeepsFirst(t *testing.T) {
	t.Parallel()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	set, err := jwks.Parse([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	storage := &slowStorage{began: make(chan struct{}), go_: make(chan struct{})}
	s := newSource(&Issuer{Name: "https://slow.example", JWKSURL: "https://slow.example/jwks"})
	a := &App{Issuers: []*Issuer{{remote: s}}, storage: storage, ctx: ctx, logger: zap.NewNop()}
	s.users = append(s.users, a)
	go s.heard(jwks.Fetch{Set: set, At: time.Now()})
	<-storage.began
	stopped := make(chan error)
	go func() { stopped <- a.Cleanup() }()
	select {
	case <-stopped:
		t.Error("it did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	close(storage.go_)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	s.heard(jwks.Fetch{Set: set, At: time.Now()}) // to nobody
}
