// Package feed publishes what POPs must know, from the same transaction that
// decided it.
//
// A capability adds a message to its transaction ([Outbox.Add]): a row that exists
// when and only when the decision does. After the commit it wakes the publisher
// ([Outbox.Wake]), which sends what is due to NATS JetStream, at least once, and
// marks it. Every process of the region runs one; none needs to be the only one.
package feed

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

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
	r.At, r.Expires = max(r.At, now.Unix()), now.Add(o.longest+Leeway).Unix()
	subject, document, err := feed.Encode(o.region, r)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	tx.Queue(insertMessage, subject, string(document), time.Unix(r.Expires, 0))
	return nil
}

// Put publishes a value of tx's tenant, in place of the one before, when tx
// commits. Only sessions of that tenant see it. Call [Outbox.Wake] after the
// commit, as after each of these.
func (o *Outbox) Put(tx *tenancy.Tx, bucket, key, value string) error {
	return o.queue(tx, feed.KV{Bucket: bucket, Tenant: tx.Tenant(), Key: key, Value: value})
}

// Delete publishes that the value is gone.
func (o *Outbox) Delete(tx *tenancy.Tx, bucket, key string) error {
	return o.queue(tx, feed.KV{Bucket: bucket, Tenant: tx.Tenant(), Key: key, Expires: gone()})
}

// Purge has caches drop what they hold of a group of tx's tenant.
func (o *Outbox) Purge(tx *tenancy.Tx, group string) error {
	return o.Drop(tx, feed.Purge{Tenant: tx.Tenant(), Group: group})
}

// PurgePublic has caches drop what they hold of a group for everybody, such as a page
// of the shop that tx's tenant has changed.
func (o *Outbox) PurgePublic(tx *tenancy.Tx, group string) error {
	return o.Drop(tx, feed.Purge{Group: group})
}

// Drop has caches drop what p names. Its sequence and its end are set here. What POPs
// could not use is refused.
func (o *Outbox) Drop(tx *tenancy.Tx, p feed.Purge) error {
	p.Expires = time.Now().Add(feed.PurgeLife).Unix()
	return o.queue(tx, p)
}

// gone is until when it is told that something is.
func gone() int64 { return time.Now().Add(feed.TombstoneLife).Unix() }

func (o *Outbox) queue(tx *tenancy.Tx, m feed.Message) error {
	if o == nil {
		return nil
	}
	arguments, err := o.state(m)
	if err != nil {
		return err
	}
	tx.Queue(putState, arguments...)
	return nil
}

// Publish publishes what is no single tenant's, when tx commits: a [feed.Tenant],
// [feed.Login], [feed.Definition], or a [feed.KV] or [feed.Purge] for everybody. It
// takes the place of the one before; its sequence is set here. The same again is
// nothing new, but for a purge. What POPs could not use is refused.
func (o *Outbox) Publish(ctx context.Context, tx pgx.Tx, messages ...feed.Message) error {
	if o == nil {
		return nil
	}
	var batch pgx.Batch
	for _, m := range messages {
		arguments, err := o.state(m)
		if err != nil {
			return err
		}
		batch.Queue(putState, arguments...)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// state gives the arguments of putState.
func (o *Outbox) state(m feed.Message) ([]any, error) {
	var expires int64
	sequenced := true
	switch known := m.(type) {
	case feed.Tenant:
		sequenced = false
	case feed.Login:
		known.Sequence = 0
		expires, m = known.Expires, known
	case feed.Definition:
		known.Sequence = 0
		expires, m = known.Expires, known
	case feed.KV:
		known.Sequence = 0
		expires, m = known.Expires, known
	case feed.Purge:
		known.Sequence = 0
		expires, m = known.Expires, known
	default:
		return nil, fmt.Errorf("publish: %T is no state", m)
	}
	subject, document, err := feed.Encode(o.region, m)
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	var until *time.Time
	if expires > 0 {
		at := time.Unix(expires, 0)
		until = &at
	}
	_, again := m.(feed.Purge) // the same purge is another one
	return []any{subject, string(document), sequenced, until, again}, nil
}

// Gone makes a message that says that what m names is gone.
func Gone(m feed.Message) feed.Message {
	switch m := m.(type) {
	case feed.KV:
		m.Value, m.Expires = "", gone()
		return m
	case feed.Definition:
		m.Body, m.Expires = nil, gone()
		return m
	case feed.Login:
		m.Tenant, m.Expires = "", gone()
		return m
	}
	return m
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
