package directory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	handfeed "github.com/gatehouse-edge/gatehouse/handoff/feed"
	"github.com/gatehouse-edge/gatehouse/handoff/feed/link"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
)

// ErrNotHere says that a tenant cannot be moved from here: it is at home elsewhere,
// closed, or not known.
var ErrNotHere = errors.New("the tenant is not at home in this region")

// ErrKnown says that the directory knows of a tenant already.
var ErrKnown = errors.New("the tenant is known")

// moveTimeout bounds the wait for those who write the tenant's rows.
const moveTimeout = 10 * time.Second

// minPause and maxPause bound the pause between two connections to the feed.
const (
	minPause = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

// Live is the directory as a region keeps it: in its database, whose rows take a
// larger epoch or sequence and no other, in memory, and in step with the other
// regions by the feed.
//
//	file ──seed──▶ database ──▶ memory ◀── what the region's requests ask
//	                  ▲   └── outbox ──▶ feed ──▶ other regions and POPs
//	                  └────── follow ◀── feed
type Live struct {
	*Directory
	region string
	pool   *pgxpool.Pool
	outbox *feed.Outbox
	log    *zap.Logger
}

// Open makes the directory of region live: what the file says and the database does
// not know is put there, and what is at home here is published. outbox may be nil:
// nobody is told.
func Open(ctx context.Context, file *Directory, region string, pool *pgxpool.Pool, outbox *feed.Outbox, log *zap.Logger) (*Live, error) {
	l := &Live{Directory: file, region: region, pool: pool, outbox: outbox, log: log}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setRegion, region); err != nil {
			return err
		}
		if err := l.seed(ctx, tx); err != nil {
			return err
		}
		return l.read(ctx, tx)
	})
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	outbox.Wake()
	return l, nil
}

// seed writes what the file says of whom the database does not know, or by a larger
// epoch.
func (l *Live) seed(ctx context.Context, tx pgx.Tx) error {
	var tenants, homes, hashes, of []string
	var epochs []int64
	for name, t := range l.tenants {
		tenants, homes, epochs = append(tenants, name), append(homes, t.Home), append(epochs, t.Epoch)
	}
	for hash, entry := range l.logins {
		hashes, of = append(hashes, hash), append(of, entry.tenant)
	}
	if _, err := tx.Exec(ctx, seedTenants, tenants, homes, epochs); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, seedLogins, hashes, of)
	return err
}

// read takes what the database knows into memory, and publishes of it what is at
// home here. What was published before is not published again.
func (l *Live) read(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, selectTenants)
	if err != nil {
		return err
	}
	tenants, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t handfeed.Tenant, err error) {
		return t, row.Scan(&t.Tenant, &t.Home, &t.State, &t.Epoch)
	})
	if err != nil {
		return err
	}
	rows, err = tx.Query(ctx, selectLogins)
	if err != nil {
		return err
	}
	logins, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n handfeed.Login, err error) {
		return n, row.Scan(&n.Hash, &n.Tenant, &n.Sequence)
	})
	if err != nil {
		return err
	}
	var mine []handfeed.Message
	for _, t := range tenants {
		l.learn(t)
		if t.Home == l.region {
			mine = append(mine, t)
		}
	}
	for _, n := range logins {
		l.learn(n)
		if t, _ := l.Tenant(n.Tenant); t.Home == l.region {
			mine = append(mine, n)
		}
	}
	return l.outbox.Publish(ctx, tx, mine...)
}

// Add says that tenant, which no region may know, is at home here. It fails with
// [ErrKnown] where the directory has it.
func (l *Live) Add(ctx context.Context, tenant string) error {
	t := handfeed.Tenant{Tenant: tenant, Home: l.region, State: handfeed.Active, Epoch: 1}
	if !handoff.ValidTenant(tenant) {
		return fmt.Errorf("add tenant %q: no tenant's name", tenant)
	}
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, addTenant, tenant, l.region)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrKnown
		}
		if err != nil {
			return err
		}
		return l.outbox.Publish(ctx, tx, t)
	})
	if err != nil {
		return fmt.Errorf("add tenant %s: %w", tenant, err)
	}
	l.learn(t)
	l.outbox.Wake()
	return nil
}

// Move says that tenant is at home in region to from now on, with a larger epoch,
// here, in the other regions and at the POPs. It waits for those who write the
// tenant's rows here; who comes after is sent there. The rows are not moved.
// [ErrNotHere] says that the tenant is not this region's to move.
func (l *Live) Move(ctx context.Context, tenant, to string) (handfeed.Tenant, error) {
	return l.change(ctx, tenant, to, handfeed.Active)
}

// Hold says that tenant, at home here, is served nowhere until [Live.Move] or
// [Live.Release]: its rows are about to move. Nothing of it is written from now on.
func (l *Live) Hold(ctx context.Context, tenant string) (handfeed.Tenant, error) {
	return l.change(ctx, tenant, l.region, handfeed.Moving)
}

// Release ends [Live.Hold]: the tenant stays.
func (l *Live) Release(ctx context.Context, tenant string) (handfeed.Tenant, error) {
	return l.change(ctx, tenant, l.region, handfeed.Active)
}

func (l *Live) change(ctx context.Context, tenant, to string, state handfeed.TenantState) (handfeed.Tenant, error) {
	changed := handfeed.Tenant{Tenant: tenant, Home: to, State: state}
	if !handoff.ValidTenant(tenant) || !handoff.ValidRegion(to) {
		return changed, fmt.Errorf("move tenant %q to %q: no tenant's or no region's name", tenant, to)
	}
	err := l.write(ctx, tenant, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, changeTenant, tenant, to, string(state), l.region).Scan(&changed.Epoch)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotHere
		}
		if err != nil {
			return err
		}
		return l.outbox.Publish(ctx, tx, changed)
	})
	if err != nil {
		return changed, fmt.Errorf("move tenant %s: %w", tenant, err)
	}
	l.learn(changed)
	l.outbox.Wake()
	l.log.Info("a tenant's home has changed", zap.String(handoff.FieldTenant, tenant),
		zap.String(handoff.FieldRegion, to), zap.String("state", string(state)), zap.Int64("epoch", changed.Epoch))
	return changed, nil
}

// write runs fn in a transaction while nobody writes the tenant's rows.
func (l *Live) write(ctx context.Context, tenant string, fn func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, patience, fmt.Sprintf("%dms", moveTimeout.Milliseconds())); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lockTenant, tenant); err != nil {
			return err
		}
		return fn(tx)
	})
}

// Enter says that a user of tenant, at home here, has the sign-in name email.
func (l *Live) Enter(ctx context.Context, email, tenant string) error {
	return l.enter(ctx, email, handfeed.Login{Tenant: tenant})
}

// Leave says that nobody has the sign-in name email any more.
func (l *Live) Leave(ctx context.Context, email string) error {
	return l.enter(ctx, email, feed.Gone(handfeed.Login{}).(handfeed.Login))
}

func (l *Live) enter(ctx context.Context, email string, entry handfeed.Login) error {
	name, err := Normalize(email)
	if err != nil {
		return fmt.Errorf("sign-in name %w", err)
	}
	entry.Hash = LoginHash(l.key, name)
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, putLogin, entry.Hash, entry.Tenant).Scan(&entry.Sequence); err != nil {
			return err
		}
		return l.outbox.Publish(ctx, tx, entry)
	})
	if err != nil {
		return fmt.Errorf("enter sign-in name: %w", err)
	}
	l.learn(entry)
	l.outbox.Wake()
	return nil
}

// Follow takes what other regions, and other processes of this one, say in the
// feed, until ctx ends.
func (l *Live) Follow(ctx context.Context, server link.Server) {
	inbox, _ := link.Region(l.region)
	var created time.Time
	var position uint64
	pause, told := minPause, false
	for {
		err := link.Reader{
			Server: server, Name: "gatehouse region " + l.region + " directory", Inbox: inbox,
			Subjects: handfeed.DirectorySubjects(), Quiet: true,
			From: func(info *jetstream.StreamInfo) uint64 {
				if !created.Equal(info.Created) || position > info.State.LastSeq || position+1 < info.State.FirstSeq {
					created, position = info.Created, 0
				}
				return position + 1
			},
			Take: func(subject string, document []byte, at uint64) error {
				if err := l.take(ctx, subject, document); err != nil {
					return err
				}
				position = at
				return nil
			},
			Current: func() { pause, told = minPause, false },
		}.Read(ctx)
		if ctx.Err() != nil {
			return
		}
		if !told {
			l.log.Warn("the directory does not hear of other regions; trying again", zap.Error(err))
			told = true
		}
		wait := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// take takes one message of the feed in. What cannot be read is passed over, as at
// a POP.
func (l *Live) take(ctx context.Context, subject string, document []byte) error {
	_, m, err := handfeed.Parse(subject, document)
	if err != nil {
		l.log.Error("a message of the feed is ignored", zap.Error(err))
		return nil
	}
	if !l.news(m) {
		return nil
	}
	switch m := m.(type) {
	case handfeed.Tenant:
		err = l.write(ctx, m.Tenant, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, putTenant, m.Tenant, m.Home, string(m.State), m.Epoch); err != nil || m.Home != l.region {
				return err
			}
			// The new home says it too: a region that was put back to an earlier state
			// hears of it then, and so does who asks when the old one is gone.
			return l.outbox.Publish(ctx, tx, m)
		})
		l.outbox.Wake()
	case handfeed.Login:
		_, err = l.pool.Exec(ctx, takeLogin, m.Hash, m.Tenant, int64(m.Sequence))
	}
	if err != nil {
		return fmt.Errorf("keep what the feed says: %w", err)
	}
	l.learn(m)
	return nil
}
