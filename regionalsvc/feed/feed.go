// Package feed publishes what POPs must know, from the same transaction that
// decided it.
//
// A capability adds a message to its transaction ([Outbox.Add]): a row that exists
// when and only when the decision does. After the commit it wakes the publisher
// ([Outbox.Wake]), which sends what is due to NATS JetStream, at least once, and
// marks it. Every process of the region runs one; none needs to be the only one.
package feed

import (
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// Leeway is added to the longest session: a POP allows an issuer's clock to
// differ, and its own may differ from the region's.
const Leeway = 10 * time.Minute

// Outbox takes messages. Nil is a region without a feed: it takes them and does
// nothing.
type Outbox struct {
	region  string
	longest time.Duration
	woken   chan struct{}
}

// NewOutbox is that of region. longest is the longest life that a session of any
// issuer has: so long a revocation is kept.
func NewOutbox(region string, longest time.Duration) *Outbox {
	return &Outbox{region: region, longest: longest, woken: make(chan struct{}, 1)}
}

// Revoke ends sessions at every POP, when tx commits. At and Expires of r are set
// here: what began until now ends. Call [Outbox.Wake] after the commit.
func (o *Outbox) Revoke(tx *tenancy.Tx, r feed.Revocation) error {
	if o == nil {
		return nil
	}
	now := time.Now()
	r.At, r.Expires = now.Unix(), now.Add(o.longest+Leeway).Unix()
	subject, document, err := feed.Encode(o.region, r)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	tx.Queue(insertMessage, subject, string(document), time.Unix(r.Expires, 0))
	return nil
}

// Wake has the publisher look at once. Without it, it looks every second.
func (o *Outbox) Wake() {
	if o == nil {
		return
	}
	select {
	case o.woken <- struct{}{}:
	default: // it is on its way
	}
}
