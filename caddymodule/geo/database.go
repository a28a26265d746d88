package geo

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/oschwald/maxminddb-golang/v2"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
)

// maxDatabase bounds the file: a mistaken path must not fill the memory. The
// largest city databases have some 130 MB.
const maxDatabase = 512 << 20

// database is a country database that follows its file. It outlives a config.
//
//	new ──open──▶ following ──Close──▶ closed
//
// While it follows, one goroutine of its own looks at the file every now and
// then, and Close waits for it.
//
// The file is read and not mapped: one that is cut short while it is mapped ends
// the process (SIGBUS), and files are copied over each other every day.
type database struct {
	path  string
	every time.Duration

	content atomic.Pointer[content]

	mu   sync.Mutex // guards what follows
	stop chan struct{}
	done chan struct{}
}

// content is the file as it was at some time.
type content struct {
	reader *maxminddb.Reader
	seen   os.FileInfo
}

// refusal is a state of the file that was not read. The zero value: none.
type refusal struct {
	gone bool
	seen os.FileInfo
}

// place is what is read of a record. Country and city databases of all makers
// have these names for it.
type place struct {
	Country struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Continent struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"continent"`
}

func newDatabase(path string, every time.Duration) *database {
	return &database{path: path, every: every}
}

// open reads the file and begins to follow it, once.
func (db *database) open() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.stop != nil {
		return nil
	}
	if err := db.read(); err != nil {
		return fmt.Errorf("edge_geo: %w", err)
	}
	db.stop, db.done = make(chan struct{}), make(chan struct{})
	go db.follow(db.stop, db.done)
	return nil
}

// follow looks at the file until it is told to stop.
func (db *database) follow(stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	logger := caddy.Log().Named("edge.geo") // of no config: it outlives each
	ticker := time.NewTicker(db.every)
	defer ticker.Stop()
	var refused refusal
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		switch read, err := db.look(&refused); {
		case err != nil:
			logger.Warn("country database not read, the one before it stays", zap.Error(err))
		case read:
			logger.Info("country database read", zap.String(handoff.FieldPath, db.path),
				zap.Time("built", db.content.Load().reader.Metadata.BuildTime()))
		}
	}
}

// look reads the file if it changed, and reports whether it did. A state of it that
// cannot be read is an error once, and kept in refused.
func (db *database) look(refused *refusal) (read bool, err error) {
	now, err := os.Stat(db.path)
	switch {
	case err != nil && refused.gone, err == nil && same(now, refused.seen):
		return false, nil
	case err == nil && same(now, db.content.Load().seen):
		*refused = refusal{}
		return false, nil
	case err == nil:
		err = db.read()
	}
	*refused = refusal{}
	if err != nil {
		*refused = refusal{gone: now == nil, seen: now}
	}
	return err == nil, err
}

// same reports whether a file has not changed between a and b. A file in
// another's place can have its time and size, when both were written at once.
func same(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

var errChanging = errors.New("it changes while it is read")

// read puts the file, as it is now, in the place of what was known.
func (db *database) read() error {
	f, err := os.Open(db.path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", db.path)
	case info.Size() > maxDatabase:
		return fmt.Errorf("%s is over %d bytes", db.path, maxDatabase)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return fmt.Errorf("read %s: %w", db.path, err)
	}
	if after, err := f.Stat(); err != nil || !same(info, after) {
		return fmt.Errorf("read %s: %w", db.path, errors.Join(errChanging, err))
	}
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return fmt.Errorf("%s is not a MaxMind DB: %w", db.path, err)
	}
	if err := reader.Verify(); err != nil { // half a file can begin well
		return fmt.Errorf("%s is damaged: %w", db.path, err)
	}
	db.content.Store(&content{reader, info})
	return nil
}

// lookup gives the country and the continent of an address, empty where they
// are unknown. It holds no lock.
func (db *database) lookup(addr netip.Addr) (country, continent string) {
	c := db.content.Load()
	if c == nil || !addr.IsValid() {
		return "", ""
	}
	result := c.reader.Lookup(addr)
	if !result.Found() {
		return "", ""
	}
	var p place
	if result.Decode(&p) != nil || !isCountry(p.Country.Code) {
		p.Country.Code = ""
	}
	if !isCountry(p.Continent.Code) { // two letters as well
		p.Continent.Code = ""
	}
	return p.Country.Code, p.Continent.Code
}

// Close stops following the file.
func (db *database) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.stop != nil {
		close(db.stop)
		<-db.done
	}
	return nil
}
