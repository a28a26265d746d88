// Package accounts knows who may sign in, and opens and ends their sessions.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/problem"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/audit"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// ErrExists says that the tenant has a user of that e-mail address.
var ErrExists = errors.New("this user exists")

// nobodysTenant is asked for a sign-in name that no region knows, so that such a
// login costs what any other does. Nobody is at home there.
const nobodysTenant = "-"

// user is somebody who may sign in.
type user struct {
	id, tenant, email, hash string
	roles                   []string
}

// Service is the capability. Make it with [New].
type Service struct {
	tenancy   *tenancy.DB
	directory *directory.Directory
	sessions  *Sessions
	page      Page
	outbox    *feed.Outbox
	hasher    *hasher
	brake     *brake
	cross     *http.CrossOriginProtection
}

// New makes the service of the region whose sessions are given. page shows the
// login form; outbox tells POPs which sessions have ended.
func New(db *tenancy.DB, known *directory.Directory, sessions *Sessions, page Page, outbox *feed.Outbox) *Service {
	return &Service{
		tenancy: db, directory: known, sessions: sessions, page: page, outbox: outbox,
		hasher: newHasher(), brake: newBrake(), cross: http.NewCrossOriginProtection(),
	}
}

// NewUser is somebody to let in.
type NewUser struct {
	Tenant, Email, Password string
	// Roles such as "approver". None: none.
	Roles []string
}

// Create lets somebody in and gives their id. The tenant must be known to this
// database (see [tenancy.DB.Enroll]); the sign-in name reaches the directory by its
// own way. [ErrExists] says that there is such a user, who stays as they were.
func Create(ctx context.Context, db *tenancy.DB, u NewUser) (id string, err error) {
	email, err := directory.Normalize(u.Email)
	if err != nil {
		return "", fmt.Errorf("create user: email %w", err)
	}
	password, err := normalizePassword(u.Password)
	if err != nil {
		return "", fmt.Errorf("create user %s: password %w", email, err)
	}
	if len(password) < MinPassword {
		return "", fmt.Errorf("create user %s: password must have at least %d bytes", email, MinPassword)
	}
	hash, err := newHasher().hash(ctx, password)
	if err != nil {
		return "", err
	}
	created, roles := uuid.New(), append([]string{}, u.Roles...) // never null
	err = db.Write(ctx, u.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(insertUser, created, email, hash, roles).Tag(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 0 {
				return ErrExists
			}
			return nil
		})
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("create user %s: %w", email, err)
	}
	return created.String(), nil
}

// Session is one that was opened.
type Session struct {
	Token   string
	Expires time.Time
	User    string
	Tenant  string
}

// Credentials are what somebody signs in with.
type Credentials struct {
	Email, Password string
	// From is the address they come from, as the POP names it.
	From string
}

// Login opens a session for who knows the password. A name that is at home
// elsewhere is [Elsewhere], before any query. A wrong password and a name that
// nobody has are one answer at one price: a query, a hash and a 401 problem. Too
// many of them for one name are a 429 problem, before the query.
func (s *Service) Login(ctx context.Context, c Credentials) (Session, error) {
	home, tenant, known := s.directory.Login(c.Email)
	if known && home != s.sessions.Region {
		return Session{}, &Elsewhere{Home: home}
	}
	if !known {
		tenant = nobodysTenant
	}
	name, err := directory.Normalize(c.Email)
	if err != nil {
		name = "" // nobody's; asked for all the same
	}
	undo, wait := s.brake.try(time.Now(), name, c.From)
	if wait > 0 {
		return Session{}, problem.New(http.StatusTooManyRequests, problem.TooManyAttempts, "").WithRetryAfter(wait)
	}
	session, err := s.signIn(ctx, tenant, name, c.Password)
	if errors.Is(err, errOvertaken) { // by a change of the password: which of the two is it now?
		session, err = s.signIn(ctx, tenant, name, c.Password)
	}
	if !errors.Is(err, errWrong) {
		undo()
	}
	return session, err
}

var (
	// errWrong is the cause of the problem of a login that was no good.
	errWrong = errors.New("e-mail address or password is wrong")
	// errOvertaken says that the password became another between its check and the
	// commit of the session.
	errOvertaken = errors.New("the password became another meanwhile")
)

// signIn is Login in a tenant; one that does not exist has no users.
func (s *Service) signIn(ctx context.Context, tenant, name, password string) (Session, error) {
	u, err := s.find(ctx, tenant, name)
	if err != nil {
		return Session{}, err
	}
	password, err = normalizePassword(password)
	wellFormed := err == nil
	if !wellFormed {
		password = "" // is not the password; the hash is made all the same
	}
	good, outdated, err := s.hasher.check(ctx, u.hash, password)
	if err != nil {
		return Session{}, err
	}
	if !good || !wellFormed || u.id == "" {
		return Session{}, problem.New(http.StatusUnauthorized, problem.Unauthenticated, errWrong.Error()).
			WithHeader("WWW-Authenticate", `Bearer realm="gatehouse"`).WithCause(errWrong)
	}
	fresh := ""
	if outdated {
		// Best effort: who may come in comes in, also when all slots are taken.
		fresh, _ = s.hasher.hash(ctx, password)
	}
	return s.open(ctx, u, fresh)
}

// Elsewhere is the error of a login that belongs to another region.
type Elsewhere struct{ Home string }

func (e *Elsewhere) Error() string { return "this sign-in name is at home in " + e.Home }

// find reads who has the sign-in name, as it is kept. Nobody is a user without id
// whose hash no password has.
func (s *Service) find(ctx context.Context, tenant, name string) (user, error) {
	nobody := user{tenant: tenant, hash: s.hasher.dummy}
	u := nobody
	err := s.tenancy.Read(ctx, tenant, func(tx *tenancy.Tx) error {
		tx.Queue(selectUser, name).Row(func(row pgx.Row) error {
			err := row.Scan(&u.id, &u.email, &u.hash, &u.roles)
			if errors.Is(err, pgx.ErrNoRows) {
				u = nobody
				return nil
			}
			return err
		})
		return nil
	})
	if err != nil {
		return nobody, fmt.Errorf("find user: %w", err)
	}
	return u, nil
}

// open writes the session's row and, where the hash was outdated, the fresh one.
func (s *Service) open(ctx context.Context, u user, fresh string) (Session, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return Session{}, fmt.Errorf("open session: %w", err)
	}
	now := time.Now().Truncate(time.Second)
	token, expires, err := s.sessions.sign(u, id.String(), now, now)
	if err != nil {
		return Session{}, err
	}
	who := handoff.Identity{Tenant: u.tenant, Subject: u.id, SubjectIssuer: s.sessions.Issuer}
	err = s.tenancy.Write(ctx, u.tenant, func(tx *tenancy.Tx) error {
		tx.Queue(insertSession, id, u.id, now, now.Add(s.sessions.MaxLife), u.hash).Tag(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 0 {
				return errOvertaken
			}
			return nil
		})
		tx.Queue(audit.Record(who, "account.logged_in", u.id, ofSession{id.String()}))
		tx.Queue(deleteExpired)
		if fresh != "" {
			tx.Queue(updateHash, u.id, u.hash, fresh)
		}
		return nil
	})
	if err != nil {
		return Session{}, fmt.Errorf("open session: %w", err)
	}
	return Session{Token: token, Expires: expires, User: u.id, Tenant: u.tenant}, nil
}

// ours reads the id of a user or a session that we gave to who. Another issuer's
// may look like one of ours and is somebody else's.
func (s *Service) ours(who handoff.Identity, id string) (uuid.UUID, bool) {
	parsed, err := uuid.Parse(id)
	return parsed, err == nil && who.Tenant != "" && who.SubjectIssuer == s.sessions.Issuer
}

// Email is the sign-in name of who, empty when this region has no such user.
func (s *Service) Email(ctx context.Context, who handoff.Identity) (email string, err error) {
	id, ours := s.ours(who, who.Subject)
	if !ours {
		return "", nil
	}
	err = s.tenancy.Read(ctx, who.Tenant, func(tx *tenancy.Tx) error {
		tx.Queue(selectEmail, id).Row(func(row pgx.Row) error {
			if err := row.Scan(&email); !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			return nil
		})
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("find user: %w", err)
	}
	return email, nil
}
