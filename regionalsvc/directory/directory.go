// Package directory holds what every region knows of all tenants: where each is
// at home, and where a sign-in name is. It is the only data that is readable
// without a tenant, and so small that it is kept in memory.
//
// A file is its beginning. From there it lives in each region's database and
// follows the feed: see [Live].
package directory

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"golang.org/x/text/unicode/norm"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/handoff/feed"
)

// Limits of a directory file and of a sign-in name, in bytes.
const (
	MaxFile  = 64 << 20
	MaxLogin = 254 // RFC 5321, section 4.5.3.1.3, less the angle brackets
	MinKey   = 32
)

// File is the directory as it is written to a file.
type File struct {
	// Tenants by name.
	Tenants map[string]Tenant `json:"tenants"`
	// Logins by the hash of the sign-in name; see [LoginHash].
	Logins map[string]Login `json:"logins"`
}

// Tenant is where a tenant is.
type Tenant struct {
	Home string `json:"home"`
	// Epoch is that of the move which brought the tenant there, and grows with every
	// move. 0: it is 1.
	Epoch int64 `json:"epoch,omitempty"`
}

// Login is where a sign-in name is.
type Login struct {
	Home   string `json:"home"`
	Tenant string `json:"tenant"`
}

// Directory answers where tenants and sign-in names are at home. It is safe for
// concurrent use.
type Directory struct {
	key []byte

	mu      sync.RWMutex
	tenants map[string]feed.Tenant
	logins  map[string]login
}

// login is the tenant that has a sign-in name, empty when none has it any more.
type login struct {
	tenant   string
	sequence feed.Sequence
}

// Load reads the directory file at path. key is the secret of the sign-in
// names' hashes, the same in every region.
func Load(path string, key []byte) (*Directory, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read directory: %w", err)
	}
	if info.Size() > MaxFile {
		return nil, fmt.Errorf("read directory %s: %d bytes, at most %d are read", path, info.Size(), MaxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read directory: %w", err)
	}
	d, err := Parse(data, key)
	if err != nil {
		return nil, fmt.Errorf("read directory %s: %w", path, err)
	}
	return d, nil
}

// Parse reads a directory file's content. See [Load].
func Parse(data, key []byte) (*Directory, error) {
	var file File
	if err := json.Unmarshal(data, &file, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	return New(file, key)
}

// New makes a directory of file.
func New(file File, key []byte) (*Directory, error) {
	if len(key) < MinKey {
		return nil, fmt.Errorf("the key has %d bytes, at least %d are asked for", len(key), MinKey)
	}
	d := &Directory{key: slices.Clone(key), tenants: map[string]feed.Tenant{}, logins: map[string]login{}}
	for name, tenant := range file.Tenants {
		if !handoff.ValidTenant(name) {
			return nil, fmt.Errorf("tenant %q: a name is 1 to 63 of a-z, 0-9 and '-'", name)
		}
		if !handoff.ValidRegion(tenant.Home) {
			return nil, fmt.Errorf("tenant %q: home %q: a region's name is 1 to 63 of a-z, 0-9 and '-'", name, tenant.Home)
		}
		if tenant.Epoch < 0 {
			return nil, fmt.Errorf("tenant %q: epoch %d: it is a whole number from 1, or absent", name, tenant.Epoch)
		}
		d.tenants[name] = feed.Tenant{Tenant: name, Home: tenant.Home, State: feed.Active, Epoch: max(tenant.Epoch, 1)}
	}
	for hash, entry := range file.Logins {
		if err := checkLogin(hash, entry, file.Tenants); err != nil {
			return nil, fmt.Errorf("login %q: %w", hash, err)
		}
		d.logins[hash] = login{entry.Tenant, 1}
	}
	return d, nil
}

func checkLogin(hash string, login Login, tenants map[string]Tenant) error {
	if decoded, err := hex.DecodeString(hash); err != nil || len(decoded) != sha256.Size || strings.ToLower(hash) != hash {
		return errors.New("a sign-in name's hash is 64 lower-case hexadecimal digits")
	}
	tenant, ok := tenants[login.Tenant]
	if !ok {
		return fmt.Errorf("tenant %q is not among the tenants", login.Tenant)
	}
	if tenant.Home != login.Home {
		return fmt.Errorf("home is %q, its tenant %q is at home in %q", login.Home, login.Tenant, tenant.Home)
	}
	return nil
}

// Home is the region in which tenant is at home. ok is false for a tenant that
// is not known, or closed.
func (d *Directory) Home(tenant string) (region string, ok bool) {
	t, known := d.Tenant(tenant)
	return t.Home, known && t.State != feed.Closed
}

// Tenant is all that is known of tenant.
func (d *Directory) Tenant(tenant string) (t feed.Tenant, known bool) {
	d.mu.RLock()
	t, known = d.tenants[tenant]
	d.mu.RUnlock()
	return t, known
}

// Login is where the sign-in name email is, in whatever way it was typed: where
// its tenant is. ok is false when no region knows it.
func (d *Directory) Login(email string) (home, tenant string, ok bool) {
	name, err := Normalize(email)
	if err != nil {
		return "", "", false
	}
	hash := LoginHash(d.key, name)
	d.mu.RLock()
	defer d.mu.RUnlock()
	entry, known := d.logins[hash]
	t, at := d.tenants[entry.tenant]
	if !known || !at || t.State == feed.Closed {
		return "", "", false
	}
	return t.Home, entry.tenant, true
}

// Regions are the names of the regions in which some tenant is at home, sorted.
func (d *Directory) Regions() []string {
	regions := map[string]bool{}
	d.mu.RLock()
	for _, t := range d.tenants {
		regions[t.Home] = true
	}
	d.mu.RUnlock()
	return slices.Sorted(maps.Keys(regions))
}

// news reports whether m says more than is known.
func (d *Directory) news(m feed.Message) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	switch m := m.(type) {
	case feed.Tenant:
		return m.Epoch > d.tenants[m.Tenant].Epoch
	case feed.Login:
		return m.Sequence > d.logins[m.Hash].sequence
	}
	return false
}

// learn takes what is later than what is known.
func (d *Directory) learn(m feed.Message) {
	if !d.news(m) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch m := m.(type) {
	case feed.Tenant:
		if m.Epoch > d.tenants[m.Tenant].Epoch {
			d.tenants[m.Tenant] = m
		}
	case feed.Login:
		if m.Sequence > d.logins[m.Hash].sequence {
			d.logins[m.Hash] = login{m.Tenant, m.Sequence}
		}
	}
}

// LoginHash is the key of a sign-in name in [File].Logins: HMAC-SHA256 under
// key, in hexadecimal. Whoever holds the file without the key can neither read
// the names nor try them out. An email that [Normalize] refuses is hashed as
// it is.
func LoginHash(key []byte, email string) string {
	if name, err := Normalize(email); err == nil {
		email = name
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(email))
	return hex.EncodeToString(mac.Sum(nil))
}

// Normalize gives the one spelling under which a sign-in name is kept: trimmed,
// NFC, lower case. It refuses what cannot be an address: no '@' between two
// parts, over [MaxLogin] bytes, control characters or spaces inside, or not UTF-8.
func Normalize(email string) (string, error) {
	if len(email) > 2*MaxLogin {
		return "", fmt.Errorf("must have at most %d bytes", MaxLogin)
	}
	if !utf8.ValidString(email) {
		return "", errors.New("must be UTF-8")
	}
	name := norm.NFC.String(strings.ToLower(norm.NFC.String(strings.TrimSpace(email))))
	if len(name) > MaxLogin {
		return "", fmt.Errorf("must have at most %d bytes", MaxLogin)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f && r <= 0xa0 || r == '\u2028' || r == '\u2029' }) {
		return "", errors.New("must not hold spaces or control characters")
	}
	if at := strings.LastIndexByte(name, '@'); at < 1 || at == len(name)-1 {
		return "", errors.New("must be an e-mail address")
	}
	return name, nil
}
