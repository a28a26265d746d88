package store

import (
	"container/list"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/gofrs/flock"
)

// Disk keeps the bodies of large objects in files of a directory, within a bound of
// bytes. What says whose they are stays in memory: a process that was killed leaves
// files that nobody can be answered from, and the next one removes them. So nothing is
// used that was purged while no process was there to hear of it.
//
// Each body is verified block by block whenever it is read. What is removed when room
// is needed is chosen as a clock does: the oldest, unless it was used since.
type Disk struct {
	dir string

	mu     sync.Mutex
	open   bool
	lock   *flock.Flock
	limit  int64
	used   int64
	files  list.List // of *onDisk, the oldest first
	failed int64
}

// File is a body on a [Disk]. It is removed some time after nobody holds it any more.
type File struct {
	*onDisk
}

// onDisk is what the disk knows of a file. It does not hold the [File].
type onDisk struct {
	disk    *Disk
	path    string
	size    int64
	sums    []uint32 // CRC-32C of each block
	used    atomic.Bool
	gone    atomic.Bool
	element *list.Element
}

const (
	// block is what one checksum is of.
	block = 64 << 10
	// bodies are the files' names. Others in the directory are not touched.
	bodies = "body-*"
)

// Errors of a disk.
var (
	// ErrNoRoom says that a body is larger than all of the disk's bound.
	ErrNoRoom = errors.New("the body is larger than the cache's disk")
	// ErrDamaged says that a file does not hold what was written.
	ErrDamaged = errors.New("what is on the disk is not what was written")
	// ErrNotOpen says that the disk was closed.
	ErrNotOpen = errors.New("the cache's disk is closed")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NewDisk makes a disk of a directory. Nothing is touched before [Disk.Open].
func NewDisk(dir string) *Disk { return &Disk{dir: dir} }

// Open makes the directory where there is none, takes it for this process alone, and
// removes the bodies that another has left. Again, it changes the bound.
func (d *Disk) Open(limit int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = limit
	if d.open {
		d.room(0)
		return nil
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(d.dir, "lock"))
	switch mine, err := lock.TryLock(); {
	case err != nil:
		return err
	case !mine:
		return fmt.Errorf("%s is the cache of another process", d.dir)
	}
	left, err := filepath.Glob(filepath.Join(d.dir, bodies))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	d.lock, d.open = lock, true
	return nil
}

// Close removes all bodies. Who reads one reads on.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open {
		return nil
	}
	d.open = false
	for e := d.files.Front(); e != nil; e = d.files.Front() {
		d.remove(e.Value.(*onDisk))
	}
	return d.lock.Close()
}

// Usage is how many bytes there are on the disk, how many there may be, in how many
// files, and how many reads and writes have failed.
func (d *Disk) Usage() (used, limit int64, files int, failed int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used, d.limit, d.files.Len(), d.failed
}

// Keep writes a body, and gives the same one on the disk. It is not synced: no later
// process reads it.
func (d *Disk) Keep(b Body) (kept Body, err error) {
	d.mu.Lock()
	switch {
	case !d.open:
		d.mu.Unlock()
		return b, ErrNotOpen
	case b.Size > d.limit:
		d.mu.Unlock()
		return b, ErrNoRoom
	}
	d.room(b.Size)
	d.used += b.Size
	d.mu.Unlock()

	f := &onDisk{disk: d, size: b.Size}
	if err = f.write(b); err != nil {
		d.mu.Lock()
		d.used -= b.Size
		d.failed++
		d.mu.Unlock()
		return b, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open { // meanwhile
		d.used -= b.Size
		return b, errors.Join(ErrNotOpen, os.Remove(f.path))
	}
	f.element = d.files.PushBack(f)
	file := &File{f}
	runtime.AddCleanup(file, func(f *onDisk) {
		f.disk.mu.Lock()
		defer f.disk.mu.Unlock()
		f.disk.remove(f)
	}, f)
	return Body{Size: b.Size, File: file}, nil
}

// write makes the file.
func (f *onDisk) write(b Body) (err error) {
	out, err := os.CreateTemp(f.disk.dir, bodies)
	if err != nil {
		return err
	}
	f.path = out.Name()
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(f.path))
		}
	}()
	f.sums = make([]uint32, 0, (b.Size+block-1)/block)
	sum, left := uint32(0), block
	for _, p := range b.Pieces {
		if _, err := out.Write(p); err != nil {
			return err
		}
		for len(p) > 0 {
			n := min(left, len(p))
			sum = crc32.Update(sum, castagnoli, p[:n])
			if p, left = p[n:], left-n; left == 0 {
				f.sums = append(f.sums, sum)
				sum, left = 0, block
			}
		}
	}
	if left < block {
		f.sums = append(f.sums, sum)
	}
	return nil
}

// room removes the oldest that were not used since until n more bytes fit.
func (d *Disk) room(n int64) {
	for d.used+n > d.limit {
		e := d.files.Front()
		if e == nil {
			return
		}
		f := e.Value.(*onDisk)
		if f.used.Swap(false) {
			d.files.MoveToBack(e)
			continue
		}
		d.remove(f)
	}
}

// remove removes a file, once.
func (d *Disk) remove(f *onDisk) {
	if f.gone.Swap(true) {
		return
	}
	d.files.Remove(f.element)
	d.used -= f.size
	if os.Remove(f.path) != nil {
		d.failed++
	}
}

// usable reports whether the file is there, and keeps it for another round.
func (f *onDisk) usable() bool {
	if f.gone.Load() {
		return false
	}
	if !f.used.Load() { // a hit writes nothing that others read, but the first time
		f.used.Store(true)
	}
	return true
}

// section calls do with the bytes from first to last, in blocks that were verified.
func (f *onDisk) section(first, last int64, do func([]byte) error) error {
	in, err := os.Open(f.path)
	if err != nil {
		return errors.Join(ErrDamaged, err)
	}
	defer in.Close()
	if _, err := in.Seek(first/block*block, io.SeekStart); err != nil {
		return errors.Join(ErrDamaged, err)
	}
	room := rooms.Get().(*[block]byte)
	defer rooms.Put(room)
	for n := first / block; n <= last/block; n++ {
		start := n * block
		p := room[:min(block, f.size-start)]
		if _, err := io.ReadFull(in, p); err != nil {
			return f.isDamaged(err)
		}
		if crc32.Checksum(p, castagnoli) != f.sums[n] {
			return f.isDamaged(nil)
		}
		if err := do(p[max(0, first-start):min(int64(len(p)), last+1-start)]); err != nil {
			return err
		}
	}
	return nil
}

var rooms = sync.Pool{New: func() any { return new([block]byte) }}

// isDamaged removes a file that cannot be read.
func (f *onDisk) isDamaged(why error) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.failed++
	f.disk.remove(f)
	return errors.Join(ErrDamaged, why)
}
